//! Reading a stored answer: as large as it may be, it is never held twice.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use crochet_shared::internal::{self, DeliveredFacts, ReadAnswer, StoredAnswer};
use http_body_util::BodyExt as _;
use hyper::body::Body as _;
use serde::Deserialize;

use super::{Wire, name_of, unreadable};
use crate::adapter::batch::Unanswered;
use crate::call::body::BODY_BYTES_MAX;
use crate::metrics::InternalCall;

const ANSWER_TIME: Duration = Duration::from_secs(5);
/// Room taken at once for a stored answer, in bytes: the largest body of a seller, each of its bytes
/// escaped as six.
const ANSWER_BYTES_MAX: usize = 6 * BODY_BYTES_MAX + 4096;

impl Wire {
    /// Reads one into the room that `room` gives it. `None` when there is none.
    pub(super) async fn stored_answer<R>(
        &self,
        ask: &ReadAnswer,
        room: impl FnOnce(usize) -> Option<R>,
    ) -> Result<Option<(StoredAnswer, R)>, Unanswered> {
        let call = InternalCall::Answers;
        let uri = self
            .uri(internal::ANSWERS)
            .map_err(|_| Unanswered::Failed)?;
        let written = rmp_serde::to_vec_named(ask).map_err(|_| Unanswered::Failed)?;
        let asking = crochet_traces::asking(name_of(call));
        let began = Instant::now();
        let asked = tokio::time::timeout(ANSWER_TIME, async {
            let response = self.exchange(uri, written.into(), asking).await?;
            let mut body = response.into_body();
            let bytes = body.size_hint().exact().unwrap_or(u64::MAX);
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            let Some(room) = room(bytes) else {
                return Ok(None);
            };
            let mut all = BytesMut::with_capacity(bytes.min(ANSWER_BYTES_MAX));
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame.map_err(|_| Unanswered::Lost)?.into_data() {
                    all.extend_from_slice(&data);
                }
            }
            Ok(Some((all.freeze(), room)))
        });
        let answered = asked.await.unwrap_or(Err(Unanswered::Lost));
        self.note(call, &answered, began);
        let Some((bytes, room)) = answered? else {
            return Ok(None);
        };
        Ok(Some((stored(&bytes)?, room)))
    }
}

/// A [`StoredAnswer`] whose bytes stand where they were read.
#[derive(Deserialize)]
#[serde(rename = "StoredAnswer")]
enum StoredInPlace<'a> {
    #[serde(borrow)]
    Stored(&'a [u8]),
    NoLongerStored(DeliveredFacts),
    Unknown,
}

/// Reads a stored answer without copying it.
fn stored(bytes: &Bytes) -> Result<StoredAnswer, Unanswered> {
    let read = rmp_serde::from_slice(bytes).map_err(|error| unreadable(&error))?;
    Ok(match read {
        StoredInPlace::Stored(envelope) => StoredAnswer::Stored(bytes.slice_ref(envelope)),
        StoredInPlace::NoLongerStored(facts) => StoredAnswer::NoLongerStored(facts),
        StoredInPlace::Unknown => StoredAnswer::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crochet_shared::clock;
    use crochet_shared::id::RequestId;
    use crochet_shared::money::{FEE_RATE, Micros};

    #[test]
    fn a_stored_answer_is_read_where_it_stands() {
        let written = |answer: &StoredAnswer| Bytes::from(rmp_serde::to_vec_named(answer).unwrap());
        let answer = StoredAnswer::Stored(Bytes::from(vec![7; 70_000]));
        let bytes = written(&answer);
        let read = stored(&bytes).unwrap();
        assert_eq!(read, answer);
        let StoredAnswer::Stored(envelope) = read else {
            return;
        };
        assert!(bytes.as_ptr_range().contains(&envelope.as_ptr()));
        let facts = StoredAnswer::NoLongerStored(DeliveredFacts {
            request_id: RequestId::new(clock::now()),
            gross: Micros(1),
            fee_rate: FEE_RATE,
            seller_status: 200,
            response_sha256: [1; 32],
        });
        for answer in [facts, StoredAnswer::Unknown] {
            assert_eq!(stored(&written(&answer)).unwrap(), answer);
        }
    }
}
