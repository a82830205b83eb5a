//! A challenge serves once: of a hundred uses at the same time at most one succeeds, and nothing
//! but the exact message, signed by the exact wallet in the one spelling a signature has, is a use.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use demo_agent::{Agent, Answer, Api, Chain, Wallet, hex, proof_of_work};
use serde_json::{Value, json};

use crate::harness::{Door, shared, sized, trials};

trials!(a_challenge_serves_at_most_once_and_only_whom_it_was_made_for => few);

/// Uses of one challenge at the same time.
const USES: usize = 100;
/// The order of secp256k1's group, big-endian.
const EVM_ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,
    0xba, 0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
];
/// The order of ed25519's group, little-endian.
const SOLANA_ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];
/// Every encoding of a point of small order (y little-endian, the sign in the top bit), the ones
/// that no encoder makes included: signatures under them hold for messages nobody signed.
const SMALL_ORDER: [&str; 14] = [
    "0100000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000080",
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0000000000000000000000000000000000000000000000000000000000000080",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
];

async fn a_challenge_serves_at_most_once_and_only_whom_it_was_made_for() {
    let door = shared().await;
    for chain in [Chain::Evm, Chain::Solana] {
        let wallet = Wallet::random(chain).unwrap();
        let given = challenge(&door, &json!({ "wallet_address": wallet.address() })).await;
        let good = Use::of(&given, &wallet);
        nobody_else_is_served(&door, &given, &good, &wallet).await;
        no_other_spelling_is_served(&door, &given, &good, chain).await;
        // All of that used nothing up.
        at_once(&door, "/register", &good.body()).await;
        for _ in 0..sized(1, 20) {
            let again = json!({ "wallet_address": wallet.address(), "purpose": "recover" });
            let again = challenge(&door, &again).await;
            at_once(&door, "/auth/recover", &Use::of(&again, &wallet).body()).await;
        }
    }
    keys_of_small_order_sign_nothing(&door).await;
    a_proof_for_one_thing_is_none_for_another(&door).await;
}

async fn challenge(door: &Door, ask: &Value) -> Value {
    let answer = door.apis[0].post("/auth/challenge", None, ask).await;
    answer.unwrap().data(200).unwrap()
}

/// A use of a challenge.
#[derive(Clone, Debug)]
struct Use {
    address: String,
    nonce: String,
    pow_nonce: String,
    signature: String,
}

impl Use {
    fn of(given: &Value, wallet: &Wallet) -> Self {
        let text = |pointer: &str| given.pointer(pointer).unwrap().as_str().unwrap();
        let difficulty = given["pow"]["difficulty"].as_u64().unwrap();
        Self {
            address: wallet.address().to_owned(),
            nonce: text("/nonce").to_owned(),
            pow_nonce: proof_of_work(text("/pow/challenge"), u32::try_from(difficulty).unwrap()),
            signature: wallet.sign(text("/message")),
        }
    }

    fn signed(&self, signature: impl Into<String>) -> Self {
        Self {
            signature: signature.into(),
            ..self.clone()
        }
    }

    fn body(&self) -> Value {
        json!({
            "wallet_address": self.address, "nonce": self.nonce, "pow_nonce": self.pow_nonce,
            "signature": self.signature, "display_name": "Charlie Challenged",
        })
    }
}

/// Register and recover, which take the same proof; neither may succeed.
async fn is_refused(door: &Door, used: &Use, what: &str) {
    for path in ["/register", "/auth/recover"] {
        let answer = door.apis[0].post(path, None, &used.body()).await.unwrap();
        let code = answer.code().unwrap_or_default();
        assert!(
            [
                "INVALID_SIGNATURE",
                "CHALLENGE_INVALID",
                "POW_INVALID",
                "VALIDATION_ERROR"
            ]
            .contains(&code.as_str()),
            "{what} at {path}: {answer}"
        );
    }
}

async fn nobody_else_is_served(door: &Door, given: &Value, good: &Use, wallet: &Wallet) {
    let message = given["message"].as_str().unwrap();
    let domain = message.split(' ').next().unwrap();
    let other = Wallet::random(wallet.chain()).unwrap();
    let altered = [
        (
            "another domain",
            message.replacen(domain, "evil.example", 1),
        ),
        ("another URI", message.replace("URI: http", "URI: https")),
        (
            "another purpose",
            message.replace("purpose:register", "purpose:recover"),
        ),
        ("another statement", message.replace("Register", "Recover")),
        (
            "another wallet",
            message.replace(wallet.address(), other.address()),
        ),
        (
            "another chain",
            message.replace("Chain ID: ", "Chain ID: 1"),
        ),
        (
            "another version",
            message.replace("Version: 1", "Version: 2"),
        ),
        (
            "another nonce",
            message.replace(&good.nonce, &good.nonce.replace('a', "b")),
        ),
        (
            "another time",
            message.replace("Issued At: 2", "Issued At: 3"),
        ),
        ("a line more", format!("{message}\n")),
        (
            "a line less",
            message.lines().take(5).collect::<Vec<_>>().join("\n"),
        ),
        ("other line ends", message.replace('\n', "\r\n")),
        ("nothing", String::new()),
    ];
    for (what, altered) in altered {
        // A nonce without the letter is no other nonce.
        if altered != message {
            is_refused(door, &good.signed(wallet.sign(&altered)), what).await;
        }
    }
    is_refused(
        door,
        &good.signed(other.sign(message)),
        "another's signature",
    )
    .await;
    let stranger = Use {
        address: other.address().to_owned(),
        ..good.signed(other.sign(message))
    };
    is_refused(door, &stranger, "another's wallet and signature").await;
    let foreign = match wallet.chain() {
        Chain::Evm => Wallet::solana(),
        Chain::Solana => Wallet::evm(),
    };
    let foreign = foreign.unwrap();
    let crossed = Use {
        address: foreign.address().to_owned(),
        ..good.signed(foreign.sign(message))
    };
    is_refused(door, &crossed, "a wallet of the other chain").await;
    is_refused(
        door,
        &good.signed(foreign.sign(message)),
        "the other chain's signature",
    )
    .await;
    let unsolved = Use {
        pow_nonce: "not solved".to_owned(),
        ..good.clone()
    };
    is_refused(door, &unsolved, "work that was not done").await;
}

async fn no_other_spelling_is_served(door: &Door, given: &Value, good: &Use, chain: Chain) {
    let spellings = match chain {
        Chain::Evm => evm_spellings(&good.signature),
        Chain::Solana => solana_spellings(&good.signature),
    };
    for (what, signature) in spellings {
        assert_ne!(signature, good.signature, "{what}");
        is_refused(door, &good.signed(signature), what).await;
    }
    assert_eq!(given["purpose"], "register");
}

fn bytes_of(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap())
        .collect()
}

/// `order - value`, both big-endian.
fn negated(value: &[u8], order: &[u8; 32]) -> Vec<u8> {
    let mut borrow = 0_i16;
    let mut out = vec![0_u8; 32];
    for at in (0..32).rev() {
        let difference = i16::from(order[at]) - i16::from(value[at]) - borrow;
        borrow = i16::from(difference < 0);
        out[at] = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    out
}

/// `value + order` in as many bytes, little-endian; nothing where it does not fit.
fn raised(value: &[u8], order: &[u8; 32]) -> Option<Vec<u8>> {
    let mut carry = 0_u16;
    let sum = value.iter().zip(order).map(|(value, order)| {
        let sum = u16::from(*value) + u16::from(*order) + carry;
        carry = sum >> 8;
        u8::try_from(sum & 0xff).unwrap()
    });
    let sum: Vec<u8> = sum.collect();
    (carry == 0).then_some(sum)
}

/// Other texts for the same EVM signature, and near misses.
fn evm_spellings(signature: &str) -> Vec<(&'static str, String)> {
    let bytes = bytes_of(signature.strip_prefix("0x").unwrap());
    let (r, s, v) = (&bytes[..32], &bytes[32..64], bytes[64]);
    let text = |r: &[u8], s: &[u8], v: u8| format!("0x{}{}{v:02x}", hex(r), hex(s));
    let other = 27 + (28 - v);
    vec![
        ("the high s", text(r, &negated(s, &EVM_ORDER), other)),
        (
            "the high s, parity kept",
            text(r, &negated(s, &EVM_ORDER), v),
        ),
        ("the other parity", text(r, s, other)),
        ("an EIP-155 parity", text(r, s, v + 10)),
        ("r of zero", text(&[0; 32], s, v)),
        ("s of zero", text(r, &[0; 32], v)),
        ("s of the order", text(r, &EVM_ORDER, v)),
        ("r of the order", text(&EVM_ORDER, s, v)),
        ("all ones", text(&[0xff; 32], &[0xff; 32], v)),
        ("r and s changed over", text(s, r, v)),
        ("no prefix", signature[2..].to_owned()),
        ("a byte more", format!("{signature}00")),
        ("a byte less", signature[..signature.len() - 2].to_owned()),
        ("compact, without parity", format!("0x{}{}", hex(r), hex(s))),
        ("base64", STANDARD.encode(&bytes)),
        ("DER", format!("0x30440220{}0220{}", hex(r), hex(s))),
        ("nothing", "0x".to_owned()),
    ]
}

/// The same of Solana.
fn solana_spellings(signature: &str) -> Vec<(&'static str, String)> {
    let bytes = bs58::decode(signature).into_vec().unwrap();
    let (r, s) = bytes.split_at(32);
    let text = |r: &[u8], s: &[u8]| bs58::encode([r, s].concat()).into_string();
    let mut out = vec![
        ("s of zero", text(r, &[0; 32])),
        ("s of the order", text(r, &SOLANA_ORDER)),
        ("r of zero", text(&[0; 32], s)),
        ("r and s changed over", text(s, r)),
        (
            "a byte more",
            bs58::encode([&bytes[..], &[0]].concat()).into_string(),
        ),
        ("a byte less", bs58::encode(&bytes[..63]).into_string()),
        ("hex", hex(&bytes)),
        ("hex with a prefix", format!("0x{}", hex(&bytes))),
        (
            "another alphabet",
            bs58::encode(&bytes)
                .with_alphabet(bs58::Alphabet::RIPPLE)
                .into_string(),
        ),
        ("base64 of too little", STANDARD.encode(&bytes[..63])),
        ("nothing", String::new()),
    ];
    let mut high = s.to_vec();
    // s + order, s + 2·order … as far as they have a spelling: each verifies the same equation.
    while let Some(next) = raised(&high, &SOLANA_ORDER) {
        high = next;
        out.push(("s and an order more", text(r, &high)));
    }
    assert!(out.len() > 12, "s and the order have a spelling");
    for point in SMALL_ORDER {
        out.push(("r of small order", text(&bytes_of(point), s)));
    }
    out
}

/// The same use by everybody at once through all gateways: at most one, and here exactly one.
async fn at_once(door: &Door, path: &str, body: &Value) {
    let uses: Vec<_> = (0..USES)
        .map(|number| {
            let api: Api = door.apis[number % door.apis.len()].clone();
            let (path, body) = (path.to_owned(), body.clone());
            tokio::spawn(async move { api.post(&path, None, &body).await.unwrap() })
        })
        .collect();
    let mut outcomes = BTreeMap::<String, usize>::new();
    for used in uses {
        let answer: Answer = used.await.unwrap();
        let outcome = answer.code().unwrap_or_else(|| answer.status.to_string());
        *outcomes.entry(outcome).or_default() += 1;
    }
    let served = outcomes.remove(if path == "/register" { "201" } else { "200" });
    assert_eq!(served, Some(1), "{path}: {outcomes:?}");
    assert_eq!(
        outcomes.remove("CHALLENGE_INVALID"),
        Some(USES - 1),
        "{path}: {outcomes:?}"
    );
}

/// An address that is a point of small order belongs to nobody: any message would count as signed.
async fn keys_of_small_order_sign_nothing(door: &Door) {
    for point in SMALL_ORDER {
        let address = bs58::encode(bytes_of(point)).into_string();
        let ask = json!({ "wallet_address": address });
        let answer = door.apis[0].post("/auth/challenge", None, &ask).await;
        let answer = answer.unwrap();
        // An address may be refused at once; if it is not, no signature is its.
        if answer.status != 200 {
            assert_eq!(answer.status, 400, "{point}: {answer}");
            continue;
        }
        let given = answer.data(200).unwrap();
        let work = Use::of(&given, &Wallet::solana().unwrap());
        for r in SMALL_ORDER {
            let signature = [bytes_of(r), vec![0; 32]].concat();
            let used = Use {
                address: address.clone(),
                ..work.signed(bs58::encode(signature).into_string())
            };
            is_refused(door, &used, "a key of small order").await;
        }
    }
}

/// A wallet's proof is bound to what it was asked for, word by word.
async fn a_proof_for_one_thing_is_none_for_another(door: &Door) {
    let wallet = Wallet::evm().unwrap();
    let agent = Agent::register(&door.apis[0], wallet.clone(), "Bea Bound")
        .await
        .unwrap();
    let listed = agent.get("/me/wallets").await.unwrap().data(200).unwrap();
    let id = listed[0]["id"].as_str().unwrap().to_owned();
    let ask = json!({
        "wallet_address": wallet.address(), "purpose": "manage_wallet",
        "target_wallet_id": id, "changes": { "label": "mine" },
    });
    let given = challenge(door, &ask).await;
    let used = Use::of(&given, &wallet);
    let path = format!("/me/wallets/{id}");
    let change = |fields: Value| {
        let mut body = json!({ "wallet_proof": used.body() });
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        let (agent, path) = (agent.clone(), path.clone());
        async move {
            let body = Some(body.to_string().into());
            agent
                .send(demo_agent::Method::PATCH, &path, &[], body)
                .await
                .unwrap()
        }
    };
    for other in [
        json!({ "label": "Mine" }),
        json!({ "label": "mine", "status": "disabled" }),
        json!({ "can_recover": false }),
    ] {
        let answer = change(other.clone()).await;
        assert!(
            [401, 409].contains(&answer.status) && answer.status != 200,
            "{other}: {answer}"
        );
    }
    for path in ["/register", "/auth/recover"] {
        let answer = door.apis[0].post(path, None, &used.body()).await.unwrap();
        assert_eq!(
            answer.code().as_deref(),
            Some("CHALLENGE_INVALID"),
            "{answer}"
        );
    }
    let answer = change(json!({ "label": "mine" })).await;
    assert_eq!(answer.status, 200, "{answer}");
    let again = change(json!({ "label": "mine" })).await;
    assert_eq!(
        again.code().as_deref(),
        Some("CHALLENGE_INVALID"),
        "{again}"
    );
}
