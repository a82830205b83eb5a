//! Room in the byte budget for an answer that grows in its envelope.
//!
//! What a seller answers is counted as it is read. As text it may be six times as long in the envelope,
//! and as base64 a third longer, and it is the envelope that is held until it is settled. So before it is
//! written, what it takes beyond the answer itself is taken of the answers' budget.
//!
//! Money first: the seller has done her work, so the call is settled, whatever room there is. Without
//! room it goes on when it is its turn, one call at a time, and waits for that only while the settlement
//! has the time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::OwnedSemaphorePermit;

use super::answer::Shape;
use super::settle::PATIENCE;
use crate::gateway::Gateway;
use crate::limits::FREE_BYTES;
use crate::seller::Kept;

/// What an answer holds of the byte budget until it is settled.
#[derive(Debug, Default)]
pub struct Room {
    kept: Kept,
    /// Held by the one call that went on without.
    turn: Option<OwnedSemaphorePermit>,
}

impl Room {
    /// What was taken for the seller's own bytes.
    pub const fn of(kept: Kept) -> Self {
        Self { kept, turn: None }
    }

    fn bytes(&self) -> usize {
        self.kept.share.bytes()
    }

    /// How many bytes more an answer of this shape takes. None that is small, or no longer than it was.
    pub fn wants(&self, shape: Shape, budget_bytes: usize) -> Option<usize> {
        if shape.bytes <= FREE_BYTES {
            return None;
        }
        // What is larger than the whole budget takes the whole.
        let more = shape.bytes.min(budget_bytes).saturating_sub(self.bytes());
        (more > 0).then_some(more)
    }

    /// With room for so many bytes more; without it when nobody else goes on without, or it is too late
    /// to wait.
    ///
    /// It waits for its turn, never for the bytes: sellers' answers that are being read wait for those, under
    /// their deadlines.
    pub async fn widened(mut self, gateway: Arc<Gateway>, more: usize, latest: Instant) -> Self {
        if self.takes(&gateway, more) {
            self.kept.turn = None;
            return self;
        }
        // Who was read without room goes on without: at the head of another line it would keep both waiting.
        if self.kept.turn.is_some() {
            return self;
        }
        let turn = Arc::clone(&gateway.beyond_budget).acquire_owned();
        let Ok(turn) = tokio::time::timeout_at(latest.into(), turn).await else {
            tracing::warn!(bytes = more, "an answer is settled without room for it");
            return self;
        };
        if !self.takes(&gateway, more) {
            self.turn = turn.ok();
        }
        self
    }

    /// Whether so many bytes were free, and are this answer's now.
    fn takes(&mut self, gateway: &Gateway, more: usize) -> bool {
        let taken = gateway.answers.take(more);
        taken.map(|share| self.kept.share.join(share)).is_some()
    }
}

/// Until when an answer may wait for room: half of what its lease has left, and so that what is left is
/// enough to be settled in.
pub fn latest(now: Instant, lease_end: Instant) -> Instant {
    let half = now + lease_end.saturating_duration_since(now) / 2;
    let last = lease_end.checked_sub(PATIENCE + Duration::from_secs(1));
    last.map_or(half, |last| half.min(last))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::{Budget, Share};
    use bytes::Bytes;
    use futures_util::FutureExt as _;
    use tokio::sync::Semaphore;

    const MEBIBYTE: usize = 1024 * 1024;

    /// Half of its budget, for answers, is 8 MiB.
    fn gateway() -> Arc<Gateway> {
        let budget = (16 * MEBIBYTE).to_string();
        Gateway::for_test(&[("--body-budget-bytes", budget.as_str())])
    }

    fn shape_of(body: Vec<u8>) -> Shape {
        Shape::of(&Bytes::from(body), false)
    }

    fn room_of(taken: Option<Share>) -> Room {
        let share = taken.unwrap();
        Room::of(Kept {
            share,
            ..Kept::default()
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
        assert_eq!(more, controls.bytes);
        room = room
            .widened(Arc::clone(&gateway), more, in_a_minute())
            .await;
        assert_eq!(gateway.answers.left(), all - controls.bytes);
        assert_eq!(room.wants(controls, all), None, "all it wants is there");

        let mut longer = room_of(gateway.answers.take(1000));
        let more = longer.wants(shape_of(vec![0xff; MEBIBYTE]), all).unwrap();
        longer = longer
            .widened(Arc::clone(&gateway), more, in_a_minute())
            .await;
        assert_eq!(longer.bytes(), 1000 + more);
        drop((room, longer));
        assert_eq!(gateway.answers.left(), all);
    }

    #[test]
    fn small_answers_and_json_want_none_and_the_largest_no_more_than_there_is() {
        let text = vec![1; FREE_BYTES / 6 - 1];
        assert_eq!(Room::default().wants(shape_of(text), usize::MAX), None);
        let json = format!("\"{}\"", "x".repeat(2 * FREE_BYTES)).into_bytes();
        let bytes = json.len();
        let held = room_of(Budget::new(bytes).take(bytes));
        assert_eq!(held.wants(shape_of(json), usize::MAX), None);
        let huge = Room::default().wants(shape_of(vec![1; 2 * MEBIBYTE]), 8 * MEBIBYTE);
        assert_eq!(huge, Some(8 * MEBIBYTE));
    }

    #[tokio::test]
    async fn without_room_one_goes_on_and_the_next_when_that_one_is_settled() {
        let gateway = gateway();
        let spent = gateway.answers.take(gateway.answers.bytes()).unwrap();
        let widened = || Room::default().widened(Arc::clone(&gateway), 1, in_a_minute());
        let first = widened().await;
        let mut waiting = Box::pin(widened());
        assert!((&mut waiting).now_or_never().is_none(), "one at a time");
        drop(first);
        drop((waiting.await, spent));
        assert_eq!(gateway.answers.left(), gateway.answers.bytes());
    }

    #[tokio::test]
    async fn whoever_finds_room_waits_for_nobody_who_went_without() {
        let gateway = gateway();
        let spent = gateway.answers.take(gateway.answers.bytes()).unwrap();
        let widened = || Room::default().widened(Arc::clone(&gateway), 1, in_a_minute());
        let without = widened().await;
        drop(spent);
        let room = widened().now_or_never().expect("there is room");
        assert_eq!(room.bytes(), 1);
        drop((room, without));
    }

    #[tokio::test]
    async fn whoever_was_read_without_room_waits_in_no_other_line() {
        let gateway = gateway();
        let spent = gateway.answers.take(gateway.answers.bytes());
        let settling = Arc::clone(&gateway.beyond_budget).try_acquire_owned();
        let read = Arc::new(Semaphore::new(1)).try_acquire_owned();
        let kept = Kept {
            turn: read.ok(),
            ..Kept::default()
        };
        let widened = Room::of(kept).widened(Arc::clone(&gateway), 1, in_a_minute());
        assert!(widened.now_or_never().is_some());
        drop((spent, settling));
    }

    #[tokio::test]
    async fn whoever_waits_for_room_takes_none_from_answers_being_read() {
        let gateway = gateway();
        let all = gateway.answers.bytes();
        let read = gateway.answers.take(all - MEBIBYTE).unwrap();
        let widened = || Room::default().widened(Arc::clone(&gateway), usize::MAX, in_a_minute());
        let first = widened().await;
        let mut waiting = Box::pin(widened());
        assert!((&mut waiting).now_or_never().is_none());
        assert!(
            gateway.answers.take(MEBIBYTE).is_some(),
            "what is free is free"
        );
        drop((first, read));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_settled_before_its_lease_ends_whatever_room_there_is() {
        let gateway = gateway();
        let spent = gateway.answers.take(gateway.answers.bytes());
        let turn = Arc::clone(&gateway.beyond_budget).try_acquire_owned();
        let now = tokio::time::Instant::now();
        let lease_end = now + Duration::from_secs(30);
        let late = latest(now.into(), lease_end.into());
        let room = Room::default().widened(Arc::clone(&gateway), 1, late).await;
        assert_eq!(
            now.elapsed(),
            Duration::from_secs(15),
            "half is for the settlement"
        );
        let end: Instant = lease_end.into();
        assert!(latest(end, end) < end, "at once");
        drop((room, spent, turn));
    }
}
