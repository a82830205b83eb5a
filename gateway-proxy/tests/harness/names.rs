//! A name server whose one name moves about as a test says.

use std::net::{Ipv4Addr, SocketAddr};
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
    answer: Arc<Mutex<Vec<Ipv4Addr>>>,
    task: JoinHandle<()>,
}

impl Names {
    /// One that answers with `addresses`.
    pub(crate) async fn start(addresses: &[Ipv4Addr]) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(addresses.to_vec()));
        let task = tokio::spawn(serve(socket, Arc::clone(&answer)));
        Self {
            address,
            answer,
            task,
        }
    }

    /// Where it is asked.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// From now on it answers with `addresses`.
    pub(crate) fn move_to(&self, addresses: &[Ipv4Addr]) {
        *self.answer.lock().unwrap() = addresses.to_vec();
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: UdpSocket, answer: Arc<Mutex<Vec<Ipv4Addr>>>) {
    let mut buffer = [0; 1500];
    while let Ok((length, asker)) = socket.recv_from(&mut buffer).await {
        let addresses = answer.lock().unwrap().clone();
        if let Some(reply) = reply(&buffer[..length], &addresses) {
            // An asker that has gone asks again.
            let _lost = socket.send_to(&reply, asker).await;
        }
    }
}

/// RFC 1035, section 4: the question again, and an address record for each address when those are asked for.
fn reply(query: &[u8], addresses: &[Ipv4Addr]) -> Option<Vec<u8>> {
    const ADDRESS: [u8; 2] = [0, 1];
    let name_bytes = query
        .get(HEADER_BYTES..)?
        .iter()
        .position(|&byte| byte == 0)?
        + 1;
    let question_end = HEADER_BYTES + name_bytes + 4;
    let kind = query.get(HEADER_BYTES + name_bytes..HEADER_BYTES + name_bytes + 2)?;
    let addresses = if kind == ADDRESS { addresses } else { &[] };
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
        reply.extend([0xc0, 0x0c, 0, 1, 0, 1]);
        reply.extend(TTL_SECONDS.to_be_bytes());
        reply.extend([0, 4]);
        reply.extend(address.octets());
    }
    Some(reply)
}
