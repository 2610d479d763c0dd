//! One order is one trace: every span of every service hangs at the request that placed it, whether the order went by HTTP
//! or by events, and log lines name the trace.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;
use valerix_kit::testing::Answer;
use valerix_kit::testing::collector::{Collector, Exported};

use crate::shop::{SERVICES, Shop, Told};

const CLIENT: &str = "00f067aa0ba902b7";

async fn place(shop: &Shop, trace: &str) -> Answer {
    let request = shop.http.post(format!("{}/api/orders", shop.url("order")));
    let request = request
        .timeout(Duration::from_secs(10))
        .header("idempotency-key", Uuid::now_v7().to_string())
        .header("traceparent", format!("00-{trace}-{CLIENT}-01"))
        .json(&json!({"item_id": "ps5", "quantity": 1}));
    Answer::of(request).await
}

/// What keeps the spans from being one tree below the client's that has a span of each service.
fn gap(spans: &[Exported]) -> Option<String> {
    let known: HashSet<&str> = spans.iter().map(|span| span.span_id.as_str()).chain([CLIENT]).collect();
    if let Some(lost) = spans.iter().find(|span| !known.contains(span.parent.as_str())) {
        return Some(format!("{} of {} hangs at no span", lost.name, lost.service));
    }
    let seen: BTreeSet<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    let missing = SERVICES.into_iter().find(|service| !seen.contains(service));
    missing.map(|service| format!("there is no span of {service}"))
}

fn handled(spans: &[Exported], service: &str, name: &str) -> bool {
    spans.iter().any(|span| span.service == service && span.name == name)
}

#[tokio::test]
async fn an_order_is_one_tree_of_spans_also_where_it_is_sent_again() {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint();
    let settings: Vec<_> = SERVICES
        .into_iter()
        .flat_map(|service| {
            [
                (service, "OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
                (service, "OTEL_BSP_SCHEDULE_DELAY", "50"),
                (service, "LOG_FORMAT", "json"),
            ]
        })
        .collect();
    let mut shop = Shop::start(10, &settings).await;
    let whole = async |shop: &Shop, trace: &str, awaited: &[(&str, &str)]| {
        shop.until("the trace is whole", || async {
            let spans = collector.trace(trace);
            let all = awaited.iter().all(|(service, name)| handled(&spans, service, name));
            (all && gap(&spans).is_none()).then_some(())
        })
        .await;
    };

    let direct = Uuid::new_v4().simple().to_string();
    assert_eq!(place(&shop, &direct).await.status, 201);
    let commit = ("inventory", "process inventory.commands");
    whole(
        &shop,
        &direct,
        &[("order", "POST /api/orders"), ("order", "POST inventory"), commit],
    )
    .await;
    let spans = collector.trace(&direct);
    let charge = spans.iter().find(|span| span.name == "POST /payments").unwrap();
    assert_eq!(charge.attribute("http.response.status_code"), "201");
    assert_eq!(charge.attribute("http.route"), "/payments");
    let call = spans.iter().find(|span| span.span_id == charge.parent).unwrap();
    assert_eq!((&*call.service, &*call.name), ("order", "POST payment"));

    shop.kill("inventory");
    let queued = Uuid::new_v4().simple().to_string();
    let answer = place(&shop, &queued).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    shop.spawn("inventory");
    shop.reaches(answer.order(), "CONFIRMED").await;
    whole(&shop, &queued, &[commit, ("payment", "process payment.commands")]).await;

    for service in ["order", "inventory", "payment"] {
        let log = std::fs::read_to_string(shop.log(service)).unwrap();
        let named = format!("\"trace_id\":\"{direct}\"");
        assert!(log.lines().any(|line| line.contains(&named)), "{service}: {log}");
    }
}
