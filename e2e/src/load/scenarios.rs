//! Loads by the minute: smoke, load, spike, soak.

use std::time::Duration;

use anyhow::{Context, Result};

use super::{
    Options,
    client::Client,
    measured::{Measured, Verdict},
    open::{Stretch, send},
};
use crate::{
    shop,
    world::{World, eventually},
};

/// The item that load programs order.
pub(super) const ITEM: &str = "load-test";
/// So much of it that no program sells it out.
pub(super) const STOCK: i64 = 1_000_000_000;
/// More than this at once and the program itself would be what is measured.
const MOST_UNDER_WAY: usize = 2_000;
/// Within this an order that was accepted is decided.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// What a customer does not notice.
const QUICK: Duration = Duration::from_secs(1);

/// Puts the item there, with so many pieces if it is new.
pub(super) async fn supply(world: &World, item: &str, pieces: i64) -> Result<()> {
    let statement = format!(
        "insert into items (item_id, initial, available, unit_price_minor, currency) \
         values ('{item}', {pieces}, {pieces}, 100, 'EUR') on conflict do nothing"
    );
    shop::sql(world, "inventory", &statement).await.map(drop)
}

pub(super) async fn smoke(world: &World, options: &Options) -> Result<Verdict> {
    let measured = orders(world, options, &[Stretch::steady(1.0, Duration::from_secs(10))]).await?;
    let mut verdict = Verdict::default();
    let all = format!("{} of 10 orders were accepted", measured.accepted());
    verdict.must(measured.accepted() == 10, all);
    quick(&mut verdict, &measured, 100.0);
    nothing_lost(world, &measured, &mut verdict).await?;
    Ok(verdict)
}

pub(super) async fn load(world: &World, options: &Options) -> Result<Verdict> {
    let rising = Stretch {
        from: 1.0,
        to: options.rate,
        lasts: Duration::from_secs(10),
    };
    let measured = orders(
        world,
        options,
        &[rising, Stretch::steady(options.rate, options.lasts())],
    )
    .await?;
    let mut verdict = Verdict::default();
    let missed = measured.failed() + measured.refused() + measured.not_sent;
    verdict.must(
        missed * 1_000 <= measured.answers(),
        format!(
            "{missed} of {} orders were not accepted (at most 0.1 %)",
            measured.answers()
        ),
    );
    quick(&mut verdict, &measured, 99.0);
    nothing_lost(world, &measured, &mut verdict).await?;
    Ok(verdict)
}

pub(super) async fn spike(world: &World, options: &Options) -> Result<Verdict> {
    let (before, spike, after) = (
        Duration::from_secs(10),
        Duration::from_secs(10),
        Duration::from_secs(20),
    );
    let stretches = [
        Stretch::steady(options.rate, before),
        Stretch::steady(options.rate * 10.0, spike),
        Stretch::steady(options.rate, after),
    ];
    let measured = orders(world, options, &stretches).await?;
    let mut verdict = Verdict::default();
    verdict.must(
        measured.failed() == 0 && measured.not_sent == 0,
        format!(
            "{} failed and {} could not be sent: what is too much is refused, with the time to come back",
            measured.failed(),
            measured.not_sent
        ),
    );
    let again = measured.percentile_since(before + spike + Duration::from_secs(5), 99.0);
    verdict.must(
        again > Duration::ZERO && again < QUICK,
        format!(
            "from five seconds after the spike on p99 is {} ms (below 1 s)",
            again.as_millis()
        ),
    );
    nothing_lost(world, &measured, &mut verdict).await?;
    Ok(verdict)
}

pub(super) async fn soak(world: &World, options: &Options) -> Result<Verdict> {
    let lasts = options.lasts() * 10;
    let measured = orders(world, options, &[Stretch::steady(options.rate, lasts)]).await?;
    let mut verdict = Verdict::default();
    verdict.must(
        measured.failed() == 0 && measured.not_sent == 0,
        format!("{} failed, {} could not be sent", measured.failed(), measured.not_sent),
    );
    let (all, late) = (
        measured.percentile(95.0),
        measured.percentile_since(lasts * 9 / 10, 95.0),
    );
    verdict.must(
        late > Duration::ZERO && late <= all * 2 + Duration::from_millis(20),
        format!(
            "p95 of the last tenth is {} ms, of all {} ms",
            late.as_millis(),
            all.as_millis()
        ),
    );
    nothing_lost(world, &measured, &mut verdict).await?;
    Ok(verdict)
}

/// Sends orders and tells what came of them.
async fn orders(world: &World, options: &Options, stretches: &[Stretch]) -> Result<Measured> {
    supply(world, ITEM, STOCK).await?;
    let client = Client::of(world, "order", options.url.as_deref()).await?;
    let measured = send(stretches, MOST_UNDER_WAY, |_| {
        let client = client.clone();
        async move { client.order(ITEM, &[]).await }
    })
    .await;
    println!("  {measured}");
    Ok(measured)
}

fn quick(verdict: &mut Verdict, measured: &Measured, percent: f64) {
    let time = measured.percentile(percent);
    let what = format!("{percent} % were answered within {} ms (below 1 s)", time.as_millis());
    verdict.must(time < QUICK, what);
}

/// Every order that was accepted is there, is decided in time, and the books of all services agree.
pub(super) async fn nothing_lost(world: &World, measured: &Measured, verdict: &mut Verdict) -> Result<()> {
    let mut open = String::new();
    let statement = "select count(*) from orders where state not in ('CONFIRMED', 'CANCELLED', 'REFUNDED')";
    let settled = eventually(SETTLED_WITHIN, || async {
        let count = shop::sql(world, "orders", statement).await.ok()?;
        (count == "0").then_some(())
    })
    .await;
    if settled.is_none() {
        open = shop::sql(world, "orders", statement).await?;
    }
    let what = if settled.is_some() {
        "every order is decided".to_owned()
    } else {
        format!("{open} orders are not decided after {} s", SETTLED_WITHIN.as_secs())
    };
    verdict.must(settled.is_some(), what);
    let kept = shop::sql(world, "orders", "select id from orders").await?;
    let kept: std::collections::BTreeSet<&str> = kept.lines().collect();
    let accepted: std::collections::BTreeSet<&str> = measured.orders.iter().map(String::as_str).collect();
    let lost = accepted.difference(&kept).count();
    let complete = accepted.len() == measured.accepted();
    verdict.must(
        lost == 0 && complete,
        format!(
            "{} orders were accepted, {} are different ones, {lost} of them are lost",
            measured.accepted(),
            accepted.len()
        ),
    );
    let books = shop::balanced(world, &[]).await.context("the books");
    let what = books.as_ref().map_or_else(
        |error| format!("{error:#}"),
        |()| "stock, payments and the processor's ledger agree with the orders".to_owned(),
    );
    verdict.must(books.is_ok(), what);
    Ok(())
}
