//! Look-ups of keys that are known to nobody here, counted by the address they come from.
//!
//! Until its answer is there, such a look-up may turn out to be of an unknown key. So it takes a place
//! among those that its address has left before it is made, and gives it back when the key proves known:
//! many at once make no more look-ups than the limit. Where all that is left is in doubt the next one
//! waits, rather than being refused for the sake of keys that may all be good. If it waits too long, whoever
//! is asked is slow: that is not its address's fault, and it is told so.
//!
//! Places are this process's own: what others are in doubt about is not counted here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::{Full, Window};

/// Longest wait for the look-ups of others: a look-up takes some milliseconds.
const WAIT: Duration = Duration::from_secs(2);
/// An address, and the unknown keys it tries.
#[derive(Debug)]
pub struct Stranger {
    window: Arc<Window>,
    in_doubt: AtomicU32,
    ended: Notify,
}

/// A look-up that may be of an unknown key, until this is dropped: after its key was counted, if it was.
#[derive(Debug)]
pub struct Doubt(Arc<Stranger>);

/// Why there is no place for a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPlace {
    /// The address has tried too many unknown keys.
    Full(Full),
    /// The look-ups before it do not end.
    Slow,
}

impl Stranger {
    /// Of an address whose unknown keys are counted in this window.
    pub fn new(window: Window) -> Self {
        Self {
            window: Arc::new(window),
            in_doubt: AtomicU32::new(0),
            ended: Notify::new(),
        }
    }

    /// Where its unknown keys are counted.
    pub const fn window(&self) -> &Arc<Window> {
        &self.window
    }

    /// A place for one look-up, or why there is none.
    pub async fn doubt(self: &Arc<Self>, now: u32) -> Result<Doubt, NoPlace> {
        let place = async {
            loop {
                let mut ended = std::pin::pin!(self.ended.notified());
                ended.as_mut().enable();
                self.window.check(now).map_err(NoPlace::Full)?;
                if let Some(doubt) = self.take(now) {
                    return Ok(doubt);
                }
                ended.await;
            }
        };
        let waited = tokio::time::timeout(WAIT, place).await;
        // Others may have counted meanwhile, elsewhere.
        waited.unwrap_or_else(|_| {
            Err(self
                .window
                .check(now)
                .map_or_else(NoPlace::Full, |()| NoPlace::Slow))
        })
    }

    fn take(self: &Arc<Self>, now: u32) -> Option<Doubt> {
        let taken = self
            .in_doubt
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |in_doubt| {
                (in_doubt < self.window.left(now)).then(|| in_doubt + 1)
            });
        let before = taken.ok()?;
        let doubt = Doubt(Arc::clone(self));
        // Read again: a look-up that ended meanwhile may have been counted.
        (before < self.window.left(now)).then_some(doubt)
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        self.0.in_doubt.fetch_sub(1, Ordering::AcqRel);
        self.0.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate::Rates;

    const LIMIT: u32 = 3;

    fn stranger() -> (Rates, Arc<Stranger>) {
        let rates = Rates::default();
        rates.gateways.store(1, Ordering::Relaxed);
        (
            rates,
            Arc::new(Stranger::new(Window::new("w".into(), LIMIT))),
        )
    }

    #[tokio::test]
    async fn as_many_look_ups_are_made_at_once_as_are_left_and_a_known_key_gives_its_place_back() {
        let (_, stranger) = stranger();
        let mut doubts = Vec::new();
        for _ in 0..LIMIT {
            doubts.push(stranger.doubt(0).await.unwrap());
        }
        let waits = tokio::spawn({
            let stranger = Arc::clone(&stranger);
            async move { stranger.doubt(0).await.is_ok() }
        });
        tokio::task::yield_now().await;
        assert!(!waits.is_finished(), "it waits for one that is in doubt");
        doubts.pop();
        assert!(waits.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn an_unknown_key_is_counted_and_nobody_looks_up_more_than_the_limit() {
        let (rates, stranger) = stranger();
        let asking: Vec<_> = (0..50)
            .map(|_| {
                let stranger = Arc::clone(&stranger);
                tokio::spawn(async move { stranger.doubt(0).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let mut looked_up = 0;
        for one in asking {
            if let Ok(doubt) = one.await.unwrap() {
                looked_up += 1;
                rates.take(stranger.window(), 0).await.unwrap();
                drop(doubt);
            }
        }
        assert_eq!(looked_up, LIMIT);
        let refused = stranger.doubt(0).await.unwrap_err();
        assert!(matches!(refused, NoPlace::Full(_)), "{refused:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_ever_for_look_ups_that_do_not_end() {
        let (_, stranger) = stranger();
        let mut doubts = Vec::new();
        for _ in 0..LIMIT {
            doubts.push(stranger.doubt(0).await.unwrap());
        }
        assert_eq!(stranger.doubt(0).await.unwrap_err(), NoPlace::Slow);
    }
}
