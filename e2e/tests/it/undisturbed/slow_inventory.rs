//! Latency on every pod of inventory: no order is slow, none is lost, and the fault ends without the operator.

use crate::chaos::{Stream, injected, ready_pods, recovered, report, start};
use anyhow::{Context, Result, ensure};
use serde_json::json;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use valerix_crds::{ChaosExperiment, ResilientService, TargetState, names::condition as types};
use valerix_e2e::{
    operator,
    shop::{self, Order},
    world::{SHOP, World, eventually, has_condition},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_inventory_never_slows_an_order_and_the_fault_ends_without_the_operator() -> Result<()> {
    let world = Arc::new(World::alone().await?);
    let ready = |service: &ResilientService| {
        service
            .status
            .as_ref()
            .is_some_and(|status| has_condition(&status.conditions, types::READY, "True"))
    };
    let before = world
        .object(SHOP, "inventory", "Ready", Duration::from_secs(60), ready)
        .await?;
    let hash = before
        .status
        .and_then(|status| status.config)
        .context("no config status")?
        .hash;

    let name = start(
        &world,
        "slow",
        json!({"latency": {"delay": "3s"}, "count": "100%", "duration": "25s"}),
    )
    .await?;
    let running: ChaosExperiment = world
        .object(SHOP, &name, "injected", Duration::from_secs(60), injected)
        .await?;
    let status = running.status.unwrap_or_default();
    ensure!(
        status.targets.iter().all(|target| target.state == TargetState::Active),
        "{:?}",
        status.targets
    );
    ensure!(status.targets.len() == 2, "all pods are hurt: {:?}", status.targets);

    let stream = Stream::start(&world, 4, Duration::from_millis(300));
    // The breaker opens in a pod, and the service's status shows it within two seconds.
    let pods = ready_pods(&world, "order").await?;
    let open = eventually(Duration::from_secs(15), || async {
        for (pod, _) in &pods {
            let report = report(&world, pod).await.ok()?;
            let breakers = report["circuitBreakers"].as_array()?;
            if breakers
                .iter()
                .any(|breaker| breaker["target"] == "inventory" && breaker["state"] == "Open")
            {
                return Some(());
            }
        }
        None
    })
    .await;
    ensure!(open.is_some(), "no breaker opened\n{}", world.dump(SHOP).await);
    let opened = Instant::now();
    let shown = |service: &ResilientService| {
        service.status.as_ref().is_some_and(|status| {
            status
                .circuit_breakers
                .iter()
                .any(|breaker| breaker.target == "inventory" && breaker.open > 0)
                && status
                    .summary
                    .as_ref()
                    .is_some_and(|summary| summary.circuits.contains("open"))
                && has_condition(&status.conditions, types::READY, "True")
        })
    };
    world
        .object(SHOP, "order", "an open circuit", Duration::from_secs(2), shown)
        .await?;
    eprintln!(
        "breaker open to status: {:.2} s at most",
        opened.elapsed().as_secs_f64()
    );

    let during = world.api::<ResilientService>(SHOP).get("inventory").await?;
    ensure!(ready(&during), "an experiment does not take the target's Ready away");
    ensure!(
        during
            .status
            .and_then(|status| status.config)
            .is_some_and(|config| config.hash == hash),
        "an experiment does not change the policy's hash"
    );

    // Without the operator the fault ends by the pods' own clocks.
    operator::scale(&world, 0).await?;
    let mut left = Duration::ZERO;
    let victims = ready_pods(&world, "inventory").await?;
    for (pod, _) in &victims {
        let report = report(&world, pod).await?;
        let fault = report["faults"]
            .as_array()
            .and_then(|faults| faults.iter().find(|fault| fault["state"] == "Active"));
        let remaining = fault
            .and_then(|fault| fault["remainingMs"].as_u64())
            .context("the fault is not active any more")?;
        left = left.max(Duration::from_millis(remaining));
    }
    let asked = Instant::now();
    let over = eventually(left + Duration::from_secs(5), || async {
        for (pod, _) in &victims {
            let report = report(&world, pod).await.ok()?;
            if report["faults"]
                .as_array()?
                .iter()
                .any(|fault| fault["state"] == "Active")
            {
                return None;
            }
        }
        Some(Instant::now())
    })
    .await
    .context("the fault did not end without the operator")?;
    let late = over.duration_since(asked).abs_diff(left);
    ensure!(late < Duration::from_secs(3), "the fault ended {late:?} off its time");

    // With traffic the breaker closes again.
    let closed = eventually(Duration::from_secs(40), || async {
        for (pod, _) in &pods {
            let report = report(&world, pod).await.ok()?;
            let breakers = report["circuitBreakers"].as_array()?;
            if breakers
                .iter()
                .any(|breaker| breaker["target"] == "inventory" && breaker["state"] != "Closed")
            {
                return None;
            }
        }
        Some(())
    })
    .await;
    ensure!(closed.is_some(), "the breaker did not close");
    let placed = stream.end().await?;
    let slowest = placed.iter().map(|(_, took)| *took).max().unwrap_or_default();
    ensure!(
        slowest < Duration::from_millis(2900),
        "an order was answered after {slowest:?}"
    );
    let queued = placed.iter().filter(|(order, _)| order.status == "QUEUED").count();
    ensure!(queued > 0, "no order was queued although inventory was slow");
    eprintln!(
        "{} orders, {queued} queued, the slowest answered after {slowest:?}",
        placed.len()
    );
    let orders: Vec<Order> = placed.into_iter().map(|(order, _)| order).collect();
    let ids: Vec<String> = orders.iter().map(|order| order.order_id.clone()).collect();
    let within = Duration::from_secs(60).saturating_sub(over.elapsed());
    shop::settled(&world, &ids, within).await?;
    eprintln!(
        "every order settled {:.1} s after the fault's end",
        over.elapsed().as_secs_f64()
    );
    shop::balanced(&world, &orders).await?;

    operator::scale(&world, 1).await?;
    recovered(&world, &name, Duration::from_secs(60)).await?;
    world
        .object(SHOP, "order", "Ready", Duration::from_secs(30), ready)
        .await?;
    Ok(())
}
