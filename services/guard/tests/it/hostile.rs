//! Peers that mean harm, at every listener of the guard: what they send is refused or passed on in one reading only.

use std::time::Duration;

use valerix_policy::guard::{Protocol, UnknownHosts};
use valerix_proxy::testing::{
    Hop, OTHER_BEGINNING, Recorder, floods_end_their_connection_and_no_other, heads_of_http2_are_read_in_one_way,
    keeps_to_the_standard_of_http2, no_request_hides_in_another, slow_clients_are_let_go_of,
    who_waits_to_send_is_told_to,
};

use super::support::{Running, Setup, closed};

async fn in_front_of(recorder: &Recorder) -> Running {
    Setup::new()
        .inbound("http", Protocol::Http, recorder.address)
        .target("stock", Protocol::Http, &format!("http://{}", recorder.address))
        .of_target(|target| target.circuit_breaker.consecutive_failures = Some(1_000))
        .forward_proxy(UnknownHosts::Forward)
        .start()
        .await
}

#[tokio::test]
async fn no_request_hides_in_another_on_its_way_to_the_application() {
    let recorder = Recorder::start().await;
    let guard = in_front_of(&recorder).await;
    no_request_hides_in_another(Hop::Guard, guard.inbound["http"], &recorder).await;
}

#[tokio::test]
async fn no_request_hides_in_another_on_its_way_to_a_target() {
    let recorder = Recorder::start().await;
    let guard = in_front_of(&recorder).await;
    no_request_hides_in_another(Hop::Guard, guard.targets["stock"], &recorder).await;
}

/// Who comes by HTTP/2 goes on by it.
#[tokio::test]
async fn heads_of_http2_become_one_request_or_none() {
    let recorder = Recorder::http2().await;
    let guard = in_front_of(&recorder).await;
    for place in [guard.inbound["http"], guard.targets["stock"]] {
        heads_of_http2_are_read_in_one_way(Hop::Guard, place, &recorder).await;
    }
}

#[tokio::test]
async fn every_listener_keeps_to_the_standard_of_http2() {
    let recorder = Recorder::http2().await;
    let guard = in_front_of(&recorder).await;
    for place in [guard.inbound["http"], guard.targets["stock"]] {
        keeps_to_the_standard_of_http2(place, false, "/", &[OTHER_BEGINNING]).await;
    }
}

#[tokio::test]
async fn a_flood_ends_its_connection_and_no_other() {
    let recorder = Recorder::start().await;
    let guard = in_front_of(&recorder).await;
    floods_end_their_connection_and_no_other(guard.inbound["http"]).await;
}

#[tokio::test]
async fn slow_clients_are_let_go_of_while_others_are_served() {
    let recorder = Recorder::start().await;
    let patience = Duration::from_millis(500);
    let guard = Setup::new()
        .inbound("http", Protocol::Http, recorder.address)
        .change(|config| {
            config.service.header_read_timeout = patience;
            config.service.body_read_timeout = patience;
        })
        .start()
        .await;
    slow_clients_are_let_go_of(guard.inbound["http"], patience).await;
}

#[tokio::test]
async fn who_waits_to_send_a_body_is_told_to() {
    let recorder = Recorder::start().await;
    let guard = in_front_of(&recorder).await;
    for place in [guard.inbound["http"], guard.targets["stock"]] {
        who_waits_to_send_is_told_to(place, &recorder).await;
    }
}

#[tokio::test]
async fn the_forward_proxy_asks_whom_the_request_is_for_and_nobody_else() {
    let recorder = Recorder::start().await;
    let guard = in_front_of(&recorder).await;
    let at = recorder.address;
    let known = format!("GET http://{at}/a HTTP/1.1\r\nHost: other\r\n");
    let unknown = format!("GET http://localhost:{}/a HTTP/1.1\r\nHost: other\r\n", at.port());
    let encoded = format!("POST http://{at}/a HTTP/1.1\r\nHost: {at}\r\nTransfer-Encoding: gzip, chunked\r\n");
    let twice = format!(
        "GET http://localhost:{}/a HTTP/1.1\r\nHost: other\r\nHost: more\r\n",
        at.port()
    );
    for (request, host) in [
        (known, Some(at.to_string())),
        (unknown, Some(format!("localhost:{}", at.port()))),
        (encoded, None),
        (twice, None),
    ] {
        recorder.forget();
        let mut client = tokio::net::TcpStream::connect(guard.proxy.unwrap()).await.unwrap();
        let text = format!("{request}Connection: close\r\n\r\n0\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut client, text.as_bytes())
            .await
            .unwrap();
        let answer = closed(&mut client).await;
        let seen = recorder.seen();
        match host {
            Some(host) => {
                assert!(answer.starts_with("HTTP/1.1 200"), "{request}: {answer}");
                let told = format!("host: {host}\r\n");
                assert!(seen.len() == 1 && seen[0].head.contains(&told), "{request}: {seen:?}");
            }
            None => {
                assert!(answer.starts_with("HTTP/1.1 400"), "{request}: {answer}");
                assert!(seen.is_empty(), "{request}: {seen:?}");
            }
        }
    }
}
