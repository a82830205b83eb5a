//! The front door's certificate: read from two files, and read again when what stands in them changes.
//!
//! Contents are compared, not times: a secret of Kubernetes is a link that moves, and a copy may keep its
//! time. A new certificate is taken in one step, for the handshakes that come after it. What cannot be
//! served is refused, said and counted, and the one before it serves on. The two files are not written
//! at once, so that a pair is refused only when it still stands at the next look.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use crochet_shared::clock;
use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::tls::Tls;
use crate::metrics::Metrics;

/// Between two looks at the files.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why a certificate cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// A file cannot be read.
    #[error("{0} cannot be read: {1}")]
    Unreadable(PathBuf, std::io::Error),
    /// A file holds no certificate, or no key.
    #[error("{0} is not PEM of what it should hold: {1}")]
    NotPem(PathBuf, rustls::pki_types::pem::Error),
    /// The file has no certificate at all.
    #[error("{0} holds no certificate")]
    Empty(PathBuf),
    /// The key is of no kind that can sign, or not this certificate's.
    #[error("the key does not serve with the certificate: {0}")]
    Unfit(#[from] rustls::Error),
    /// The certificate is none.
    #[error("the certificate is not X.509")]
    NotX509,
    /// It ended before it came, and the one that serves has not.
    #[error("the certificate ended at {0} (Unix seconds)")]
    Ended(i64),
}

/// What is in the files, by the digest of their contents; none of what cannot be read.
type Seen = Option<[u8; 32]>;

/// A certificate that can be served.
#[derive(Debug)]
struct Servable {
    key: Arc<CertifiedKey>,
    /// Unix seconds.
    ends: i64,
}

/// What a look at the files came to.
#[derive(Debug)]
enum Look {
    Same,
    /// Not servable now; the next look decides.
    Doubted,
    Taken(i64),
    Refused(Unusable),
}

/// Whoever is asked for the certificate.
pub struct Certificate {
    files: Tls,
    serving: ArcSwap<Servable>,
    looks: Mutex<Looks>,
}

struct Looks {
    /// What was judged last, whatever came of it.
    judged: Seen,
    /// Whether that was refused.
    refused: bool,
    doubted: Option<Seen>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "Certificate({})", self.files.certificate.display())
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.serving.load().key))
    }
}

impl Certificate {
    /// Reads it for the first time.
    pub fn read(files: Tls) -> Result<Self, Unusable> {
        let (seen, read) = look_into(&files);
        let servable = read?;
        if servable.ends <= clock::now().timestamp() {
            tracing::warn!(ends = servable.ends, "the certificate has ended");
        }
        Ok(Self {
            files,
            serving: ArcSwap::from_pointee(servable),
            looks: Mutex::new(Looks {
                judged: seen,
                refused: false,
                doubted: None,
            }),
        })
    }

    /// When the one that serves ends, in Unix seconds.
    pub fn ends(&self) -> i64 {
        self.serving.load().ends
    }

    /// Whether the files hold one that was refused.
    pub fn is_refused(&self) -> bool {
        self.looks.lock().refused
    }

    /// Follows the files for good.
    pub async fn follow(self: Arc<Self>, metrics: &Metrics) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            let this = Arc::clone(&self);
            // Reading a file may take its time; connections do not wait for it.
            let look = tokio::task::spawn_blocking(move || this.look()).await;
            match look {
                Ok(Look::Same | Look::Doubted) | Err(_) => {}
                Ok(Look::Taken(ends)) => {
                    metrics.certificates_taken.increment(1);
                    tracing::info!(ends, "a new certificate serves");
                }
                Ok(Look::Refused(error)) => {
                    metrics.certificates_refused.increment(1);
                    tracing::error!(%error, "the new certificate is refused; the one before serves on");
                }
            }
        }
    }

    fn look(&self) -> Look {
        let (seen, read) = look_into(&self.files);
        let mut looks = self.looks.lock();
        if seen == looks.judged {
            looks.doubted = None;
            return Look::Same;
        }
        match read.and_then(|servable| self.is_no_worse(servable)) {
            Ok(servable) => {
                looks.judged = seen;
                looks.refused = false;
                looks.doubted = None;
                let ends = servable.ends;
                self.serving.store(Arc::new(servable));
                Look::Taken(ends)
            }
            Err(error) if looks.doubted == Some(seen) => {
                looks.judged = seen;
                looks.refused = true;
                looks.doubted = None;
                Look::Refused(error)
            }
            Err(_) => {
                looks.doubted = Some(seen);
                Look::Doubted
            }
        }
    }

    fn is_no_worse(&self, new: Servable) -> Result<Servable, Unusable> {
        let now = clock::now().timestamp();
        if new.ends <= now && self.ends() > now {
            return Err(Unusable::Ended(new.ends));
        }
        Ok(new)
    }
}

/// Reads and judges both files.
fn look_into(files: &Tls) -> (Seen, Result<Servable, Unusable>) {
    let read = |path: &PathBuf| {
        std::fs::read(path).map_err(|error| Unusable::Unreadable(path.clone(), error))
    };
    let (certificate, key) = match (read(&files.certificate), read(&files.key)) {
        (Ok(certificate), Ok(key)) => (certificate, key),
        (Err(error), _) | (_, Err(error)) => return (None, Err(error)),
    };
    let mut digest = Sha256::new_with_prefix(Sha256::digest(&certificate));
    digest.update(&key);
    let seen = Some(digest.finalize().into());
    (seen, judge(files, &certificate, &key))
}

fn judge(files: &Tls, certificate: &[u8], key: &[u8]) -> Result<Servable, Unusable> {
    let chain = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Unusable::NotPem(files.certificate.clone(), error))?;
    let first = chain
        .first()
        .ok_or_else(|| Unusable::Empty(files.certificate.clone()))?;
    let (_, parsed) = X509Certificate::from_der(first).map_err(|_| Unusable::NotX509)?;
    let ends = parsed.validity().not_after.timestamp();
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|error| Unusable::NotPem(files.key.clone(), error))?;
    let provider = rustls::crypto::ring::default_provider();
    let key = Arc::new(CertifiedKey::from_der(chain, key, &provider)?);
    Ok(Servable { key, ends })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::CertificateParams;

    struct Files {
        _directory: tempfile::TempDir,
        tls: Tls,
    }

    impl Files {
        fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = |name: &str| directory.path().join(name);
            let tls = Tls {
                listen: "127.0.0.1:0".parse().unwrap(),
                certificate: path("certificate.pem"),
                key: path("key.pem"),
            };
            Self {
                _directory: directory,
                tls,
            }
        }

        fn write(&self, certificate: impl AsRef<[u8]>, key: impl AsRef<[u8]>) {
            std::fs::write(&self.tls.certificate, certificate).unwrap();
            std::fs::write(&self.tls.key, key).unwrap();
        }
    }

    /// A pair in PEM that ends so many days from now.
    fn pair(days: i64) -> (String, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let now = time::OffsetDateTime::now_utc();
        params.not_before = now - time::Duration::days(100);
        params.not_after = now + time::Duration::days(days);
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn served(certificate: &Certificate) -> CertificateDer<'static> {
        let key = Arc::clone(&certificate.serving.load().key);
        key.cert.first().unwrap().clone().into_owned()
    }

    #[test]
    fn a_new_pair_is_taken_once_also_when_its_files_come_one_after_the_other() {
        let files = Files::new();
        let (first, second) = (pair(10), pair(20));
        files.write(&first.0, &first.1);
        let certificate = Certificate::read(files.tls.clone()).unwrap();
        let (before, ends) = (served(&certificate), certificate.ends());
        assert!(matches!(certificate.look(), Look::Same));

        files.write(&second.0, &first.1);
        assert!(matches!(certificate.look(), Look::Doubted));
        assert_eq!(served(&certificate), before);
        files.write(&second.0, &second.1);
        assert!(matches!(certificate.look(), Look::Taken(later) if later > ends));
        assert_ne!(served(&certificate), before);
        assert!(matches!(certificate.look(), Look::Same));
    }

    #[test]
    fn what_cannot_be_served_is_refused_once_and_the_old_one_serves_on() {
        let files = Files::new();
        let (good, other, ended) = (pair(10), pair(10), pair(-1));
        files.write(&good.0, &good.1);
        let certificate = Certificate::read(files.tls.clone()).unwrap();
        let before = served(&certificate);
        for (bad, key, said) in [
            ("", good.1.as_str(), "holds no certificate"),
            ("nonsense", good.1.as_str(), "holds no certificate"),
            (good.0.as_str(), "nonsense", "is not PEM"),
            (good.0.as_str(), other.1.as_str(), "does not serve with"),
            (ended.0.as_str(), ended.1.as_str(), "ended at"),
        ] {
            files.write(bad, key);
            assert!(matches!(certificate.look(), Look::Doubted), "{said}");
            let look = certificate.look();
            let Look::Refused(error) = look else {
                panic!("{look:?} of {said}");
            };
            assert!(error.to_string().contains(said), "{error}");
            assert!(matches!(certificate.look(), Look::Same), "{said}");
            assert!(certificate.is_refused(), "{said}");
            assert_eq!(served(&certificate), before);
        }
        std::fs::remove_file(&files.tls.key).unwrap();
        certificate.look();
        assert!(matches!(certificate.look(), Look::Refused(_)));
        files.write(&good.0, &good.1);
        assert!(matches!(certificate.look(), Look::Taken(_)));
        assert!(!certificate.is_refused());
    }

    #[test]
    fn one_that_has_ended_is_better_than_none_and_worse_than_another() {
        let files = Files::new();
        let (ended, next) = (pair(-1), pair(1));
        files.write(&ended.0, &ended.1);
        let certificate = Certificate::read(files.tls.clone()).unwrap();
        files.write(&next.0, &next.1);
        assert!(matches!(certificate.look(), Look::Taken(_)));
        assert!(
            Certificate::read(Tls {
                key: "/nowhere".into(),
                ..files.tls
            })
            .is_err()
        );
    }
}
