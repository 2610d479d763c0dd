//! Whose an order is: a user's is that user's and the admins', a guest's is everybody's who knows its id.

use serde_json::{Value, json};
use uuid::Uuid;
use valerix_kit::testing::Answer;
use valerix_kit::testing::access::TestAuth;

use crate::shop::{Shop, Told};

/// A shop whose order service asks who calls.
struct Closed {
    shop: Shop,
    auth: TestAuth,
}

impl Closed {
    async fn start() -> Self {
        let (mut shop, auth) = (Shop::start(20, &[]).await, TestAuth::start().await);
        shop.set("order", "AUTH_URL", auth.url());
        shop.restart("order").await;
        Self { shop, auth }
    }

    async fn ask(&self, request: reqwest::RequestBuilder, caller: Option<&str>) -> Answer {
        Answer::of(
            caller
                .into_iter()
                .fold(request, |request, caller| request.header("authorization", caller)),
        )
        .await
    }

    async fn get(&self, path: &str, caller: Option<&str>) -> Answer {
        let url = format!("{}{path}", self.shop.url("order"));
        self.ask(self.shop.http.get(url), caller).await
    }

    async fn post(&self, path: &str, caller: Option<&str>) -> Answer {
        let url = format!("{}{path}", self.shop.url("order"));
        self.ask(self.shop.http.post(url), caller).await
    }

    async fn try_place(&self, key: &str, quantity: u32, caller: Option<&str>) -> Answer {
        let request = self.shop.http.post(format!("{}/api/orders", self.shop.url("order")));
        let request = request
            .header("idempotency-key", key)
            .json(&json!({"item_id": "ps5", "quantity": quantity}));
        self.ask(request, caller).await
    }

    async fn place(&self, key: &str, caller: Option<&str>) -> Uuid {
        let answer = self.try_place(key, 1, caller).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.order()
    }

    async fn listed(&self, caller: &str) -> Vec<Value> {
        let page = self.get("/api/orders", Some(caller)).await.body();
        page["orders"]
            .as_array()
            .unwrap()
            .iter()
            .map(|order| order["order_id"].clone())
            .collect()
    }
}

#[tokio::test]
async fn a_users_order_is_nobodys_business_but_theirs_and_the_admins() {
    let closed = Closed::start().await;
    let (id, user) = (Uuid::now_v7(), |id| closed.auth.bearer(id, &[]));
    let (owner, stranger) = (user(id), user(Uuid::now_v7()));
    let admin = closed.auth.bearer(Uuid::now_v7(), &["admin"]);
    // One key of two users is two keys.
    let own = closed.place("key", Some(&owner)).await;
    let others = closed.place("key", Some(&stranger)).await;
    let guests = closed.place("key", None).await;
    assert!(own != others && own != guests && others != guests);

    for path in ["", "/history", "/events"] {
        let status = async |order: Uuid, caller: Option<&str>| {
            let url = format!("{}/api/orders/{order}{path}", closed.shop.url("order"));
            let request = closed.shop.http.get(url);
            let request = caller
                .into_iter()
                .fold(request, |request, caller| request.header("authorization", caller));
            request.send().await.unwrap().status().as_u16()
        };
        for (caller, expected) in [
            (Some(&owner), 200),
            (Some(&admin), 200),
            (Some(&stranger), 404),
            (None, 404),
        ] {
            assert_eq!(
                status(own, caller.map(String::as_str)).await,
                expected,
                "{path} {caller:?}"
            );
        }
        for caller in [Some(&owner), Some(&admin), Some(&stranger), None] {
            assert_eq!(
                status(guests, caller.map(String::as_str)).await,
                200,
                "{path} {caller:?}"
            );
        }
    }
    assert_eq!(closed.listed(&owner).await, [json!(own)]);
    assert_eq!(closed.listed(&stranger).await, [json!(others)]);
    assert_eq!(closed.listed(&admin).await, Vec::<Value>::new());
    assert_eq!(closed.get("/api/orders", None).await.status, 401);
}

#[tokio::test]
async fn a_key_that_was_used_names_its_order_to_a_user_and_to_no_guest() {
    let closed = Closed::start().await;
    let owner = closed.auth.bearer(Uuid::now_v7(), &[]);
    let own = closed.place("order-1", Some(&owner)).await;
    let guests = closed.place("order-1", None).await;
    let refused = closed.try_place("order-1", 2, Some(&owner)).await;
    assert_eq!((refused.status, &refused.body()["resource"]), (422, &json!(own)));
    // Whoever knows a guest's order may cancel it, and two guests may well think of the same key.
    let refused = closed.try_place("order-1", 2, None).await;
    assert_eq!(refused.status, 422, "{refused:?}");
    assert!(!refused.text.contains(&guests.to_string()), "{refused:?}");
}

#[tokio::test]
async fn who_may_not_know_an_order_undoes_none_and_only_admins_refund() {
    let closed = Closed::start().await;
    let user = Uuid::now_v7();
    let (owner, stranger) = (closed.auth.bearer(user, &[]), closed.auth.bearer(Uuid::now_v7(), &[]));
    let admin = closed.auth.bearer(Uuid::now_v7(), &["admin"]);
    let order = closed.place("key", Some(&owner)).await;
    let (cancel, refund) = (
        format!("/api/orders/{order}/cancel"),
        format!("/api/orders/{order}/refund"),
    );
    for (path, caller, expected) in [
        (&cancel, Some(&stranger), 404),
        (&cancel, None, 404),
        (&cancel, Some(&owner), 409),
        (&refund, Some(&owner), 403),
        (&refund, None, 401),
        (&refund, Some(&admin), 202),
    ] {
        let answer = closed.post(path, caller.map(String::as_str)).await;
        assert_eq!(answer.status, expected, "{path} {answer:?}");
    }
    closed
        .shop
        .until("it is refunded", || async {
            let order = closed.get(&format!("/api/orders/{order}"), Some(&owner)).await.body();
            (order["status"] == "REFUNDED").then_some(())
        })
        .await;
    let said: Vec<(String, Value)> =
        sqlx::query_as("SELECT type, payload->'user_id' FROM outbox WHERE topic = 'order.events' ORDER BY version")
            .fetch_all(&closed.shop.pool("order").await)
            .await
            .unwrap();
    let expected = ["OrderCreated", "OrderConfirmed", "OrderRefunded"].map(|name| (name.to_owned(), json!(user)));
    assert_eq!(said, expected);
}
