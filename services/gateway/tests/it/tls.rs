//! TLS at the edge.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::routing::any;
use futures::future::join_all;
use http::{HeaderMap, Version};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use valerix_kit::testing::{TestServer, eventually};
use valerix_proxy::testing::{OTHER_BEGINNING, keeps_to_the_standard_of_http2};

use super::support::{PATIENCE, Setup, read_head, serve};

/// Two pairs for `localhost`, each its own authority, for tests alone.
pub const PAIRS: [[&str; 2]; 2] = [
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

/// A gateway before an order at `address`, with what this folder holds.
fn secured(address: SocketAddr, folder: &Path) -> Setup {
    Setup::new().target("order", address).change(|config| {
        config.tls.tls_listen_address = "127.0.0.1:0".parse().unwrap();
        config.tls.tls_certificate_file = Some(folder.join("tls.crt"));
        config.tls.tls_key_file = Some(folder.join("tls.key"));
    })
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
    let server = secured(address, folder.path()).bind().await;
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

/// By connections that stay, and by one for each request.
#[tokio::test]
async fn no_request_fails_while_certificates_change() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let address = serve(Router::new().fallback(any(|| async { "well" }))).await;
    let folder = tempfile::tempdir().unwrap();
    publish(folder.path(), PAIRS[0]);
    let server = secured(address, folder.path()).bind().await;
    let secure = server.secure_address().unwrap();
    let _gateway = TestServer::start(server).await;
    let url = format!("https://localhost:{}/api/orders/1", secure.port());
    let changed = AtomicBool::new(false);
    let flow = |kept: usize| {
        let authorities = PAIRS.map(|pair| reqwest::Certificate::from_pem(pair[0].as_bytes()).unwrap());
        let client = reqwest::Client::builder().tls_certs_only(authorities);
        let client = client.pool_max_idle_per_host(kept).build().unwrap();
        let (url, changed) = (&url, &changed);
        async move {
            let mut asked = 0_u32;
            while !changed.load(Ordering::Relaxed) {
                let answer = client.get(url).send().await.unwrap();
                assert_eq!(
                    (answer.status().as_u16(), answer.text().await.unwrap()),
                    (200, "well".to_owned())
                );
                asked += 1;
            }
            asked
        }
    };
    let change = async {
        for next in [1, 0] {
            publish(folder.path(), PAIRS[next]);
            eventually("the new certificate is shown", || ask(secure, next)).await;
            assert!(ask(secure, 1 - next).await.is_none());
        }
        changed.store(true, Ordering::Relaxed);
    };
    let (asked, ()) = tokio::join!(join_all([0, 0, 1, 1].map(flow)), change);
    assert!(asked.iter().all(|asked| *asked > 1), "there was load: {asked:?}");
}

/// A connection of a client that believes the first pair, and that shows this one where it shows any.
async fn connect(address: SocketAddr, shown: Option<[&str; 2]>) -> std::io::Result<TlsStream<TcpStream>> {
    let certificate = |text: &str| CertificateDer::from_pem_slice(text.as_bytes()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate(PAIRS[0][0])).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.unwrap().with_root_certificates(roots);
    let config = match shown {
        Some([chain, key]) => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            builder.with_client_auth_cert(vec![certificate(chain)], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn where_authorities_of_clients_are_named_only_who_has_a_certificate_of_theirs_is_heard() {
    let address = serve(Router::new().fallback(any(|| async { "well" }))).await;
    let folder = tempfile::tempdir().unwrap();
    publish(folder.path(), PAIRS[0]);
    let clients = |text: &str| {
        std::fs::write(folder.path().join("new"), text).unwrap();
        std::fs::rename(folder.path().join("new"), folder.path().join("clients.pem")).unwrap();
    };
    clients(PAIRS[1][0]);
    let setup = Setup::new().target("order", address).change(|config| {
        config.tls.tls_listen_address = "127.0.0.1:0".parse().unwrap();
        config.tls.tls_certificate_file = Some(folder.path().join("tls.crt"));
        config.tls.tls_key_file = Some(folder.path().join("tls.key"));
        config.tls.tls_client_authorities_file = Some(folder.path().join("clients.pem"));
    });
    let server = setup.bind().await;
    let secure = server.secure_address().unwrap();
    let gateway = TestServer::start(server).await;
    let is_heard = async |shown: Option<[&str; 2]>| {
        // What a client shows is judged after it is connected.
        let Ok(mut stream) = connect(secure, shown).await else {
            return false;
        };
        let request = b"GET /api/orders/1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        let mut answer = String::new();
        let asked = stream.write_all(request).await.is_ok() && stream.read_to_string(&mut answer).await.is_ok();
        asked && answer.starts_with("HTTP/1.1 200")
    };
    assert!(is_heard(Some(PAIRS[1])).await);
    assert!(!is_heard(None).await, "who shows none");
    assert!(!is_heard(Some(PAIRS[0])).await, "of another authority");
    clients(PAIRS[0][0]);
    eventually("the other authority is believed", || async {
        (is_heard(Some(PAIRS[0])).await && !is_heard(Some(PAIRS[1])).await).then_some(())
    })
    .await;
    clients("none");
    eventually("what is no bundle is told", || async {
        let deep = reqwest::get(format!("{}/health/deep", gateway.report)).await.unwrap();
        deep.text().await.unwrap().contains("clients.pem").then_some(())
    })
    .await;
    assert!(is_heard(Some(PAIRS[0])).await, "the good one stays");
    assert_eq!(
        gateway.get("/api/orders/1").await.text,
        "well",
        "the plain port asks for none"
    );
}

/// A connection on which nothing is for a while gives up what it is served with, and keeps its session.
#[tokio::test]
async fn a_secured_connection_answers_on_after_a_while_and_is_closed_as_tls_has_it() {
    let address = serve(Router::new().fallback(any(|| async { "well" }))).await;
    let folder = tempfile::tempdir().unwrap();
    publish(folder.path(), PAIRS[0]);
    let setup = Setup::new().target("order", address).change(|config| {
        config.service.header_read_timeout = Duration::from_secs(3);
        config.tls.tls_listen_address = "127.0.0.1:0".parse().unwrap();
        config.tls.tls_certificate_file = Some(folder.path().join("tls.crt"));
        config.tls.tls_key_file = Some(folder.path().join("tls.key"));
    });
    let server = setup.bind().await;
    let secure = server.secure_address().unwrap();
    let _gateway = TestServer::start(server).await;
    let mut stream = connect(secure, None).await.unwrap();
    for _ in 0..3 {
        let request = b"GET /api/orders/1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).await.unwrap();
        assert!(read_head(&mut stream).await.starts_with("HTTP/1.1 200"));
        let mut body = [0; 4];
        stream.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"well");
        tokio::time::sleep(Duration::from_millis(400)).await;
    }
    // An end without a word would be an error.
    let ended = tokio::time::timeout(PATIENCE, stream.read(&mut [0])).await;
    assert_eq!(ended.expect("it is closed").unwrap(), 0);
}
