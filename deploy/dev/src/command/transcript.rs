//! The paid call as a person can follow it, made for real against a running stack.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use crochet_dev::{DemoKeys, StackFile};
use demo_agent::{
    Agent, Answer, Api, Chain, DemoSeller, Listing, NewListing, PaidCall, Quote, Sandbox,
    random_hex,
};
use serde_json::{Value, json};

/// Between two retries of a payment that is still pending.
const RETRY_EVERY: Duration = Duration::from_millis(25);
const RETRY_LIMIT: Duration = Duration::from_secs(30);

/// The parts of the stack the demo talks to.
struct Stage {
    api: Api,
    sandbox: Sandbox,
    seller: DemoSeller,
}

/// An agent with the name it goes by here.
struct Player {
    name: &'static str,
    agent: Agent,
}

/// Two agents, each selling to the other once. What the demo shows is also checked: a wrong answer is an error.
pub(crate) async fn tell(stack: &StackFile) -> Result<DemoKeys> {
    let api = Api::new(&stack.base_url)?;
    let sandbox = Sandbox::new(&stack.relay, api.http().clone());
    let seller = DemoSeller::new(&stack.demo_seller, api.http().clone());
    let stage = Stage {
        api,
        sandbox,
        seller,
    };
    println!("\nTwo agents register");
    let ada = Player::register(&stage.api, "Ada", Chain::Evm).await?;
    let sol = Player::register(&stage.api, "Sol", Chain::Solana).await?;
    let ada_sells = stage.trade(&ada, &sol, "SOL on Solana").await?;
    stage.trade(&sol, &ada, "USDC on Base").await?;
    Ok(DemoKeys {
        buyer_api_key: sol.agent.key,
        seller_api_key: ada.agent.key,
        gateway_url: ada_sells
            .gateway_url
            .context("a per_call listing without a gateway_url")?,
        listing_id: ada_sells.id,
    })
}

impl Player {
    async fn register(api: &Api, name: &'static str, chain: Chain) -> Result<Self> {
        let agent = Agent::fresh(api, chain, name)
            .await
            .with_context(|| format!("{name} registers"))?;
        let kind = match chain {
            Chain::Evm => "an EVM wallet",
            Chain::Solana => "a Solana wallet",
        };
        println!(
            "  {name}  with {kind:<15} {}  is agent {}, key {}…",
            short(agent.wallet().address()),
            agent.id,
            cut(&agent.key, 12)
        );
        Ok(Self { name, agent })
    }
}

impl Stage {
    /// One purchase from the listing to the ledger.
    async fn trade(&self, seller: &Player, buyer: &Player, money: &str) -> Result<Listing> {
        println!(
            "\n{} sells, {} buys and pays in {money}",
            seller.name, buyer.name
        );
        let listing = seller
            .agent
            .publish(&NewListing::per_call(
                &format!("Echo by {}", seller.name),
                "1.00",
                &self.seller.endpoint_url(),
            ))
            .await?;
        self.seller.accept(&listing).await?;
        line(
            "publish",
            &format!(
                "{} lists \"Echo by {}\" at $1.00 a call: {}",
                seller.name,
                seller.name,
                listing.gateway_url.as_deref().unwrap_or("-")
            ),
        );

        let input = format!("hello from {}, {}", buyer.name, random_hex::<4>()?);
        let call = PaidCall::new(&listing.id, &json!({ "task": "echo", "input": input }));
        let quote = self.quote(buyer, &call).await?;
        self.sandbox.deposit(&[&quote.relay_request_id]).await?;
        line("deposit", &format!("{} pays it at the sandbox", buyer.name));

        let answer = retry(buyer, &call, &quote).await?;
        ensure!(
            answer.at("/data/seller_response/echo") == json!(input),
            "the seller did not echo: {answer}"
        );
        let replay = buyer
            .agent
            .call(&call, Some(&quote.relay_request_id))
            .await?;
        ensure!(
            replay.body == answer.body && replay.header("idempotent-replayed") == Some("true"),
            "not a replay: {replay}"
        );
        let calls = self.seller.count(&quote.request_id).await?;
        ensure!(calls == 1, "the seller was called {calls} times");
        line(
            "replay",
            "the same request again → 200, the same bytes, Idempotent-Replayed: true; the seller was called once",
        );
        ledger(seller, buyer, &quote.request_id).await?;
        Ok(listing)
    }

    async fn quote(&self, buyer: &Player, call: &PaidCall) -> Result<Quote> {
        let begun = Instant::now();
        let quote = buyer.agent.quote(call).await?;
        let requirements = quote
            .payment
            .get("requirements")
            .context("no requirements")?;
        let text = |pointer: &str| {
            requirements
                .pointer(pointer)
                .and_then(Value::as_str)
                .unwrap_or("?")
                .to_owned()
        };
        line(
            "call",
            &format!(
                "{} calls it → 402 PAYMENT_REQUIRED in {}",
                buyer.name,
                milliseconds(begun)
            ),
        );
        line(
            "",
            &format!(
                "asked for {} {} to {}",
                text("/amount_formatted"),
                text("/currency/symbol"),
                short(&text("/deposit_address"))
            ),
        );
        line(
            "",
            &format!(
                "as payment {} for {}",
                short(&quote.relay_request_id),
                quote.request_id
            ),
        );
        Ok(quote)
    }
}

/// Retries with the payment until it is answered, and says what was answered on the way.
async fn retry(buyer: &Player, call: &PaidCall, quote: &Quote) -> Result<Answer> {
    let (begun, mut pending) = (Instant::now(), 0_u32);
    let (answer, asked) = loop {
        let asked = Instant::now();
        let answer = buyer
            .agent
            .call(call, Some(&quote.relay_request_id))
            .await?;
        let unfinished = answer.status == 202 || answer.status == 409;
        if !unfinished {
            break (answer, asked);
        }
        ensure!(begun.elapsed() < RETRY_LIMIT, "still unfinished: {answer}");
        pending += 1;
        tokio::time::sleep(RETRY_EVERY).await;
    };
    let data = answer.data(200)?;
    ensure!(
        data.get("seller_status_code") == Some(&json!(200)),
        "the seller refused the call: {answer}"
    );
    let waited = if pending == 0 {
        String::new()
    } else {
        format!("{pending}× 202 pending, then ")
    };
    line(
        "retry",
        &format!(
            "{} calls again with X-Crochet-Relay-Request-Id → {waited}200 in {}",
            buyer.name,
            milliseconds(asked)
        ),
    );
    line(
        "",
        &format!(
            "the seller verified Crochet's signature and answered {}",
            data.get("seller_response").unwrap_or(&Value::Null)
        ),
    );
    Ok(answer)
}

/// Reads both ledgers of a request and checks that they balance.
async fn ledger(seller: &Player, buyer: &Player, request_id: &str) -> Result<()> {
    let paid = sum(&buyer.agent.ledger(request_id).await?, "gateway_payment");
    let entries = seller.agent.ledger(request_id).await?;
    let (credit, fee) = (
        sum(&entries, "seller_credit"),
        sum(&entries, "marketplace_fee"),
    );
    ensure!(
        paid > 0 && paid == credit + fee,
        "the ledger does not balance: paid {paid}, credited {credit}, fee {fee} micros"
    );
    line(
        "ledger",
        &format!(
            "{} paid {} = {} to {} + {} fee: balanced",
            buyer.name,
            dollars(paid),
            dollars(credit),
            seller.name,
            dollars(fee)
        ),
    );
    Ok(())
}

/// The micro-dollars of all entries of one type.
pub(crate) fn sum(entries: &[Value], kind: &str) -> i64 {
    let of_kind = entries
        .iter()
        .filter(|entry| entry.get("type").and_then(Value::as_str) == Some(kind));
    of_kind
        .filter_map(|entry| entry.get("amount_micros")?.as_i64())
        .sum()
}

/// The lines with which a person repeats the call by hand.
pub(crate) fn by_hand(stack: &StackFile) -> String {
    let mut text = String::new();
    let demo = &stack.demo;
    let call = "curl -si -H \"Authorization: Bearer $KEY\" -H 'Content-Type: application/json' -d \"$BODY\"";
    // Writing to a String does not fail.
    let _written = write!(
        text,
        r#"
The same by hand
  KEY={}   # Sol, who buys; Ada, who sells: {}
  CALL={}
  BODY='{{"task":"echo","input":"by hand"}}'
  # 402: what to pay
  {call} $CALL
  # pay it: put in the relay_request_id of the 402
  RELAY=0x…
  curl -s -d "{{\"requestId\":\"$RELAY\"}}" {}/sandbox/deposits
  # 200: the answer, and the same once more with Idempotent-Replayed: true
  {call} -H "X-Crochet-Relay-Request-Id: $RELAY" $CALL

"#,
        demo.buyer_api_key, demo.seller_api_key, demo.gateway_url, stack.relay
    );
    text
}

fn line(name: &str, text: &str) {
    println!("  {name:<8} {text}");
}

fn milliseconds(begun: Instant) -> String {
    format!("{} ms", begun.elapsed().as_millis())
}

/// Micro-dollars as dollars, without a float.
fn dollars(micros: i64) -> String {
    const MICROS_PER_DOLLAR: i64 = 1_000_000;
    format!(
        "${}.{:06}",
        micros / MICROS_PER_DOLLAR,
        micros % MICROS_PER_DOLLAR
    )
}

/// The beginning and end of a long identifier.
fn short(text: &str) -> String {
    const SHOWN: usize = 8;
    let end = text.len().saturating_sub(4);
    match (text.get(..SHOWN), text.get(end..)) {
        (Some(begin), Some(rest)) if end > SHOWN => format!("{begin}…{rest}"),
        _ => text.to_owned(),
    }
}

fn cut(text: &str, length: usize) -> &str {
    text.get(..length).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_shown_exactly() {
        assert_eq!(dollars(951_000), "$0.951000");
        assert_eq!(dollars(10_000_000_001), "$10000.000001");
    }

    #[test]
    fn only_entries_of_the_kind_are_summed() {
        let entries = [
            json!({"type": "seller_credit", "amount_micros": 951_000}),
            json!({"type": "marketplace_fee", "amount_micros": 49_000}),
        ];
        assert_eq!(sum(&entries, "seller_credit"), 951_000);
        assert_eq!(sum(&entries, "adjustment"), 0);
    }

    #[test]
    fn identifiers_are_shortened_in_the_middle() {
        assert_eq!(short("0x1234567890abcdef"), "0x123456…cdef");
        assert_eq!(short("short"), "short");
    }
}
