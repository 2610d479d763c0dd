//! What the shop's chart makes of the Secrets that it finds, and what `helm test` finds of the operator's.

use anyhow::{Context, Result, bail, ensure};
use http::Uri;
use serde::Deserialize;
use serde_json::{Value, json};
use valerix_e2e::{
    kubectl,
    world::{OPERATOR_NAMESPACE, World},
};

/// What every part of a URL might take for its own.
const PASSWORD: &str = "a#b/c@d%41 e+f:g?h";

/// What a percent-encoded text says.
fn decoded(text: &str) -> Result<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).context("a cut escape")?;
        bytes.extend(hex::decode(digits)?);
        bytes.extend(rest.bytes());
    }
    Ok(String::from_utf8(bytes)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_stands_in_the_cluster_is_in_the_url_as_it_is() -> Result<()> {
    let world = World::shared().await?;
    let test = world.with_namespace("chart", async |namespace| {
        for name in ["redis", "order-database"] {
            let secret = json!({
                "apiVersion": "v1", "kind": "Secret", "stringData": {"password": PASSWORD},
                // As an earlier install of the chart has left it.
                "metadata": {
                    "name": name,
                    "labels": {"app.kubernetes.io/managed-by": "Helm"},
                    "annotations": {"meta.helm.sh/release-name": "shop", "meta.helm.sh/release-namespace": namespace},
                },
            });
            world.create(namespace, &secret.to_string()).await?.text()?;
        }
        let chart = world.environment.root.join("charts/valerix-shop");
        let arguments = [
            "template",
            "shop",
            &chart.to_string_lossy(),
            "--namespace",
            namespace,
            "--dry-run=server",
        ];
        let rendered = kubectl::helm(&world.environment, &arguments).await?.text()?;
        let objects = serde_yaml::Deserializer::from_str(&rendered)
            .map(Value::deserialize)
            .collect::<Result<Vec<_>, _>>()?;
        for (name, user, host) in [("redis", "", "redis"), ("order-database", "orders", "postgres")] {
            let secret = objects
                .iter()
                .find(|object| object["kind"] == "Secret" && object["metadata"]["name"] == name)
                .with_context(|| format!("no Secret {name}"))?;
            ensure!(
                secret["stringData"]["password"] == PASSWORD,
                "{name} keeps its password"
            );
            let url: Uri = secret["stringData"]["url"].as_str().context("no url")?.parse()?;
            ensure!(url.host() == Some(&*format!("{host}.{namespace}.svc")), "{url}");
            let authority = url.authority().context("no authority")?.as_str();
            let (login, _) = authority.rsplit_once('@').context("no login")?;
            let (name, password) = login.split_once(':').context("no password")?;
            ensure!(name == user && decoded(password)? == PASSWORD, "{url}");
        }
        Ok(())
    });
    Box::pin(test).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_would_begin_empty_beside_the_data_of_another_is_refused() -> Result<()> {
    let world = World::shared().await?;
    let test = world.with_namespace("servers", async |namespace| {
        for name in ["data-postgres-0", "redis"] {
            let claim = json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                // As an earlier install of the chart has left it.
                "metadata": {
                    "name": name,
                    "labels": {"app.kubernetes.io/managed-by": "Helm"},
                    "annotations": {"meta.helm.sh/release-name": "shop", "meta.helm.sh/release-namespace": namespace},
                },
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
            });
            world.create(namespace, &claim.to_string()).await?.text()?;
        }
        let chart = world.environment.root.join("charts/valerix-shop");
        let chart = chart.to_string_lossy();
        let rendered = async |postgres: &str, redis: &str| {
            let guarded = format!("postgres.guarded={postgres},redis.guarded={redis}");
            let arguments = [
                "template",
                "shop",
                &chart,
                "--namespace",
                namespace,
                "--dry-run=server",
                "--set",
                &guarded,
            ];
            kubectl::helm(&world.environment, &arguments).await
        };
        rendered("false", "true")
            .await?
            .text()
            .context("as what is there was installed")?;
        for (postgres, redis, claim, remedy) in [
            ("true", "true", "data-postgres-0", "Set postgres.guarded=false"),
            ("false", "false", "redis", "Set redis.guarded=true"),
        ] {
            let refused = rendered(postgres, redis).await?;
            let said = refused.all();
            ensure!(!refused.success, "rendered: {said}");
            ensure!(
                said.contains(&format!("the claim {claim} of namespace {namespace}")),
                "{said}"
            );
            ensure!(said.contains(remedy), "{said}");
        }
        Ok(())
    });
    Box::pin(test).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_installation_proves_itself() -> Result<()> {
    let world = World::shared().await?;
    let arguments = [
        "test",
        "valerix",
        "--namespace",
        OPERATOR_NAMESPACE,
        "--timeout",
        "120s",
    ];
    let tested = kubectl::helm(&world.environment, &arguments).await?;
    if !tested.success {
        let log = format!("logs -n {OPERATOR_NAMESPACE} valerix-check");
        let log = world.kubectl(&log).await?;
        bail!("helm test failed: {}{}", tested.all(), log.all());
    }
    ensure!(tested.stdout.contains("Succeeded"), "{}", tested.stdout);
    Ok(())
}
