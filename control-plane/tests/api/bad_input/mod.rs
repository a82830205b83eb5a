//! Every field of every route, with what no route takes: a contract error that names the field,
//! never a fault, and nothing written.

mod catalog;
mod identity;

use http::Method;
use serde_json::{Value, json};
use sqlx::PgPool;

use super::client::{Agent, Api};
use super::refused::{Takes, refused};

/// A field, whether it may be left out, and whether `null` is refused too.
struct Field(&'static str, Takes, Null);

#[derive(Clone, Copy, PartialEq)]
enum Null {
    Refused,
    Taken,
}
use Null::{Refused, Taken};

/// How much is there of what a refused call must not write.
async fn written(api: &Api) -> Vec<i64> {
    sqlx::query_scalar(
        "select count(*) from profile union all select count(*) from wallet
         union all select count(*) from api_key union all select count(*) from listing
         union all select coalesce(sum(version), 0)::bigint from listing
         union all select count(*) from endpoint union all select count(*) from outbox
         union all select count(*) from challenge union all select count(used_at) from challenge
         union all select count(*) from human union all select count(*) from session
         union all select count(revoked_at) from api_key union all select count(claimed_by) from profile",
    )
    .fetch_all(api.app.db.pool())
    .await
    .unwrap()
}

struct Route<'a> {
    api: &'a Api,
    key: Option<&'a str>,
    method: Method,
    path: &'a str,
    body: Value,
}

impl Route<'_> {
    /// Puts every refused value in the place of every field.
    async fn refuses(&self, fields: &[Field]) {
        let before = written(self.api).await;
        for Field(name, takes, null) in fields {
            let mut values = refused(*takes);
            if *null == Refused {
                values.push("null".to_owned());
            }
            for value in values {
                let body = self.with(name, &value);
                let answer = self
                    .api
                    .call(self.method.clone(), self.path, self.key, Some(&body))
                    .await;
                let shown: String = value.chars().take(40).collect();
                let what = format!("{} {} {name}={shown}", self.method, self.path);
                assert_eq!(answer.status, 400, "{what}: {}", answer.text);
                if answer.json()["error"]["code"] == "ENDPOINT_URL_FORBIDDEN"
                    && name.ends_with("url")
                {
                    continue;
                }
                let bad = answer.bad_fields();
                assert!(
                    bad.iter().all(|bad| bad.starts_with(name)) && !bad.is_empty(),
                    "{what}: {bad:?}"
                );
            }
        }
        assert_eq!(
            written(self.api).await,
            before,
            "{} {}",
            self.method,
            self.path
        );
    }

    /// What must be there is told when it is not, all of it at once.
    async fn requires(&self, fields: &[&str]) {
        let answer = self
            .api
            .call(self.method.clone(), self.path, self.key, Some("{}"))
            .await;
        let mut wanted = fields.to_vec();
        wanted.sort_unstable();
        assert_eq!(answer.bad_fields(), wanted, "{} {}", self.method, self.path);
    }

    fn with(&self, field: &str, value: &str) -> String {
        let mut body = self.body.clone();
        match field.split_once('.') {
            None => body[field] = "VALUE".into(),
            Some((outer, inner)) => {
                if !body[outer].is_object() {
                    body[outer] = json!({});
                }
                // The rest of a header is there, so that only the one part is wrong.
                if let Some((middle, last)) = inner.split_once('.') {
                    body[outer][middle] = json!({ "name": "X-Api-Key", "value": "v" });
                    body[outer][middle][last] = "VALUE".into();
                } else {
                    if outer == "auth_header" {
                        body[outer] = json!({ "name": "X-Api-Key", "value": "v" });
                    }
                    body[outer][inner] = "VALUE".into();
                }
            }
        }
        body.to_string().replace("\"VALUE\"", value)
    }
}

async fn api(pool: PgPool) -> (Api, Agent) {
    let api = Api::with(
        pool,
        &[
            "--rate-limit-key-writes-per-minute=1000000",
            "--rate-limit-sign-in-per-5-minutes=1000000",
            "--pow-difficulty=0",
        ],
    );
    let agent = api.agent().await;
    (api, agent)
}
