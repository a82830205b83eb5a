//! What batches are written on.

use bytes::{BufMut as _, Bytes, BytesMut};
use parking_lot::Mutex;
use serde::Serialize;

/// Largest room that is kept for the next batch, in bytes.
const KEPT_BYTES_MAX: usize = 512 * 1024;

/// Room that batches of one kind are written into, one after another.
///
/// It is taken at once, for all of a batch, and used again when that has left: a batch of settlements that
/// doubled its buffer again and again cost a gateway 5 % of a paid call, and room given back and asked for
/// anew another 2, in pages that the kernel clears.
#[derive(Debug, Default)]
pub(super) struct Paper(Mutex<BytesMut>);

impl Paper {
    /// Writes `question` into room for `bytes`.
    pub(super) fn write<Q: Serialize>(
        &self,
        question: &Q,
        bytes: usize,
    ) -> Result<Bytes, rmp_serde::encode::Error> {
        let mut room = std::mem::take(&mut *self.0.lock());
        // Whoever finds the room in use, or too small, takes other room, which is then kept instead.
        if !room.try_reclaim(bytes) {
            room = BytesMut::with_capacity(bytes);
        }
        let mut writer = room.writer();
        rmp_serde::encode::write_named(&mut writer, question)?;
        let mut room = writer.into_inner();
        let written = room.split().freeze();
        if written.len() + room.capacity() <= KEPT_BYTES_MAX {
            *self.0.lock() = room;
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: usize = 100_000;

    fn at(written: &Bytes) -> usize {
        written.as_ptr().addr()
    }

    #[test]
    fn what_has_left_makes_room_for_the_next() {
        let paper = Paper::default();
        let question = vec![7_u8; ROOM / 2];
        let first = paper.write(&question, ROOM).unwrap();
        assert_eq!(first, rmp_serde::to_vec_named(&question).unwrap());
        let place = at(&first);
        drop(first);
        let next = paper.write(&question, ROOM).unwrap();
        assert_eq!(at(&next), place);
        // One that is still on its way stays as it is.
        let beside = paper.write(&vec![8_u8; ROOM / 2], ROOM).unwrap();
        assert_ne!(at(&beside), place);
        assert_eq!(next, rmp_serde::to_vec_named(&question).unwrap());
    }

    #[test]
    fn the_room_of_a_large_batch_is_given_back() {
        let paper = Paper::default();
        let large = paper.write(&1, KEPT_BYTES_MAX + 1).unwrap();
        assert_eq!(paper.0.lock().capacity(), 0);
        drop(large);
        drop(paper.write(&1, KEPT_BYTES_MAX).unwrap());
        assert!(paper.0.lock().capacity() > 0);
    }
}
