//! One question at a time for one name: whoever asks meanwhile waits for the same answer.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

/// Questions under way, by name.
#[derive(Debug)]
pub struct Flights<K, V>(Mutex<HashMap<K, Arc<OnceCell<V>>>>);

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self(Mutex::new(HashMap::new()))
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Flights<K, V> {
    /// Joins the question under way for `name`, or asks it. If the one who asks goes away, the next
    /// who waits asks in her place.
    pub async fn join<F: Future<Output = V>>(&self, name: &K, ask: impl FnOnce() -> F) -> V {
        let cell = Arc::clone(self.0.lock().entry(name.clone()).or_default());
        let landing = Landing {
            flights: self,
            name,
            cell: &cell,
        };
        let answer = cell.get_or_init(ask).await.clone();
        drop(landing);
        answer
    }
}

/// Takes the question off the list, when it was answered or the last asker went away.
struct Landing<'a, K: Eq + Hash, V> {
    flights: &'a Flights<K, V>,
    name: &'a K,
    cell: &'a Arc<OnceCell<V>>,
}

impl<K: Eq + Hash, V> Drop for Landing<'_, K, V> {
    fn drop(&mut self) {
        let mut flights = self.flights.0.lock();
        let same = flights
            .get(self.name)
            .is_some_and(|standing| Arc::ptr_eq(standing, self.cell));
        // Two: the list's and ours.
        if same && (self.cell.initialized() || Arc::strong_count(self.cell) <= 2) {
            flights.remove(self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn a_hundred_ask_once_and_the_next_asks_again() {
        let flights = Arc::new(Flights::<u8, usize>::default());
        let asked = Arc::new(AtomicUsize::new(0));
        let go = Arc::new(Notify::new());
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let (flights, asked, go) =
                    (Arc::clone(&flights), Arc::clone(&asked), Arc::clone(&go));
                tokio::spawn(async move {
                    flights
                        .join(&1, || async {
                            go.notified().await;
                            asked.fetch_add(1, Ordering::Relaxed) + 1
                        })
                        .await
                })
            })
            .collect();
        tokio::task::yield_now().await;
        go.notify_one();
        for task in tasks {
            assert_eq!(task.await.unwrap(), 1);
        }
        assert!(flights.0.lock().is_empty());
        let again = flights
            .join(&1, || async { asked.fetch_add(1, Ordering::Relaxed) + 1 })
            .await;
        assert_eq!(again, 2);
    }

    #[tokio::test]
    async fn an_asker_who_goes_away_leaves_nothing_behind() {
        let flights = Flights::<u8, u8>::default();
        let never = flights.join(&1, std::future::pending);
        assert!(
            tokio::time::timeout(std::time::Duration::ZERO, never)
                .await
                .is_err()
        );
        assert!(flights.0.lock().is_empty());
        assert_eq!(flights.join(&1, || async { 7 }).await, 7);
    }
}
