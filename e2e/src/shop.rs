//! The shop as a customer and an auditor see it: orders through its real API, and the books of each service.

use crate::world::{SHOP, World, eventually};
use anyhow::{Context, Result, bail, ensure};
use http::Request;
use http_body_util::BodyExt;
use kube::client::Body;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::Mutex,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// An answer of a service.
#[derive(Clone, Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Content type, or empty.
    pub content_type: String,
    /// Body as text.
    pub body: String,
    /// How long it took.
    pub took: Duration,
}

impl Reply {
    /// The body as JSON.
    ///
    /// # Errors
    /// If it is not JSON.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body)
            .with_context(|| format!("{} with a body that is not JSON: {}", self.status, self.body))
    }
}

/// One order as the API shows it.
#[derive(Clone, Debug, Deserialize)]
pub struct Order {
    /// Its id.
    pub order_id: String,
    /// CONFIRMED, CANCELLED, QUEUED, CANCELLING ...
    pub status: String,
    /// How many pieces.
    pub quantity: i64,
}

impl Order {
    fn is_terminal(&self) -> bool {
        self.status == "CONFIRMED" || self.status == "CANCELLED"
    }
}

/// Asks a service of the shop through the API server, so that it works on any cluster.
///
/// # Errors
/// If the API server cannot be asked.
pub async fn ask(
    world: &World,
    namespace: &str,
    method: &str,
    service: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Result<Reply> {
    let mut request = Request::builder().method(method).uri(format!(
        "/api/v1/namespaces/{namespace}/services/{service}:80/proxy{path}"
    ));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request
        .body(Body::from(body.into()))
        .context("failed to build a request")?;
    let started = Instant::now();
    let response = world
        .client
        .send(request)
        .await
        .with_context(|| format!("failed to ask {service}"))?;
    let status = response.status().as_u16();
    let content_type = response
        .headers()
        .get(http::header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let body = response
        .into_body()
        .collect()
        .await
        .context("failed to read an answer")?
        .to_bytes();
    Ok(Reply {
        status,
        content_type,
        body: String::from_utf8_lossy(&body).into_owned(),
        took: started.elapsed(),
    })
}

/// Places an order and returns the raw answer.
///
/// # Errors
/// If the API server cannot be asked.
pub async fn post_order(world: &World, key: &str, item: &str, quantity: i64) -> Result<Reply> {
    let body = json!({"item_id": item, "quantity": quantity}).to_string();
    let headers = [("Idempotency-Key", key), ("Content-Type", "application/json")];
    ask(world, SHOP, "POST", "order", "/api/orders", &headers, body).await
}

/// Places an order as a careful client does: the same key again after a 409, a 503 or a broken connection.
///
/// # Errors
/// If no answer came within ten seconds, with everything that came instead.
pub async fn place(world: &World, item: &str, quantity: i64) -> Result<(Order, Reply)> {
    let key = Uuid::new_v4().to_string();
    let (started, tried) = (Instant::now(), Mutex::new(Vec::new()));
    let placed = eventually(Duration::from_secs(10), || async {
        let asked = started.elapsed();
        let instead = match post_order(world, &key, item, quantity).await {
            Ok(answer) if matches!(answer.status, 201 | 202) => return Some(answer),
            Ok(answer) => format!("{} {}", answer.status, answer.body),
            Err(error) => format!("{error:#}"),
        };
        let answered = started.elapsed();
        if let Ok(mut tried) = tried.lock() {
            tried.push(format!("{asked:.1?} to {answered:.1?}: {instead}"));
        }
        None
    })
    .await;
    let Some(answer) = placed else {
        let tried = tried.into_inner().unwrap_or_default().join("\n");
        bail!("an order was not accepted within 10 s:\n{tried}")
    };
    let order = serde_json::from_str(&answer.body).with_context(|| format!("not an order: {}", answer.body))?;
    Ok((order, answer))
}

/// Waits until every order is CONFIRMED or CANCELLED, and returns them.
///
/// # Errors
/// Naming those that are not.
pub async fn settled(world: &World, orders: &[String], within: Duration) -> Result<Vec<Order>> {
    let mut done: BTreeMap<String, Order> = BTreeMap::new();
    let end = Instant::now() + within;
    loop {
        for id in orders {
            if done.contains_key(id) {
                continue;
            }
            let answer = ask(
                world,
                SHOP,
                "GET",
                "order",
                &format!("/api/orders/{id}"),
                &[],
                Vec::new(),
            )
            .await;
            if let Some(order) = answer
                .ok()
                .and_then(|answer| serde_json::from_str::<Order>(&answer.body).ok())
                && order.is_terminal()
            {
                done.insert(id.clone(), order);
            }
        }
        if done.len() == orders.len() {
            return Ok(done.into_values().collect());
        }
        if Instant::now() >= end {
            let open: Vec<_> = orders.iter().filter(|id| !done.contains_key(*id)).collect();
            bail!(
                "{} of {} orders are not settled within {within:?}: {open:?}",
                open.len(),
                orders.len()
            );
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Runs one SQL statement in a database of the shop and returns its rows, columns separated by `|`.
///
/// # Errors
/// With what psql printed.
pub async fn sql(world: &World, database: &str, statement: &str) -> Result<String> {
    let arguments = [
        "exec",
        "-n",
        SHOP,
        // Whichever workload its pod belongs to.
        "service/postgres",
        "--",
        "psql",
        "-U",
        "postgres",
        "-d",
        database,
        "-v",
        "ON_ERROR_STOP=1",
        "-Atc",
        statement,
    ];
    Ok(crate::kubectl::kubectl_with(&world.environment, &arguments, None)
        .await?
        .text()?
        .trim()
        .to_owned())
}

/// The stock of an item: (initial, available).
///
/// # Errors
/// If inventory does not answer.
pub async fn stock(world: &World, item: &str) -> Result<(i64, i64)> {
    let answer = ask(
        world,
        SHOP,
        "GET",
        "inventory",
        &format!("/api/inventory/{item}"),
        &[],
        Vec::new(),
    )
    .await?;
    let item = answer.json()?;
    let number = |name: &str| item[name].as_i64().with_context(|| format!("no {name} in {item}"));
    Ok((number("initial")?, number("available")?))
}

/// Checks the shop's books over everything that was ever ordered: stock, payments and the processor's ledger agree with
/// the orders, and nothing was lost or doubled.
///
/// # Errors
/// Naming the book that does not agree.
pub async fn balanced(world: &World, placed: &[Order]) -> Result<()> {
    let ids: Vec<String> = placed.iter().map(|order| order.order_id.clone()).collect();
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    ensure!(distinct.len() == ids.len(), "two requests were answered with one order");
    let mut problem = String::new();
    let agreed = eventually(Duration::from_secs(20), || async {
        match books(world).await {
            Ok(()) => Some(()),
            Err(_) => None,
        }
    })
    .await;
    if agreed.is_none() {
        if let Err(error) = books(world).await {
            problem = format!("{error:#}");
        }
        ensure!(problem.is_empty(), "the books do not agree: {problem}");
    }
    Ok(())
}

/// The comparison itself; events may still be under way when it is asked.
async fn books(world: &World) -> Result<()> {
    let rows = |text: String| -> BTreeMap<String, String> {
        text.lines()
            .filter_map(|line| line.split_once('|'))
            .map(|(id, rest)| (id.to_owned(), rest.to_owned()))
            .collect()
    };
    let orders = rows(sql(world, "orders", "select id, state, item_id, quantity from orders").await?);
    let reservations = rows(
        sql(
            world,
            "inventory",
            "select order_id, state, item_id, quantity from reservations",
        )
        .await?,
    );
    let payments = rows(sql(world, "payments", "select order_id, state, id from payments").await?);
    let ledger = sql(world, "processor", "select key, status from charges").await?;
    let ledger = rows(ledger);

    let mut sold: BTreeMap<String, i64> = BTreeMap::new();
    let mut charged = 0;
    for (id, row) in &orders {
        let [state, item, quantity] = row.split('|').collect::<Vec<_>>()[..] else {
            bail!("unreadable order {row}")
        };
        let payment = payments.get(id).and_then(|row| row.split_once('|'));
        let settled = payment
            .and_then(|(_, key)| ledger.get(key))
            .is_some_and(|status| status == "SUCCEEDED");
        match state {
            "CONFIRMED" => {
                *sold.entry(item.to_owned()).or_default() += quantity.parse::<i64>()?;
                charged += 1;
                ensure!(settled, "order {id} is CONFIRMED without a settled charge: {payment:?}");
                ensure!(
                    payment.is_some_and(|(state, _)| state == "CHARGED"),
                    "order {id} is CONFIRMED, its payment is {payment:?}"
                );
            }
            "CANCELLED" | "REFUNDED" => ensure!(!settled, "order {id} is {state} with a settled charge"),
            other => bail!("order {id} is {other}"),
        }
        if let Some(row) = reservations.get(id) {
            ensure!(
                !row.starts_with("RESERVED|"),
                "order {id} is {state} and its stock is still RESERVED"
            );
        }
    }
    let settled = ledger.values().filter(|status| *status == "SUCCEEDED").count();
    ensure!(
        settled == charged,
        "{charged} orders are CONFIRMED and {settled} charges are settled"
    );
    let items = sql(world, "inventory", "select item_id, initial, available from items").await?;
    for line in items.lines() {
        let [item, initial, available] = line.split('|').collect::<Vec<_>>()[..] else {
            bail!("unreadable item {line}")
        };
        let gone = initial.parse::<i64>()? - available.parse::<i64>()?;
        let sold = sold.get(item).copied().unwrap_or_default();
        ensure!(gone == sold, "of {item} {gone} pieces are gone and {sold} were sold");
    }
    Ok(())
}
