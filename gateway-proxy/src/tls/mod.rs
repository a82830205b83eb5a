//! TLS at the front door, where it is configured: 1.2 and newer, HTTP/2 or HTTP/1.1 by ALPN.
//!
//! pingora's own listener ends it, with rustls and ring. It reads certificate files once and for all, but
//! it also takes somebody whom it asks for the certificate at each handshake; that is [`Certificate`],
//! which reads its files again when they change. HTTP/1.1 goes the way of the plain port
//! (`crate::front`), HTTP/2 the way of [`http2`].
//!
//! The plain listener stays: it is for a balancer that ends TLS itself, or for this host alone.

mod certificate;
pub(crate) mod http2;

use std::net::SocketAddr;
use std::sync::Arc;

use pingora::listeners::tls::TlsSettings;
use pingora::listeners::{ALPN, L4BufferSettings, ListenerConfig};

pub use certificate::{Certificate, Unusable};

/// The listener at `address`, whose certificate is `certificate`'s.
pub fn listener(
    address: SocketAddr,
    certificate: Arc<Certificate>,
    buffers: L4BufferSettings,
) -> pingora::Result<ListenerConfig> {
    // The names of files are not looked at once somebody else is asked.
    let mut settings = TlsSettings::intermediate("", "")?;
    settings.set_cert_resolver(certificate);
    settings.set_alpn(ALPN::H2H1);
    let listener = ListenerConfig::tcp(address.to_string());
    Ok(listener.l4_buffer(buffers).tls(settings))
}
