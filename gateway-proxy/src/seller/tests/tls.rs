//! TLS is verified for the host of the URL.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use crochet_shared::outcome::SellerFailure;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::dns::NameServer;
use super::script::{self, OK, Peer, Seen, Untold};
use super::{Network, NetworkConfig, SendError, loopback, seller, send_one};
use crate::seller::{NetworkError, Unsent};

type Ca = CertifiedIssuer<'static, KeyPair>;

fn ca() -> Ca {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn acceptor(ca: &Ca, hosts: &[&str], expired: bool) -> TlsAcceptor {
    TlsAcceptor::from(Arc::new(server(ca, hosts, expired)))
}

fn server(ca: &Ca, hosts: &[&str], expired: bool) -> rustls::ServerConfig {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    if expired {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    }
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, ca).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}

/// Answers over TLS; counts only requests that came through it.
async fn secure(acceptor: TlsAcceptor, answer: &'static str) -> (SocketAddr, Seen) {
    let seen = Seen::default();
    let told = seen.clone();
    let (at, _) = script::start(move |_, peer: Peer<TcpStream>| {
        let (acceptor, seen) = (acceptor.clone(), seen.clone());
        async move {
            let Ok(stream) = acceptor.accept(peer.stream).await else {
                return;
            };
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
            let mut peer = Peer::new(stream, seen);
            while peer.read().await.is_some() {
                peer.write(answer).await;
                if answer != OK {
                    // Closes the socket and leaves TLS open: cut off, as far as anyone can tell.
                    return;
                }
            }
        }
    })
    .await;
    (at, told)
}

fn trusting(ca: Option<&Ca>, server: &NameServer) -> Network {
    let file = tempfile::NamedTempFile::new().unwrap();
    if let Some(ca) = ca {
        std::fs::write(file.path(), ca.pem()).unwrap();
    }
    Network::new(NetworkConfig {
        egress: loopback(),
        dns_servers: &[server.at],
        extra_ca_file: ca.map(|_| file.path()),
        ..NetworkConfig::default()
    })
    .unwrap()
}

#[tokio::test]
async fn a_certificate_of_the_host_by_a_trusted_ca_is_spoken_to() {
    let ca = ca();
    let server = NameServer::always(&["127.0.0.1"], 60).await;
    let (at, seen) = secure(acceptor(&ca, &["seller.test", "127.0.0.1"], false), OK).await;
    let network = trusting(Some(&ca), &server);
    for host in ["seller.test", "127.0.0.1"] {
        let seller = seller(&format!("https://{host}:{}/", at.port()), &network);
        for _ in 0..3 {
            assert_eq!(send_one(&seller, &network).await.unwrap().status, 200);
        }
        assert_eq!(seller.pool.idle(), 1);
    }
    assert_eq!(seen.arrivals(), 6);
}

#[tokio::test]
async fn any_other_certificate_ends_it_before_the_first_byte() {
    let (ours, theirs) = (ca(), ca());
    let server = NameServer::always(&["127.0.0.1"], 60).await;
    for (url, trusted, acceptor) in [
        (
            "seller.test",
            Some(&ours),
            acceptor(&ours, &["other.test"], false),
        ),
        (
            "seller.test",
            Some(&ours),
            acceptor(&ours, &["127.0.0.1"], false),
        ),
        (
            "127.0.0.1",
            Some(&ours),
            acceptor(&ours, &["seller.test"], false),
        ),
        (
            "seller.test",
            Some(&ours),
            acceptor(&theirs, &["seller.test"], false),
        ),
        (
            "seller.test",
            None,
            acceptor(&ours, &["seller.test"], false),
        ),
        (
            "seller.test",
            Some(&ours),
            acceptor(&ours, &["seller.test"], true),
        ),
    ] {
        let (at, seen) = secure(acceptor, OK).await;
        let network = trusting(trusted, &server);
        let seller = seller(&format!("https://{url}:{}/", at.port()), &network);
        assert_eq!(
            send_one(&seller, &network).await.unwrap_err(),
            SendError::Unsent(Unsent::Tls)
        );
        assert_eq!(seen.arrivals(), 0);
    }
    // Plain HTTP on the other side.
    let (at, seen) = script::start(|_, mut peer| async move { peer.write(OK).await }).await;
    let network = trusting(Some(&ours), &server);
    let seller = seller(&format!("https://seller.test:{}/", at.port()), &network);
    let ended = send_one(&seller, &network).await;
    assert!(matches!(ended, Err(SendError::Unsent(_))), "{ended:?}");
    assert_eq!(seen.arrivals(), 0);
}

#[tokio::test]
async fn an_answer_that_ends_without_the_end_of_tls_is_truncated() {
    let ca = ca();
    let server = NameServer::always(&["127.0.0.1"], 60).await;
    let until_closed = "HTTP/1.1 200 OK\r\n\r\nall of it?";
    let (at, seen) = secure(acceptor(&ca, &["seller.test"], false), until_closed).await;
    let network = trusting(Some(&ca), &server);
    let seller = seller(&format!("https://seller.test:{}/", at.port()), &network);
    assert_eq!(
        send_one(&seller, &network).await.unwrap_err(),
        SendError::Failed(SellerFailure::Invalid, Some(200))
    );
    assert_eq!(seen.arrivals(), 1);
}

#[tokio::test]
async fn an_end_of_tls_that_the_runtime_has_not_been_told_of_is_seen_too() {
    let ca = ca();
    let config = Arc::new(server(&ca, &["127.0.0.1"], false));
    let untold = Untold::start(move |tcp| {
        let tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
        rustls::StreamOwned::new(tls, tcp)
    });
    let name_server = NameServer::always(&["127.0.0.1"], 60).await;
    let network = trusting(Some(&ca), &name_server);
    let seller = seller(&format!("https://{}/", untold.at), &network);
    for _ in 0..20 {
        untold.expect_one();
        assert_eq!(send_one(&seller, &network).await.unwrap().status, 200);
        assert_eq!(seller.pool.idle(), 1);
        let mut stream = untold.answered();
        stream.conn.send_close_notify();
        stream.flush().unwrap();
    }
}

#[test]
fn a_ca_file_that_cannot_be_read_stops_the_start() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
    )
    .unwrap();
    for path in [file.path(), std::path::Path::new("/nowhere/ca.pem")] {
        let made = Network::new(NetworkConfig {
            extra_ca_file: Some(path),
            ..NetworkConfig::default()
        });
        assert!(matches!(made, Err(NetworkError::ExtraCa(_))));
    }
}
