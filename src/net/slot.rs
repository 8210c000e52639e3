//! A place for one I/O operation that outlives the code that waits for it.
//!
//! Completion-based I/O owns its buffer until the kernel is done; dropping the future loses the bytes of a read and
//! cuts a write. So the future lives in the connection: it can be polled beside others, left alone, polled again.
//! The place is allocated once per connection and kind; starting an operation in it allocates nothing.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

/// A place for operations that take `I` and give `O`.
pub(super) trait Operation<I, O> {
    /// Starts an operation and hands it to the driver at once. The place must be free.
    fn start(self: Pin<&mut Self>, input: I);
    /// Ready with the outcome, once; pending for ever when nothing was started.
    fn poll_done(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<O>;
    /// Whether an operation is under way or its outcome waits to be taken.
    fn busy(&self) -> bool;
}

/// A pinned place on the heap.
pub(super) type Place<I, O> = Pin<Box<dyn Operation<I, O>>>;

pin_project_lite::pin_project! {
    struct Slot<M, F: Future> {
        make: M,
        #[pin]
        future: Option<F>,
        done: Option<F::Output>,
    }
}

impl<I, M, F> Operation<I, F::Output> for Slot<M, F>
where
    M: Fn(I) -> F,
    F: Future,
{
    fn start(self: Pin<&mut Self>, input: I) {
        let mut this = self.project();
        debug_assert!(this.future.is_none() && this.done.is_none(), "an operation is under way");
        this.future.set(Some((this.make)(input)));
        // The first poll is what gives the operation to the driver.
        let mut cx = Context::from_waker(Waker::noop());
        if let Some(future) = this.future.as_mut().as_pin_mut()
            && let Poll::Ready(done) = future.poll(&mut cx)
        {
            this.future.set(None);
            *this.done = Some(done);
        }
    }

    fn poll_done(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let mut this = self.project();
        if let Some(done) = this.done.take() {
            return Poll::Ready(done);
        }
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Pending };
        let done = ready!(future.poll(cx));
        this.future.set(None);
        Poll::Ready(done)
    }

    fn busy(&self) -> bool {
        self.future.is_some() || self.done.is_some()
    }
}

/// A free place whose operations are made by `make`.
pub(super) fn place<I: 'static, F: Future + 'static>(make: impl Fn(I) -> F + 'static) -> Place<I, F::Output> {
    Box::pin(Slot { make, future: None, done: None })
}
