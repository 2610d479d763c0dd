//! Targets of `https`: the guard makes the TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::routing::any;
use bytes::Bytes;
use http::Version;
use http_body_util::{BodyExt, Full};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use valerix_kit::server::{Agreed, serve_secured};
use valerix_kit::testing::service_args;
use valerix_proxy::{Sending, SendingError, Speaks, Tls, Upstream};
use valerix_resilience::{CallError, Resilience};

use super::support::{PATIENCE, eventually};

/// Two pairs for `localhost`, each its own authority, for tests alone.
const PAIRS: [[&str; 2]; 2] = [
    [
        include_str!("../../../gateway/tests/it/certificates/first.pem"),
        include_str!("../../../gateway/tests/it/certificates/first.key.pem"),
    ],
    [
        include_str!("../../../gateway/tests/it/certificates/second.pem"),
        include_str!("../../../gateway/tests/it/certificates/second.key.pem"),
    ],
];

/// A service that says by what it was asked.
async fn secured() -> SocketAddr {
    let chain = vec![CertificateDer::from_pem_slice(PAIRS[0][0].as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(PAIRS[0][1].as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let told = any(|request: Request| async move {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        format!("{:?} {}", parts.version, String::from_utf8_lossy(&body))
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_secured(
        listener,
        Arc::new(move |stream| {
            let acceptor = acceptor.clone();
            Box::pin(async move {
                let stream = Box::new(acceptor.accept(stream).await?);
                Ok(Agreed { stream, http2: false })
            })
        }),
        Router::new().fallback(told),
        service_args("bank").limits(),
        CancellationToken::new(),
    ));
    address
}

/// A call by `version`, of who believes the authority of `pair`.
async fn call(address: SocketAddr, pair: usize, version: Version) -> Result<String, SendingError> {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle.pem");
    std::fs::write(&bundle, PAIRS[pair][0]).unwrap();
    call_with(&Tls::believing(&bundle).unwrap(), address, version).await
}

/// A call on a connection of its own.
async fn call_with(tls: &Tls, address: SocketAddr, version: Version) -> Result<String, SendingError> {
    let resilience = Resilience::builder().start().await.unwrap();
    let url = format!("https://localhost:{}", address.port()).parse().unwrap();
    let bank = Upstream::speaking(&resilience, "bank", &url, Speaks::AsAsked, Some(tls)).unwrap();
    let mut request = http::Request::post("/charges")
        .body(Full::new(Bytes::from("one")))
        .unwrap();
    *request.version_mut() = version;
    let sending = Sending {
        max_body: 1024,
        idle: PATIENCE,
    };
    let answer = bank.send(request, sending).await?;
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    Ok(String::from_utf8_lossy(&body).into_owned())
}

#[tokio::test]
async fn a_target_is_called_by_what_the_application_speaks_and_tls_is_made_for_it() {
    let address = secured().await;
    assert_eq!(call(address, 0, Version::HTTP_11).await.unwrap(), "HTTP/1.1 one");
    assert_eq!(call(address, 0, Version::HTTP_2).await.unwrap(), "HTTP/2.0 one");
}

#[tokio::test]
async fn whoever_no_authority_vouches_for_is_told_nothing() {
    let error = call(secured().await, 1, Version::HTTP_11).await.unwrap_err();
    assert!(
        matches!(error, SendingError::Call(CallError::Connect { .. })),
        "{error:?}"
    );
}

#[tokio::test]
async fn authorities_are_believed_and_no_more_as_their_file_changes() {
    let address = secured().await;
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle.pem");
    let publish = |text: &str| {
        std::fs::write(folder.path().join("new"), text).unwrap();
        std::fs::rename(folder.path().join("new"), &bundle).unwrap();
    };
    publish(PAIRS[1][0]);
    let tls = Tls::believing(&bundle).unwrap();
    let following = tokio::spawn(tls.clone().follow());
    let works = || async { call_with(&tls, address, Version::HTTP_11).await.is_ok() };
    assert!(!works().await);
    // Twice, as what works once may still hold on to the first.
    for _ in 0..2 {
        publish(PAIRS[0][0]);
        eventually("the authority is believed", || async { works().await.then_some(()) }).await;
        publish("none");
        publish(PAIRS[1][0]);
        eventually("it is believed no more", || async { (!works().await).then_some(()) }).await;
    }
    publish(&[PAIRS[0][0], PAIRS[1][0]].concat());
    eventually("both are believed", || async { works().await.then_some(()) }).await;
    following.abort();
}

#[test]
fn a_bundle_without_certificates_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle.pem");
    assert!(Tls::believing(&bundle).is_err());
    std::fs::write(&bundle, "none").unwrap();
    let error = Tls::believing(&bundle).err().unwrap().to_string();
    assert!(
        error.contains("bundle.pem") && error.contains("there is none"),
        "{error}"
    );
}
