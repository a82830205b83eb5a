//! The front door's certificate: its files, and what is wrong with them.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use crochet_dev::{Role, Stack, free_port};
use rcgen::{CertificateParams, KeyPair};
use time::{Duration, OffsetDateTime};

use super::faults::Fault;
use super::stage::Stage;

/// Well beyond what anybody is told of.
const GOOD_DAYS: i64 = 90;

/// The two files that a gateway reads.
#[derive(Debug)]
pub(super) struct Certificate {
    chain: PathBuf,
    key: PathBuf,
}

impl Certificate {
    /// Lays a good one below `directory`.
    fn lay(directory: &Path) -> Result<Self> {
        let directory = directory.join("certificate");
        fs::create_dir_all(&directory)?;
        let files = Self {
            chain: directory.join("tls.crt"),
            key: directory.join("tls.key"),
        };
        files.renew(GOOD_DAYS)?;
        Ok(files)
    }

    /// Writes one that ends so many days from now, as whoever renews it would.
    fn renew(&self, days: i64) -> Result<()> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
        let now = OffsetDateTime::now_utc();
        params.not_before = now - Duration::DAY;
        params.not_after = now + Duration::days(days);
        let certificate = params.self_signed(&key)?;
        fs::write(&self.chain, certificate.pem())?;
        fs::write(&self.key, key.serialize_pem()).context("writing the certificate's key")
    }
}

/// Lets a stack's first gateway serve TLS.
pub(super) async fn serve_tls(stack: &mut Stack) -> Result<Certificate> {
    let files = Certificate::lay(stack.directory())?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let gateway = Role::Gateway(0);
    for (name, value) in [
        ("GATEWAY_TLS_LISTEN", address.to_string()),
        (
            "GATEWAY_TLS_CERTIFICATE_FILE",
            files.chain.display().to_string(),
        ),
        ("GATEWAY_TLS_KEY_FILE", files.key.display().to_string()),
    ] {
        stack.tell(gateway, name, &value);
    }
    stack.restart(gateway).await?;
    Ok(files)
}

/// Nobody renews it: what serves ends in ten days, then tomorrow.
pub(super) async fn ending(mut fault: Fault<'_>, stage: &Stage) -> Result<()> {
    stage.certificate.renew(10)?;
    fault.fire(&["CertificateEndsSoon"]).await?;
    stage.certificate.renew(1)?;
    fault.fire(&["CertificateEnds"]).await?;
    stage.certificate.renew(GOOD_DAYS)
}

/// It is renewed, and its key's file is cut short.
pub(super) async fn broken(mut fault: Fault<'_>, stage: &Stage) -> Result<()> {
    stage.certificate.renew(GOOD_DAYS)?;
    fs::write(&stage.certificate.key, "-----BEGIN PRIVATE KEY-----\n")?;
    fault.fires().await?;
    stage.certificate.renew(GOOD_DAYS)
}
