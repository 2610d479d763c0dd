//! Demonstrations: the last piece, a limit, an open circuit, a fencing token, more replicas.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::time::Instant;
use uuid::Uuid;
use valerix_crds::{ResilientService, names::condition as types};

use super::{
    Options,
    client::Client,
    measured::{Ended, Measured, Verdict},
    open::{Stretch, send},
    scenarios::{ITEM, nothing_lost, supply},
};
use crate::{
    experiments, shop,
    visitor::Visitor,
    world::{SHOP, World, eventually, has_condition},
};

/// Customers who want the last piece.
const CUSTOMERS: usize = 50;
/// Requests that are under way all the time where replicas are compared.
const CLIENTS: usize = 32;
const PASSWORD: &str = "correct horse battery staple";

pub(super) async fn race(world: &World, options: &Options) -> Result<Verdict> {
    let item = format!("last-{}", Uuid::new_v4().simple());
    supply(world, &item, 1).await?;
    let client = Client::of(world, "order", options.url.as_deref()).await?;
    // All of them are due at once.
    let stretch = Stretch::steady(CUSTOMERS as f64 * 1_000.0, Duration::from_millis(1));
    let measured = send(&[stretch], CUSTOMERS, |_| {
        let (client, item) = (client.clone(), item.clone());
        async move { client.order(&item, &[]).await }
    })
    .await;
    println!("  {measured}");
    let mut verdict = Verdict::default();
    nothing_lost(world, &measured, &mut verdict).await?;
    let states = format!("select state, count(*) from orders where item_id = '{item}' group by state order by state");
    let states = shop::sql(world, "orders", &states).await?;
    let confirmed = states
        .lines()
        .find_map(|line| line.strip_prefix("CONFIRMED|"))
        .unwrap_or("0");
    verdict.must(
        confirmed == "1",
        format!(
            "of {CUSTOMERS} customers who wanted the last piece {confirmed} got it ({})",
            states.replace('\n', ", ")
        ),
    );
    let (_, left) = shop::stock(world, &item).await?;
    verdict.must(left == 0, format!("{left} pieces are left of one"));
    Ok(verdict)
}

pub(super) async fn rate_limit(world: &World) -> Result<Verdict> {
    let email = format!("{}@customers.example", Uuid::new_v4());
    let customer = Visitor::registered(world, &email, PASSWORD).await?;
    let wanted = json!({"item_id": "ps5", "quantity": 1});
    let order = async || {
        let key = Uuid::new_v4().to_string();
        customer
            .ask(world, "POST", "/api/orders", &[("Idempotency-Key", &key)], &wanted)
            .await
    };
    let replies: Result<Vec<_>> = join_all((0..10).map(|_| order())).await.into_iter().collect();
    let statuses: Vec<u16> = replies?.iter().map(|reply| reply.status).collect();
    let count = |wanted: &[u16]| statuses.iter().filter(|status| wanted.contains(status)).count();
    let (accepted, refused) = (count(&[201, 202]), count(&[429]));
    println!("  answers: {statuses:?}");
    let mut verdict = Verdict::default();
    verdict.must(
        accepted == 5 && refused == 5,
        format!(
            "of 10 orders at once by one customer {accepted} were accepted and {refused} told to come back (5 and 5)"
        ),
    );
    let another = format!("{}@customers.example", Uuid::new_v4());
    let another = Visitor::registered(world, &another, PASSWORD).await?;
    let key = Uuid::new_v4().to_string();
    let reply = another
        .ask(world, "POST", "/api/orders", &[("Idempotency-Key", &key)], &wanted)
        .await?;
    verdict.must(
        matches!(reply.status, 201 | 202),
        format!("another customer is not limited by that: {}", reply.status),
    );
    Ok(verdict)
}

pub(super) async fn breaker(world: &World, options: &Options) -> Result<Verdict> {
    const NAME: &str = "load-inventory-slow";
    supply(world, ITEM, 1_000_000_000).await?;
    let client = Client::of(world, "order", options.url.as_deref()).await?;
    let fault = json!({"latency": {"delay": "3s"}, "count": "100%", "duration": "15s"});
    let run = experiments::start(world, NAME, fault).await?;
    experiments::injected(world, NAME, &run).await?;
    println!("  every answer of inventory takes three seconds more, for fifteen seconds");
    let measured = send(&[Stretch::steady(4.0, Duration::from_secs(10))], 100, |_| {
        let client = client.clone();
        async move { client.order(ITEM, &[]).await }
    })
    .await;
    println!("  {measured}");
    let status = experiments::ended(world, NAME, &run).await?;
    let mut verdict = Verdict::default();
    let missed = measured.answers() - measured.accepted();
    verdict.must(
        missed == 0,
        format!("{missed} of {} orders were not accepted", measured.answers()),
    );
    let (first, then) = (
        measured.percentile(100.0),
        measured.percentile_since(Duration::from_secs(4), 95.0),
    );
    verdict.must(
        first < Duration::from_millis(2_500),
        format!(
            "the slowest was accepted after {} ms: nobody waits for inventory longer than two seconds",
            first.as_millis()
        ),
    );
    verdict.must(
        then > Duration::ZERO && then < Duration::from_millis(500),
        format!(
            "four seconds later, with the circuit open, three of four were accepted within {} ms",
            then.as_millis()
        ),
    );
    nothing_lost(world, &measured, &mut verdict).await?;
    let told = format!("the experiment's verdict is {:?}", status.verdict);
    verdict.must(status.verdict == Some(valerix_crds::Verdict::Pass), told);
    Ok(verdict)
}

pub(super) async fn fencing(world: &World) -> Result<Verdict> {
    let proof = Visitor::admin(world).await?.authorization();
    // Not through the gateway, which does not wait for one who stands still.
    let inventory = Client::of(world, "inventory", None).await?;
    let recount = async |hold: &str| {
        let path = format!("/api/inventory/recount{hold}");
        inventory
            .read("POST", &path, &[("authorization", proof.as_str())])
            .await
    };
    println!("  one recount takes the lock, which ends after two seconds, and stands still for five");
    let standing_still = async {
        let taken = eventually(Duration::from_secs(30), || async {
            recount("?hold=5s").await.ok().filter(|(status, _)| *status != 423)
        });
        taken.await.context("the first recount never took the lock")
    };
    let overtaking = async {
        // First it is seen that the other one has the lock.
        let locked = eventually(Duration::from_secs(30), || async {
            (recount("").await.ok()?.0 == 423).then_some(())
        });
        ensure!(locked.await.is_some(), "nobody ever had the lock");
        let taken = eventually(Duration::from_secs(30), || async {
            recount("").await.ok().filter(|(status, _)| *status == 200)
        });
        taken
            .await
            .context("the lock of one who stands still was never free again")
    };
    let (stale, taken) = tokio::join!(standing_still, overtaking);
    let ((stale, refusal), (_, taken)) = (stale?, taken?);
    println!("  the one that stood still: {stale} {refusal}");
    let mut verdict = Verdict::default();
    let (token, problem) = (&taken["token"], refusal["type"].as_str().unwrap_or_default());
    verdict.must(
        token.is_number(),
        format!("another took the lock over, with the fencing token {token}"),
    );
    verdict.must(
        stale == 409 && problem.ends_with("/overtaken"),
        format!("who stood still is refused by the row and has written nothing: {stale}"),
    );
    Ok(verdict)
}

pub(super) async fn scaling(world: &World, options: &Options) -> Result<Verdict> {
    supply(world, ITEM, 1_000_000_000).await?;
    let orders = Client::of(world, "order", options.url.as_deref()).await?;
    let order = || orders.order(ITEM, &[]);
    let (mut verdict, rows) = one_beside_three(world, options, "order", order).await?;
    for measured in &rows {
        nothing_lost(world, measured, &mut verdict).await?;
    }
    // An order waits for others; a login is nothing but a core's work, and not through the gateway, which lets few pass.
    let email = format!("{}@customers.example", Uuid::new_v4());
    Visitor::registered(world, &email, PASSWORD).await?;
    let logins = Client::of(world, "auth", None).await?;
    let login = || logins.login(&email, PASSWORD);
    let (of_auth, _) = one_beside_three(world, options, "auth", login).await?;
    verdict.add(of_auth);
    Ok(verdict)
}

/// What a service does with one replica and with three, while as many clients ask as would keep three busy.
async fn one_beside_three<F>(
    world: &World,
    options: &Options,
    service: &str,
    ask: impl Fn() -> F,
) -> Result<(Verdict, [Measured; 2])>
where
    F: Future<Output = Ended>,
{
    let before = world.api::<ResilientService>(SHOP).get(service).await?;
    let mut verdict = Verdict::default();
    let mut measure = async |replicas: i32| {
        scale(world, service, replicas).await?;
        let used = cpu_seconds(world, service).await;
        let measured = closed(options, &ask).await;
        let used = cpu_seconds(world, service).await.zip(used);
        let cores = used.map(|(now, before)| (now - before) / measured.lasted.as_secs_f64());
        let cores = cores.map_or_else(|| "unknown".to_owned(), |cores| format!("{cores:.2}"));
        println!("  {replicas} of {service}: {measured}; cores in use: {cores}");
        verdict.must(
            measured.failed() == 0 && measured.accepted() > 0,
            format!(
                "{} of {} requests failed with {replicas} of {service}",
                measured.failed(),
                measured.answers()
            ),
        );
        anyhow::Ok(measured)
    };
    let rows = [measure(1).await?, measure(3).await?];
    scale(world, service, before.spec.replicas).await?;
    let ratio = rows[1].throughput() / rows[0].throughput();
    println!("  three replicas of {service} do {ratio:.2} times what one does on this cluster");
    Ok((verdict, rows))
}

/// What the containers of a service that run now have used of processors since they were started, by their nodes' word. `None`:
/// a node does not tell, or tells only now and then and has not yet.
async fn cpu_seconds(world: &World, service: &str) -> Option<f64> {
    let nodes = Api::<Node>::all(world.client.clone());
    let nodes = nodes.list(&ListParams::default()).await.ok()?;
    let (mut used, mut found) = (0.0, false);
    for node in nodes {
        let path = format!("/api/v1/nodes/{}/proxy/metrics/resource", node.metadata.name?);
        let request = http::Request::get(path).body(Vec::new()).ok()?;
        let text = world.client.request_text(request).await.ok()?;
        let of_service = format!("container=\"{service}\",namespace=\"{SHOP}\"");
        let lines = text
            .lines()
            .filter(|line| line.starts_with("container_cpu_usage_seconds_total{") && line.contains(&of_service));
        for line in lines {
            // Name, labels, value, and when it was read.
            used += line.split_once("} ")?.1.split(' ').next()?.parse::<f64>().ok()?;
            found = true;
        }
    }
    found.then_some(used)
}

async fn scale(world: &World, service: &str, replicas: i32) -> Result<()> {
    let services = world.api::<ResilientService>(SHOP);
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    let patched = services.patch(service, &PatchParams::default(), &patch).await?;
    let there = |service: &ResilientService| {
        service.status.as_ref().is_some_and(|status| {
            Some(status.observed_generation) == patched.metadata.generation
                && has_condition(&status.conditions, types::READY, "True")
        })
    };
    let what = format!("{replicas} replicas");
    world
        .object(SHOP, service, &what, Duration::from_secs(120), there)
        .await
        .map(drop)
}

/// So many clients, each of which asks again as soon as it has its answer.
async fn closed<F: Future<Output = Ended>>(options: &Options, ask: impl Fn() -> F) -> Measured {
    let (begun, lasts) = (Instant::now(), options.lasts().min(Duration::from_secs(60)));
    let clients = (0..CLIENTS).map(|_| async {
        let mut answers = Vec::new();
        while begun.elapsed() < lasts {
            let asked = Instant::now();
            let answer = ask().await;
            answers.push((asked - begun, asked.elapsed(), answer));
        }
        answers
    });
    let mut measured = Measured::default();
    for (due, took, answer) in join_all(clients).await.into_iter().flatten() {
        measured.take(Ok((due, took, answer)));
    }
    measured.lasted = begun.elapsed();
    measured
}
