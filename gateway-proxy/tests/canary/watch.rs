//! What was planted, what came back, and the places a secret must not be in.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use crochet_dev::{Role, install};
use demo_agent::{Agent, Answer, Method, hex, random_hex};
use serde_json::Value;

use crate::harness::{Door, Market, World};

/// A secret, and what it was planted as.
#[derive(Clone, Debug)]
struct Canary {
    what: String,
    /// Every form that somebody who finds it could read it from.
    forms: Vec<Vec<u8>>,
}

/// A secret in clear, in hex, in base64 however it falls among other bytes; and, where its text is
/// itself base64 of something, that in all these forms too.
fn forms_of(text: &str) -> Vec<Vec<u8>> {
    let coded = text.strip_prefix("whsec_").unwrap_or(text);
    let raw = STANDARD.decode(coded).ok().filter(|raw| raw.len() >= 24);
    let mut forms = BTreeSet::new();
    for bytes in [Some(text.as_bytes().to_vec()), raw].into_iter().flatten() {
        forms.insert(hex(&bytes).into_bytes());
        forms.insert(hex(&bytes).to_uppercase().into_bytes());
        for before in 0..3 {
            let shifted = [&vec![0; before][..], &bytes].concat();
            // The ends depend on what stands beside it.
            for coded in [
                STANDARD_NO_PAD.encode(&shifted),
                URL_SAFE_NO_PAD.encode(&shifted),
            ] {
                let inner = &coded.as_bytes()[4 * before.min(1)..coded.len() - 4];
                forms.insert(inner.to_vec());
            }
        }
        forms.insert(bytes);
    }
    forms.into_iter().collect()
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
            forms: forms_of(text),
        });
    }

    pub(super) fn keep(&mut self, asked: &str, answer: Answer) -> Answer {
        self.answers.push((asked.to_owned(), answer.clone()));
        answer
    }

    /// An answer that tells `known`, and is the only place that may; of all else it is looked through as
    /// any other.
    pub(super) fn keep_but(&mut self, asked: &str, mut answer: Answer, known: &str) {
        let body = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(body.contains(known), "{known} was told: {answer}");
        answer.body = body.replace(known, "").into();
        self.keep(asked, answer);
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
        self.assert_nowhere_but(&[], places);
    }

    /// The same of all secrets but those planted as one of `known`, which the places may hold.
    pub(super) fn assert_nowhere_but(&self, known: &[&str], places: &[(String, Vec<u8>)]) {
        let mut found = String::new();
        let looked_for = self.canaries.iter();
        for canary in looked_for.filter(|canary| !known.contains(&canary.what.as_str())) {
            for form in &canary.forms {
                let finder = memchr::memmem::Finder::new(form);
                for (place, bytes) in places {
                    if finder.find(bytes).is_some() {
                        let form = String::from_utf8_lossy(form);
                        writeln!(found, "{} in {place}, as {form}", canary.what).unwrap();
                    }
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

/// All that is in the database, as text: bytes stand there in hex.
pub(super) async fn database(door: &Door) -> Vec<(String, Vec<u8>)> {
    let programs = install::postgres_binaries().unwrap();
    let dump = tokio::process::Command::new(programs.join("pg_dump"))
        .arg(format!("--dbname={}", door.at.database_url))
        .output()
        .await
        .unwrap();
    assert!(
        dump.status.success(),
        "{}",
        String::from_utf8_lossy(&dump.stderr)
    );
    let tables = String::from_utf8_lossy(&dump.stdout);
    // Each table by itself, so that what is found is found somewhere.
    let places = tables.split("\n-- Data for Name: ").map(|part| {
        let name = part.split(';').next().unwrap_or_default();
        (format!("the table {name}"), part.as_bytes().to_vec())
    });
    let places: Vec<_> = places.collect();
    assert!(places.len() > 20, "{} tables", places.len());
    places
}

/// Shows that a secret would be found in each of its forms; else nothing that is not found means
/// anything.
pub(super) fn proves_itself() {
    let mut watch = Watch::default();
    let text = watch.plant("a secret");
    for number in 0..6 {
        let shifted = [&b"abcdef"[..number], text.as_bytes(), b"gh"].concat();
        for hidden in [
            shifted.clone(),
            hex(&shifted).into_bytes(),
            STANDARD.encode(&shifted).into_bytes(),
            URL_SAFE_NO_PAD.encode(&shifted).into_bytes(),
        ] {
            let found = watch.canaries[0]
                .forms
                .iter()
                .any(|form| memchr::memmem::find(&hidden, form).is_some());
            assert!(found, "{text} is overlooked in {hidden:?}");
        }
    }
}
