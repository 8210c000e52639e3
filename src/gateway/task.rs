//! Tasks that end with their core, and panics that cost one of them.
//!
//! The runtime keeps no list of its tasks, and one that waits on a socket or a timer holds what would wake it. So a
//! worker that just returned would leave its listener and its connections open for as long as the process lives. Each
//! task therefore enrols with its core, which wakes all of them when its phase changes; a task whose time has come drops
//! what it was doing, and with it its sockets.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::core::{Core, Phase};

/// The wakers of the tasks of one core.
#[derive(Default)]
pub struct Roll {
    wakers: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<usize>>,
    /// Who waits for tasks to leave.
    waiting: RefCell<Option<Waker>>,
}

impl Roll {
    fn enrol(&self, waker: Waker) -> usize {
        let mut wakers = self.wakers.borrow_mut();
        match self.free.borrow_mut().pop() {
            Some(at) => {
                wakers[at] = Some(waker);
                at
            }
            None => {
                wakers.push(Some(waker));
                wakers.len() - 1
            }
        }
    }

    fn leave(&self, at: usize) {
        self.wakers.borrow_mut()[at] = None;
        self.free.borrow_mut().push(at);
        if let Some(waker) = &*self.waiting.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Wakes every task.
    pub fn wake_all(&self) {
        for waker in self.wakers.borrow().iter().flatten() {
            waker.wake_by_ref();
        }
    }

    fn len(&self) -> usize {
        self.wakers.borrow().len() - self.free.borrow().len()
    }

    /// Waits until at most `left` tasks are there: those whose phase has come end as soon as they are polled.
    ///
    /// Woken by each that leaves. It must not wake itself: the runtime polls its main future again and again while that
    /// is woken, and would never come to the tasks.
    pub async fn drained_to(&self, left: usize) {
        poll_fn(|cx| {
            if self.len() <= left {
                self.waiting.take();
                return Poll::Ready(());
            }
            self.waiting.replace(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
    }
}

/// How a task ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended<T> {
    /// By itself.
    Done(T),
    /// It panicked; what it held is dropped.
    Panicked,
    /// Its core reached the phase that ends it; what it held is dropped.
    Stopped,
}

/// Runs `future` until it is done, panics, or its core reaches `phase`.
pub fn until<F: Future>(core: Rc<Core>, phase: Phase, future: F) -> Task<F> {
    Task { future: Some(future), core, phase, place: None }
}

pin_project_lite::pin_project! {
    /// See [`until`].
    pub struct Task<F> {
        #[pin]
        future: Option<F>,
        core: Rc<Core>,
        phase: Phase,
        place: Option<usize>,
    }

    impl<F> PinnedDrop for Task<F> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(at) = this.place.take() {
                this.core.roll.leave(at);
            }
        }
    }
}

impl<F: Future> Future for Task<F> {
    type Output = Ended<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if this.core.phase.get() >= *this.phase {
            this.future.set(None);
            return Poll::Ready(Ended::Stopped);
        }
        if this.place.is_none() {
            // A task has one waker for life.
            *this.place = Some(this.core.roll.enrol(cx.waker().clone()));
        }
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Ready(Ended::Stopped) };
        match std::panic::catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(value)) => Poll::Ready(Ended::Done(value)),
            Err(_) => {
                this.future.set(None);
                Poll::Ready(Ended::Panicked)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::core::tests::core;
    use crate::net::driver;

    #[test]
    fn a_panic_is_an_end_of_its_own_task_alone() {
        let silent = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let core = Rc::new(core());
        let ended = driver::block_on_any(until(core.clone(), Phase::Cut, async { panic!("test") }));
        std::panic::set_hook(silent);
        assert_eq!(ended, Ended::<()>::Panicked);
        assert_eq!(driver::block_on_any(until(core.clone(), Phase::Cut, async { 7 })), Ended::Done(7));
        assert_eq!(core.roll.len(), 0);
    }

    #[test]
    fn a_task_that_waits_for_ever_is_dropped_when_its_phase_comes() {
        let core = Rc::new(core());
        driver::block_on_any(async {
            let held = Rc::new(());
            let holds = held.clone();
            let waiting = async move {
                let _holds = holds;
                std::future::pending::<()>().await;
            };
            let task = monoio::spawn(until(core.clone(), Phase::Closed, waiting));
            monoio::spawn(until(core.clone(), Phase::Ended, std::future::pending::<()>()));
            core.roll.drained_to(2).await;
            core.enter(Phase::Draining);
            assert_eq!(Rc::strong_count(&held), 2, "too early");
            core.enter(Phase::Closed);
            core.roll.drained_to(1).await;
            assert_eq!(task.await, Ended::Stopped);
            assert_eq!((Rc::strong_count(&held), core.roll.len()), (1, 1));
            core.enter(Phase::Ended);
            core.roll.drained_to(0).await;
            assert_eq!(Rc::strong_count(&core), 1, "a task keeps its core for ever");
        });
    }
}
