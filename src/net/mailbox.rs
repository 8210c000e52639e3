//! Messages into a core from other threads: a new plan, drain, the answer of a name lookup.
//!
//! The queue is a mutex, since its traffic is a few messages a minute; the core is woken through a socket that it
//! reads like any other, so this works on every driver and no waker ever crosses a thread.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use monoio::io::AsyncReadRent;
use monoio::net::UnixStream;

struct Shared<T> {
    queue: Mutex<VecDeque<T>>,
    bell: std::os::unix::net::UnixStream,
}

/// The sending half: cheap to clone, usable from any thread.
pub struct Sender<T>(Arc<Shared<T>>);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Sender(self.0.clone())
    }
}

impl<T> Sender<T> {
    /// Puts a message into the box and wakes its core.
    pub fn send(&self, message: T) {
        // A thread that panicked while it held the lock left a whole queue behind: pushing is one step.
        self.0.queue.lock().unwrap_or_else(|e| e.into_inner()).push_back(message);
        // A full bell has rung already; a closed one belongs to a core that is gone.
        let _ = (&self.0.bell).write(&[1]);
    }
}

/// The receiving half, not yet on a core.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    bell: std::os::unix::net::UnixStream,
}

/// A new mailbox.
///
/// # Errors
/// Out of descriptors.
pub fn mailbox<T>() -> io::Result<(Sender<T>, Receiver<T>)> {
    let (theirs, ours) = std::os::unix::net::UnixStream::pair()?;
    theirs.set_nonblocking(true)?;
    let shared = Arc::new(Shared { queue: Mutex::new(VecDeque::new()), bell: theirs });
    Ok((Sender(shared.clone()), Receiver { shared, bell: ours }))
}

impl<T> Receiver<T> {
    /// Hands each message to `f` on this core, until `f` says to stop.
    ///
    /// # Errors
    /// When the driver cannot take or read the bell.
    pub async fn run(self, mut f: impl FnMut(T) -> std::ops::ControlFlow<()>) -> io::Result<()> {
        // io_uring answers EAGAIN at once on a non-blocking socket instead of waiting; epoll needs it non-blocking.
        self.bell.set_nonblocking(monoio::utils::is_legacy())?;
        let mut bell = UnixStream::from_std(self.bell)?;
        let mut buf = vec![0; 64];
        loop {
            loop {
                let next = self.shared.queue.lock().unwrap_or_else(|e| e.into_inner()).pop_front();
                let Some(message) = next else { break };
                if f(message).is_break() {
                    return Ok(());
                }
            }
            let (read, back) = bell.read(buf).await;
            buf = back;
            if read? == 0 {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::driver;
    use std::ops::ControlFlow;

    #[test]
    fn messages_from_another_thread_arrive_in_order() {
        let (sender, receiver) = mailbox().unwrap();
        let thread = std::thread::spawn(move || {
            for i in 0..1000 {
                sender.send(i);
            }
        });
        let mut got = Vec::new();
        driver::block_on_any(receiver.run(|i| {
            got.push(i);
            if i == 999 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }))
        .unwrap();
        thread.join().unwrap();
        assert_eq!(got, (0..1000).collect::<Vec<_>>());
    }
}
