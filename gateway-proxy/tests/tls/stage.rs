//! A stack whose first gateway serves TLS, and those who speak to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use crochet_dev::Role;
use demo_agent::{Agent, Api, PaidCall};
use h2::client::SendRequest;
use http::Request;
use rcgen::{CertifiedKey, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{World, free_port};

/// The name that the certificates are for.
const NAME: &str = "localhost";
const CERTIFICATE: &str = "certificate.pem";
const KEY: &str = "key.pem";

/// A certificate for [`NAME`], its own authority.
pub(super) type Pair = CertifiedKey<KeyPair>;

pub(super) fn pair() -> Pair {
    rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap()
}

/// Where the TLS port is.
#[derive(Clone, Copy, Debug)]
pub(super) struct TlsPort(pub(super) SocketAddr);

impl TlsPort {
    /// The API by TLS, for somebody who trusts these certificates alone and speaks only this version.
    pub(super) fn api(self, version: http::Version, trusted: &[String]) -> Api {
        let certificates = trusted
            .iter()
            .map(|pem| reqwest::Certificate::from_pem(pem.as_bytes()).unwrap());
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only(certificates)
            .resolve(NAME, self.0);
        let client = match version {
            http::Version::HTTP_2 => client.http2_prior_knowledge(),
            _ => client.http1_only(),
        };
        let origin = format!("https://{NAME}:{}/api/v1", self.0.port());
        Api::with_client(&origin, client.build().unwrap())
    }
}

/// The files that the gateway reads.
pub(super) struct Files(tempfile::TempDir);

impl Files {
    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes both, one after the other, as somebody would who copies them.
    pub(super) fn put(&self, pair: &Pair) {
        self.write(&pair.cert.pem(), &pair.signing_key.serialize_pem());
    }

    pub(super) fn write(&self, certificate: &str, key: &str) {
        std::fs::write(self.path(CERTIFICATE), certificate).unwrap();
        std::fs::write(self.path(KEY), key).unwrap();
    }
}

/// The stack, and where its TLS is.
pub(super) struct Stage {
    pub(super) world: World,
    pub(super) port: TlsPort,
    pub(super) first: Pair,
    pub(super) files: Files,
}

impl Stage {
    pub(super) async fn set(name: &str) -> Self {
        let mut world = World::own(name, |options| options).await;
        let (files, first) = (Files(tempfile::tempdir().unwrap()), pair());
        files.put(&first);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().await));
        let gateway = Role::Gateway(0);
        let path = |name: &str| files.path(name).display().to_string();
        for (name, value) in [
            ("GATEWAY_TLS_LISTEN", address.to_string()),
            ("GATEWAY_TLS_CERTIFICATE_FILE", path(CERTIFICATE)),
            ("GATEWAY_TLS_KEY_FILE", path(KEY)),
        ] {
            world.stack.tell(gateway, name, &value);
        }
        world.stack.restart(gateway).await.unwrap();
        Self {
            world,
            port: TlsPort(address),
            first,
            files,
        }
    }

    /// The API by TLS, for somebody who trusts the first certificate.
    pub(super) fn api(&self, version: http::Version) -> Api {
        self.port.api(version, &[self.first.cert.pem()])
    }

    /// A connection on which TLS is spoken, and this protocol agreed upon.
    pub(super) async fn connect(&self, protocol: &str) -> TlsStream<TcpStream> {
        let mut roots = RootCertStore::empty();
        let root: CertificateDer<'_> = self.first.cert.der().clone();
        roots.add(root).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let stream = TcpStream::connect(self.port.0).await.unwrap();
        let name = ServerName::try_from(NAME).unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, stream).await.unwrap()
    }

    /// An HTTP/2 connection whose streams a test has in hand; what drives it ends with it.
    pub(super) async fn http2(&self) -> SendRequest<Bytes> {
        let stream = self.connect("h2").await;
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        // How it ends is what the tests look at through the streams.
        tokio::spawn(async move { drop(connection.await) });
        client.ready().await.unwrap()
    }

    /// The head of this call by this buyer.
    pub(super) fn head(&self, buyer: &Agent, call: &PaidCall, relay: Option<&str>) -> Request<()> {
        let port = self.port.0.port();
        let listing = &call.listing;
        let mut request = Request::post(format!("https://{NAME}:{port}/api/v1/gateway/{listing}"))
            .header("authorization", format!("Bearer {}", buyer.key))
            .header("content-type", "application/json");
        if let Some(relay) = relay {
            request = request.header("x-crochet-relay-request-id", relay);
        }
        request.body(()).unwrap()
    }

    /// A number the gateway counts.
    pub(super) async fn metric(&self, series: &str) -> u64 {
        let page = reqwest::get(format!("{}/metrics", self.world.door.at.gateway_admin))
            .await
            .unwrap();
        let page = page.text().await.unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(series));
        let value = line.unwrap_or_else(|| panic!("no {series}")).trim();
        value.parse().unwrap()
    }
}
