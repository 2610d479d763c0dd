//! What an order's customer can see of it: its history, and its moves while they happen.

use futures::StreamExt;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::shop::{Shop, Told};

/// A stream of an order's moves.
struct Stream {
    body: futures::stream::BoxStream<'static, reqwest::Result<axum::body::Bytes>>,
    text: String,
}

impl Stream {
    async fn open(shop: &Shop, order: Uuid, last: Option<&str>) -> Result<Self, u16> {
        let mut request = shop
            .http
            .get(format!("{}/api/orders/{order}/events", shop.url("order")));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = request.send().await.unwrap();
        if answer.status() != 200 {
            return Err(answer.status().as_u16());
        }
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let (body, text) = (answer.bytes_stream().boxed(), String::new());
        Ok(Self { body, text })
    }

    /// The next event's id and data. `None`: the stream has ended.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    event
                        .lines()
                        .find_map(|line| line.strip_prefix(name))
                        .map(str::to_owned)
                };
                let (id, data) = (field("id: "), field("data: "));
                self.text = rest.to_owned();
                if let (Some(id), Some(data)) = (id, data) {
                    return Some((id, serde_json::from_str(&data).unwrap()));
                }
                continue;
            }
            let bytes = self.body.next().await?.unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }
}

#[tokio::test]
async fn moves_are_seen_while_they_happen_and_none_is_missed_by_one_who_comes_back() {
    let mut shop = Shop::start(5, &[]).await;
    shop.kill("payment");
    let order = shop.place("ps5", 1).await.order();
    let mut stream = Stream::open(&shop, order, None).await.ok().unwrap();
    let mut seen = vec![stream.next().await.unwrap(), stream.next().await.unwrap()];
    assert_eq!(seen[1].1["state"], "RESERVED", "{seen:?}");
    assert_eq!(
        (&seen[1].1["status"], &seen[1].1["order_id"]),
        (&json!("QUEUED"), &json!(order))
    );
    // One goes away now, another stays.
    let mut back = Stream::open(&shop, order, Some(&seen[1].0)).await.ok().unwrap();
    shop.spawn("payment");
    shop.ready("payment").await;
    seen.push(stream.next().await.unwrap());
    assert_eq!(back.next().await.as_ref(), seen.last());
    let inputs: Vec<&str> = seen.iter().map(|(_, moved)| moved["input"].as_str().unwrap()).collect();
    assert_eq!(inputs, ["Placed", "Reserved", "Charged"]);
    assert_eq!(
        (stream.next().await, back.next().await),
        (None, None),
        "the order is at its end"
    );
    assert_eq!(Stream::open(&shop, order, Some(&seen[2].0)).await.err(), Some(204));
    assert_eq!(Stream::open(&shop, order, Some("x")).await.err(), Some(400));
    assert_eq!(Stream::open(&shop, Uuid::now_v7(), None).await.err(), Some(404));

    shop.undo(order, "refund").await;
    shop.reaches(order, "REFUNDED").await;
    let mut later = Stream::open(&shop, order, Some(&seen[2].0)).await.ok().unwrap();
    assert_eq!(later.next().await.unwrap().1["status"], "REFUNDING");
    assert_eq!(later.next().await.unwrap().1["status"], "REFUNDED");
    assert_eq!(later.next().await, None);
}

#[tokio::test]
async fn a_stream_ends_when_the_service_drains() {
    let mut shop = Shop::start(5, &[]).await;
    shop.kill("payment");
    let order = shop.place("ps5", 1).await.order();
    let mut stream = Stream::open(&shop, order, None).await.ok().unwrap();
    let first = stream.next().await;
    assert!(first.is_some());
    shop.signal("order", "-TERM");
    let rest = async { while stream.next().await.is_some() {} };
    // The service would cut it after half a minute.
    tokio::time::timeout(std::time::Duration::from_secs(15), rest)
        .await
        .expect("it ends by itself");
}

#[tokio::test]
async fn the_history_has_every_input_page_by_page() {
    let shop = Shop::start(5, &[]).await;
    let order = shop.place("ps5", 1).await.order();
    shop.adds_up(5).await;
    sqlx::query(
        "INSERT INTO order_history (order_id, input, from_state, to_state, verdict)
         SELECT $1, 'Reserved', 'CONFIRMED', 'CONFIRMED', 'ignored' FROM generate_series(1, 120)",
    )
    .bind(order)
    .execute(&shop.pool("order").await)
    .await
    .unwrap();
    let mut entries = vec![];
    let mut path = format!("/api/orders/{order}/history");
    loop {
        let page = shop.get("order", &path).await.body();
        entries.extend(page["history"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/api/orders/{order}/history?cursor={next}");
    }
    assert!(entries.len() > 120, "{}", entries.len());
    assert_eq!(
        (&entries[0]["input"], &entries[0]["to_state"]),
        (&json!("Reserved"), &json!("RESERVED"))
    );
    assert_eq!(entries[120]["verdict"], "ignored");
    let refused = shop
        .get("order", &format!("/api/orders/{order}/history?cursor=x"))
        .await;
    assert_eq!(
        (refused.status, &refused.body()["errors"][0]["field"]),
        (400, &json!("cursor"))
    );
}
