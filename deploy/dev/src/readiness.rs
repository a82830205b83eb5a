//! What a balancer knows of several of a service: which of them say that they are ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

/// Between two looks at `/readyz`: much less than the time a service leaves between failing it and closing.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const LOOK_LIMIT: Duration = Duration::from_millis(400);

#[derive(Debug)]
struct Watched {
    admin: String,
    is_ready: AtomicBool,
}

/// Which of several processes are ready, looked at all the time.
#[derive(Debug)]
pub struct Readiness {
    all: Arc<[Watched]>,
    next: AtomicUsize,
    looking: Vec<JoinHandle<()>>,
}

impl Readiness {
    /// Watches `/readyz` at these operators' origins.
    pub fn of(http: &reqwest::Client, admins: &[String]) -> Self {
        let all: Arc<[Watched]> = admins
            .iter()
            .map(|admin| Watched {
                admin: admin.clone(),
                is_ready: AtomicBool::new(true),
            })
            .collect();
        let looking = (0..all.len())
            .map(|number| tokio::spawn(look(Arc::clone(&all), number, http.clone())))
            .collect();
        Self {
            all,
            next: AtomicUsize::new(0),
            looking,
        }
    }

    /// Whose turn it is, among those that are ready.
    pub fn turn(&self) -> usize {
        let count = self.all.len();
        let first = self.next.fetch_add(1, Ordering::Relaxed);
        let turns = (first..first + count).map(|turn| turn % count);
        let mut ready = turns.filter(|&turn| self.is_ready(turn));
        ready.next().unwrap_or(first % count)
    }

    /// Whether one was ready when last looked at.
    pub fn is_ready(&self, number: usize) -> bool {
        let watched = self.all.get(number);
        watched.is_some_and(|watched| watched.is_ready.load(Ordering::Relaxed))
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        for looking in &self.looking {
            looking.abort();
        }
    }
}

async fn look(all: Arc<[Watched]>, number: usize, http: reqwest::Client) {
    let Some(watched) = all.get(number) else {
        return;
    };
    let url = format!("{}/readyz", watched.admin);
    let mut every = tokio::time::interval(LOOK_EVERY);
    loop {
        every.tick().await;
        let answer = http.get(&url).timeout(LOOK_LIMIT).send().await;
        let is_ready = answer.is_ok_and(|answer| answer.status().is_success());
        watched.is_ready.store(is_ready, Ordering::Relaxed);
    }
}
