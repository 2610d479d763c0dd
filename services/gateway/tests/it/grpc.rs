//! gRPC at the edge.

use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use valerix_proxy::testing::{ECHO, calls_of_every_kind_pass, grpc_echo};

use super::support::Setup;

#[tokio::test]
async fn calls_of_every_kind_pass_and_refusals_are_statuses_of_grpc() {
    let url = format!("http://{}", grpc_echo().await);
    let gateway = Setup::new()
        .document(
            &json!({"version": 1, "targets": [{"name": "order", "url": url, "protocol": "H2C"}], "routes": [
            {"name": "echo", "match": {"pathPrefix": ECHO}, "target": "order"}]}),
        )
        .start()
        .await;
    calls_of_every_kind_pass(gateway.address).await;
    let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
    let request = http::Request::post(format!("http://{}/shop.Stock/Get", gateway.address))
        .header("content-type", "application/grpc")
        .body(Empty::<bytes::Bytes>::new())
        .unwrap();
    let answer = client.request(request).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["grpc-status"]),
        (200, &"12".parse().unwrap())
    );
    assert_eq!(answer.headers()["valerix-problem"], "not-found");
    assert!(answer.into_body().collect().await.unwrap().to_bytes().is_empty());
}
