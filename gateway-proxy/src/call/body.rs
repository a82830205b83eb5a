//! Reading a caller's body: whole, within a size, a time and the process's budget of bytes.

use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::task::yield_now;

use super::head::BodyHead;
use crate::aside::aside;
use crate::incoming::Incoming;
use crate::limits::{Budget, Share, within};
use crate::pieces::Pieces;

/// Largest body of any gateway call, whatever its endpoint says (contract §4).
pub const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How much of the budget a body takes at a time, as it comes in: what is only announced costs nothing, so
/// that nobody takes the budget by announcing.
const STEP_BYTES: usize = 64 * 1024;

/// A caller's body. Its share of the budget is given back when it is dropped.
#[derive(Debug)]
pub struct Body {
    /// The exact bytes.
    pub bytes: Bytes,
    /// Their SHA-256.
    pub sha256: [u8; 32],
    _share: Share,
}

/// Why there is no body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoBody {
    /// Longer than allowed.
    TooLarge,
    /// Not there in time.
    TooSlow,
    /// Broken off, or not framed as HTTP says.
    Broken,
    /// The budget is spent.
    NoBudget,
}

impl Body {
    /// Hashes the bytes.
    pub async fn new(bytes: Bytes, share: Share) -> Self {
        aside(bytes.len(), move || Self {
            sha256: Sha256::digest(&bytes).into(),
            bytes,
            _share: share,
        })
        .await
    }
}

/// Reads the body, at most `limit` bytes in at most `time`.
pub async fn read(
    incoming: &mut Incoming<'_>,
    head: BodyHead,
    limit: usize,
    time: Duration,
    budget: &Budget,
) -> Result<Body, NoBody> {
    if head.length.is_some_and(|length| length > limit) {
        return Err(NoBody::TooLarge);
    }
    let share = budget
        .take(first_step(head, limit))
        .ok_or(NoBody::NoBudget)?;
    let reading = async {
        if head.expects_continue {
            incoming.go_on().await.map_err(|_| NoBody::Broken)?;
        }
        read_all(incoming, head, limit, budget, share).await
    };
    let read = within(time, reading).await.unwrap_or(Err(NoBody::TooSlow));
    if matches!(read, Err(NoBody::Broken)) {
        // Where the next request would begin is unknown.
        incoming.end_connection();
    }
    read
}

/// What is taken before the first byte.
fn first_step(head: BodyHead, limit: usize) -> usize {
    head.length.unwrap_or(limit).min(STEP_BYTES).min(limit)
}

async fn read_all(
    incoming: &mut Incoming<'_>,
    head: BodyHead,
    limit: usize,
    budget: &Budget,
    mut share: Share,
) -> Result<Body, NoBody> {
    let mut pieces = Pieces::default();
    let mut paid = first_step(head, limit);
    while let Some(piece) = incoming.body().await.map_err(|_| NoBody::Broken)? {
        let so_far = pieces.bytes() + piece.len();
        if so_far > limit {
            return Err(NoBody::TooLarge);
        }
        while paid < so_far {
            let step = STEP_BYTES.min(limit - paid);
            share.join(budget.take(step).ok_or(NoBody::NoBudget)?);
            paid += step;
        }
        pieces.push(piece);
        if pieces.bytes() > STEP_BYTES {
            // Else one poll would read all that has come, and others wait for milliseconds.
            yield_now().await;
        }
    }
    Ok(Body::new(pieces.join().await, share).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_takes_no_more_of_the_budget_than_one_step() {
        let head = |length| BodyHead {
            length,
            expects_continue: false,
            is_json: true,
            has_type: true,
        };
        for (length, limit, taken) in [
            (Some(BODY_BYTES_MAX), BODY_BYTES_MAX, STEP_BYTES),
            (Some(300), BODY_BYTES_MAX, 300),
            (None, BODY_BYTES_MAX, STEP_BYTES),
            (None, 1_000, 1_000),
        ] {
            assert_eq!(
                first_step(head(length), limit),
                taken,
                "{length:?} of {limit}"
            );
        }
    }
}
