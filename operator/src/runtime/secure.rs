//! Connections by TLS, with the certificate of a folder as a Secret of type `kubernetes.io/tls` is mounted. It is looked
//! at again with each connection, so that a renewed one needs no restart; a pair that cannot be used is told, and the
//! one in force stays.

use super::listen::bind;
use rustls::{
    ServerConfig,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};
use std::{
    io,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::task::AbortOnDropHandle;

const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes at a time; who comes beyond them is turned away.
const HANDSHAKES: usize = 64;
/// Pause after a connection that could not be accepted: file descriptors may have run out.
const PAUSE: Duration = Duration::from_millis(200);

/// Where TLS is served, and by which certificate.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The address.
    pub address: SocketAddr,
    /// The folder with `tls.crt` and `tls.key`, in PEM.
    pub directory: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
enum CertificateError {
    #[error("failed to read {}: {source}; mount a Secret of type kubernetes.io/tls", .path.display())]
    Read { path: PathBuf, source: pem::Error },
    #[error("failed to use {CERTIFICATE} with {KEY}: {0}; they must belong together")]
    Use(#[source] rustls::Error),
}

/// What axum takes connections from: each has finished its handshake, and no slow one holds up another.
pub struct Listener {
    address: SocketAddr,
    connections: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    _accepting: AbortOnDropHandle<()>,
}

impl Listener {
    /// Listens from now on.
    ///
    /// # Errors
    /// If the address is taken, or there is no certificate that can be used.
    pub async fn bind(tls: &Tls) -> io::Result<Self> {
        let certificate = Certificate::read(&tls.directory).map_err(io::Error::other)?;
        let listener = bind(tls.address).await?;
        let address = listener.local_addr()?;
        let (sender, connections) = mpsc::channel(HANDSHAKES);
        let accepting = tokio::spawn(accept(listener, certificate, sender));
        Ok(Self {
            address,
            connections,
            _accepting: AbortOnDropHandle::new(accepting),
        })
    }
}

impl axum::serve::Listener for Listener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            // Accepting ends with this listener alone.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}

async fn accept(
    listener: TcpListener,
    mut certificate: Certificate,
    sender: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = handshakes.clone().try_acquire_owned() else {
            continue;
        };
        certificate.look_again();
        let (acceptor, sender) = (TlsAcceptor::from(certificate.in_force.clone()), sender.clone());
        tokio::spawn(async move {
            let shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
            drop(place);
            if let Ok(Ok(stream)) = shaken {
                // Nobody listens any more where it fails.
                let _ = sender.send((stream, peer)).await;
            }
        });
    }
}

/// Number of a file and when it was written: a clock alone is too coarse for two in a row.
type Version = (u64, SystemTime);

/// The pair in force.
struct Certificate {
    directory: PathBuf,
    /// Which files the pair was read from.
    files: [Option<Version>; 2],
    in_force: Arc<ServerConfig>,
}

impl Certificate {
    fn read(directory: &Path) -> Result<Self, CertificateError> {
        let files = versions(directory);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| CertificateError::Read { path, source }
        };
        let (chain, key) = (directory.join(CERTIFICATE), directory.join(KEY));
        let certificates = CertificateDer::pem_file_iter(&chain).map_err(failed(&chain))?;
        let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(failed(&chain))?;
        let key = PrivateKeyDer::from_pem_file(&key).map_err(failed(&key))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(CertificateError::Use)?.with_no_client_auth();
        let mut config = builder
            .with_single_cert(certificates, key)
            .map_err(CertificateError::Use)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            directory: directory.to_owned(),
            files,
            in_force: Arc::new(config),
        })
    }

    fn look_again(&mut self) {
        if versions(&self.directory) == self.files {
            return;
        }
        match Self::read(&self.directory) {
            Ok(certificate) => {
                tracing::info!("another certificate is in force");
                *self = certificate;
            }
            Err(error) => tracing::warn!(%error, "the certificate in force stays"),
        }
    }
}

fn versions(directory: &Path) -> [Option<Version>; 2] {
    [CERTIFICATE, KEY].map(|file| {
        let found = std::fs::metadata(directory.join(file)).ok()?;
        Some((found.ino(), found.modified().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, routing::get};

    /// Two pairs for `localhost`, each its own authority, for tests alone.
    const PAIRS: [[&str; 2]; 2] = [
        [
            include_str!("../../../services/gateway/tests/it/certificates/first.pem"),
            include_str!("../../../services/gateway/tests/it/certificates/first.key.pem"),
        ],
        [
            include_str!("../../../services/gateway/tests/it/certificates/second.pem"),
            include_str!("../../../services/gateway/tests/it/certificates/second.key.pem"),
        ],
    ];

    /// As a mounted Secret changes: both files at once, by a link.
    fn publish(folder: &Path, number: usize, pair: [&str; 2]) {
        let version = folder.join(format!("version-{number}"));
        std::fs::create_dir(&version).unwrap();
        for (name, text) in [CERTIFICATE, KEY].into_iter().zip(pair) {
            std::fs::write(version.join(name), text).unwrap();
        }
        std::os::unix::fs::symlink(&version, folder.join("new")).unwrap();
        std::fs::rename(folder.join("new"), folder.join("now")).unwrap();
    }

    /// Whether a client that believes one of the pairs is answered, over a connection of its own.
    async fn is_answered(address: SocketAddr, pair: usize) -> bool {
        let authority = reqwest::Certificate::from_pem(PAIRS[pair][0].as_bytes()).unwrap();
        let client = reqwest::Client::builder().tls_certs_only([authority]).build().unwrap();
        let asked = client.get(format!("https://localhost:{}/metrics", address.port()));
        asked.send().await.is_ok_and(|answer| answer.status().is_success())
    }

    #[tokio::test]
    async fn a_renewed_certificate_is_shown_and_a_bad_or_slow_one_disturbs_nobody() {
        // Another test may have been first.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let tls = Tls {
            address: "127.0.0.1:0".parse().unwrap(),
            directory: folder.path().join("now"),
        };
        let refused = Listener::bind(&tls).await.err().unwrap().to_string();
        assert!(
            refused.contains("tls.crt") && refused.contains("kubernetes.io/tls"),
            "{refused}"
        );
        publish(folder.path(), 0, [PAIRS[0][0], PAIRS[1][1]]);
        let refused = Listener::bind(&tls).await.err().unwrap().to_string();
        assert!(refused.contains("must belong together"), "{refused}");

        publish(folder.path(), 1, PAIRS[0]);
        let listener = Listener::bind(&tls).await.unwrap();
        let address = axum::serve::Listener::local_addr(&listener).unwrap();
        let router = Router::new().route("/metrics", get(|| async { "ok" }));
        let _serving = AbortOnDropHandle::new(tokio::spawn(async move { axum::serve(listener, router).await }));
        // Who never says a word holds up nobody.
        let _silent = TcpStream::connect(address).await.unwrap();
        assert!(is_answered(address, 0).await);
        assert!(!is_answered(address, 1).await);
        publish(folder.path(), 2, PAIRS[1]);
        assert!(is_answered(address, 1).await && !is_answered(address, 0).await);
        publish(folder.path(), 3, [PAIRS[0][0], "no key"]);
        assert!(is_answered(address, 1).await, "the good pair stays");
        publish(folder.path(), 4, PAIRS[0]);
        assert!(is_answered(address, 0).await);
    }
}
