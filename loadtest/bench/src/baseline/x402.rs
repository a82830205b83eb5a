//! An x402 payment gateway as people would set one up today: Express with the official middleware
//! (`x402/gateway.mjs`), installed from npm by its lock file into the bench's folder.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use crochet_dev::Checkout;
use serde_json::{Value, json};

use super::child::Child;
use super::free_address;
use crate::load::{Exchange, Expect};
use crate::request::{self, Call};

/// What the program is made of; npm adds the rest.
const FILES: [&str; 3] = ["package.json", "package-lock.json", "gateway.mjs"];

/// Starts it in front of `upstream`, selling the path of `call`.
pub(super) async fn start(
    checkout: &Checkout,
    directory: &Path,
    upstream: SocketAddr,
    call: Call<'_>,
) -> Result<Child> {
    let (address, home) = (free_address()?, install(checkout, directory)?);
    let mut command = Command::new("node");
    command
        .current_dir(home)
        .env("NODE_ENV", "production")
        .args(["gateway.mjs", &address.port().to_string()])
        .args([upstream.port().to_string(), call.path()]);
    Child::start("x402", command, address, directory).await
}

/// Asks without a payment, signs what is asked for with a signature that the local facilitator does not look
/// at, and gives the paid call, with the answer that the seller behind it gives.
pub(crate) async fn paid(address: SocketAddr, call: Call<'_>, answer: &Expect) -> Result<Exchange> {
    let Expect::Exactly { status, body, .. } = answer else {
        bail!("the seller's answer is not known");
    };
    let request_body = request::body(super::SERIAL, filler(body)?);
    let unpaid = demo_agent::client()?
        .post(format!("http://{address}{}", call.path()))
        .header("content-type", "application/json")
        .body(request_body.clone())
        .send()
        .await
        .context("asking the x402 gateway")?;
    ensure!(
        unpaid.status() == 402,
        "not asked to pay: {}",
        unpaid.status()
    );
    let required = unpaid.headers().get("payment-required");
    let required = BASE64.decode(required.context("no PAYMENT-REQUIRED")?)?;
    let payment = payment(&serde_json::from_slice(&required)?).to_string();
    let call = Call {
        payment_signature: Some(&BASE64.encode(payment)),
        ..call
    };
    Ok(Exchange {
        request: call.bytes(&request_body),
        expect: Expect::Exactly {
            status: *status,
            body: body.clone(),
            replayed: false,
        },
    })
}

fn filler(answer: &Bytes) -> Result<u32> {
    let answer: Value = serde_json::from_slice(answer).context("the seller's answer")?;
    let filler = answer.get("filler").and_then(Value::as_str);
    Ok(u32::try_from(filler.map_or(0, str::len))?)
}

/// The payment of the first offer: a transfer authorised as the `exact` scheme says (EIP-3009).
fn payment(required: &Value) -> Value {
    let at = |value: &Value, name: &str| value.get(name).cloned().unwrap_or_default();
    let offer = required.pointer("/accepts/0").cloned().unwrap_or_default();
    json!({
        "x402Version": 2,
        "resource": at(required, "resource"),
        "accepted": offer,
        "payload": {
            "signature": format!("0x{}", "0".repeat(130)),
            "authorization": {
                "from": format!("0x{}2", "0".repeat(39)),
                "to": at(&offer, "payTo"),
                "value": at(&offer, "amount"),
                "validAfter": "0",
                "validBefore": "99999999999",
                "nonce": format!("0x{}", "0".repeat(64)),
            },
        },
    })
}

/// Copies the program into `directory/x402` and has npm install what it needs, unless that is there already.
fn install(checkout: &Checkout, directory: &Path) -> Result<PathBuf> {
    let home = directory.join("x402");
    let source = checkout.root().join("loadtest/bench/x402");
    std::fs::create_dir_all(&home).with_context(|| format!("creating {}", home.display()))?;
    for name in FILES {
        std::fs::copy(source.join(name), home.join(name))
            .with_context(|| format!("copying {name}"))?;
    }
    let lock = std::fs::read(home.join("package-lock.json"))?;
    let installed = home.join("installed-lock.json");
    if std::fs::read(&installed).is_ok_and(|of| of == lock) {
        return Ok(home);
    }
    eprintln!(
        "Installing the x402 gateway from npm into {}",
        home.display()
    );
    let npm = Command::new("npm")
        .args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"])
        .current_dir(&home)
        .output()
        .context("running npm, which this baseline needs (or leave it out: --only)")?;
    if !npm.status.success() {
        bail!("npm ci failed: {}", String::from_utf8_lossy(&npm.stderr));
    }
    std::fs::write(installed, lock)?;
    Ok(home)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_offer_is_paid_as_it_stands() {
        let offer = json!({ "scheme": "exact", "payTo": "0x1", "amount": "50000" });
        let required = json!({ "resource": { "url": "u" }, "accepts": [offer, {}] });
        let payment = payment(&required);
        assert_eq!(payment["accepted"], offer);
        assert_eq!(payment["payload"]["authorization"]["value"], "50000");
        assert_eq!(payment["payload"]["authorization"]["to"], "0x1");
        assert_eq!(payment["resource"]["url"], "u");
    }

    #[test]
    fn the_filler_is_as_long_as_it_is() {
        assert_eq!(
            filler(&Bytes::from_static(b"{\"filler\":\"abc\"}")).unwrap(),
            3
        );
        assert_eq!(filler(&Bytes::from_static(b"{}")).unwrap(), 0);
    }
}
