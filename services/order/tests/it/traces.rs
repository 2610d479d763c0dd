//! One order is one trace: every span of every service hangs at the request that placed it, whether the order went by HTTP
//! or by events and whoever died meanwhile, and log lines name the trace.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use serde_json::json;
use uuid::Uuid;
use valerix_kit::testing::Answer;
use valerix_kit::testing::collector::{Collector, Exported};

use crate::shop::{AROUND, SERVICES, Shop, Told};

const CLIENT: &str = "00f067aa0ba902b7";
const RESERVING: (&str, &str) = ("inventory", "process inventory.commands");
const CHARGING: (&str, &str) = ("payment", "process payment.commands");
/// Whoever hears what became of an order, by way of order's outbox.
const TOLD: [(&str, &str); 2] = [
    ("notification", "process order.events"),
    ("analytics", "process order.events"),
];

async fn place(shop: &Shop, trace: &str) -> Answer {
    let request = shop.http.post(format!("{}/api/orders", shop.url("gateway")));
    let request = request
        .timeout(Duration::from_secs(10))
        .header("idempotency-key", Uuid::now_v7().to_string())
        .header("traceparent", format!("00-{trace}-{CLIENT}-01"))
        .json(&json!({"item_id": "ps5", "quantity": 1}));
    Answer::of(request).await
}

/// A shop with all that is around it, whose spans `collector` gets; `settings` are (service, variable, value).
async fn observed(collector: &Collector, settings: &[(&'static str, &str, &str)]) -> Shop {
    let mut shop = Shop::closed(10, settings).await;
    shop.surround().await;
    for service in SERVICES.into_iter().chain(AROUND) {
        shop.set(service, "OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint());
        shop.set(service, "OTEL_BSP_SCHEDULE_DELAY", "50");
        shop.set(service, "LOG_FORMAT", "json");
    }
    shop.open().await;
    shop
}

/// What keeps the spans from being one tree, whose root is the gateway's answer to the client, that has a span of each
/// service.
fn gap(spans: &[Exported]) -> Option<String> {
    let known: HashSet<&str> = spans.iter().map(|span| span.span_id.as_str()).chain([CLIENT]).collect();
    if let Some(lost) = spans.iter().find(|span| !known.contains(span.parent.as_str())) {
        return Some(format!("{} of {} hangs at no span", lost.name, lost.service));
    }
    let mut roots = spans.iter().filter(|span| span.parent == CLIENT);
    let root = roots.next().map(|span| span.service.as_str());
    if root != Some("gateway") || roots.next().is_some() {
        return Some(format!("the client's span leads to {root:?} and others"));
    }
    let seen: BTreeSet<&str> = spans.iter().map(|span| span.service.as_str()).collect();
    let missing = SERVICES
        .into_iter()
        .chain(AROUND)
        .find(|service| !seen.contains(service));
    missing.map(|service| format!("there is no span of {service}"))
}

fn handled(spans: &[Exported], (service, name): (&str, &str)) -> bool {
    spans.iter().any(|span| span.service == service && span.name == name)
}

/// The trace, once it is one tree with these spans in it.
async fn whole(shop: &Shop, collector: &Collector, trace: &str, awaited: &[(&str, &str)]) -> Vec<Exported> {
    let awaited = || awaited.iter().chain(&TOLD);
    shop.until("the trace is whole", || async {
        let spans = collector.trace(trace);
        (awaited().all(|span| handled(&spans, *span)) && gap(&spans).is_none()).then_some(spans)
    })
    .await
}

/// The span at which `span` hangs.
fn above<'a>(spans: &'a [Exported], span: &Exported) -> &'a Exported {
    spans.iter().find(|above| above.span_id == span.parent).unwrap()
}

/// The services from `span` up to the client, each once in a row.
fn way<'a>(spans: &'a [Exported], span: &'a Exported) -> Vec<&'a str> {
    let mut way = vec![span.service.as_str()];
    let mut at = span;
    while at.parent != CLIENT {
        at = above(spans, at);
        way.push(&at.service);
    }
    way.dedup();
    way
}

#[tokio::test]
async fn an_order_is_one_tree_of_spans_also_where_it_is_sent_again() {
    let collector = Collector::start().await;
    let mut shop = observed(&collector, &[]).await;

    let direct = Uuid::new_v4().simple().to_string();
    assert_eq!(place(&shop, &direct).await.status, 201);
    let awaited = [("order", "POST /api/orders"), ("order", "POST inventory"), RESERVING];
    let spans = whole(&shop, &collector, &direct, &awaited).await;
    let named = |name: &str| spans.iter().find(|span| span.name == name).unwrap();
    let charge = named("POST /payments");
    assert_eq!(charge.attribute("http.response.status_code"), "201");
    assert_eq!(charge.attribute("http.route"), "/payments");
    let call = above(&spans, charge);
    assert_eq!((&*call.service, &*call.name), ("order", "POST payment"));
    assert_eq!(
        way(&spans, named("POST /charges")),
        ["processor", "payment", "order", "gateway"]
    );
    for told in spans.iter().filter(|span| span.name == "process order.events") {
        // By whichever of order's spans was the first to bring the order so far.
        let way = way(&spans, told);
        assert_eq!((way[1], way.last()), ("order", Some(&"gateway")), "{way:?}");
    }

    shop.kill("inventory");
    let queued = Uuid::new_v4().simple().to_string();
    let answer = place(&shop, &queued).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    shop.spawn("inventory");
    shop.reaches(answer.order(), "CONFIRMED").await;
    whole(&shop, &collector, &queued, &[RESERVING, CHARGING]).await;

    for service in ["gateway", "order", "inventory", "payment"] {
        let log = std::fs::read_to_string(shop.log(service)).unwrap();
        let named = format!("\"trace_id\":\"{direct}\"");
        assert!(log.lines().any(|line| line.contains(&named)), "{service}: {log}");
    }
}

#[tokio::test]
async fn an_order_that_is_sent_again_after_its_service_died_is_still_one_tree_of_spans() {
    let collector = Collector::start().await;
    // The first process sends what it must at once, and does not live until it would send it again.
    let settings = [("order", "SWEEP_INTERVAL", "1h"), ("order", "COMMAND_RESEND", "500ms")];
    let mut shop = observed(&collector, &settings).await;
    shop.kill("inventory");
    let trace = Uuid::new_v4().simple().to_string();
    let answer = place(&shop, &trace).await;
    assert_eq!(
        (answer.status, &answer.body()["status"]),
        (202, &json!("QUEUED")),
        "{answer:?}"
    );
    // What a process has not exported dies with it.
    let told = [("gateway", "POST orders"), ("order", "POST /api/orders")];
    shop.until("the answer is exported", || async {
        let spans = collector.trace(&trace);
        told.into_iter().all(|span| handled(&spans, span)).then_some(())
    })
    .await;
    let order = shop.pool("order").await;
    let sent = async || {
        let sent = "SELECT event_id::text FROM outbox WHERE type = 'ReserveStock' ORDER BY version";
        sqlx::query_scalar::<_, String>(sent).fetch_all(&order).await.unwrap()
    };
    assert_eq!(sent().await.len(), 1);

    shop.set("order", "SWEEP_INTERVAL", "100ms");
    shop.restart("order").await;
    let again = shop
        .until("it is sent again", async || sent().await.get(1).cloned())
        .await;
    shop.spawn("inventory");
    shop.reaches(answer.order(), "CONFIRMED").await;
    let replies = [
        ("order", "process inventory.events"),
        ("order", "process payment.events"),
    ];
    let is_again = |span: &&Exported| span.attribute("messaging.message.id") == again;
    shop.until("what was sent again is handled", async || {
        collector.trace(&trace).iter().find(is_again).map(drop)
    })
    .await;
    let awaited = [RESERVING, CHARGING, replies[0], replies[1]];
    let spans = whole(&shop, &collector, &trace, &awaited).await;
    let handled = spans.iter().find(is_again).unwrap();
    assert_eq!((&*handled.service, &*handled.name), RESERVING);
    assert_eq!(way(&spans, handled), ["inventory", "order", "gateway"]);
    assert_eq!(above(&spans, handled).name, "POST /api/orders");
}
