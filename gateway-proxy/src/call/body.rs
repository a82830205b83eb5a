//! Reading a caller's body: whole, within a size, a time and the process's budget of bytes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use sha2::{Digest as _, Sha256};

use super::head::BodyHead;
use crate::aside::aside;
use crate::incoming::Incoming;
use crate::limits::{Budget, Share, within};

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
    let mut whole: Option<BytesMut> = None;
    let mut first = Bytes::new();
    let mut paid = first_step(head, limit);
    loop {
        let chunk = incoming.body().await.map_err(|_| NoBody::Broken)?;
        let Some(chunk) = chunk else {
            break;
        };
        let so_far = whole.as_ref().map_or(first.len(), BytesMut::len) + chunk.len();
        if so_far > limit {
            return Err(NoBody::TooLarge);
        }
        while paid < so_far {
            let step = STEP_BYTES.min(limit - paid);
            share.join(budget.take(step).ok_or(NoBody::NoBudget)?);
            paid += step;
        }
        // A small body arrives in one piece, and that piece is the body.
        if so_far == chunk.len() {
            first = chunk;
            continue;
        }
        let whole = whole.get_or_insert_default();
        let room = match head.length {
            Some(bytes) => bytes,
            None if so_far <= STEP_BYTES => so_far,
            // Once, rather than twice as much again and again: what is not written to is not in memory.
            None => limit,
        };
        if whole.capacity() < room.max(so_far) {
            whole.reserve(room.max(so_far) - whole.len());
        }
        whole.extend_from_slice(&std::mem::take(&mut first));
        whole.extend_from_slice(&chunk);
    }
    Ok(Body::new(whole.map_or(first, BytesMut::freeze), share).await)
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
