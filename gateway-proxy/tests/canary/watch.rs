//! What was planted, what came back, and the places a secret must not be in.

use std::fmt::Write as _;

use crochet_dev::Role;
use demo_agent::{Agent, Answer, Method, random_hex};
use serde_json::Value;

use crate::harness::{Door, Market, World};

/// A secret, and what it was planted as.
#[derive(Clone, Debug)]
struct Canary {
    what: String,
    text: String,
}

/// All that was planted and all that came back.
#[derive(Debug, Default)]
pub(super) struct Watch {
    canaries: Vec<Canary>,
    pub(super) answers: Vec<(String, Answer)>,
}

impl Watch {
    /// A new secret.
    pub(super) fn plant(&mut self, what: &str) -> String {
        let text = format!("canary{}", random_hex::<12>().unwrap());
        self.note(what, &text);
        text
    }

    /// One that exists already.
    pub(super) fn note(&mut self, what: &str, text: &str) {
        assert!(text.len() >= 12, "{what} is too short to be looked for");
        self.canaries.push(Canary {
            what: what.to_owned(),
            text: text.to_owned(),
        });
    }

    pub(super) fn keep(&mut self, asked: &str, answer: Answer) -> Answer {
        self.answers.push((asked.to_owned(), answer.clone()));
        answer
    }

    pub(super) async fn send(
        &mut self,
        agent: &Agent,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let asked = format!("{method} {path}");
        let body = body.map(|body| body.to_string().into());
        let answer = agent.send(method, path, &[], body).await.unwrap();
        self.keep(&asked, answer)
    }

    /// Panics with every place a secret was found in.
    pub(super) fn assert_nowhere(&self, places: &[(String, Vec<u8>)]) {
        let mut found = String::new();
        for canary in &self.canaries {
            for (place, bytes) in places {
                if bytes
                    .windows(canary.text.len())
                    .any(|part| part == canary.text.as_bytes())
                {
                    writeln!(found, "{} in {place}", canary.what).unwrap();
                }
            }
        }
        assert!(found.is_empty(), "\n{found}");
    }

    pub(super) fn answered(&self) -> Vec<(String, Vec<u8>)> {
        let whole = |answer: &Answer| {
            let mut bytes = format!("{:?}", answer.headers).into_bytes();
            bytes.extend_from_slice(&answer.body);
            bytes
        };
        let named = |(asked, answer): &(String, Answer)| {
            (format!("the {} to {asked}", answer.status), whole(answer))
        };
        self.answers.iter().map(named).collect()
    }
}

pub(super) fn logs(world: &World) -> Vec<(String, Vec<u8>)> {
    [Role::ControlPlane, Role::Gateway(0), Role::Gateway(1)]
        .into_iter()
        .map(|role| {
            let log = world.log_of(role);
            assert!(log.len() > 100, "{role} says nothing at all");
            assert!(!log.contains("panicked"), "{role} panicked");
            (format!("the log of {role}"), log.into_bytes())
        })
        .collect()
}

pub(super) async fn metrics(door: &Door, market: &Market) -> Vec<(String, Vec<u8>)> {
    let mut places = Vec::new();
    for admin in [&door.at.gateway_admin, &door.at.control_plane_admin] {
        let url = format!("{admin}/metrics");
        let answer = Answer::of(market.api().http().get(&url)).await.unwrap();
        assert_eq!(answer.status, 200);
        places.push((url, answer.body.to_vec()));
    }
    places
}

/// Names and values of everything in Redis.
pub(super) async fn redis(door: &Door) -> Vec<(String, Vec<u8>)> {
    let client = redis::Client::open(door.at.redis_url.as_str()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let names: Vec<Vec<u8>> = redis::cmd("KEYS")
        .arg("*")
        .query_async(&mut redis)
        .await
        .unwrap();
    assert!(names.len() > 5, "there is something to look through");
    let mut places = Vec::new();
    for name in names {
        let mut value: Result<Option<Vec<u8>>, _> =
            redis::cmd("GET").arg(&name).query_async(&mut redis).await;
        if value.is_err() {
            // Not a string: its bytes as Redis would write them down.
            value = redis::cmd("DUMP").arg(&name).query_async(&mut redis).await;
        }
        let place = format!("Redis under {}", String::from_utf8_lossy(&name));
        places.push((place, [name, value.unwrap().unwrap_or_default()].concat()));
    }
    places
}
