//! Busy polling: a core that looks for work for a while before it sleeps.
//!
//! Prevents: the price of waking up. A core that sleeps has to be woken by the kernel, which takes some microseconds on
//! bare metal and tens to hundreds on a virtual machine, twice for each request that comes alone. With `busy_poll` a core
//! that has had work goes on asking its driver for more until nothing came for so long; only then it sleeps. It costs the
//! core's time, which is why it is off by default. HAProxy has the same under the name `busy-polling`.
//!
//! A task that is ready keeps the runtime from sleeping: it hands over what is queued and takes what is done in each turn.
//! Two tasks wake each other, because the runtime runs one that wakes itself before all others, which would never come to
//! their turn. In these turns it does not look at its timers, so the wheel is turned from here.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

use crate::net::clock;

use super::core::Core;

/// What a core needs to know when to sleep.
#[derive(Default)]
pub struct Spin {
    for_us: Cell<u64>,
    until_us: Cell<u64>,
    stirred: Cell<bool>,
    asleep: Cell<bool>,
    spinner: RefCell<Option<Waker>>,
    echo: RefCell<Option<Waker>>,
}

impl Spin {
    /// Says that the core has had work.
    #[inline]
    pub fn stir(&self) {
        if self.for_us.get() > 0 {
            self.stirred.set(true);
            if self.asleep.replace(false) {
                wake(&self.spinner);
            }
        }
    }
}

fn wake(waker: &RefCell<Option<Waker>>) {
    if let Some(waker) = &*waker.borrow() {
        waker.wake_by_ref();
    }
}

/// Looks for work for `for_us` after the last there was, microseconds; runs for the life of the core, with [`echo`].
pub async fn spin(core: Rc<Core>, for_us: u64) {
    let spin = &core.spin;
    spin.for_us.set(for_us);
    spin.asleep.set(true);
    poll_fn(|cx| {
        // A task has one waker for life.
        spin.spinner.borrow_mut().get_or_insert_with(|| cx.waker().clone());
        let now_us = clock::now_us();
        if spin.stirred.replace(false) {
            spin.until_us.set(now_us + for_us);
        }
        if now_us < spin.until_us.get() {
            core.timers.turn(now_us);
            wake(&spin.echo);
        } else {
            spin.asleep.set(true);
        }
        Poll::<()>::Pending
    })
    .await;
}

/// Wakes the one that wakes it; runs for the life of the core.
pub async fn echo(core: Rc<Core>) {
    let spin = &core.spin;
    poll_fn(|cx| {
        spin.echo.borrow_mut().get_or_insert_with(|| cx.waker().clone());
        wake(&spin.spinner);
        Poll::<()>::Pending
    })
    .await;
}
