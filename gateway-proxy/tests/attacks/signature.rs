//! A signature: what verifies is exactly the body, id and time that the gateway sent, whatever
//! secret is in force, also while secrets are rotated under load; an old secret ends at its hour, at
//! every gateway and under load too.
//! That the official libraries in Python and JavaScript verify it too is held by
//! `cargo dev documents signatures`.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use demo_agent::PaidCall;
use serde_json::{Value, json};

use crate::harness::{Arrival, Market, World, ok, sized, text, trials, until};
use crate::promises::trade::paid_in_advance;
use crate::sellers_view::{secret, verifies};

trials!(a_signature_vouches_for_what_was_sent_and_an_old_secret_ends_at_its_hour => few);

/// How long a rotated secret goes on signing here.
const OVERLAP: Duration = Duration::from_secs(4);
/// Calls under way at once while secrets are rotated.
const AT_ONCE: usize = 8;

async fn a_signature_vouches_for_what_was_sent_and_an_old_secret_ends_at_its_hour() {
    let world = World::own("signature", |options| {
        let overlap = OVERLAP.as_secs().to_string();
        options.set("SECRET_OVERLAP_SECONDS", &overlap).unwrap()
    })
    .await;
    let market = Arc::new(Market::within(&world.door, json!({})).await);
    nothing_that_was_changed_verifies(&market).await;
    let secrets = Secrets::new(vec![Secret {
        text: secret(&market).to_owned(),
        ends: None,
    }]);
    calls_verify_while_secrets_are_rotated(&market, &secrets).await;
    an_old_secret_ends_at_its_hour(&market, &secrets).await;
    drop(market);
    world.close().await;
}

/// The same call with one header changed.
fn with(arrival: &Arrival, name: &str, value: &str) -> Arrival {
    let mut changed = arrival.clone();
    for (given, held) in &mut changed.request.headers {
        if given == name {
            value.clone_into(held);
        }
    }
    changed
}

async fn nothing_that_was_changed_verifies(market: &Market) {
    let delivered = async |call: &PaidCall| {
        let (quote, answer) = market.buy(call).await;
        ok(&answer);
        market.service.called_for(&quote.request_id).await
    };
    let arrival = delivered(&market.call()).await;
    let other = delivered(&market.call()).await;
    let secret = secret(market);
    assert!(verifies(&arrival, secret) && verifies(&other, secret));

    // The body: each byte in turn, one less, one more, none, and what means the same to JSON.
    let body = arrival.request.body.to_vec();
    let mut bodies: Vec<Vec<u8>> = (0..body.len())
        .map(|at| {
            let mut changed = body.clone();
            changed[at] ^= 1;
            changed
        })
        .collect();
    bodies.extend([
        body[1..].to_vec(),
        body[..body.len() - 1].to_vec(),
        [&body[..], b" "].concat(),
        [b" ", &body[..]].concat(),
        [&body[..], &body[..]].concat(),
        Vec::new(),
        other.request.body.to_vec(),
    ]);
    for body in bodies {
        let mut changed = arrival.clone();
        changed.request.body = body.into();
        assert!(!verifies(&changed, secret), "{:?}", changed.request.body);
    }
    // The id and the time: other ones, and the bytes between them moved across the dot.
    let (id, time) = (
        arrival.header("webhook-id"),
        arrival.header("webhook-timestamp"),
    );
    let seconds: i64 = time.parse().unwrap();
    let mut changes = vec![
        ("webhook-id", other.header("webhook-id").to_owned()),
        ("webhook-id", id.to_uppercase()),
        ("webhook-id", format!("{id}.")),
        ("webhook-id", format!("{id}.{time}")),
        ("webhook-id", id[..id.len() - 1].to_owned()),
        ("webhook-timestamp", (seconds + 1).to_string()),
        ("webhook-timestamp", (seconds - 1).to_string()),
        ("webhook-timestamp", format!("{time}.0")),
        ("webhook-timestamp", String::new()),
        (
            "webhook-signature",
            other.header("webhook-signature").to_owned(),
        ),
        (
            "webhook-signature",
            arrival.header("webhook-signature").replace("v1,", "v2,"),
        ),
        (
            "webhook-signature",
            arrival.header("webhook-signature").replace("v1,", ""),
        ),
        ("webhook-signature", "v1,".to_owned()),
        ("webhook-signature", String::new()),
    ];
    for at in 0..id.len() {
        let mut bytes = id.as_bytes().to_vec();
        bytes[at] ^= 1;
        changes.push(("webhook-id", String::from_utf8(bytes).unwrap()));
    }
    for (name, value) in changes {
        assert!(
            !verifies(&with(&arrival, name, &value), secret),
            "{name}: {value}"
        );
    }
    // Whoever has seen a call cannot make its time another.
    for age in [-3_600, 3_600, 86_400] {
        let late = with(&arrival, "webhook-timestamp", &(seconds - age).to_string());
        assert!(!verifies(&late, secret), "{age} seconds old");
    }
}

/// A secret, and until when it signs beside a newer one.
struct Secret {
    text: String,
    ends: Option<DateTime<Utc>>,
}

impl Secret {
    /// Whether a call that says it was sent in this second was sent after the end: the last second may
    /// have begun before it.
    fn has_ended(&self, sent: i64) -> bool {
        self.ends.is_some_and(|ends| ends.timestamp() < sent)
    }
}

/// All that she was ever told, the newest last.
type Secrets = tokio::sync::Mutex<Vec<Secret>>;

/// When a call says that it was sent, in seconds.
fn sent(arrival: &Arrival) -> i64 {
    arrival.header("webhook-timestamp").parse().unwrap()
}

/// A call is signed with secrets of hers that have not ended by its own time, with one at least, and with
/// nothing else. Gives back how many had ended.
fn assert_signed_in_time(arrival: &Arrival, secrets: &[Secret]) -> usize {
    let (sent, signature) = (sent(arrival), arrival.header("webhook-signature"));
    let (mut signed, mut ended) = (0, 0);
    for secret in secrets {
        let verifies = verifies(arrival, &secret.text);
        if secret.has_ended(sent) {
            let ends = secret.ends;
            assert!(!verifies, "sent at {sent} with a secret of until {ends:?}");
            ended += 1;
        }
        signed += usize::from(verifies);
    }
    assert!(signed > 0, "no secret of hers verifies {signature}");
    let signatures = signature.split(' ').count();
    assert_eq!(signed, signatures, "whose are they all: {signature}");
    ended
}

/// Calls go on while the seller rotates again and again; each verifies with secrets that she has then.
async fn calls_verify_while_secrets_are_rotated(market: &Arc<Market>, secrets: &Secrets) {
    let calls = sized(48, 1_500);
    let paid = paid_in_advance(market, calls).await;
    let calling = paid.chunks(calls.div_ceil(AT_ONCE)).map(|mine| {
        let (market, mine) = (Arc::clone(market), mine.to_vec());
        tokio::spawn(async move {
            for (number, (call, quote)) in mine.iter().enumerate() {
                let gateway = &market.door.apis[number % market.door.apis.len()];
                let buyer = market.buyer.through(gateway);
                ok(&market.redeem_as(&buyer, call, quote).await);
            }
        })
    });
    let calling: Vec<_> = calling.collect();
    let mut rotations = 0;
    while !calling.iter().all(tokio::task::JoinHandle::is_finished) || rotations < 3 {
        rotations += rotate(market, secrets).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    for called in calling {
        called.await.unwrap();
    }
    let secrets = secrets.lock().await;
    let mut after_an_end = 0;
    for (_, quote) in &paid {
        let arrival = market.service.called_for(&quote.request_id).await;
        after_an_end += usize::from(assert_signed_in_time(&arrival, &secrets) > 0);
        assert_eq!(market.service.count(&quote.request_id), 1);
    }
    println!(
        "{calls} calls verified through {rotations} rotations, {after_an_end} of them after the end of a secret"
    );
    // The ordinary size is done before the first ends; the calls that follow are not.
    assert!(
        after_an_end >= sized(0, calls / 10),
        "secrets end under load"
    );
}

/// Rotates, unless as many old secrets as may still sign.
async fn rotate(market: &Market, secrets: &Secrets) -> usize {
    let path = format!("/listings/{}/endpoint/rotate-secret", market.listing.id);
    let answer = market.seller.post(&path, &json!({})).await.unwrap();
    if answer.status == 429 {
        return 0;
    }
    let told: Value = answer.data(200).unwrap();
    let ends = text(&told["previous_secret_expires_at"]).parse().unwrap();
    let mut secrets = secrets.lock().await;
    secrets.last_mut().unwrap().ends = Some(ends);
    secrets.push(Secret {
        text: text(&told["signing_secret"]).to_owned(),
        ends: None,
    });
    1
}

/// The last one that was replaced signs until its hour and not after it, at every gateway, and only
/// the newest is left.
async fn an_old_secret_ends_at_its_hour(market: &Market, secrets: &Secrets) {
    // One that is replaced just now, so that calls are made before its hour too.
    until("there is place for another secret", || async {
        (rotate(market, secrets).await == 1).then_some(())
    })
    .await;
    let secrets = secrets.lock().await;
    let [.., old, newest] = &secrets[..] else {
        panic!("it was rotated");
    };
    until("the old secret has ended at every gateway", || async {
        let mut left = market.door.apis.len();
        for gateway in &market.door.apis {
            let buyer = market.buyer.through(gateway);
            let call = market.call();
            let quote = market.paid(&call).await;
            ok(&market.redeem_as(&buyer, &call, &quote).await);
            let arrival = market.service.called_for(&quote.request_id).await;
            assert_signed_in_time(&arrival, &secrets);
            let sent = sent(&arrival);
            // The signature's own time decides; its second may be the very last.
            if old.has_ended(sent) {
                for secret in secrets.iter() {
                    assert_eq!(
                        verifies(&arrival, &secret.text),
                        secret.text == newest.text,
                        "sent at {sent}, the last old secret ended at {:?}",
                        old.ends
                    );
                }
                left -= 1;
            }
        }
        (left == 0).then_some(())
    })
    .await;
    let arrivals = market.service.arrivals();
    let carry_both =
        |arrival: &&Arrival| verifies(arrival, &old.text) && verifies(arrival, &newest.text);
    let both = arrivals.iter().filter(carry_both).count();
    assert!(both > 0, "both signed for a while");
    println!(
        "of {} calls {both} carried the last two secrets",
        arrivals.len()
    );
}
