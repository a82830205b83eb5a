//! The stored answer again, byte for byte.
//!
//! Owns what replays hold in memory. However often a payment is retried, its answer is read once at a
//! time and held once: whoever asks while it is read, or still sent to somebody, is given the same
//! bytes. What is held stands in the answers' half of the byte budget until the last who is sent it has
//! it, or is gone: clients may read as slowly as they like, and none of them can hold more than that.
//!
//! Replays may take only a part of that half ([`PART`]), and those of one buyer only a part of that
//! ([`BUYERS_PART`]): an answer that a seller gives now waits for room under her deadline, and slow readers
//! of old answers must not make others' calls fail, nor keep others' answers from them.
//! They never wait themselves: without room a replay is refused, and nothing is lost by it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use crochet_shared::code::Code;
use crochet_shared::id::{ProfileId, RequestId};
use crochet_shared::internal::{DeliveredFacts, ReadAnswer, StoredAnswer};
use parking_lot::Mutex;

use super::claim;
use crate::adapter::batch::Unanswered;
use crate::cache::flight::Flights;
use crate::error::{Kind, Refusal, Reply};
use crate::gateway::Gateway;
use crate::limits::{Budget, FREE_BYTES, Share};
use crate::metrics::Full;

/// Which part of the answers' budget replays may hold: one of so many.
const PART: usize = 2;
/// Which part of that the replays of one buyer, beyond a single one: one of so many.
const BUYERS_PART: usize = 2;

/// Whose answer, and of which purchase.
type Name = (RequestId, ProfileId);
/// Answers that somebody is sent.
type Sending = Mutex<HashMap<Name, Weak<Held>>>;
/// How many bytes of the budget are held by what a buyer is sent.
type Buyers = Mutex<HashMap<ProfileId, usize>>;

/// Stored answers that are read and sent again.
#[derive(Debug)]
pub struct Replays {
    reading: Flights<Name, Result<Found, Unanswered>>,
    sending: Arc<Sending>,
    /// What all answers may hold.
    answers: Budget,
    /// What replays may hold of it.
    part: Budget,
    buyers: Arc<Buyers>,
}

/// What became of a reading.
#[derive(Clone, Debug)]
enum Found {
    Stored(Arc<Held>),
    NoLongerStored(DeliveredFacts),
    Unknown,
    /// The budget is spent.
    NoRoom,
}

/// An answer in memory, once for all who are sent it.
#[derive(Debug)]
struct Held {
    bytes: Bytes,
    name: Name,
    sending: Arc<Sending>,
    _room: Room,
}

/// A part of both budgets, and of what its buyer may hold.
#[derive(Debug)]
struct Room {
    _part: Share,
    _answers: Share,
    _buyer: Option<OfBuyer>,
}

/// What a buyer is sent.
#[derive(Debug)]
struct OfBuyer {
    buyers: Arc<Buyers>,
    buyer: ProfileId,
    bytes: usize,
}

impl OfBuyer {
    /// One answer always; more only within her part.
    fn take(buyers: &Arc<Buyers>, buyer: ProfileId, bytes: usize, most: usize) -> Option<Self> {
        let mut held = buyers.lock();
        let before = held.get(&buyer).copied().unwrap_or(0);
        if before > 0 && before + bytes > most {
            return None;
        }
        held.insert(buyer, before + bytes);
        Some(Self {
            buyers: Arc::clone(buyers),
            buyer,
            bytes,
        })
    }
}

impl Drop for OfBuyer {
    fn drop(&mut self) {
        let mut held = self.buyers.lock();
        if let Some(bytes) = held.get_mut(&self.buyer) {
            *bytes = bytes.saturating_sub(self.bytes);
            if *bytes == 0 {
                held.remove(&self.buyer);
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut sending = self.sending.lock();
        // It may have been read again meanwhile.
        if sending
            .get(&self.name)
            .is_some_and(|held| held.strong_count() == 0)
        {
            sending.remove(&self.name);
        }
    }
}

/// One who is sent an answer.
struct Sent(Arc<Held>);

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

impl Replays {
    /// Replays that draw on the answers' budget.
    pub fn of(answers: &Budget) -> Self {
        Self {
            reading: Flights::default(),
            sending: Arc::default(),
            answers: answers.clone(),
            part: Budget::new(answers.bytes() / PART),
            buyers: Arc::default(),
        }
    }

    async fn find(&self, gateway: &Gateway, name: Name) -> Result<Found, Unanswered> {
        if let Some(held) = self.held(&name) {
            return Ok(Found::Stored(held));
        }
        let reading = || self.read(gateway, name);
        self.reading.join(&name, reading).await
    }

    async fn read(&self, gateway: &Gateway, name: Name) -> Result<Found, Unanswered> {
        let (request_id, buyer) = name;
        let wanted = ReadAnswer { request_id, buyer };
        let room = |bytes| self.room(buyer, bytes);
        let read = gateway.control_plane.answer(&wanted, room).await?;
        Ok(match read {
            Some((StoredAnswer::Stored(bytes), room)) => {
                Found::Stored(self.hold(name, bytes, room))
            }
            Some((StoredAnswer::NoLongerStored(facts), _)) => Found::NoLongerStored(facts),
            Some((StoredAnswer::Unknown, _)) => Found::Unknown,
            None => Found::NoRoom,
        })
    }

    fn held(&self, name: &Name) -> Option<Arc<Held>> {
        self.sending.lock().get(name)?.upgrade()
    }

    fn hold(&self, name: Name, bytes: Bytes, room: Room) -> Arc<Held> {
        let held = Arc::new(Held {
            bytes,
            name,
            sending: Arc::clone(&self.sending),
            _room: room,
        });
        self.sending.lock().insert(name, Arc::downgrade(&held));
        held
    }

    /// Room for an answer of so many bytes. What is larger than all that there may be takes all of it,
    /// rather than never being told again.
    fn room(&self, buyer: ProfileId, bytes: usize) -> Option<Room> {
        let bytes = if bytes > FREE_BYTES {
            bytes.min(self.part.bytes())
        } else {
            0
        };
        let of_buyer = if bytes > 0 {
            let most = self.part.bytes() / BUYERS_PART;
            Some(OfBuyer::take(&self.buyers, buyer, bytes, most)?)
        } else {
            None
        };
        Some(Room {
            _part: self.part.take(bytes)?,
            _answers: self.answers.take(bytes)?,
            _buyer: of_buyer,
        })
    }
}

/// Answers with the stored answer.
pub async fn replay(
    gateway: &Arc<Gateway>,
    buyer: ProfileId,
    request_id: RequestId,
) -> Result<Reply, Refusal> {
    let errors = &gateway.errors;
    match gateway.replays.find(gateway, (request_id, buyer)).await {
        Ok(Found::Stored(held)) => {
            let body = Bytes::from_owner(Sent(held));
            Ok(Reply::ok(200, Kind::Replayed, body).about(request_id))
        }
        Ok(Found::NoLongerStored(facts)) => Err(claim::no_longer_stored(gateway, &facts)),
        Ok(Found::Unknown) => {
            tracing::error!(request = %request_id, "a delivered answer is unknown");
            Err(errors.about(Code::InternalError, request_id))
        }
        Ok(Found::NoRoom) => {
            gateway.metrics.full(Full::Bodies);
            Err(errors.about(Code::ServiceUnavailable, request_id))
        }
        Err(_) => Err(errors.about(Code::ServiceUnavailable, request_id)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crochet_shared::clock;

    const LARGE: usize = 3 * FREE_BYTES;

    fn name() -> Name {
        let now = clock::now();
        (RequestId::new(now), ProfileId::new(now))
    }

    fn held(replays: &Replays, name: Name) -> Option<Bytes> {
        let room = replays.room(name.1, LARGE)?;
        let held = replays.hold(name, Bytes::from(vec![7; LARGE]), room);
        Some(Bytes::from_owner(Sent(held)))
    }

    #[test]
    fn an_answer_holds_its_room_until_the_last_who_is_sent_it_is_gone() {
        let answers = Budget::new(PART * LARGE);
        let replays = Replays::of(&answers);
        let (one, other) = (name(), name());
        let sent = held(&replays, one).unwrap();
        assert_eq!(answers.left(), LARGE, "the rest is for answers given now");
        assert!(held(&replays, other).is_none(), "replays have no more");
        let again = Bytes::from_owner(Sent(replays.held(&one).unwrap()));
        assert_eq!(again.as_ptr(), sent.as_ptr(), "one copy for both");
        drop(sent);
        assert!(held(&replays, other).is_none(), "one still reads");
        drop(again);
        assert!(replays.sending.lock().is_empty());
        assert!(held(&replays, other).is_some());
        assert_eq!(answers.left(), PART * LARGE);
    }

    #[test]
    fn answers_given_now_leave_replays_what_is_left() {
        let answers = Budget::new(PART * LARGE);
        let replays = Replays::of(&answers);
        let given = answers.take(LARGE + 1).unwrap();
        let buyer = name().1;
        assert!(replays.room(buyer, LARGE).is_none());
        assert_eq!(replays.part.left(), LARGE, "nothing stays taken");
        let small = replays.room(buyer, FREE_BYTES);
        assert!(small.is_some(), "small ones pass");
        drop(given);
        assert!(replays.room(buyer, LARGE).is_some());
        assert!(replays.buyers.lock().is_empty());
    }

    #[test]
    fn what_is_larger_than_all_there_is_can_be_told_all_the_same() {
        let answers = Budget::new(PART * LARGE);
        let replays = Replays::of(&answers);
        let room = replays.room(name().1, usize::MAX).unwrap();
        assert_eq!(replays.part.left(), 0);
        drop(room);
        assert_eq!(answers.left(), PART * LARGE);
    }

    #[test]
    fn one_buyer_cannot_hold_what_others_are_to_be_sent() {
        let replays = Replays::of(&Budget::new(PART * BUYERS_PART * 2 * LARGE));
        let (greedy, other) = (name().1, name().1);
        let whole = replays.room(greedy, 3 * LARGE).unwrap();
        assert!(replays.room(greedy, LARGE).is_none(), "one, however large");
        let others = replays.room(other, LARGE).unwrap();
        drop(whole);
        assert!(replays.room(greedy, LARGE).is_some());
        drop(others);
        assert!(replays.buyers.lock().is_empty());
    }
}
