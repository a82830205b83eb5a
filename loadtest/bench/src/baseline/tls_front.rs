//! nginx speaking TLS in front of the seller, with a certificate that the gateway is told to trust.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::child::Child;
use super::nginx::{self, Listen};
use crate::measure::{Role, Watched};

const WORKERS: usize = 1;

/// A certificate for the loopback address and who vouches for it, as files.
#[derive(Debug)]
pub(crate) struct Certificate {
    /// Who vouches.
    pub(crate) authority: PathBuf,
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
}

impl Certificate {
    /// Makes all of it in `directory`.
    pub(crate) fn make(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("creating {}", directory.display()))?;
        let mut params = CertificateParams::new([])?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let params = CertificateParams::new([Ipv4Addr::LOCALHOST.to_string()])?;
        let certificate = params.signed_by(&key, &authority)?;
        let write = |name: &str, text: String| {
            let path = directory.join(name);
            std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
            anyhow::Ok(path)
        };
        Ok(Self {
            authority: write("authority.pem", authority.pem())?,
            chain: write("seller.pem", certificate.pem())?,
            key: write("seller.key", key.serialize_pem())?,
        })
    }
}

/// Running; dropping it ends it.
#[derive(Debug)]
pub(crate) struct TlsFront(Child);

impl TlsFront {
    /// Starts it in `directory`, in front of the seller at `upstream`.
    pub(crate) async fn start(
        directory: &Path,
        upstream: SocketAddr,
        certificate: &Certificate,
    ) -> Result<Self> {
        let listen = Listen::Tls(certificate);
        nginx::start_as("tls-front", directory, upstream, WORKERS, listen)
            .await
            .map(Self)
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// Its processes.
    pub(crate) fn watched(&self) -> Watched {
        Watched {
            role: Role::TlsFront,
            pid: self.0.pid(),
        }
    }
}
