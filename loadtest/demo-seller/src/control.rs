//! What an operator or a test asks the seller: secrets, counts, health.

use serde::{Deserialize, Serialize};
use standardwebhooks::Webhook;

use crate::{Seller, connection::Request, reply::Reply};

/// What every Crochet signing secret begins with.
const SECRET_PREFIX: &str = "whsec_";

#[derive(Deserialize)]
struct Secrets {
    secrets: Vec<String>,
}

/// Answers a control request; none when it is a call.
pub(crate) fn answer(seller: &Seller, request: &Request) -> Option<Reply> {
    let path = request.path.as_str();
    match request.method.as_str() {
        "GET" if path == "/healthz" => Some(Reply::json(200, r#"{"status":"ok"}"#)),
        "GET" if path == "/calls" => Some(json(&seller.book.counts())),
        "GET" => {
            let reply = path
                .strip_prefix("/calls/")
                .map(|id| json(&seller.book.tally(id)));
            Some(reply.unwrap_or_else(|| Reply::json(404, r#"{"error":"not found"}"#)))
        }
        "DELETE" if path == "/calls" => {
            seller.book.forget();
            Some(Reply::json(200, r#"{"calls":{},"total":0,"unsigned":0}"#))
        }
        "PUT" => Some(match path.strip_prefix("/secrets/") {
            Some(listing) if !listing.is_empty() => put_secrets(seller, listing, &request.body),
            _ => Reply::json(404, r#"{"error":"not found"}"#),
        }),
        _ => None,
    }
}

fn put_secrets(seller: &Seller, listing: &str, body: &[u8]) -> Reply {
    match read_secrets(body) {
        Ok(secrets) => {
            let count = secrets.len();
            seller.book.put_secrets(listing, secrets);
            Reply::json(200, &format!(r#"{{"secrets":{count}}}"#))
        }
        Err(problem) => Reply::json(400, &format!(r#"{{"error":"{problem}"}}"#)),
    }
}

fn read_secrets(body: &[u8]) -> Result<Vec<Webhook>, &'static str> {
    let body: Secrets =
        serde_json::from_slice(body).map_err(|_| "the body is {secrets:[whsec_…]}")?;
    body.secrets
        .iter()
        .map(|secret| {
            if !secret.starts_with(SECRET_PREFIX) {
                return Err("a secret begins with whsec_");
            }
            Webhook::new(secret).map_err(|_| "a secret is whsec_ and base64")
        })
        .collect()
}

fn json(value: &impl Serialize) -> Reply {
    match serde_json::to_string(value) {
        Ok(body) => Reply::json(200, &body),
        Err(_) => Reply::json(500, r#"{"error":"not shown"}"#),
    }
}
