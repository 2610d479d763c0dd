//! The shop as its visitors, its admin and its services meet it: through the gateway, each as who they are.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;
use valerix_e2e::{
    shop::{self, Order},
    visitor::{Visitor, service_token},
    world::{SHOP, World, eventually},
};

const PASSWORD: &str = "correct horse battery staple";
const SOON: Duration = Duration::from_secs(30);

fn address() -> String {
    format!("{}@customers.example", Uuid::new_v4())
}

/// Places an order through the gateway and follows it to its end.
async fn order(world: &World, visitor: &Visitor) -> Result<Order> {
    let key = Uuid::new_v4().to_string();
    let wanted = json!({"item_id": "xbox", "quantity": 1});
    let answer = visitor
        .ask(world, "POST", "/api/orders", &[("Idempotency-Key", &key)], &wanted)
        .await?;
    ensure!(matches!(answer.status, 201 | 202), "{} {}", answer.status, answer.body);
    followed(
        world,
        visitor,
        &serde_json::from_str::<Order>(&answer.body)?.order_id,
        "CONFIRMED",
    )
    .await
}

async fn followed(world: &World, visitor: &Visitor, id: &str, status: &str) -> Result<Order> {
    let path = format!("/api/orders/{id}");
    let mut last = String::new();
    let end = tokio::time::Instant::now() + SOON;
    while tokio::time::Instant::now() < end {
        let answer = visitor.ask(world, "GET", &path, &[], &Value::Null).await?;
        if let Ok(order) = serde_json::from_str::<Order>(&answer.body)
            && order.status == status
        {
            return Ok(order);
        }
        last = answer.body;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    bail!("order {id} is not {status} within {SOON:?}: {last}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customers_order_is_theirs_is_told_to_them_and_is_given_back() -> Result<()> {
    let world = World::with_shop().await?;
    let customer = Visitor::registered(&world, &address(), PASSWORD).await?;
    let admin = Visitor::admin(&world).await?;
    let placed = order(&world, &customer).await?;

    let path = format!("/api/orders/{}", placed.order_id);
    let another = Visitor::registered(&world, &address(), PASSWORD).await?;
    for (who, visitor, status) in [
        ("its customer", &customer, 200),
        ("the admin", &admin, 200),
        ("another customer", &another, 404),
        ("nobody", &Visitor::default(), 404),
    ] {
        let answer = visitor.ask(&world, "GET", &path, &[], &Value::Null).await?;
        ensure!(answer.status == status, "{who}: {} {}", answer.status, answer.body);
    }

    let told = eventually(SOON, || async {
        let answer = customer
            .ask(&world, "GET", "/notifications", &[], &Value::Null)
            .await
            .ok()?;
        let list = answer.json().ok()?["notifications"].as_array()?.clone();
        let of_order = list
            .into_iter()
            .filter(|row| row["order_id"] == placed.order_id.as_str());
        Some(of_order.collect::<Vec<_>>()).filter(|rows| !rows.is_empty())
    })
    .await
    .context("the customer is told nothing of the order")?;
    let mails = told
        .iter()
        .filter(|row| row["channel"] == "EMAIL" && row["kind"] == "CONFIRMED")
        .count();
    ensure!(mails == 1, "one e-mail says that the order is confirmed: {told:?}");
    let others = another
        .ask(&world, "GET", "/notifications", &[], &Value::Null)
        .await?
        .json()?;
    ensure!(others["notifications"] == json!([]), "{others}");

    let refund = format!("{path}/refund");
    let asked = customer.ask(&world, "POST", &refund, &[], &Value::Null).await?;
    ensure!(
        asked.status == 403,
        "a refund is the admin's: {} {}",
        asked.status,
        asked.body
    );
    let asked = admin.ask(&world, "POST", &refund, &[], &Value::Null).await?;
    ensure!(matches!(asked.status, 200 | 202), "{} {}", asked.status, asked.body);
    let given_back = followed(&world, &customer, &placed.order_id, "REFUNDED").await?;

    let figures = admin
        .ask(&world, "GET", "/analytics/summary", &[], &Value::Null)
        .await?;
    ensure!(figures.status == 200, "{} {}", figures.status, figures.body);
    shop::balanced(&world, &[given_back]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_limits_a_client_and_shows_what_it_can() -> Result<()> {
    let world = World::with_shop().await?;
    let customer = Visitor::registered(&world, &address(), PASSWORD).await?;
    let mut refused = 0;
    // Malformed on purpose: what counts is that it was asked, and nothing is sold.
    for _ in 0..6 {
        let answer = customer
            .ask(
                &world,
                "POST",
                "/api/orders",
                &[("Idempotency-Key", "limit")],
                &json!({}),
            )
            .await?;
        ensure!(matches!(answer.status, 422 | 429), "{} {}", answer.status, answer.body);
        refused += usize::from(answer.status == 429);
    }
    ensure!(
        refused == 1,
        "{refused} of six requests in ten seconds were refused, not one"
    );
    let board = customer.ask(&world, "GET", "/api/dashboard", &[], &Value::Null).await?;
    let parts = board.json()?;
    ensure!(board.status == 200 && parts["parts"]["user"].is_object(), "{parts}");
    ensure!(
        parts["parts"]["orders"].is_object() && parts["parts"]["stock"].is_object(),
        "{parts}"
    );
    let missing: Vec<&str> = parts["unavailable"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|part| part["name"].as_str())
        .collect();
    ensure!(
        missing == ["payments", "analytics"],
        "a customer does not see the books: {parts}"
    );
    let admin = Visitor::admin(&world).await?;
    let parts = admin
        .ask(&world, "GET", "/api/dashboard", &[], &Value::Null)
        .await?
        .json()?;
    ensure!(parts["unavailable"] == json!([]), "{parts}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_answers_those_only_who_may_ask_it() -> Result<()> {
    let world = World::with_shop().await?;
    let wrong = service_token(&world, "payment", "processor").await?;
    let right = service_token(&world, "order", "payment").await?;
    let key = ("Idempotency-Key", "identity");
    let json_type = ("Content-Type", "application/json");
    for (proof, status) in [(None, 401), (Some(wrong.as_str()), 401), (Some(right.as_str()), 422)] {
        let mut headers = vec![key, json_type];
        headers.extend(proof.map(|proof| ("Valerix-Service-Token", proof)));
        let answer = shop::ask(&world, SHOP, "POST", "payment", "/payments", &headers, "{}").await?;
        ensure!(answer.status == status, "{proof:?}: {} {}", answer.status, answer.body);
    }
    // The gateway hands no proof on that a visitor made up.
    let visitor = Visitor::default();
    let forged = [key, ("Valerix-Service-Token", right.as_str())];
    let answer = visitor.ask(&world, "POST", "/payments", &forged, &json!({})).await?;
    ensure!(answer.status == 401, "{} {}", answer.status, answer.body);
    let customer = Visitor::registered(&world, &address(), PASSWORD).await?;
    let pieces = json!({"item_id": "xbox", "quantity": 1});
    let answer = customer
        .ask(&world, "POST", "/api/inventory/restock", &[key], &pieces)
        .await?;
    ensure!(answer.status == 403, "{} {}", answer.status, answer.body);
    Ok(())
}
