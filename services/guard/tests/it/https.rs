//! Targets of `https`: the guard makes the TLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::Request;
use axum::routing::any;
use bytes::Bytes;
use futures::StreamExt;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, Version};
use http_body_util::{BodyExt, Full};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use valerix_kit::server::{Stream, serve_secured};
use valerix_kit::testing::service_args;
use valerix_policy::guard::Protocol;
use valerix_proxy::{Sending, SendingError, Speaks, Tls, Upstream};
use valerix_resilience::{CallError, Resilience};

use super::support::{PATIENCE, Setup, eventually};

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

/// One whose time was a day of the year 2020.
const EXPIRED: [&str; 2] = [
    include_str!("certificates/expired.pem"),
    include_str!("certificates/expired.key.pem"),
];

/// A service that says by what it was asked.
async fn secured() -> SocketAddr {
    showing(Arc::default()).await
}

/// The same, with the certificate of the pair whose number this is; the third is the one that has expired.
async fn showing(pair: Arc<AtomicUsize>) -> SocketAddr {
    let acceptors = [PAIRS[0], PAIRS[1], EXPIRED].map(acceptor);
    let told = any(|request: Request| async move {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        // Where it can be, each connection is for one request, so that each request sees what is believed now.
        let close = (parts.version == Version::HTTP_11).then_some((CONNECTION, HeaderValue::from_static("close")));
        let text = format!("{:?} {}", parts.version, String::from_utf8_lossy(&body));
        (HeaderMap::from_iter(close), text)
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_secured(
        listener,
        Arc::new(move |stream| {
            let acceptor = acceptors[pair.load(Ordering::SeqCst)].clone();
            Box::pin(async move { Ok(Box::new(acceptor.accept(stream).await?) as Box<dyn Stream>) })
        }),
        Router::new().fallback(told),
        service_args("bank").limits(),
        CancellationToken::new(),
    ));
    address
}

fn acceptor([certificate, key]: [&str; 2]) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = builder
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
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

/// A ConfigMap that is there later than the pod, and a certificate that another authority signs while requests flow.
#[tokio::test]
async fn authorities_of_a_target_may_come_late_and_follow_its_certificates_without_a_failed_request() {
    let shown = Arc::new(AtomicUsize::new(0));
    let address = showing(Arc::clone(&shown)).await;
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bank.pem");
    let publish = |text: &str| {
        std::fs::write(folder.path().join("new"), text).unwrap();
        std::fs::rename(folder.path().join("new"), &bundle).unwrap();
    };
    let guard = Setup::new()
        .target("bank", Protocol::Http, &format!("https://{address}"))
        .of_listener(|listener| {
            listener.authorities = Some(bundle.to_str().unwrap().to_owned());
            listener.server_name = Some("localhost".to_owned());
        })
        .of_target(|target| {
            target.retry.max_attempts = 1;
            target.circuit_breaker.consecutive_failures = Some(2);
            target.circuit_breaker.open_duration = "1s".parse().unwrap();
        })
        .start()
        .await;
    let client = reqwest::Client::new();
    let ask = || async {
        let answer = client.get(format!("{}/charges", guard.target())).send().await.unwrap();
        (
            answer.status().as_u16(),
            answer.headers().get("valerix-problem").cloned(),
        )
    };
    let state = || async { guard.report().await["circuitBreakers"][0]["state"].clone() };
    for _ in 0..2 {
        let (status, problem) = ask().await;
        assert_eq!((status, problem.unwrap().to_str().unwrap()), (502, "unreachable"));
    }
    assert_eq!(state().await, "Open", "the breaker counts it");
    publish(&[PAIRS[0][0], PAIRS[1][0]].concat());
    eventually("the authorities are believed, and the circuit is closed", || async {
        (ask().await.0 == 200 && state().await == "Closed").then_some(())
    })
    .await;
    for next in [1, 0] {
        // Eight at a time, so that some are under way when the certificate changes.
        let flow = futures::stream::iter(0..80).for_each_concurrent(8, |number| {
            let (ask, shown) = (&ask, &shown);
            async move {
                if number == 40 {
                    shown.store(next, Ordering::SeqCst);
                }
                assert_eq!(ask().await.0, 200, "request {number}");
            }
        });
        flow.await;
    }
    publish(PAIRS[1][0]);
    eventually("it is believed no more", || async {
        (ask().await.0 == 502).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_has_expired_is_named_as_the_cause() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("bundle.pem");
    std::fs::write(&bundle, EXPIRED[0]).unwrap();
    let address = showing(Arc::new(AtomicUsize::new(2))).await;
    let error = call_with(&Tls::believing(&bundle).unwrap(), address, Version::HTTP_11)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("expired"), "{error}");
}
