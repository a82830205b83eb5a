//! No smuggling: whatever two parsers may read differently is refused or read in one way. A request
//! hidden in another is never answered and never acted on, on either kind of path; nothing panics
//! and nothing is a 5xx.

use std::fmt::Write as _;
use std::time::Duration;

use demo_agent::Method;

use super::ambiguous::{CHUNKS, FRAMINGS, HEADERS, LINES, NO_SIZES, TRAILERS};
use crate::harness::{Market, Message, Wire, sized, trials};

trials!(
    no_request_is_smuggled_in_another,
    requests_behind_each_other_are_answered_in_their_order_however_they_are_cut => few,
);

/// Longest wait for one answer.
const ANSWER_TIME: Duration = Duration::from_secs(20);
/// How long the first answer may take while the connection is open.
const FIRST_TIME: Duration = Duration::from_secs(3);
/// What a hidden request calls itself, so that an answer to it would say so.
const HIDDEN_ID: &str = "hidden-request-0001";
const OUTER_ID: &str = "outer-request-00001";
const NEXT_ID: &str = "next-request-000001";

/// A paths's kind decides who reads the body: the gateway itself, or the control plane behind it.
struct Place {
    method: &'static str,
    path: String,
    /// What the answer to a well-formed request with the body `{}` may be.
    good: [u16; 3],
}

struct Attack {
    market: Market,
    bearer: String,
}

impl Attack {
    async fn prepare() -> Self {
        let market = Market::open().await;
        let bearer = format!("Bearer {}", market.buyer.key);
        Self { market, bearer }
    }

    fn places(&self) -> [Place; 2] {
        [
            Place {
                method: "POST",
                path: format!("/api/v1/gateway/{}", self.market.listing.id),
                good: [402, 402, 400],
            },
            Place {
                method: "PATCH",
                path: "/api/v1/me".to_owned(),
                good: [200, 200, 400],
            },
        ]
    }

    /// A request that would leave a trace: a key by the name of `hidden`.
    fn hidden(&self) -> String {
        let body = r#"{"name":"hidden"}"#;
        format!(
            "POST /api/v1/api-keys HTTP/1.1\r\nHost: crochet.test\r\nX-Request-Id: {HIDDEN_ID}\r\nAuthorization: {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.bearer,
            body.len()
        )
    }

    /// The head of a request up to what frames it, without the empty line.
    fn head(&self, line: &str, id: &str) -> String {
        format!(
            "{line}\r\nHost: crochet.test\r\nX-Request-Id: {id}\r\nAuthorization: {}\r\nContent-Type: application/json\r\n",
            self.bearer
        )
    }

    async fn is_untouched(&self, what: &str) {
        let keys = self.market.buyer.get("/api-keys").await.unwrap();
        let keys = keys.data(200).unwrap();
        let hidden = keys.as_array().unwrap().iter();
        assert_eq!(
            hidden.filter(|key| key["name"] == "hidden").count(),
            0,
            "acted on: {what}"
        );
        // Nobody who comes after is given the answer of somebody else.
        for path in ["/me", "/api-keys"] {
            let headers = [("x-request-id", NEXT_ID)];
            let answer = self
                .market
                .seller
                .send(Method::GET, path, &headers, None)
                .await
                .unwrap();
            assert_eq!(
                (answer.status, answer.header("x-request-id")),
                (200, Some(NEXT_ID)),
                "{what}: {answer}"
            );
            let id = answer.at("/data/profile/id");
            assert!(
                path != "/me" || id == self.market.seller.id.as_str(),
                "{what}: {answer}"
            );
        }
    }

    /// Sends bytes on a connection of their own and, after the first answer or when there is none,
    /// says that nothing follows: all answers.
    async fn answers_to(&self, bytes: &[u8], what: &str) -> Vec<Message> {
        let mut wire = Wire::to(self.market.api()).await;
        wire.send(bytes).await;
        let mut answers = Vec::new();
        // Who waits for more of a body is told that there is none.
        if let Ok(answer) = tokio::time::timeout(FIRST_TIME, wire.answer()).await {
            answers.extend(answer);
        }
        wire.finish().await;
        let rest = async {
            while let Some(answer) = wire.answer().await {
                answers.push(answer);
            }
        };
        assert!(
            tokio::time::timeout(ANSWER_TIME, rest).await.is_ok(),
            "the connection hangs: {what}"
        );
        for answer in &answers {
            assert!(answer.status() < 500, "{what}: {}", answer.line);
            assert_ne!(answer.status(), 101, "{what}");
            assert_ne!(answer.header("x-request-id"), Some(HIDDEN_ID), "{what}");
        }
        answers
    }
}

async fn no_request_is_smuggled_in_another() {
    let attack = Attack::prepare().await;
    let hidden = attack.hidden();
    let mut wrong = Vec::new();
    for place in attack.places() {
        let line = format!("{} {} HTTP/1.1", place.method, place.path);
        for framing in FRAMINGS {
            for body in ["0\r\n\r\n", "2\r\n{}\r\n0\r\n\r\n", "{}   "] {
                let mut bytes = attack.head(&line, OUTER_ID).into_bytes();
                bytes.extend_from_slice(framing);
                bytes.extend_from_slice(format!("\r\n\r\n{body}{hidden}").as_bytes());
                let what = format!("{} {:?} {body:?}", place.path, lossy(framing));
                wrong.extend(refused_once(&attack.answers_to(&bytes, &what).await, &what));
            }
        }
        for chunks in CHUNKS {
            let mut bytes = attack.head(&line, OUTER_ID).into_bytes();
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            bytes.extend_from_slice(chunks);
            bytes.extend_from_slice(hidden.as_bytes());
            let what = format!("{} chunks {:?}", place.path, lossy(chunks));
            wrong.extend(refused_once(&attack.answers_to(&bytes, &what).await, &what));
        }
        for sizes in NO_SIZES {
            let mut bytes = attack.head(&line, OUTER_ID).into_bytes();
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            bytes.extend_from_slice(sizes);
            bytes.extend_from_slice(hidden.as_bytes());
            let what = format!("{} sizes {:?}", place.path, lossy(sizes));
            let answers = attack.answers_to(&bytes, &what).await;
            assert_eq!(answers.len(), 1, "{what}");
        }
        for trailers in TRAILERS {
            let mut bytes = attack.head(&line, OUTER_ID).into_bytes();
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n");
            bytes.extend_from_slice(trailers);
            let what = format!("{} trailers {:?}", place.path, lossy(trailers));
            let answers = attack.answers_to(&bytes, &what).await;
            assert_eq!(answers.len(), 1, "{what}");
        }
        for line in LINES {
            let line = line.replace("{}", &place.path);
            let mut bytes = attack.head(&line, OUTER_ID);
            write!(bytes, "Content-Length: {}\r\n\r\n{hidden}", hidden.len()).unwrap();
            let what = format!("{line:?}");
            wrong.extend(refused_once(
                &attack.answers_to(bytes.as_bytes(), &what).await,
                &what,
            ));
        }
        for header in HEADERS {
            let mut bytes = attack.head(&line, OUTER_ID).into_bytes();
            bytes.extend_from_slice(header);
            let length = hidden.len();
            bytes.extend_from_slice(
                format!("\r\nContent-Length: {length}\r\n\r\n{hidden}").as_bytes(),
            );
            let what = format!("{} {:?}", place.path, lossy(header));
            wrong.extend(refused_once(&attack.answers_to(&bytes, &what).await, &what));
        }
        attack.is_untouched(&place.path).await;
        a_body_stays_a_body(&attack, &place).await;
        nothing_is_upgraded(&attack, &place).await;
    }
    assert!(wrong.is_empty(), "not refused once:\n{}", wrong.join("\n"));
    attack.market.assert_untouched().await;
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is wrong unless there was one refusal, and nothing behind it was taken for a request.
fn refused_once(answers: &[Message], what: &str) -> Option<String> {
    let statuses: Vec<u16> = answers.iter().map(Message::status).collect();
    let refused = matches!(statuses[..], [status] if (400..500).contains(&status))
        && answers[0].header("x-request-id").is_some()
        && !answers[0].code().is_empty();
    (!refused).then(|| format!("{what}: {statuses:?}"))
}

/// A request that lies whole in the body of another is read as that body, whatever the method, and
/// whatever a header says of headers that belong to one connection only.
async fn a_body_stays_a_body(attack: &Attack, place: &Place) {
    let hidden = attack.hidden();
    for method in [
        "POST", "PATCH", "GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "BREW",
    ] {
        for more in [
            "",
            "Connection: Content-Length\r\n",
            "Connection: close, Content-Length, Host\r\n",
            "Connection: Transfer-Encoding\r\n",
            "Keep-Alive: timeout=1\r\nConnection: keep-alive, Content-Length\r\n",
            "Proxy-Connection: keep-alive\r\n",
            "TE: trailers, chunked\r\n",
            "X-HTTP-Method-Override: PUT\r\n",
            "Content-Encoding: gzip\r\n",
        ] {
            for chunked in [false, true] {
                let line = format!("{method} {} HTTP/1.1", place.path);
                let mut bytes = attack.head(&line, OUTER_ID) + more;
                if chunked {
                    let length = hidden.len();
                    let chunk = format!("{length:x}\r\n{hidden}\r\n0\r\n\r\n");
                    bytes.extend(["Transfer-Encoding: chunked\r\n\r\n", chunk.as_str()]);
                } else {
                    write!(bytes, "Content-Length: {}\r\n\r\n{hidden}", hidden.len()).unwrap();
                }
                let what = format!("{line} with {more:?}, chunked: {chunked}");
                let mut wire = Wire::to(attack.market.api()).await;
                wire.send(bytes.as_bytes()).await;
                let answer = async {
                    if method == "HEAD" {
                        wire.answer_to_head().await
                    } else {
                        wire.answer().await
                    }
                };
                let first = tokio::time::timeout(ANSWER_TIME, answer).await.unwrap();
                let first = first.unwrap_or_else(|| panic!("no answer: {what}"));
                assert!(first.status() < 500, "{what}: {}", first.line);
                wire.finish().await;
                let second = tokio::time::timeout(ANSWER_TIME, wire.answer())
                    .await
                    .unwrap();
                assert!(second.is_none(), "{what}: {}", lossy(&second.unwrap().raw));
            }
        }
    }
    attack.is_untouched(&place.path).await;
}

/// No other protocol is spoken, early or late, and what comes in it is no request.
async fn nothing_is_upgraded(attack: &Attack, place: &Place) {
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let line = format!("{} {} HTTP/1.1", place.method, place.path);
    for more in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c\r\n",
        "Upgrade: h2c\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.3\r\n",
        "Connection: upgrade\r\nUpgrade: HTTP/2.0\r\n",
    ] {
        let bytes = attack.head(&line, OUTER_ID) + more + "Content-Length: 2\r\n\r\n{}" + preface;
        let what = format!("{} {more:?}", place.path);
        let answers = attack.answers_to(bytes.as_bytes(), &what).await;
        let first = answers
            .first()
            .unwrap_or_else(|| panic!("no answer: {what}"));
        assert!(
            place.good.contains(&first.status()),
            "{what}: {}",
            first.line
        );
        assert!(
            answers.len() <= 2 && answers[1..].iter().all(|answer| answer.status() == 400),
            "{what}: {answers:?}"
        );
    }
    let answers = attack.answers_to(preface.as_bytes(), "h2 at once").await;
    assert_eq!(refused_once(&answers, "h2 at once"), None);
}

/// Two requests in one piece, and in two pieces cut anywhere: each is answered by its own answer, in
/// order. The second is not answered where the connection ends with the first, which is for the gateway
/// to say only where it cannot know whether it has read more than the first ([`ends_where_it_is_told`]).
async fn requests_behind_each_other_are_answered_in_their_order_however_they_are_cut() {
    let attack = Attack::prepare().await;
    let places = attack.places();
    let (mut cuts, mut owed, mut twice) = (0_usize, 0_usize, 0_usize);
    for place in &places {
        let line = format!("{} {} HTTP/1.1", place.method, place.path);
        let body = r#"{"note":1}"#;
        for framed in [
            format!("Content-Length: {}\r\n\r\n{body}", body.len()),
            format!(
                "Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
                body.len()
            ),
            format!(
                "Transfer-Encoding:\tchunked \r\n\r\n3;ext=\"v\"\r\n{}\r\n{:X}\r\n{}\r\n000\r\n\r\n",
                &body[..3],
                body.len() - 3,
                &body[3..]
            ),
            format!(
                "Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n{:x}\r\n{body}\r\n0\r\nX-T: Content-Length: 9\r\n\r\n",
                body.len()
            ),
            format!(
                "Expect: 100-continue\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
            // Refused before its body is read, which must be read off nevertheless.
            format!(
                "Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        ] {
            for behind in [
                "GET /api/v1/me HTTP/1.1",
                "POST /api/v1/gateway/nobody HTTP/1.1",
            ] {
                let head = attack.head(&line, OUTER_ID);
                let headed = head.len() + framed.find("\r\n\r\n").unwrap();
                let first = head + &framed;
                let next = attack.head(behind, NEXT_ID) + "Content-Length: 2\r\n\r\n{}";
                let both = (first + &next).into_bytes();
                // A prime step, so that over all cases every part is cut somewhere.
                let step = sized(61, 3);
                for cut in (0..both.len()).skip(cuts % step).step_by(step) {
                    cuts += 1;
                    let what = format!("{line} {framed:?} before {behind}, cut at {cut}");
                    let answered = in_order(&attack, &both, cut, &what).await;
                    twice += usize::from(answered == 2);
                    if ends_where_it_is_told(place, &framed, cut < headed) {
                        assert_eq!(answered, 2, "the second was not answered: {what}");
                        owed += 1;
                    }
                }
            }
        }
    }
    println!(
        "{cuts} pairs of requests, each cut somewhere; {twice} answered twice, of which {owed} had to be"
    );
    assert!(owed * 20 > cuts, "too few pairs had to be answered twice");
    assert_eq!(attack.market.service.total(), 0);
}

/// Whether the gateway knows where the first of two ends before it reads on, and so may not close: its
/// length is told, and either its own path reads no further or all of it came with the end of its head.
/// Of what passes, and of chunks, pingora may have read more than the request, and the connection ends.
fn ends_where_it_is_told(place: &Place, framed: &str, is_cut_in_head: bool) -> bool {
    framed.starts_with("Content-Length") && (place.path.contains("/gateway/") || is_cut_in_head)
}

/// Gives back how many of the two were answered.
async fn in_order(attack: &Attack, both: &[u8], cut: usize, what: &str) -> usize {
    let mut wire = Wire::to(attack.market.api()).await;
    let (one, two) = both.split_at(cut);
    wire.send(one).await;
    // The first piece must have been read before the second comes, or there is no cut.
    tokio::time::sleep(Duration::from_millis(if cut == 0 { 0 } else { 2 })).await;
    wire.send(two).await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let answer = tokio::time::timeout(ANSWER_TIME, wire.answer()).await;
        let answer = answer.unwrap_or_else(|_| panic!("no answer: {what}"));
        let Some(answer) = answer else { break };
        assert!(answer.status() < 500, "{what}: {}", lossy(&answer.raw));
        seen.push(answer.header("x-request-id").unwrap_or_default().to_owned());
    }
    assert!(
        seen == [OUTER_ID, NEXT_ID] || seen == [OUTER_ID],
        "{what}: answered were {seen:?}"
    );
    seen.len()
}
