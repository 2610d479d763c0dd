//! Requests that two parsers could read in two ways, and floods, judged by a service that takes nothing but what is exactly
//! right.

use valerix_proxy::testing::{
    Hop, Recorder, floods_end_their_connection_and_no_other, heads_of_http2_are_read_in_one_way,
    no_request_hides_in_another,
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
