//! Waiting for a named condition, never for time to pass.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How long one named condition may take to come true.
#[derive(Debug)]
pub struct Deadline {
    condition: String,
    limit: Duration,
    begun: Instant,
}

impl Deadline {
    /// Begins to wait for `condition`, at most `limit`.
    pub fn new(condition: impl Into<String>, limit: Duration) -> Self {
        Self {
            condition: condition.into(),
            limit,
            begun: Instant::now(),
        }
    }

    /// To be called between two looks: an error that names the condition once the limit is over.
    pub async fn tick(&self) -> Result<()> {
        self.check()?;
        tokio::time::sleep(LOOK_EVERY).await;
        Ok(())
    }

    /// The same for code that may not await (dropping a stack).
    pub fn tick_blocking(&self) -> Result<()> {
        self.check()?;
        std::thread::sleep(LOOK_EVERY);
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if self.begun.elapsed() >= self.limit {
            bail!("waited {:?} for {}", self.limit, self.condition);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_deadline_that_is_over_names_what_was_waited_for() {
        let deadline = Deadline::new("the moon", Duration::ZERO);
        assert!(
            deadline
                .tick()
                .await
                .unwrap_err()
                .to_string()
                .contains("the moon")
        );
        Deadline::new("the sun", Duration::from_mins(1))
            .tick()
            .await
            .unwrap();
    }
}
