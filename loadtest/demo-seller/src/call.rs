//! A buyer's call: checks who sent it, counts it, and makes the answer the body asked for.

use std::{io::Write, time::Duration};

use flate2::{Compression, write::GzEncoder};

use crate::{
    Seller,
    connection::Request,
    plan::{Asked, CloseAfter, Cut, Encoding, Next, Plan},
    reply::{Reply, Then},
};

const JSON: &str = "application/json";

/// Answers a call.
pub(crate) fn answer(seller: &Seller, request: &Request) -> Reply {
    if request.method != "POST" {
        return Reply::json(405, r#"{"error":"calls are POST"}"#);
    }
    if !seller.unsigned && !is_signed(seller, request) {
        seller.book.count_unsigned();
        return Reply::json(401, r#"{"error":"invalid signature"}"#);
    }
    let nth = seller.book.count(
        request.id.as_deref(),
        request.attempt.as_deref().unwrap_or(""),
    );
    match Asked::read(&request.body) {
        Ok(asked) if nth <= asked.plan.fail_times => failure(&asked.plan),
        Ok(asked) => compose(&asked),
        Err(problem) => {
            let problem = serde_json::Value::from(format!("seller: {problem}"));
            Reply::json(400, &format!(r#"{{"error":{problem}}}"#))
        }
    }
}

fn is_signed(seller: &Seller, request: &Request) -> bool {
    request.listing.as_deref().is_some_and(|listing| {
        seller
            .book
            .is_signed(listing, &request.webhook, &request.body)
    })
}

fn failure(plan: &Plan) -> Reply {
    Reply {
        delay: Duration::from_millis(plan.delay_ms),
        ..Reply::json(plan.fail_status.unwrap_or(500), r#"{"error":"not yet"}"#)
    }
}

fn compose(asked: &Asked<'_>) -> Reply {
    let plan = &asked.plan;
    let default = if plan.redirect.is_some() { 302 } else { 200 };
    let (body, content_type) = body(asked);
    let mut reply = Reply {
        status: plan.status.unwrap_or(default),
        content_type,
        body,
        delay: Duration::from_millis(plan.delay_ms),
        drip: plan.drip_ms.map(Duration::from_millis),
        chunked: plan.chunked,
        cut: plan.cut,
        then: match plan.close_after {
            Some(CloseAfter::Now(true)) => Then::Close,
            Some(CloseAfter::Then(Next::Next)) => Then::CloseAtNext,
            Some(CloseAfter::Now(false)) | None => Then::GoOn,
        },
        headers: String::new(),
    };
    if let Some(location) = &plan.redirect {
        reply.header("location", location);
    }
    for number in 1..=plan.headers {
        reply.header(&format!("x-extra-{number}"), "filler");
    }
    if plan.content_encoding == Some(Encoding::Gzip) && !reply.body.is_empty() {
        reply.header("content-encoding", "gzip");
        reply.body = gzip(&reply.body);
    }
    if plan.cut == Some(Cut::Body) && reply.body.is_empty() {
        // Something has to be promised to be cut.
        reply.body = b"{}".to_vec();
    }
    reply
}

fn body(asked: &Asked<'_>) -> (Vec<u8>, Option<String>) {
    let plan = &asked.plan;
    let named = |default: &str| {
        Some(
            plan.content_type
                .clone()
                .unwrap_or_else(|| default.to_owned()),
        )
    };
    if plan.empty {
        (Vec::new(), plan.content_type.clone())
    } else if let Some(body) = &plan.body {
        (body.get().as_bytes().to_vec(), named(JSON))
    } else if let Some(text) = &plan.body_text {
        (text.as_bytes().to_vec(), named("text/plain; charset=utf-8"))
    } else if plan.size > 0
        && plan
            .content_type
            .as_ref()
            .is_some_and(|kind| !kind.contains("json"))
    {
        (vec![b'x'; plan.size], named(JSON))
    } else {
        (echo(asked.echo.unwrap_or("null"), plan.size), named(JSON))
    }
}

fn echo(echo: &str, filler: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(echo.len() + filler + 40);
    body.extend_from_slice(br#"{"ok":true,"echo":"#);
    body.extend_from_slice(echo.as_bytes());
    if filler > 0 {
        body.extend_from_slice(br#","filler":""#);
        body.resize(body.len() + filler, b'x');
        body.push(b'"');
    }
    body.push(b'}');
    body
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing to memory cannot fail.
    let _ = encoder.write_all(body);
    encoder.finish().unwrap_or_default()
}
