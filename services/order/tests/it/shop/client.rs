//! What clients ask of the shop, and what they are told.

use serde_json::{Value, json};
use uuid::Uuid;
use valerix_kit::testing::Answer;

use super::Shop;

/// What a client is told about an order.
pub trait Told {
    /// The order's id.
    fn order(&self) -> Uuid;
}

impl Told for Answer {
    fn order(&self) -> Uuid {
        let body = self.body();
        let id = body["order_id"].as_str().and_then(|id| id.parse().ok());
        id.unwrap_or_else(|| panic!("no order: {self:?}"))
    }
}

impl Shop {
    /// One POST.
    pub async fn try_place(&self, key: &str, body: &Value) -> Result<Answer, reqwest::Error> {
        self.try_place_at("order", key, body).await
    }

    /// One POST to a replica.
    pub async fn try_place_at(&self, replica: &str, key: &str, body: &Value) -> Result<Answer, reqwest::Error> {
        let request = self.http.post(format!("{}/api/orders", self.url(replica)));
        self.answer(request.header("idempotency-key", key).json(body)).await
    }

    /// As a caller that gives up after `milliseconds`.
    pub async fn place_within(&self, milliseconds: u64) -> Answer {
        let request = self.http.post(format!("{}/api/orders", self.url("order")));
        let request = request
            .header("idempotency-key", Uuid::now_v7().to_string())
            .header("valerix-timeout-ms", milliseconds)
            .json(&json!({"item_id": "ps5", "quantity": 1}));
        self.answer(request).await.unwrap()
    }

    /// One POST as the probe of an experiment sends it.
    pub async fn probe(&self, key: &str, item: &str, quantity: u32) -> Answer {
        let request = self.http.post(format!("{}/api/orders", self.url("order")));
        let request = request
            .header("idempotency-key", key)
            .header("valerix-probe", "shop/slow/1")
            .json(&json!({"item_id": item, "quantity": quantity}));
        self.answer(request).await.unwrap()
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
        Answer::try_of(request.timeout(self.patience)).await
    }

    pub async fn place(&self, item: &str, quantity: u32) -> Answer {
        let body = json!({"item_id": item, "quantity": quantity});
        self.try_place(&Uuid::now_v7().to_string(), &body).await.unwrap()
    }

    /// A POST without a key: `cancel` or `refund` of an order.
    pub async fn undo(&self, order: Uuid, verb: &str) -> Answer {
        self.try_undo_at("order", order, verb).await.unwrap()
    }

    /// The same at a replica, which may be dead.
    pub async fn try_undo_at(&self, replica: &str, order: Uuid, verb: &str) -> Result<Answer, reqwest::Error> {
        let url = format!("{}/api/orders/{order}/{verb}", self.url(replica));
        self.answer(self.http.post(url)).await
    }

    pub async fn get(&self, service: &str, path: &str) -> Answer {
        let request = self.http.get(format!("{}{path}", self.url(service)));
        self.answer(request).await.unwrap()
    }

    pub async fn available(&self, item: &str) -> i64 {
        self.get("inventory", &format!("/api/inventory/{item}")).await.body()["available"]
            .as_i64()
            .unwrap()
    }

    /// Waits until the order has reached `status`.
    pub async fn reaches(&self, order: Uuid, status: &str) {
        self.until(&format!("order {order} is {status}"), || async {
            let body = self.get("order", &format!("/api/orders/{order}")).await.body();
            (body["status"] == status).then_some(())
        })
        .await;
    }
}
