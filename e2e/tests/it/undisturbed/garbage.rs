//! A policy that somebody spoils by hand while no operator is there to put it back: pods say what is wrong with it and go on
//! by the last good one, and the operator, once it is back, puts it in its place.

use crate::chaos::{ready_pods, report};
use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::time::Duration;
use valerix_crds::{ResilientService, names};
use valerix_e2e::{
    operator,
    world::{SHOP, World, eventually, is_ready},
};

/// The kubelet looks at a map at once when its pod is written, and within a minute or two otherwise.
const SEEN: Duration = Duration::from_secs(150);

#[tokio::test(flavor = "multi_thread")]
async fn pods_keep_the_last_good_policy_and_say_why_until_the_operator_puts_it_back() -> Result<()> {
    let world = World::alone().await?;
    let ready = async |within| {
        world
            .object::<ResilientService>(SHOP, "payment", "Ready", Duration::from_secs(within), is_ready)
            .await
    };
    let before = ready(60).await?;
    let hash = before
        .status
        .and_then(|status| status.config)
        .context("no config status")?
        .hash;
    let pods = ready_pods(&world, "payment").await?;
    let name = names::policy_config_map("payment");
    let maps = world.api::<ConfigMap>(SHOP);
    let good = maps.get(&name).await?.data.unwrap_or_default()[names::POLICY_KEY].clone();

    let refused = async {
        operator::scale(&world, 0).await?;
        let spoilt = Patch::Merge(json!({"data": {names::POLICY_KEY: "{not json"}}));
        maps.patch(&name, &PatchParams::default(), &spoilt).await?;
        let refused = reports(&world, &pods, "1", |policy| policy["error"].is_string()).await;
        refused.context("the pods do not say that the policy is spoilt")
    }
    .await;
    // Also after a failure: others need it.
    let back = operator::scale(&world, 1).await;
    let refused = refused?;
    back?;
    for policy in refused {
        ensure!(
            policy["hash"] == hash.as_str(),
            "it is no more the last good one: {policy}"
        );
    }

    let restored = eventually(Duration::from_secs(60), || async {
        let map = maps.get(&name).await.ok()?;
        (map.data?.get(names::POLICY_KEY)? == &good).then_some(())
    });
    restored.await.context("the map was not put back")?;
    let well = reports(&world, &pods, "2", |policy| policy["error"].is_null()).await;
    for policy in well.context("the pods go on saying that the policy is spoilt")? {
        ensure!(policy["hash"] == hash.as_str(), "{policy}");
    }
    ready(30).await?;
    ensure!(
        ready_pods(&world, "payment").await? == pods,
        "the same pods all the time"
    );
    Ok(())
}

/// What each of the pods says of its policy, once all of it `holds`.
async fn reports(
    world: &World,
    pods: &[(String, String)],
    mark: &str,
    holds: impl Fn(&Value) -> bool,
) -> Option<Vec<Value>> {
    for (pod, _) in pods {
        let written = format!("annotate -n {SHOP} pod/{pod} --overwrite e2e.valerix.io/look={mark}");
        world.kubectl(&written).await.ok()?.text().ok()?;
    }
    let holds = &holds;
    eventually(SEEN, || async move {
        let mut policies = Vec::new();
        for (pod, _) in pods {
            let policy = report(world, pod).await.ok()?["policy"].clone();
            policies.push(Some(policy).filter(|policy| holds(policy))?);
        }
        Some(policies)
    })
    .await
}
