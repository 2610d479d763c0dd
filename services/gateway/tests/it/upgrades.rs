//! WebSockets are relayed, other protocols are not.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Setup, raw, read_head};

const HANDSHAKE: &str = "GET /api/orders/live HTTP/1.1\r\nHost: shop\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: WebSocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

#[tokio::test]
async fn a_websocket_is_relayed_both_ways_until_one_end_closes() {
    let address = raw(|mut stream| async move {
        let head = read_head(&mut stream).await;
        assert!(
            head.contains("upgrade: websocket\r\n") && head.contains("connection: upgrade\r\n"),
            "{head}"
        );
        assert!(
            head.contains("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
            "{head}"
        );
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nfirst";
        stream.write_all(answer).await.unwrap();
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.unwrap();
    })
    .await;
    let gateway = Setup::new().target("order", address).start().await;
    let mut client = gateway.connect().await;
    client.write_all(HANDSHAKE.as_bytes()).await.unwrap();
    let head = read_head(&mut client).await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    assert!(
        head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"),
        "{head}"
    );
    let mut said = [0; 5];
    client.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"first");
    let sent: Vec<u8> = (0..1_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
    let (mut read, mut write) = client.split();
    let sending = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut echoed = Vec::new();
    let (_, read) = tokio::join!(sending, read.read_to_end(&mut echoed));
    read.unwrap();
    assert!(echoed == sent, "{} bytes came back", echoed.len());
}

#[tokio::test]
async fn a_refused_handshake_is_an_answer_like_any_other() {
    let address = raw(|mut stream| async move {
        read_head(&mut stream).await;
        let answer = b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\nno";
        stream.write_all(answer).await.unwrap();
    })
    .await;
    let gateway = Setup::new().target("order", address).start().await;
    let answer = gateway
        .exchange(HANDSHAKE.replace("keep-alive", "close").as_bytes())
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 426") && answer.ends_with("\r\n\r\nno"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_change_of_protocol_that_nobody_asked_for_is_not_passed_on() {
    let address = raw(|mut stream| async move {
        let head = read_head(&mut stream).await;
        assert!(!head.contains("upgrade"), "{head}");
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
        stream.write_all(answer).await.unwrap();
    })
    .await;
    let gateway = Setup::new().target("order", address).start().await;
    let asked = HANDSHAKE.replace("WebSocket", "h2c").replace("keep-alive", "close");
    let answer = gateway.exchange(asked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
}

#[tokio::test]
async fn another_protocol_than_the_one_that_was_asked_for_is_not_passed_on() {
    let address = raw(|mut stream| async move {
        read_head(&mut stream).await;
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
        stream.write_all(answer).await.unwrap();
    })
    .await;
    let gateway = Setup::new().target("order", address).start().await;
    let answer = gateway
        .exchange(HANDSHAKE.replace("keep-alive", "close").as_bytes())
        .await;
    assert!(answer.starts_with("HTTP/1.1 502"), "{answer}");
}
