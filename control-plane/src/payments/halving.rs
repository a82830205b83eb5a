//! A failed batch is halved until the item that fails stands alone.

use std::future::Future;
use std::pin::Pin;

use crate::metrics::names;

/// Answers of a part of a batch, on their way.
pub type Part<'a, A> = Pin<Box<dyn Future<Output = Result<Vec<A>, sqlx::Error>> + Send + 'a>>;

/// Runs `batch` over `items`. When the database refuses the batch for what is in it, halves of it
/// are run, down to single items; one that fails alone is answered by `alone`, the others as ever.
/// A database that is away fails the whole: then nothing is known of any item.
pub async fn run<'a, T, A>(
    items: &'a [T],
    batch: impl Fn(Vec<&'a T>) -> Part<'a, A>,
    alone: impl Fn(&T) -> A,
) -> Result<Vec<A>, sqlx::Error> {
    let all: Vec<&T> = items.iter().collect();
    let mut answers = Vec::with_capacity(items.len());
    // A stack of parts still to run, the first on top, so that answers come in order.
    let mut parts: Vec<Vec<&T>> = vec![all];
    while let Some(part) = parts.pop() {
        match batch(part.clone()).await {
            Ok(mut some) => answers.append(&mut some),
            Err(error) if !is_about_items(&error) => return Err(error),
            Err(error) => match part.as_slice() {
                [] => {}
                [item] => {
                    metrics::counter!(names::POISON.name).increment(1);
                    tracing::error!(%error, "one item of a batch fails alone");
                    answers.push(alone(item));
                }
                more => {
                    let (first, second) = more.split_at(more.len() / 2);
                    parts.push(second.to_vec());
                    parts.push(first.to_vec());
                }
            },
        }
    }
    Ok(answers)
}

/// Whether an error speaks of the statement and its data rather than of the connection.
fn is_about_items(error: &sqlx::Error) -> bool {
    if let Some(database) = error.as_database_error() {
        // 08 connection, 25 read-only, 53 resources, 57 operator intervention: not the items.
        return database.code().is_none_or(|code| {
            !["08", "25", "53", "57"]
                .iter()
                .any(|class| code.starts_with(class))
        });
    }
    matches!(
        error,
        sqlx::Error::Encode(_) | sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;

    async fn numbers(items: &[i32], poison: &[i32], calls: &Mutex<usize>) -> Vec<i32> {
        run(
            items,
            |part: Vec<&i32>| {
                *calls.lock() += 1;
                let part: Vec<i32> = part.iter().map(|item| **item).collect();
                let fails = part.iter().any(|item| poison.contains(item));
                Box::pin(async move {
                    if fails {
                        Err(sqlx::Error::Encode("poison".into()))
                    } else {
                        Ok(part.iter().map(|item| item * 10).collect())
                    }
                })
            },
            |_| -1,
        )
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn the_poison_item_stands_alone_and_the_others_keep_their_order() {
        let items: Vec<i32> = (0..64).collect();
        let calls = Mutex::new(0);
        let answers = numbers(&items, &[17], &calls).await;
        for (item, answer) in items.iter().zip(&answers) {
            assert_eq!(*answer, if *item == 17 { -1 } else { item * 10 });
        }
        assert_eq!(answers.len(), 64);
        // Two runs a level: log2(64) levels and the whole.
        assert_eq!(*calls.lock(), 13);
    }

    #[tokio::test]
    async fn a_database_that_is_away_fails_the_whole() {
        let outcome = run(
            &[1, 2],
            |_: Vec<&i32>| -> Part<'_, i32> { Box::pin(async { Err(sqlx::Error::PoolTimedOut) }) },
            |_| 0,
        )
        .await;
        assert!(outcome.is_err());
    }
}
