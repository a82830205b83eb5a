//! A name server of a few lines: A and AAAA over UDP, answered by a function.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::UdpSocket;

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const HEADER_BYTES: usize = 12;

/// What it answers to one question: addresses and their TTL in seconds, or silence.
pub(super) type Reply = Option<(Vec<IpAddr>, u32)>;

pub(super) struct NameServer {
    pub(super) at: SocketAddr,
    /// Questions for A records.
    asked: Arc<AtomicUsize>,
}

impl NameServer {
    /// `answer` is given the name and how many A questions came before.
    pub(super) async fn start(answer: impl Fn(&str, usize) -> Reply + Send + 'static) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = socket.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut packet = [0_u8; 512];
            while let Ok((length, from)) = socket.recv_from(&mut packet).await {
                let (name, kind, end) = question(&packet[..length]);
                let nth = if kind == TYPE_A {
                    counted.fetch_add(1, Ordering::SeqCst)
                } else {
                    // The A question comes first: both belong to one look-up.
                    counted.load(Ordering::SeqCst).saturating_sub(1)
                };
                if let Some((addresses, ttl)) = answer(&name, nth) {
                    let reply = reply(&packet[..end], kind, &addresses, ttl);
                    socket.send_to(&reply, from).await.unwrap();
                }
            }
        });
        Self { at, asked }
    }

    /// Always the same addresses for every name.
    pub(super) async fn always(addresses: &[&str], ttl: u32) -> Self {
        let addresses: Vec<IpAddr> = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        Self::start(move |_, _| Some((addresses.clone(), ttl))).await
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn question(packet: &[u8]) -> (String, u16, usize) {
    let mut labels = Vec::new();
    let mut at = HEADER_BYTES;
    while packet[at] != 0 {
        let length = usize::from(packet[at]);
        labels.push(String::from_utf8_lossy(&packet[at + 1..=at + length]).into_owned());
        at += length + 1;
    }
    let kind = u16::from_be_bytes([packet[at + 1], packet[at + 2]]);
    (labels.join("."), kind, at + 5)
}

fn reply(question: &[u8], kind: u16, addresses: &[IpAddr], ttl: u32) -> Vec<u8> {
    let records: Vec<Vec<u8>> = addresses
        .iter()
        .filter_map(|ip| match ip {
            IpAddr::V4(ip) if kind == TYPE_A => Some(ip.octets().to_vec()),
            IpAddr::V6(ip) if kind == TYPE_AAAA => Some(ip.octets().to_vec()),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        })
        .collect();
    let mut packet = question.to_vec();
    // A response, recursion available, one question, the answers, nothing else.
    packet[2..4].copy_from_slice(&[0x81, 0x80]);
    let count = u16::try_from(records.len()).unwrap().to_be_bytes();
    packet[4..12].copy_from_slice(&[0, 1, count[0], count[1], 0, 0, 0, 0]);
    for data in records {
        packet.extend([0xc0, 0x0c]);
        packet.extend(kind.to_be_bytes());
        packet.extend(1_u16.to_be_bytes());
        packet.extend(ttl.to_be_bytes());
        packet.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        packet.extend(data);
    }
    packet
}
