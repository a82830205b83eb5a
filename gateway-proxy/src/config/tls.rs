//! Settings of TLS at the front door: all of them, or none.

use std::net::SocketAddr;
use std::path::PathBuf;

/// What can be said of it.
#[derive(Debug, clap::Args)]
pub struct TlsArgs {
    /// Where everyone connects by TLS (1.2 and newer; HTTP/2 or HTTP/1.1), besides `GATEWAY_LISTEN`;
    /// nowhere when it is not set.
    #[arg(long, env = "GATEWAY_TLS_LISTEN")]
    pub gateway_tls_listen: Option<SocketAddr>,
    /// PEM file of the front door's certificate, followed by those between it and an authority. It is
    /// read again when it changes.
    #[arg(long, env = "GATEWAY_TLS_CERTIFICATE_FILE")]
    pub gateway_tls_certificate_file: Option<PathBuf>,
    /// PEM file of that certificate's private key. It is read again when it changes.
    #[arg(long, env = "GATEWAY_TLS_KEY_FILE")]
    pub gateway_tls_key_file: Option<PathBuf>,
}

/// Where TLS is served, with what.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in `TlsArgs`, whose help documents them")]
pub struct Tls {
    pub listen: SocketAddr,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl TlsArgs {
    /// Judges what was said, beside the `others` that are listened at.
    pub(super) fn check(self, others: [SocketAddr; 2]) -> Result<Option<Tls>, String> {
        let said = (
            self.gateway_tls_listen,
            self.gateway_tls_certificate_file,
            self.gateway_tls_key_file,
        );
        match said {
            (None, None, None) => Ok(None),
            (Some(listen), _, _) if others.contains(&listen) => Err(
                "GATEWAY_TLS_LISTEN must differ from GATEWAY_LISTEN and GATEWAY_ADMIN_LISTEN"
                    .to_owned(),
            ),
            (Some(listen), Some(certificate), Some(key)) => Ok(Some(Tls {
                listen,
                certificate,
                key,
            })),
            _ => Err("GATEWAY_TLS_LISTEN, GATEWAY_TLS_CERTIFICATE_FILE and GATEWAY_TLS_KEY_FILE must be set together".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(listen: Option<&str>, certificate: Option<&str>, key: Option<&str>) -> String {
        let args = TlsArgs {
            gateway_tls_listen: listen.map(|listen| listen.parse().unwrap()),
            gateway_tls_certificate_file: certificate.map(PathBuf::from),
            gateway_tls_key_file: key.map(PathBuf::from),
        };
        let others = ["127.0.0.1:8080", "127.0.0.1:9080"].map(|other| other.parse().unwrap());
        match args.check(others) {
            Ok(None) => "nowhere".to_owned(),
            Ok(Some(tls)) => tls.listen.to_string(),
            Err(problem) => problem,
        }
    }

    #[test]
    fn tls_is_said_whole_or_not_at_all() {
        assert_eq!(check(None, None, None), "nowhere");
        let listen = Some("127.0.0.1:8443");
        assert_eq!(
            check(listen, Some("c.pem"), Some("k.pem")),
            "127.0.0.1:8443"
        );
        for (listen, certificate, key) in [
            (listen, None, None),
            (listen, Some("c.pem"), None),
            (None, Some("c.pem"), Some("k.pem")),
        ] {
            assert!(check(listen, certificate, key).contains("set together"));
        }
        let taken = check(Some("127.0.0.1:9080"), Some("c.pem"), Some("k.pem"));
        assert!(taken.contains("must differ"), "{taken}");
    }
}
