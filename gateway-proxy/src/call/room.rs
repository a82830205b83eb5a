//! Room in the byte budget for an answer that grows in its envelope.
//!
//! What a seller answers is counted as it is read. As text it may be six times as long in the envelope,
//! and as base64 a third longer, and it is the envelope that is held until it is settled. So before it is
//! written, what it takes beyond the answer itself is taken of the answers' budget.
//!
//! Money first: the seller has done her work, so the call is settled, whatever room there is. It waits
//! for room, as its seller's bytes did, but only while the settlement has the time; and one call at a time
//! need not wait, so that calls that each hold what the other needs do not wait for each other.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::answer::Shape;
use super::settle::PATIENCE;
use crate::gateway::Gateway;
use crate::seller::BUDGET_FREE_BYTES;

/// What an answer holds of the byte budget until it is settled.
#[derive(Debug, Default)]
pub struct Room {
    share: Option<OwnedSemaphorePermit>,
    /// Held by the one call that went on without.
    turn: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// What was taken for the seller's own bytes.
    pub const fn of(share: Option<OwnedSemaphorePermit>) -> Self {
        Self { share, turn: None }
    }

    fn bytes(&self) -> usize {
        self.share
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits)
    }

    /// How many bytes more an answer of this shape takes. None that is small, or no longer than it was.
    pub fn wants(&self, shape: Shape, budget_bytes: usize) -> Option<u32> {
        if shape.bytes <= BUDGET_FREE_BYTES {
            return None;
        }
        // What is larger than the whole budget takes the whole.
        let more = shape.bytes.min(budget_bytes).saturating_sub(self.bytes());
        u32::try_from(more).ok().filter(|more| *more > 0)
    }

    /// Waits for so many bytes more, or for its turn to go on without, but not longer than `latest`.
    pub async fn widen(&mut self, gateway: &Gateway, more: u32, latest: Instant) {
        let room = gateway.answers.semaphore().acquire_many_owned(more);
        let turn = Arc::clone(&gateway.beyond_budget).acquire_owned();
        tokio::select! {
            biased;
            room = room => match (&mut self.share, room) {
                (Some(share), Ok(room)) => share.merge(room),
                (share, room) => *share = room.ok(),
            },
            turn = turn => self.turn = turn.ok(),
            () = tokio::time::sleep_until(latest.into()) => {
                tracing::warn!(bytes = more, "an answer is settled without room for it");
            }
        }
    }
}

/// Until when an answer may wait for room: then it takes the time to be settled before its lease ends.
pub fn latest(lease_end: Instant) -> Instant {
    lease_end
        .checked_sub(PATIENCE + Duration::from_secs(1))
        .unwrap_or(lease_end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seller::SellerAnswer;
    use bytes::Bytes;
    use futures_util::FutureExt as _;

    const MEBIBYTE: usize = 1024 * 1024;

    /// Half of its budget, for answers, is 8 MiB.
    fn gateway() -> Arc<Gateway> {
        let budget = (16 * MEBIBYTE).to_string();
        Gateway::for_test(&[("--body-budget-bytes", budget.as_str())])
    }

    fn shape_of(body: Vec<u8>) -> Shape {
        Shape::of(&SellerAnswer {
            status: 200,
            content_type: None,
            content_encoding: None,
            body: Bytes::from(body),
            latency: Duration::ZERO,
            budget: None,
        })
    }

    fn in_a_minute() -> Instant {
        Instant::now() + Duration::from_mins(1)
    }

    #[tokio::test]
    async fn an_answer_takes_room_for_what_it_is_in_the_envelope() {
        let gateway = gateway();
        let all = gateway.answers.bytes();
        let controls = shape_of(vec![1; MEBIBYTE]);
        let mut room = Room::default();
        let more = room.wants(controls, all).unwrap();
        assert_eq!(more as usize, controls.bytes);
        room.widen(&gateway, more, in_a_minute()).await;
        assert_eq!(gateway.answers.left(), all - controls.bytes);
        assert_eq!(room.wants(controls, all), None, "all it wants is there");

        let taken = gateway.answers.semaphore().try_acquire_many_owned(1000);
        let mut longer = Room::of(taken.ok());
        let more = longer.wants(shape_of(vec![0xff; MEBIBYTE]), all).unwrap();
        longer.widen(&gateway, more, in_a_minute()).await;
        assert_eq!(longer.bytes(), 1000 + more as usize);
        drop((room, longer));
        assert_eq!(gateway.answers.left(), all);
    }

    #[test]
    fn small_answers_and_json_want_none_and_the_largest_no_more_than_there_is() {
        let text = vec![1; BUDGET_FREE_BYTES / 6 - 1];
        assert_eq!(Room::default().wants(shape_of(text), usize::MAX), None);
        let json = format!("\"{}\"", "x".repeat(2 * BUDGET_FREE_BYTES)).into_bytes();
        let bytes = json.len();
        let budget = Arc::new(tokio::sync::Semaphore::new(bytes));
        let taken = budget.try_acquire_many_owned(bytes.try_into().unwrap());
        let held = Room::of(taken.ok());
        assert_eq!(held.wants(shape_of(json), usize::MAX), None);
        let huge = Room::default().wants(shape_of(vec![1; 2 * MEBIBYTE]), 8 * MEBIBYTE);
        assert_eq!(huge.map(|more| more as usize), Some(8 * MEBIBYTE));
    }

    #[tokio::test]
    async fn without_room_one_goes_on_and_the_next_when_that_one_is_settled() {
        let gateway = gateway();
        let spent = gateway.answers.take(gateway.answers.bytes()).unwrap();
        let (mut first, mut second) = (Room::default(), Room::default());
        first.widen(&gateway, 1, in_a_minute()).await;
        let mut waiting = Box::pin(second.widen(&gateway, 1, in_a_minute()));
        assert!((&mut waiting).now_or_never().is_none(), "one at a time");
        drop(first);
        waiting.await;
        drop((second, spent));
        assert_eq!(gateway.answers.left(), gateway.answers.bytes());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_settled_before_its_lease_ends_whatever_room_there_is() {
        let gateway = gateway();
        let spent = gateway.answers.take(gateway.answers.bytes());
        let turn = Arc::clone(&gateway.beyond_budget).try_acquire_owned();
        let lease_end = tokio::time::Instant::now() + Duration::from_secs(30);
        let mut room = Room::default();
        room.widen(&gateway, 1, latest(lease_end.into())).await;
        assert!(tokio::time::Instant::now() + PATIENCE < lease_end);
        drop((spent, turn));
    }
}
