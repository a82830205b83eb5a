//! What a client and Postgres say to each other (frontend/backend protocol, version 3), as far as round trips
//! go: how many, and whether a batch's statement was among them.
//!
//! A round trip ends where the server is ready again (`ReadyForQuery`). What belongs together are the trips
//! from a connection's look whether it still lives to the end of the statement or transaction after it; no
//! statistic of Postgres shows the former, as nothing is executed.

use std::collections::HashMap;

/// The message that says the server waits for the next query.
const READY: u8 = b'Z';
/// In it: no transaction is open.
const IDLE: u8 = b'I';
const PARSE: u8 = b'P';
const BIND: u8 = b'B';
const EXECUTE: u8 = b'E';
const QUERY: u8 = b'Q';
/// What the statement of a batch says, whichever it is, and no other does all of it.
const BATCHS: [&str; 2] = ["unnest(", "update gateway_request"];

/// Round trips of all connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// With a batch's statement, and what goes before and after it on its connection.
    pub(crate) batchs: u64,
    /// Of everything else.
    pub(crate) others: u64,
    /// That made a statement ready the first time a connection met it; in neither of the others.
    pub(crate) preparing: u64,
}

/// One connection's.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    /// Of each prepared statement, by its name, whether it is a batch's.
    statements: HashMap<Vec<u8>, bool>,
    has_begun: bool,
    /// Since the server was last ready.
    asked: Asked,
    /// Trips that belong together and have not ended.
    open: Open,
}

#[derive(Clone, Copy, Debug, Default)]
struct Asked {
    prepares: bool,
    runs: bool,
    is_batchs: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Open {
    trips: u64,
    is_batchs: bool,
    /// Whether there was nothing so far but a look whether the connection lives.
    is_look: bool,
}

impl Conversation {
    /// The client said this.
    pub(super) fn asks(&mut self, kind: u8, body: &[u8]) {
        let mut parts = body.split(|byte| *byte == 0);
        let (first, second) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        match kind {
            PARSE => {
                self.statements.insert(first.to_vec(), is_batchs(second));
                self.asked.prepares = true;
            }
            BIND => {
                let is_batchs = self.statements.get(second).copied();
                self.asked.is_batchs |= is_batchs.unwrap_or_default();
            }
            EXECUTE => self.asked.runs = true,
            QUERY => {
                self.asked.runs = true;
                self.asked.is_batchs |= is_batchs(first);
            }
            _ => {}
        }
    }

    /// The server said this.
    pub(super) fn is_told(&mut self, kind: u8, body: &[u8], tally: &mut Tally) {
        if kind != READY {
            return;
        }
        let asked = std::mem::take(&mut self.asked);
        if !self.has_begun {
            // Logging in is no query.
            self.has_begun = true;
        } else if asked.prepares && !asked.runs {
            tally.preparing += 1;
        } else {
            self.count(asked, body.first() == Some(&IDLE), tally);
        }
    }

    fn count(&mut self, asked: Asked, is_idle: bool, tally: &mut Tally) {
        if self.open.is_look && !asked.runs {
            // Two looks: nothing came of the first.
            self.end(tally);
        }
        self.open = Open {
            trips: self.open.trips + 1,
            is_batchs: self.open.is_batchs || asked.is_batchs,
            is_look: self.open.trips == 0 && !asked.runs,
        };
        if is_idle && asked.runs {
            self.end(tally);
        }
    }

    fn end(&mut self, tally: &mut Tally) {
        let ended = std::mem::take(&mut self.open);
        if ended.is_batchs {
            tally.batchs += ended.trips;
        } else {
            tally.others += ended.trips;
        }
    }
}

fn is_batchs(sql: &[u8]) -> bool {
    std::str::from_utf8(sql).is_ok_and(|sql| BATCHS.iter().all(|part| sql.contains(part)))
}

/// Cuts what flows one way into messages, however it arrives.
#[derive(Debug, Default)]
pub(super) struct Messages {
    buffer: Vec<u8>,
    /// The client's first message has no type.
    first_is_bare: bool,
}

const KIND_BYTES: usize = 1;
const LENGTH_BYTES: usize = 4;

impl Messages {
    /// Of a client that has just connected.
    pub(super) fn of_client() -> Self {
        Self {
            first_is_bare: true,
            ..Self::default()
        }
    }

    /// Takes some bytes; gives every message that is whole now to `each`, with its type and body.
    pub(super) fn take(&mut self, bytes: &[u8], mut each: impl FnMut(u8, &[u8])) {
        self.buffer.extend_from_slice(bytes);
        let mut begin = 0;
        while let Some((kind, body, end)) = self.message(begin) {
            if let Some(kind) = kind {
                each(kind, self.buffer.get(body..end).unwrap_or_default());
            }
            self.first_is_bare = false;
            begin = end;
        }
        self.buffer.drain(..begin);
    }

    /// The type of the message at `begin` (none of a bare one), where its body begins, and where it ends.
    fn message(&self, begin: usize) -> Option<(Option<u8>, usize, usize)> {
        let rest = self.buffer.get(begin..)?;
        let kind_bytes = if self.first_is_bare { 0 } else { KIND_BYTES };
        let kind = if self.first_is_bare {
            None
        } else {
            Some(*rest.first()?)
        };
        let body = kind_bytes + LENGTH_BYTES;
        let length = rest.get(kind_bytes..body)?;
        // The length counts itself.
        let length = u32::from_be_bytes(length.try_into().ok()?);
        let end = kind_bytes + usize::try_from(length).ok()?.max(LENGTH_BYTES);
        (rest.len() >= end).then_some((kind, begin + body, begin + end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM: &[u8] =
        b"s1\0with item as (select * from unnest($1)) update gateway_request r set x = 1\0";
    const OTHER: &[u8] = b"s2\0select 1\0";

    /// A conversation that has begun and knows two statements.
    fn begun() -> (Conversation, Tally) {
        let (mut conversation, mut tally) = (Conversation::default(), Tally::default());
        conversation.is_told(READY, b"I", &mut tally);
        for statement in [CLAIM, OTHER] {
            conversation.asks(PARSE, statement);
            conversation.is_told(READY, b"I", &mut tally);
        }
        assert_eq!((tally.preparing, tally.batchs, tally.others), (2, 0, 0));
        (conversation, tally)
    }

    fn run(conversation: &mut Conversation, tally: &mut Tally, name: &str) {
        conversation.asks(BIND, format!("\0{name}\0rest").as_bytes());
        conversation.asks(EXECUTE, b"\0");
        conversation.is_told(READY, b"I", tally);
    }

    #[test]
    fn the_look_before_a_batch_is_one_of_its_round_trips() {
        let (mut conversation, mut tally) = begun();
        conversation.is_told(READY, b"I", &mut tally);
        run(&mut conversation, &mut tally, "s1");
        run(&mut conversation, &mut tally, "s1");
        run(&mut conversation, &mut tally, "s2");
        assert_eq!((tally.batchs, tally.others), (3, 1));
    }

    #[test]
    fn a_look_that_nothing_followed_is_nobodys() {
        let (mut conversation, mut tally) = begun();
        for _ in 0..2 {
            conversation.is_told(READY, b"I", &mut tally);
        }
        run(&mut conversation, &mut tally, "s1");
        assert_eq!((tally.batchs, tally.others), (2, 1));
    }

    #[test]
    fn a_transaction_is_one_whole() {
        let (mut conversation, mut tally) = begun();
        let mut ask = |kind: u8, body: &[u8], status: &[u8]| {
            conversation.asks(kind, body);
            conversation.asks(EXECUTE, b"\0");
            conversation.is_told(READY, status, &mut tally);
        };
        ask(QUERY, b"BEGIN\0", b"T");
        ask(BIND, b"\0s1\0", b"T");
        ask(QUERY, b"COMMIT\0", b"I");
        assert_eq!((tally.batchs, tally.others), (3, 0));
    }

    #[test]
    fn messages_are_whole_however_they_arrive() {
        let mut bytes = vec![0, 0, 0, 6, 1, 2];
        bytes.extend(b"P\0\0\0\x07abcZ\0\0\0\x05I");
        let mut messages = Messages::of_client();
        let mut seen = Vec::new();
        for byte in bytes {
            messages.take(&[byte], |kind, body| seen.push((kind, body.to_vec())));
        }
        assert_eq!(seen, [(b'P', b"abc".to_vec()), (b'Z', b"I".to_vec())]);
    }
}
