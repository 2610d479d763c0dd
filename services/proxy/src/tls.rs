//! TLS towards targets: whom to believe, and what to speak.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;
use valerix_resilience::DocumentFile;

/// Where systems keep the certificates of the authorities that they believe.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
];
/// The variable that names another bundle.
const BUNDLE_ENV: &str = "SSL_CERT_FILE";

/// TLS towards targets whose certificates a believed authority has signed. Clones are one.
#[derive(Clone)]
pub struct Tls {
    authorities: Arc<Authorities>,
    /// The name that certificates have; none is the host that is called.
    name: Option<ServerName<'static>>,
}

struct Authorities {
    path: PathBuf,
    /// None while nobody has needed them; an error while there was no good file yet.
    in_force: ArcSwapOption<Result<Configs, TlsError>>,
    /// Held by who reads them, so that what was read later is what is in force.
    reading: Mutex<()>,
}

struct Configs {
    http1: Arc<ClientConfig>,
    any: Arc<ClientConfig>,
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// No file with certificates is where systems have it.
    #[error("failed to find the certificates of the system: set SSL_CERT_FILE to a bundle in PEM")]
    NoBundle,
    /// The file cannot be read, or has no certificate.
    #[error("failed to read certificates of {}: {cause}", .path.display())]
    Bundle {
        /// The file.
        path: PathBuf,
        /// In words.
        cause: String,
    },
    /// No certificate has such a name.
    #[error("failed to use {0} as the name of a certificate: write a host name or an IP address")]
    Name(String),
    /// The provider of cryptography does not take it.
    #[error("failed to set up TLS")]
    Use(#[source] rustls::Error),
}

impl Tls {
    /// Believes the authorities of the system: those of the file that `SSL_CERT_FILE` names, else of the usual one. There are
    /// many: they are read with the first connection, which fails where there is none.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn of_system() -> Result<Self, TlsError> {
        let named = std::env::var_os(BUNDLE_ENV).map(PathBuf::from);
        let usual = || BUNDLES.iter().map(PathBuf::from).find(|path| path.exists());
        let path = named.or_else(usual).ok_or(TlsError::NoBundle)?;
        Ok(Self::of(&path, None))
    }

    /// Believes the authorities of a file in PEM.
    ///
    /// # Errors
    /// When it cannot be read, or has no certificate.
    pub fn believing(path: &Path) -> Result<Self, TlsError> {
        Ok(Self::of(path, Some(Ok(Configs::believing(path)?))))
    }

    /// As [`believing`](Self::believing), with a file that may come later: until [`follow`](Self::follow) has read a good
    /// one no connection comes about.
    #[must_use]
    pub fn awaiting(path: &Path) -> Self {
        Self::of(path, Some(Configs::believing(path)))
    }

    /// Whether a certificate could have such a name.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        server_name(name).is_ok()
    }

    fn of(path: &Path, configs: Option<Result<Configs, TlsError>>) -> Self {
        let authorities = Arc::new(Authorities {
            path: path.to_owned(),
            in_force: ArcSwapOption::from_pointee(configs),
            reading: Mutex::default(),
        });
        Self {
            authorities,
            name: None,
        }
    }

    /// The same authorities, for targets whose certificates have another name than the host that is called.
    ///
    /// # Errors
    /// When it is no name that a certificate could have.
    pub fn named(self, name: &str) -> Result<Self, TlsError> {
        let name = server_name(name).map_err(|_| TlsError::Name(name.to_owned()))?;
        Ok(Self {
            name: Some(name),
            ..self
        })
    }

    /// Reads the file again whenever it changes, for as long as it is polled. Connections that are open stay; a file that
    /// cannot be used is told in the log and changes nothing.
    pub async fn follow(self) {
        let authorities = &self.authorities;
        let mut file = DocumentFile::new(&authorities.path);
        loop {
            authorities.read_again();
            file.changed().await;
        }
    }

    /// What makes TLS of the next connection.
    pub(crate) fn connector(&self, http2: bool) -> io::Result<TlsConnector> {
        match &*self.authorities.read() {
            Ok(configs) => Ok(TlsConnector::from(Arc::clone(if http2 {
                &configs.any
            } else {
                &configs.http1
            }))),
            Err(error) => Err(io::Error::other(error.to_string())),
        }
    }

    /// The name that the certificate of `host` must have.
    pub(crate) fn server_name(&self, host: &str) -> io::Result<ServerName<'static>> {
        self.name.clone().map_or_else(|| server_name(host), Ok)
    }
}

impl Authorities {
    fn read(&self) -> Arc<Result<Configs, TlsError>> {
        if let Some(known) = self.in_force.load_full() {
            return known;
        }
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        // Another connection may have been the first.
        self.in_force.load_full().unwrap_or_else(|| {
            let read = Arc::new(Configs::believing(&self.path));
            // What could not be read may be readable for the next one.
            if read.is_ok() {
                self.in_force.store(Some(Arc::clone(&read)));
            }
            read
        })
    }

    /// Reads them again, where somebody has needed them: else whoever is the first reads them as they are then.
    fn read_again(&self) {
        let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = self.in_force.load_full() else {
            return;
        };
        match Configs::believing(&self.path) {
            Ok(configs) => self.in_force.store(Some(Arc::new(Ok(configs)))),
            Err(error) => {
                tracing::warn!(%error, "the certificates that are believed stay");
                if known.is_err() {
                    self.in_force.store(Some(Arc::new(Err(error))));
                }
            }
        }
    }
}

impl Configs {
    fn believing(path: &Path) -> Result<Self, TlsError> {
        let failed = |cause: String| TlsError::Bundle {
            path: path.to_owned(),
            cause,
        };
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
        // A bundle may hold some that are older than what is believed today.
        roots.add_parsable_certificates(certificates.filter_map(Result::ok));
        if roots.is_empty() {
            return Err(failed("there is none".to_owned()));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(TlsError::Use)?.with_root_certificates(roots);
        let config = builder.with_no_client_auth();
        let speaking = |protocols: &[&[u8]]| {
            let mut config = config.clone();
            config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
            Arc::new(config)
        };
        Ok(Self {
            http1: speaking(&[b"http/1.1"]),
            any: speaking(&[b"h2", b"http/1.1"]),
        })
    }
}

fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    ServerName::try_from(host.to_owned()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_of_the_system_are_read_when_somebody_needs_them() {
        let bundle = std::env::temp_dir().join(format!("valerix-authorities-{}.pem", std::process::id()));
        let tls = Tls::of(&bundle, None);
        tls.authorities.read_again();
        assert!(tls.authorities.in_force.load().is_none(), "nobody needs them");
        std::fs::write(&bundle, include_str!("../../gateway/tests/it/certificates/first.pem")).unwrap();
        assert!(tls.connector(false).is_ok());
        std::fs::write(&bundle, "none").unwrap();
        tls.authorities.read_again();
        assert!(tls.connector(false).is_ok(), "those in force stay");
        std::fs::remove_file(&bundle).unwrap();
        let none = Tls::of(&bundle, None);
        let error = none.connector(true).err().unwrap().to_string();
        assert!(error.contains("failed to read certificates of"), "{error}");
    }
}
