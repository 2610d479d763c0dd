//! TLS at the edge.

use std::net::SocketAddr;
use std::path::Path;

use axum::Router;
use axum::body::Bytes;
use axum::routing::any;
use http::{HeaderMap, Version};
use valerix_kit::testing::{TestServer, eventually};
use valerix_proxy::testing::{OTHER_BEGINNING, keeps_to_the_standard_of_http2};

use super::support::{Setup, serve};

/// Two pairs for `localhost`, each its own authority, for tests alone.
const PAIRS: [[&str; 2]; 2] = [
    [
        include_str!("certificates/first.pem"),
        include_str!("certificates/first.key.pem"),
    ],
    [
        include_str!("certificates/second.pem"),
        include_str!("certificates/second.key.pem"),
    ],
];

fn publish(folder: &Path, pair: [&str; 2]) {
    for (name, text) in ["tls.crt", "tls.key"].into_iter().zip(pair) {
        std::fs::write(folder.join("new"), text).unwrap();
        std::fs::rename(folder.join("new"), folder.join(name)).unwrap();
    }
}

/// A client that believes one of the pairs, with connections of its own.
async fn ask(address: SocketAddr, pair: usize) -> Option<reqwest::Response> {
    let authority = reqwest::Certificate::from_pem(PAIRS[pair][0].as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([authority]).build().unwrap();
    client
        .get(format!("https://localhost:{}/api/orders/1", address.port()))
        .send()
        .await
        .ok()
}

#[tokio::test]
async fn certificates_are_read_again_when_they_change_and_the_better_protocol_is_spoken_as_it_has_to_be() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Answers when it has the whole body.
    let proto =
        any(|headers: HeaderMap, _: Bytes| async move { headers["x-forwarded-proto"].to_str().unwrap().to_owned() });
    let address = serve(Router::new().fallback(proto)).await;
    let folder = tempfile::tempdir().unwrap();
    publish(folder.path(), PAIRS[0]);
    let setup = Setup::new().target("order", address).change(|config| {
        config.tls.tls_listen_address = "127.0.0.1:0".parse().unwrap();
        config.tls.tls_certificate_file = Some(folder.path().join("tls.crt"));
        config.tls.tls_key_file = Some(folder.path().join("tls.key"));
    });
    let server = setup.bind().await;
    let (plain, secure) = (server.address(), server.secure_address().unwrap());
    let gateway = TestServer::start(server).await;
    let answer = ask(secure, 0).await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    assert_eq!(answer.text().await.unwrap(), "https");
    assert_eq!(gateway.get("/api/orders/1").await.text, "http", "the plain port stays");
    assert!(ask(secure, 1).await.is_none());
    for (port, tls) in [(secure, true), (plain, false)] {
        keeps_to_the_standard_of_http2(port, tls, "/api/orders/1", &[OTHER_BEGINNING]).await;
    }
    // Twice, as what works once may still hold on to the first.
    for next in [1, 0] {
        publish(folder.path(), PAIRS[next]);
        eventually("the new certificate is shown", || ask(secure, next)).await;
        assert!(ask(secure, 1 - next).await.is_none());
    }
    publish(folder.path(), [PAIRS[1][0], "no key"]);
    eventually("the bad pair is told", || async {
        let deep = reqwest::get(format!("{}/health/deep", gateway.report))
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        deep.contains("tls.key").then_some(())
    })
    .await;
    assert!(ask(secure, 0).await.is_some(), "the good one stays");
}
