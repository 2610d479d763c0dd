//! A server's certificate: checked by the question and by the dump alike, with the authority that the Secret brings.
//!
//! The certificates beside this file were made once with openssl: an authority whose key is thrown away, and a server
//! named `localhost` that it vouches for until the year 2126.

use crate::harness::{Database, Harness, SMALL};
use serde_json::json;
use std::sync::Arc;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

pub const AUTHORITY: &str = include_str!("certificates/authority.crt");
const CERTIFICATE: &str = include_str!("certificates/server.crt");
const KEY: &str = include_str!("certificates/server.key");

/// Speaks TLS as `localhost`.
pub fn acceptor() -> TlsAcceptor {
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(CERTIFICATE.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap(),
        )
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// Speaks TLS as PostgreSQL does, and passes on what is said to a server that does not.
async fn encrypted(server: String) -> u16 {
    let acceptor = acceptor();
    let listener = TcpListener::bind("localhost:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                let mut asked = [0; 8];
                client.read_exact(&mut asked).await.unwrap();
                client.write_all(b"S").await.unwrap();
                let Ok(mut client) = acceptor.accept(client).await else {
                    return;
                };
                let mut server = TcpStream::connect(server).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_checked_and_what_is_wrong_with_it_is_told_at_once() {
    let database = Database::new("orders", SMALL).await;
    let port = encrypted({
        let url = std::env::var("TEST_DATABASE_URL").unwrap();
        let server: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
        format!("{}:{}", server.get_host(), server.get_port())
    })
    .await;
    for (ssl_mode, host, authority, stored) in [
        ("require", "localhost", "", true),
        ("require", "localhost", AUTHORITY, true),
        ("verify-ca", "localhost", AUTHORITY, true),
        ("verify-ca", "127.0.0.1", AUTHORITY, true),
        ("verify-full", "localhost", AUTHORITY, true),
        ("verify-ca", "localhost", "", false),
        ("verify-full", "localhost", "", false),
        ("verify-full", "127.0.0.1", AUTHORITY, false),
    ] {
        let mut harness = Harness::new(&[("orders", &database.name)]).await;
        harness.spec["job"] = json!({"deadline": "60s"});
        harness.secret(0, "host", host);
        harness.secret(0, "port", &port.to_string());
        harness.secret(0, "sslmode", ssl_mode);
        harness.secret(0, "ca.crt", authority);
        let ended = harness.run("pod").await;
        if stored {
            assert_eq!(ended.code, Some(0), "{ssl_mode} {host}: {}", ended.log);
            harness.assert_agreement();
        } else {
            harness.assert_failed(
                &ended,
                20,
                "CertificateNotTrusted",
                &[
                    "databases[0] orders: the server's certificate is not trusted",
                    "key ca.crt",
                ],
            );
        }
    }
    database.drop().await;
}
