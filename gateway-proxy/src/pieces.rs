//! A body as it comes in.
//!
//! It is kept in blocks of one size and put together at its end. In one piece from the beginning, each body under
//! way would have room for all of itself that nobody else can use; grown again and again, half of what it was
//! written to would be behind it. Of the blocks that one body leaves the next is made, so that what is resident
//! is what is held (measured: 130 MiB where 60 were held).

use bytes::Bytes;

use crate::aside::aside;

/// A block, in bytes: about what is read at once. The first ones are smaller.
const BLOCK_BYTES: usize = 64 * 1024;
/// The smallest.
const BLOCK_BYTES_MIN: usize = 4 * 1024;

/// The pieces that are there.
#[derive(Debug, Default)]
pub struct Pieces {
    /// Most bodies are no more than this, which is not copied.
    first: Bytes,
    blocks: Vec<Vec<u8>>,
    bytes: usize,
}

impl Pieces {
    /// How many bytes.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The next one.
    pub fn push(&mut self, piece: Bytes) {
        if self.bytes == 0 {
            self.bytes = piece.len();
            self.first = piece;
            return;
        }
        let mut rest = &*piece;
        while !rest.is_empty() {
            let left = (self.blocks.last()).map_or(0, |block| block.capacity() - block.len());
            if left == 0 {
                let room = self.bytes.clamp(BLOCK_BYTES_MIN, BLOCK_BYTES);
                self.blocks.push(Vec::with_capacity(room));
                continue;
            }
            let (now, later) = rest.split_at(rest.len().min(left));
            if let Some(block) = self.blocks.last_mut() {
                block.extend_from_slice(now);
            }
            self.bytes += now.len();
            rest = later;
        }
    }

    /// The body.
    pub async fn join(self) -> Bytes {
        if self.blocks.is_empty() {
            return self.first;
        }
        aside(self.bytes, move || {
            let mut body = Vec::with_capacity(self.bytes);
            body.extend_from_slice(&self.first);
            for block in self.blocks {
                body.extend_from_slice(&block);
            }
            body.into()
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use proptest::prelude::*;

    #[tokio::test]
    async fn a_body_of_one_piece_is_that_piece() {
        let piece = Bytes::from(vec![7; 2 * BLOCK_BYTES]);
        let mut pieces = Pieces::default();
        assert_eq!(pieces.bytes(), 0);
        pieces.push(piece.clone());
        assert_eq!(pieces.bytes(), piece.len());
        assert_eq!(pieces.join().await.as_ptr(), piece.as_ptr());
        assert!(Pieces::default().join().await.is_empty());
    }

    #[test]
    fn room_is_for_little_more_than_is_there() {
        let mut pieces = Pieces::default();
        for _ in 0..20_000 {
            pieces.push(Bytes::from_static(b"0123456789"));
        }
        let room: usize = pieces.blocks.iter().map(Vec::capacity).sum();
        assert_eq!(pieces.bytes(), 200_000);
        assert!(room <= pieces.bytes() + BLOCK_BYTES, "{room}");
        let mut two = Pieces::default();
        two.push(Bytes::from_static(b"1"));
        two.push(Bytes::from_static(b"2"));
        assert_eq!(two.blocks[0].capacity(), BLOCK_BYTES_MIN);
    }

    #[tokio::test]
    async fn a_large_body_is_its_pieces_in_their_order_too() {
        let blocks = (0..=250_u8).cycle().take(4_000);
        let all: Vec<u8> = blocks.flat_map(|byte| [byte; 250]).collect();
        let mut pieces = Pieces::default();
        for piece in all.chunks(7_001) {
            pieces.push(Bytes::copy_from_slice(piece));
        }
        assert!(pieces.join().await == all);
    }

    proptest! {
        #[test]
        fn a_body_is_its_pieces_in_their_order(lengths in proptest::collection::vec(0_usize..30_000, 0..9)) {
            let mut byte = 0_u8;
            let mut all = Vec::new();
            let mut pieces = Pieces::default();
            for length in lengths {
                let piece: Vec<u8> = (0..length).map(|_| { byte = byte.wrapping_add(1); byte }).collect();
                all.extend_from_slice(&piece);
                pieces.push(piece.into());
            }
            prop_assert_eq!(pieces.bytes(), all.len());
            prop_assert_eq!(pieces.join().now_or_never().map(Vec::from), Some(all));
        }
    }
}
