//! Peers that mean harm: requests that two parsers could read in two ways, floods, slow clients; judged by a service that takes nothing but what is exactly
//! right.

use std::time::Duration;

use valerix_proxy::testing::{
    Hop, Recorder, floods_end_their_connection_and_no_other, heads_of_http2_are_read_in_one_way,
    no_request_hides_in_another, slow_clients_are_let_go_of, who_waits_to_send_is_told_to,
};

use super::support::{Gateway, Setup};

async fn in_front_of(recorder: &Recorder) -> Gateway {
    Setup::new().target("order", recorder.address).start().await
}

#[tokio::test]
async fn no_request_hides_in_another_one() {
    let recorder = Recorder::start().await;
    let gateway = in_front_of(&recorder).await;
    no_request_hides_in_another(Hop::Edge, gateway.address, &recorder).await;
    recorder.forget();
    let more = "POST /api/orders/a HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nContent-Length: 1048577\r\n\r\n";
    let answer = gateway.exchange(more.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(recorder.seen().is_empty());
}

#[tokio::test]
async fn heads_of_http2_become_one_request_or_none() {
    let recorder = Recorder::start().await;
    let gateway = in_front_of(&recorder).await;
    heads_of_http2_are_read_in_one_way(Hop::Edge, gateway.address, &recorder).await;
}

#[tokio::test]
async fn a_flood_ends_its_connection_and_no_other() {
    let recorder = Recorder::start().await;
    let gateway = in_front_of(&recorder).await;
    floods_end_their_connection_and_no_other(gateway.address).await;
}

#[tokio::test]
async fn slow_clients_are_let_go_of_while_others_are_served() {
    let recorder = Recorder::start().await;
    let patience = Duration::from_millis(500);
    let setup = Setup::new().target("order", recorder.address).change(|config| {
        config.service.header_read_timeout = patience;
        config.service.body_read_timeout = patience;
    });
    let gateway = setup.start().await;
    slow_clients_are_let_go_of(gateway.address, patience).await;
}

#[tokio::test]
async fn who_waits_to_send_a_body_is_told_to_unless_it_is_too_long() {
    let recorder = Recorder::start().await;
    let gateway = in_front_of(&recorder).await;
    who_waits_to_send_is_told_to(gateway.address, &recorder).await;
    recorder.forget();
    let more = "POST /api/orders/a HTTP/1.1\r\nHost: shop\r\nConnection: close\r\nExpect: 100-continue\r\n\
        Content-Length: 1048577\r\n\r\n";
    let answer = gateway.exchange(more.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 413"),
        "refused before it is sent: {answer}"
    );
    assert!(recorder.seen().is_empty());
}
