//! Waiting for the first of two things.
//!
//! The left side is asked first. Neither is dropped by the race itself: both are borrowed, so an armed read or a
//! write under way survives losing.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};

/// Which of the two came first.
#[derive(Debug, PartialEq, Eq)]
pub enum First<A, B> {
    /// The left one.
    Left(A),
    /// The right one.
    Right(B),
}

/// Waits until `left` is ready or `right` completes.
pub async fn race<A, F: Future>(
    mut left: impl FnMut(&mut Context<'_>) -> Poll<A>,
    mut right: Pin<&mut F>,
) -> First<A, F::Output> {
    poll_fn(move |cx| {
        if let Poll::Ready(a) = left(cx) {
            return Poll::Ready(First::Left(a));
        }
        right.as_mut().poll(cx).map(First::Right)
    })
    .await
}
