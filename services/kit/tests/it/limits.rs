//! Limits that all replicas share, in a service put together by the kit.

use axum::Router;
use axum::routing::get;
use tokio_util::sync::CancellationToken;
use valerix_kit::args::{BusArgs, ServiceArgs};
use valerix_kit::service::Service;
use valerix_kit::testing::{bus_args, eventually, service_args};

const POLICY: &str = r#"{"version": 1, "inbound": {"rateLimit": {"rules": [
    {"name": "things", "scope": "Distributed", "requests": 1000, "window": "1h"}]}}}"#;

#[tokio::test]
async fn shared_limits_are_kept_in_the_redis_of_the_bus() {
    let (args, bus) = (service_args("test"), bus_args());
    std::fs::create_dir_all(&args.policy_dir).unwrap();
    std::fs::write(args.policy_dir.join("policy.v1.json"), POLICY).unwrap();
    let service = Service::on_bus(&args, &bus).await.unwrap();
    let routes = Router::new().route("/things", get(|| async { "ok" }));
    let server = service.bind(routes).await.unwrap();
    let url = format!("http://{}/things", server.address());
    let stop = CancellationToken::new();
    let running = tokio::spawn(server.run(stop.clone()));
    let pattern = format!("{}limit:default/test:things:*", bus.redis_prefix);
    let keys = eventually("the limit is in Redis", || async {
        let answer = reqwest::get(&url).await.unwrap();
        assert_eq!(answer.headers()["ratelimit-policy"], "\"things\";q=1000;w=3600");
        let mut connection = valerix_kit::testing::redis().await;
        let keys: Vec<String> = redis::cmd("KEYS")
            .arg(&pattern)
            .query_async(&mut connection)
            .await
            .unwrap();
        (!keys.is_empty()).then_some(keys)
    })
    .await;
    assert_eq!(keys.len(), 1, "one limit without keys: {keys:?}");
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_bus_whose_url_can_not_be_used_keeps_no_service_from_its_work() {
    for url in ["redis://:a#b@redis/", "http://redis/", ""] {
        let bus = BusArgs {
            redis_url: url.to_owned().into(),
            ..bus_args()
        };
        answers(Service::on_bus(&service_args("test"), &bus).await.unwrap()).await;
    }
}

#[tokio::test]
async fn a_url_for_limits_that_can_not_be_used_keeps_no_service_from_its_work() {
    for url in ["redis://:a#b@redis/", "http://redis/", ""] {
        let args = ServiceArgs {
            redis_limits_url: Some(url.to_owned().into()),
            ..service_args("test")
        };
        // As the gateway, which has no bus, and as a service that has one.
        answers(Service::new(&args).await.unwrap()).await;
        answers(Service::on_bus(&args, &bus_args()).await.unwrap()).await;
    }
}

async fn answers(service: Service) {
    let routes = Router::new().route("/things", get(|| async { "ok" }));
    let server = service.bind(routes).await.unwrap();
    let things = format!("http://{}/things", server.address());
    let stop = CancellationToken::new();
    let running = tokio::spawn(server.run(stop.clone()));
    let answer = reqwest::get(&things).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "ok");
    stop.cancel();
    running.await.unwrap();
}
