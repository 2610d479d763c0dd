//! Targets of `https`: the gateway makes the TLS.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::routing::any;
use http::header::CONNECTION;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use valerix_kit::server::{Stream, serve_secured};
use valerix_kit::testing::{eventually, service_args};

use super::edge::ask;
use super::support::{Gateway, Setup};
use super::tls::PAIRS;

/// One whose time was a day of the year 2020.
const EXPIRED: [&str; 2] = [
    include_str!("../../../guard/tests/it/certificates/expired.pem"),
    include_str!("../../../guard/tests/it/certificates/expired.key.pem"),
];

/// A service with the certificate of this pair, each of whose connections is for one request.
async fn secured([certificate, key]: [&str; 2]) -> SocketAddr {
    let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_secured(
        listener,
        Arc::new(move |stream| {
            let acceptor = acceptor.clone();
            Box::pin(async move { Ok(Box::new(acceptor.accept(stream).await?) as Box<dyn Stream>) })
        }),
        Router::new().fallback(any(|| async { ([(CONNECTION, "close")], r#"{"said": "well"}"#) })),
        service_args("bank").limits(),
        CancellationToken::new(),
    ));
    address
}

/// A gateway whose one target is at `address`, by `https`, and believed as `tls` says.
async fn before(address: SocketAddr, tls: Value) -> Gateway {
    let target = json!({"name": "bank", "url": format!("https://{address}"), "tls": tls});
    let route = json!({"name": "bank", "match": {"pathPrefix": "/bank"}, "target": "bank"});
    let part = json!({"name": "bank", "target": "bank", "path": "/"});
    let document = json!({"version": 1, "targets": [target], "routes": [route], "dashboard": {"parts": [part]}});
    Setup::new()
        .target_policy("order", |target| {
            "bank".clone_into(&mut target.name);
            target.retry.max_attempts = 1;
            target.circuit_breaker.consecutive_failures = Some(2);
            target.circuit_breaker.open_duration = "1s".parse().unwrap();
        })
        .document(&document)
        .start()
        .await
}

fn publish(folder: &Path, text: &str) -> String {
    let bundle = folder.join("bundle.pem");
    std::fs::write(folder.join("new"), text).unwrap();
    std::fs::rename(folder.join("new"), &bundle).unwrap();
    bundle.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_target_is_called_by_tls_and_the_authorities_of_its_file_are_believed_as_it_changes() {
    let address = secured(PAIRS[0]).await;
    let folder = tempfile::tempdir().unwrap();
    let bundle = publish(folder.path(), PAIRS[1][0]);
    let gateway = before(address, json!({"caBundle": bundle, "serverName": "localhost"}))
        .await
        .server;
    let status = async || {
        let answer = ask(&gateway, "/bank", &[]).await;
        let problem = (answer.status != 200).then(|| answer.problem());
        (answer.status, problem.unwrap_or_default())
    };
    for _ in 0..2 {
        assert_eq!(status().await, (502, "unreachable".to_owned()), "another authority");
    }
    assert_eq!(
        status().await,
        (503, "circuit-open".to_owned()),
        "the breaker counts it"
    );
    publish(folder.path(), &[PAIRS[1][0], PAIRS[0][0]].concat());
    eventually("it is believed", || async { (status().await.0 == 200).then_some(()) }).await;
    let dashboard = ask(&gateway, "/api/dashboard", &[]).await.body();
    assert_eq!(dashboard["parts"]["bank"]["said"], "well", "{dashboard}");
    publish(folder.path(), PAIRS[1][0]);
    eventually("it is believed no more", || async {
        (status().await.0 == 502).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_shows_another_name_or_an_old_certificate_is_told_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = publish(folder.path(), &[PAIRS[0][0], EXPIRED[0]].concat());
    for (pair, tls) in [
        (PAIRS[0], json!({"caBundle": bundle, "serverName": "bank.example"})),
        (PAIRS[1], json!({"caBundle": bundle})),
        (PAIRS[0], json!({"serverName": "localhost"})),
        (EXPIRED, json!({"caBundle": bundle, "serverName": "localhost"})),
        (
            PAIRS[0],
            json!({"caBundle": "/nowhere/ca.crt", "serverName": "localhost"}),
        ),
    ] {
        let gateway = before(secured(pair).await, tls.clone()).await.server;
        let answer = ask(&gateway, "/bank", &[]).await;
        assert_eq!(
            (answer.status, answer.problem().as_str()),
            (502, "unreachable"),
            "{tls}: {answer:?}"
        );
    }
}
