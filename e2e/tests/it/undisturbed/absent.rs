//! The console while no operator is there: whoever looks is told, and told that it is back.

use crate::console::{Browser, Messages, account};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::Value;
use std::time::{Duration, Instant};
use valerix_e2e::{
    operator::{self, OPERATOR},
    world::{OPERATOR_NAMESPACE, World, eventually},
};

/// Within which the page tells, counted from when the Lease says so.
const PROMISE: Duration = Duration::from_secs(5);
const WAIT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn the_console_says_that_the_operator_is_gone_and_that_it_is_back() -> Result<()> {
    let world = World::alone().await?;
    let test = world.with_namespace("absent", async |namespace| {
        account(&world, namespace, "viewer", Some("view")).await?;
        let viewer = Browser::signed_in(&world, namespace, "viewer").await?;
        // The same page stays open all the time.
        let mut page = viewer.follow(&world).await?;
        until(&mut page, Value::is_null)
            .await
            .context("at first the operator leads")?;
        let gone = told(&world, &mut page, false).await;
        let back = told(&world, &mut page, true).await;
        // Also where the page broke off meanwhile.
        operator::scale(&world, 1).await?;
        let silence = gone.context("the operator is gone")?;
        let reason = silence["reason"].as_str().unwrap_or_default();
        ensure!(reason.contains("has given its Lease back"), "{silence}");
        back.context("the operator is back")?;
        Ok(())
    });
    Box::pin(test).await
}

/// Takes the operator away or brings it back, and gives what the page is told of it, which it is within the promise.
async fn told(world: &World, page: &mut Messages, leads: bool) -> Result<Value> {
    let scaled = operator::scale(world, i32::from(leads));
    let leases = world.api::<Lease>(OPERATOR_NAMESPACE);
    let written = async {
        let said = eventually(WAIT, || async {
            let lease = leases.get_opt(OPERATOR).await.ok()?;
            let holder = lease.and_then(|lease| lease.spec?.holder_identity).unwrap_or_default();
            (holder.is_empty() != leads).then(Instant::now)
        });
        said.await.context("the Lease does not say so")
    };
    let seen = async {
        let silence = until(page, |silence| silence.is_null() == leads).await?;
        anyhow::Ok((silence, Instant::now()))
    };
    let ((), written, (silence, seen)) = tokio::try_join!(scaled, written, seen)?;
    let late = seen.saturating_duration_since(written);
    ensure!(late <= PROMISE, "the page is told {late:?} after the Lease");
    Ok(silence)
}

/// Reads on until a message has such an `operatorSilence`.
async fn until(page: &mut Messages, holds: impl Fn(&Value) -> bool) -> Result<Value> {
    let read = async {
        loop {
            let message = page.next().await?;
            // Others are of objects.
            if let Some(silence) = message.get("operatorSilence")
                && holds(silence)
            {
                return Ok(silence.clone());
            }
        }
    };
    tokio::time::timeout(WAIT, read).await.context("the page is not told")?
}
