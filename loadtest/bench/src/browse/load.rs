//! Asking one catalog one question, again and again.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::questions::Question;

/// Times of one question to one catalog.
pub(super) struct Timings {
    url: String,
    microseconds: Vec<u32>,
}

impl Timings {
    /// Goes to where the question begins.
    pub(super) async fn begin(
        client: &reqwest::Client,
        origin: &str,
        question: &Question,
    ) -> Result<Self> {
        let query = question.name.replace("&cursor=…", "");
        let first = format!("{origin}/api/v1/listings?{query}");
        let mut url = first.clone();
        for _ in 0..question.cursor_pages {
            let answer = answer(client, &url).await?;
            let page: Value = serde_json::from_slice(&answer).context("the answer's JSON")?;
            let cursor = page
                .pointer("/pagination/next_cursor")
                .and_then(Value::as_str);
            let cursor = cursor.with_context(|| format!("{first} ended early"))?;
            url = format!("{first}&cursor={cursor}");
        }
        Ok(Self {
            url,
            microseconds: Vec::new(),
        })
    }

    /// Asks once; the time counts when `counts`.
    pub(super) async fn ask(&mut self, client: &reqwest::Client, counts: bool) -> Result<()> {
        let started = Instant::now();
        answer(client, &self.url).await?;
        if counts {
            let took = started.elapsed().as_micros();
            self.microseconds
                .push(u32::try_from(took).unwrap_or(u32::MAX));
        }
        Ok(())
    }

    /// All that counted, the shortest first.
    pub(super) fn sorted(mut self) -> Vec<u32> {
        self.microseconds.sort_unstable();
        self.microseconds
    }
}

async fn answer(client: &reqwest::Client, url: &str) -> Result<Vec<u8>> {
    let response = client
        .get(url)
        .send()
        .await
        .with_context(|| url.to_owned())?;
    let status = response.status();
    let body = response.bytes().await.with_context(|| url.to_owned())?;
    ensure!(status.is_success(), "{url}: {status}");
    Ok(body.to_vec())
}
