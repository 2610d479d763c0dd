//! TLS at the edge: certificates from files, read again when they change, and the authorities of those that clients have to
//! show, where they have to. What can not be used is told and changes nothing.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;
use valerix_kit::health::{Check, Gate};
use valerix_kit::server::{Handshake, Stream};
use valerix_kit::service::Service;
use valerix_resilience::DocumentFile;

use crate::config::TlsArgs;

/// What connections may speak, the better first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The certificates in force. Clones are one.
#[derive(Clone)]
pub struct Certificates {
    in_force: Arc<ArcSwapOption<ServerConfig>>,
    error: Arc<Mutex<Option<String>>>,
}

/// The files.
#[derive(Clone)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
    /// Authorities of clients.
    clients: Option<PathBuf>,
}

/// Why the files can not be used.
#[derive(Debug, thiserror::Error)]
enum CertificateError {
    #[error("failed to read {}: {source}", .path.display())]
    Read { path: PathBuf, source: pem::Error },
    #[error("failed to use the certificate with its key: {0}")]
    Use(#[source] rustls::Error),
    #[error("failed to use the authorities of {}: {cause}", .path.display())]
    Clients { path: PathBuf, cause: String },
}

impl Certificates {
    /// The certificates of the files that are given, followed as long as the service runs; none where none are given.
    /// While there was no good pair yet the service is not ready.
    #[must_use]
    pub fn start(service: &Service, args: &TlsArgs) -> Option<Self> {
        let files = Files {
            certificate: args.tls_certificate_file.clone()?,
            key: args.tls_key_file.clone()?,
            clients: args.tls_client_authorities_file.clone(),
        };
        let certificates = Self {
            in_force: Arc::default(),
            error: Arc::default(),
        };
        service.health.register("certificates", Arc::new(certificates.clone()));
        let gate = service.health.gate("certificates");
        let followed = certificates.clone();
        service.tasks.spawn_droppable("certificates", move || {
            followed.clone().follow(files.clone(), gate.clone())
        });
        Some(certificates)
    }

    /// Makes TLS of connections, with the certificates that are in force when they come.
    #[must_use]
    pub fn handshake(&self) -> Handshake {
        let in_force = Arc::clone(&self.in_force);
        Arc::new(move |stream| {
            let config = in_force.load_full();
            Box::pin(async move {
                let config = config.ok_or_else(|| std::io::Error::other("there is no certificate yet"))?;
                let stream = TlsAcceptor::from(config).accept(stream).await?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            })
        })
    }

    async fn follow(self, files: Files, gate: Gate) {
        let (mut certificate, mut key) = (DocumentFile::new(&files.certificate), DocumentFile::new(&files.key));
        let mut clients = files.clients.as_deref().map(DocumentFile::new);
        loop {
            let error = match read(&files) {
                Ok(config) => {
                    self.in_force.store(Some(Arc::new(config)));
                    gate.open();
                    None
                }
                Err(error) => {
                    tracing::warn!(%error, "the certificates in force stay");
                    Some(error.to_string())
                }
            };
            *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
            // All, as they need not lie in one folder.
            tokio::select! {
                () = certificate.changed() => {}
                () = key.changed() => {}
                () = changed(clients.as_mut()) => {}
            }
        }
    }
}

/// Returns once the file is another; never where there is none.
async fn changed(file: Option<&mut DocumentFile>) {
    match file {
        Some(file) => file.changed().await,
        None => std::future::pending().await,
    }
}

fn read(files: &Files) -> Result<ServerConfig, CertificateError> {
    let Files {
        certificate,
        key,
        clients,
    } = files;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| CertificateError::Read { path, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate).map_err(failed(certificate))?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(failed(certificate))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(failed(key))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let builder = builder.map_err(CertificateError::Use)?;
    let builder = match clients {
        Some(path) => builder.with_client_cert_verifier(believing(path, provider)?),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(CertificateError::Use)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(config)
}

/// What asks clients for a certificate that one of the authorities of a file has signed.
fn believing(path: &Path, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, CertificateError> {
    let failed = |cause: &dyn std::fmt::Display| CertificateError::Clients {
        path: path.to_owned(),
        cause: cause.to_string(),
    };
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_file_iter(path).map_err(|error| failed(&error))? {
        let authority = authority.map_err(|error| failed(&error))?;
        roots.add(authority).map_err(|error| failed(&error))?;
    }
    // Without any of them nobody can be believed, which is an error of its own.
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.map_err(|error| failed(&error))
}

#[async_trait]
impl Check for Certificates {
    async fn check(&self) -> Result<(), String> {
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        error.map_or(Ok(()), Err)
    }
}
