//! From a target to a connection that speaks HTTP/1.1, by addresses that were judged.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crochet_shared::egress::{Egress, Forbidden, Target, TargetHost};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::breaker::BreakerConfig;
use super::exchange::Connection;
use super::reading::Reading;
use super::resolve::{Answer, Resolver};
use super::send::Unsent;
use super::wire::{Socket, Stream, Watch, Wire};

/// The longest wait for a connection, TLS included.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// How long one address has before the next is tried beside it (RFC 8305 §5).
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// Addresses of one answer that are tried.
const ADDRESSES_TRIED_MAX: usize = 4;

/// Where and how sellers are reached: one for the process.
pub struct Network {
    pub(super) egress: Egress,
    pub(super) breaker: BreakerConfig,
    pub(super) reading: Option<Reading>,
    resolver: Resolver,
    tls: TlsConnector,
}

/// What a [`Network`] is made of.
#[derive(Debug, Default)]
pub struct NetworkConfig<'a> {
    /// What is allowed.
    pub egress: Egress,
    /// Breaker numbers of every endpoint.
    pub breaker: BreakerConfig,
    /// Servers to ask instead of the system's (`DNS_SERVERS`).
    pub dns_servers: &'a [SocketAddr],
    /// Certificates trusted besides the public ones, PEM (`ENDPOINT_EXTRA_CA_FILE`).
    pub extra_ca_file: Option<&'a Path>,
    /// What large answers may hold; none, whatever they like.
    pub reading: Option<Reading>,
}

/// Why no [`Network`] could be made: the configuration, or the system's, is wrong.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The system's resolver configuration cannot be read.
    #[error("the resolver cannot be configured: {0}")]
    Resolver(String),
    /// The file with extra certificates cannot be read.
    #[error("ENDPOINT_EXTRA_CA_FILE cannot be read: {0}")]
    ExtraCa(String),
    /// TLS cannot be set up.
    #[error("TLS cannot be configured: {0}")]
    Tls(#[from] rustls::Error),
}

impl Network {
    /// Prepares resolver and TLS. Contacts nobody.
    pub fn new(config: NetworkConfig<'_>) -> Result<Self, NetworkError> {
        let resolver = Resolver::new(config.dns_servers)
            .map_err(|error| NetworkError::Resolver(error.to_string()))?;
        Ok(Self {
            egress: config.egress,
            breaker: config.breaker,
            reading: config.reading,
            resolver,
            tls: tls(config.extra_ca_file)?,
        })
    }

    /// What [`Self`] allows, for whoever judges a URL without connecting.
    pub fn egress(&self) -> &Egress {
        &self.egress
    }

    /// Resolves a host and judges every address: one that is not allowed refuses the host.
    pub(super) async fn resolve(&self, target: &Target) -> Result<Arc<Answer>, Unsent> {
        let answer = match &target.host {
            TargetHost::Address(ip) => Arc::new(Answer::literal(*ip)),
            TargetHost::Name(name) => self
                .resolver
                .lookup(name)
                .await
                .map_err(|_| Unsent::Unresolved)?,
        };
        for ip in &answer.addresses {
            self.egress.check_address(*ip, target.port)?;
        }
        Ok(answer)
    }

    /// Connects to one of the answer's addresses, the next one tried beside a slow one.
    pub(super) async fn connect(
        &self,
        target: &Target,
        server_name: Option<&ServerName<'static>>,
        answer: &Answer,
    ) -> Result<Connection, Unsent> {
        let connecting = async {
            let (tcp, peer) = self.dial(&answer.addresses, target.port).await?;
            let (wire, socket, watch) = Wire::new(tcp);
            let stream = match server_name {
                None => Stream::Plain(wire),
                Some(name) => Stream::Tls(Box::new(self.handshake(name, wire).await?)),
            };
            handshake_http(stream, socket, watch, peer).await
        };
        tokio::time::timeout(CONNECT_TIME_MAX, connecting)
            .await
            .unwrap_or(Err(Unsent::Connect))
    }

    async fn handshake(
        &self,
        name: &ServerName<'static>,
        wire: Wire,
    ) -> Result<tokio_rustls::client::TlsStream<Wire>, Unsent> {
        self.tls
            .connect(name.clone(), wire)
            .await
            .map_err(|_| Unsent::Tls)
    }

    async fn dial(&self, ips: &[IpAddr], port: u16) -> Result<(TcpStream, IpAddr), Unsent> {
        let mut waiting = in_turn(ips).into_iter();
        let mut dialling = FuturesUnordered::new();
        let mut last = Unsent::Connect;
        loop {
            match waiting.next() {
                Some(ip) => dialling.push(self.dial_one(ip, port)),
                None if dialling.is_empty() => return Err(last),
                None => {}
            }
            let more = waiting.len() > 0;
            tokio::select! {
                biased;
                Some(dialled) = dialling.next() => match dialled {
                    Ok(connected) => return Ok(connected),
                    Err(unsent) => last = unsent,
                },
                () = tokio::time::sleep(NEXT_ADDRESS_AFTER), if more => {}
            }
        }
    }

    /// The one place that connects, with the check directly before it.
    async fn dial_one(&self, ip: IpAddr, port: u16) -> Result<(TcpStream, IpAddr), Unsent> {
        self.egress.check_address(ip, port)?;
        let connected: io::Result<TcpStream> = TcpStream::connect(SocketAddr::new(ip, port)).await;
        let tcp = connected.map_err(|_| Unsent::Connect)?;
        tcp.set_nodelay(true).map_err(|_| Unsent::Connect)?;
        Ok((tcp, ip))
    }
}

impl From<Forbidden> for Unsent {
    fn from(_: Forbidden) -> Self {
        Self::ForbiddenAddress
    }
}

async fn handshake_http(
    stream: Stream,
    socket: Socket,
    watch: Arc<Watch>,
    peer: IpAddr,
) -> Result<Connection, Unsent> {
    Connection::new(stream, socket, watch, peer)
        .await
        .map_err(|_| Unsent::Connect)
}

/// The first few addresses, families taking turns, so that a family without a route costs one step.
fn in_turn(ips: &[IpAddr]) -> Vec<IpAddr> {
    let mut v4 = ips.iter().filter(|ip| ip.is_ipv4());
    let mut v6 = ips.iter().filter(|ip| ip.is_ipv6());
    let mut turns = Vec::with_capacity(ADDRESSES_TRIED_MAX);
    loop {
        let pair = [v4.next(), v6.next()];
        if pair == [None, None] || turns.len() >= ADDRESSES_TRIED_MAX {
            turns.truncate(ADDRESSES_TRIED_MAX);
            return turns;
        }
        turns.extend(pair.into_iter().flatten().copied());
    }
}

fn tls(extra_ca_file: Option<&Path>) -> Result<TlsConnector, NetworkError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    if let Some(path) = extra_ca_file {
        let unreadable = |error: &dyn std::fmt::Display| NetworkError::ExtraCa(error.to_string());
        let certificates =
            CertificateDer::pem_file_iter(path).map_err(|error| unreadable(&error))?;
        for certificate in certificates {
            let certificate = certificate.map_err(|error| unreadable(&error))?;
            roots.add(certificate)?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The name TLS is verified for: the host of the URL, name or address.
pub(super) fn server_name(target: &Target) -> Result<Option<ServerName<'static>>, Forbidden> {
    if !target.tls {
        return Ok(None);
    }
    match &target.host {
        TargetHost::Address(ip) => Ok(Some(ServerName::IpAddress((*ip).into()))),
        TargetHost::Name(name) => ServerName::try_from(name.clone())
            .map(Some)
            .map_err(|_| Forbidden::Malformed),
    }
}
