//! Questions that change nothing, or are found when they are asked again: asked again when no answer came.
//!
//! A control plane that stops closes connections that are kept here, and each may have been taken already by
//! another question. So one more try is not always enough.

use std::future::Future;
use std::time::{Duration, Instant};

use super::batch::Unanswered;

/// How often a question is asked again.
const AGAIN_MAX: u32 = 3;
/// Pause before somebody is tried again who could not be reached.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks until an answer comes, or it has been tried often, or for so long since then.
pub async fn patiently<T, F: Future<Output = Result<T, Unanswered>>>(
    since: Instant,
    patience: Duration,
    mut ask: impl FnMut() -> F,
) -> Result<T, Unanswered> {
    for _ in 0..AGAIN_MAX {
        match ask().await {
            Err(Unanswered::Lost) if since.elapsed() < patience => {}
            Err(Unanswered::Unreachable) if since.elapsed() < patience => {
                tokio::time::sleep(PAUSE).await;
            }
            answered => return answered,
        }
    }
    ask().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_got_no_answer_is_asked_again_and_a_refusal_is_not() {
        for (why, times) in [
            (Unanswered::Lost, 4),
            (Unanswered::Unreachable, 4),
            (Unanswered::Full, 1),
            (Unanswered::Failed, 1),
        ] {
            let mut asked = 0;
            let answer: Result<(), _> = patiently(Instant::now(), Duration::from_mins(1), || {
                asked += 1;
                async { Err(why) }
            })
            .await;
            assert_eq!((answer, asked), (Err(why), times));
        }
        let mut asked = 0;
        let answer: Result<(), _> = patiently(Instant::now(), Duration::ZERO, || {
            asked += 1;
            async { Err(Unanswered::Lost) }
        })
        .await;
        assert_eq!((answer, asked), (Err(Unanswered::Lost), 1));
    }
}
