//! A name server whose one name moves about as a test says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Name, type and class of the question begin after the header.
const HEADER_BYTES: usize = 12;
/// How long an answer may be kept: as good as not at all.
const TTL_SECONDS: u32 = 0;

/// A running name server. Every name it is asked for has the same addresses.
#[derive(Debug)]
pub(crate) struct Names {
    address: SocketAddr,
    turns: Arc<Mutex<Turns>>,
    task: JoinHandle<()>,
}

/// What is answered, one set of addresses after the other, over and over.
#[derive(Debug)]
struct Turns {
    answers: Vec<Vec<IpAddr>>,
    /// How often each type of record was asked for, so that both types take turns alike.
    asked: [usize; 2],
}

impl Names {
    /// One that answers with `addresses`.
    pub(crate) async fn start<A: Copy + Into<IpAddr>>(addresses: &[A]) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let turns = Arc::new(Mutex::new(Turns {
            answers: vec![all(addresses)],
            asked: [0; 2],
        }));
        let task = tokio::spawn(serve(socket, Arc::clone(&turns)));
        Self {
            address,
            turns,
            task,
        }
    }

    /// Where it is asked.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on it answers with `addresses`.
    pub(crate) fn move_to<A: Copy + Into<IpAddr>>(&self, addresses: &[A]) {
        self.turns.lock().unwrap().answers = vec![all(addresses)];
    }

    /// From now on it answers with the one and the other in turn.
    pub(crate) fn alternate(&self, one: IpAddr, other: IpAddr) {
        self.turns.lock().unwrap().answers = vec![vec![one], vec![other]];
    }
}

fn all<A: Copy + Into<IpAddr>>(addresses: &[A]) -> Vec<IpAddr> {
    addresses.iter().map(|&address| address.into()).collect()
}

impl Turns {
    fn next(&mut self, kind: Kind) -> Vec<IpAddr> {
        let asked = &mut self.asked[kind as usize];
        *asked += 1;
        self.answers[(*asked - 1) % self.answers.len()].clone()
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, turns: Arc<Mutex<Turns>>) {
    let mut buffer = [0; 1500];
    while let Ok((length, asker)) = socket.recv_from(&mut buffer).await {
        if let Some(reply) = reply(&buffer[..length], &turns) {
            // An asker that has gone asks again.
            let _lost = socket.send_to(&reply, asker).await;
        }
    }
}

/// A record type that holds an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    A,
    Aaaa,
}

/// RFC 1035, section 4: the question again, and an address record for each address of the family that is asked for.
fn reply(query: &[u8], turns: &Mutex<Turns>) -> Option<Vec<u8>> {
    let name_bytes = query
        .get(HEADER_BYTES..)?
        .iter()
        .position(|&byte| byte == 0)?
        + 1;
    let question_end = HEADER_BYTES + name_bytes + 4;
    let asked = query.get(HEADER_BYTES + name_bytes..HEADER_BYTES + name_bytes + 2)?;
    let addresses: Vec<Vec<u8>> = match asked {
        [0, 1] => of_family(&turns.lock().unwrap().next(Kind::A), Kind::A),
        [0, 28] => of_family(&turns.lock().unwrap().next(Kind::Aaaa), Kind::Aaaa),
        _ => Vec::new(),
    };
    let mut reply = query.get(..2)?.to_vec();
    reply.extend([
        0x81,
        0x80,
        0,
        1,
        0,
        u8::try_from(addresses.len()).ok()?,
        0,
        0,
        0,
        0,
    ]);
    reply.extend(query.get(HEADER_BYTES..question_end)?);
    for address in addresses {
        reply.extend([0xc0, 0x0c]);
        reply.extend(asked);
        reply.extend([0, 1]);
        reply.extend(TTL_SECONDS.to_be_bytes());
        reply.extend([0, u8::try_from(address.len()).ok()?]);
        reply.extend(address);
    }
    Some(reply)
}

fn of_family(addresses: &[IpAddr], kind: Kind) -> Vec<Vec<u8>> {
    let octets = addresses.iter().filter_map(|address| match address {
        IpAddr::V4(v4) if kind == Kind::A => Some(v4.octets().to_vec()),
        IpAddr::V6(v6) if kind == Kind::Aaaa => Some(v6.octets().to_vec()),
        IpAddr::V4(_) | IpAddr::V6(_) => None,
    });
    octets.collect()
}
