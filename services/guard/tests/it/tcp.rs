//! Connections whose bytes nobody looks into.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use valerix_policy::guard::Protocol;

use super::support::{PATIENCE, Setup, closed, echo, eventually, nobody, raw, say};

#[tokio::test]
async fn bytes_pass_both_ways_and_half_a_close_is_half_a_close() {
    let address = raw(|mut stream| async move {
        let mut asked = String::new();
        stream.read_to_string(&mut asked).await.unwrap();
        // The asker has closed its half, and still hears the answer.
        stream.write_all(format!("heard {asked}").as_bytes()).await.unwrap();
    })
    .await;
    let guard = Setup::new()
        .inbound("redis", Protocol::Tcp, address)
        .target("redis", Protocol::Tcp, &format!("tcp://{address}"))
        .start()
        .await;
    for mut client in [guard.connect().await, guard.connect_target().await] {
        client.write_all(b"PING\r\n").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(closed(&mut client).await, "heard PING\r\n");
    }
}

#[tokio::test]
async fn a_target_that_is_gone_opens_its_circuit_and_is_connected_to_no_more() {
    let address = nobody();
    let guard = Setup::new()
        .target("redis", Protocol::Tcp, &format!("tcp://{address}"))
        .of_target(|target| {
            target.circuit_breaker.consecutive_failures = Some(2);
            target.circuit_breaker.open_duration = "1m".parse().unwrap();
            target.retry.max_attempts = 1;
        })
        .start()
        .await;
    for _ in 0..2 {
        assert_eq!(closed(&mut guard.connect_target().await).await, "");
    }
    let report = guard.report().await;
    assert_eq!(report["circuitBreakers"][0]["state"], "Open", "{report}");
    // Now it is there, and nobody asks.
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    assert_eq!(closed(&mut guard.connect_target().await).await, "");
    let asked = tokio::time::timeout(std::time::Duration::from_millis(50), listener.accept()).await;
    assert!(asked.is_err(), "an open circuit lets a connection through");
}

#[tokio::test]
async fn a_connection_holds_its_place_until_it_ends() {
    let address = echo().await;
    let guard = Setup::new()
        .target("redis", Protocol::Tcp, &format!("tcp://{address}"))
        .of_target(|target| {
            target.bulkhead.max_concurrent = 1;
            target.bulkhead.max_wait = "0s".parse().unwrap();
        })
        .start()
        .await;
    let mut first = guard.connect_target().await;
    assert_eq!(say(&mut first, "one").await.unwrap(), "one");
    assert_eq!(
        closed(&mut guard.connect_target().await).await,
        "",
        "there is no second place"
    );
    assert_eq!(say(&mut first, "two").await.unwrap(), "two");
    drop(first);
    eventually("the place is free again", || async {
        let mut next = guard.connect_target().await;
        say(&mut next, "three").await.ok()
    })
    .await;
}

#[tokio::test]
async fn one_connection_too_many_waits_for_another_to_end() {
    let address = echo().await;
    let guard = Setup::new()
        .inbound("redis", Protocol::Tcp, address)
        .change(|config| config.service.max_connections = 1)
        .start()
        .await;
    let mut first = guard.connect().await;
    assert_eq!(say(&mut first, "one").await.unwrap(), "one");
    let mut second = guard.connect().await;
    second.write_all(b"two").await.unwrap();
    let mut heard = [0; 3];
    let waits = tokio::time::timeout(std::time::Duration::from_millis(100), second.read_exact(&mut heard)).await;
    assert!(waits.is_err(), "it was let in");
    drop(first);
    second.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"two");
}

/// Its queue of connections is full: the kernel drops what asks for one more, and says nothing.
#[tokio::test]
async fn an_application_that_takes_no_connection_keeps_nobody_waiting() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut held = Vec::new();
    while let Ok(waiting) = std::net::TcpStream::connect_timeout(&address, std::time::Duration::from_millis(200)) {
        held.push(waiting);
    }
    let guard = Setup::new().inbound("redis", Protocol::Tcp, address).start().await;
    let mut client = guard.connect().await;
    let mut heard = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, client.read_to_end(&mut heard)).await;
    assert!(ended.is_ok(), "it hears nothing");
}
