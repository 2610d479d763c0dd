//! Charts and examples: held against the schemas of Kubernetes and of the kinds, with good values and with wrong ones.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::{redis_bounds, scraped};
use crate::command::Program;
use crate::failure::WithRemedy;
use crate::paths::Paths;
use crate::schemas;
use crate::steps::Log;
use crate::tools::go;

/// The values with which each chart is rendered and held against the schemas: its defaults, then what they leave out.
const VARIANTS: [(&str, &[&str]); 2] = [
    (
        "valerix",
        &[
            "",
            // Rights by namespace, its own among them.
            "watchNamespaces={default,shop},chaos.namespaces={shop},console.enabled=true",
            "console.enabled=true",
            "metrics.authentication=true,metrics.tls.secretName=metrics,networkPolicy.enabled=true,watchNamespaces={shop}",
            "replicas=2,networkPolicy.enabled=true,image.digest=sha256:0000000000000000000000000000000000000000000000000000000000000000",
        ],
    ),
    (
        "valerix-shop",
        &[
            "",
            "monitoring.prometheus.enabled=true",
            "networkPolicies.enabled=true",
            "networkPolicies.enabled=true,redis.guarded=true,postgres.guarded=true",
            "networkPolicies.enabled=true,monitoring.prometheus.enabled=true,networkPolicies.scrapers[0].ipBlock.cidr=10.9.0.0/16",
            "postgres.enabled=false,redis.enabled=false,ingress.enabled=true,ingress.host=shop.example,ingress.tlsSecret=tls",
            "httpRoute.enabled=true,httpRoute.parentRefs[0].name=public,httpRoute.hostnames={shop.example}",
        ],
    ),
];

/// The values with which the operator's chart is rendered as for a cluster that knows monitors: who reads metrics reaches the
/// pods with each of them.
const SCRAPED: [&str; 3] = [
    "console.enabled=true",
    "console.enabled=true,replicas=2,networkPolicy.enabled=true",
    "console.enabled=true,networkPolicy.enabled=true,metrics.tls.secretName=metrics",
];

/// Values that a chart refuses, each with words of its answer. Those of the inventory have one item as the shop sells it but for
/// one thing.
const REFUSED_VALUES: [(&str, &str, &str); 10] = [
    (
        "valerix",
        r#"image.digest="latest""#,
        "/image/digest': 'latest' does not match",
    ),
    (
        "valerix",
        r#"chaos={"namespaces": ["shop"]},watchNamespaces=["bank"]"#,
        "chaos.namespaces has shop, which is none of watchNamespaces",
    ),
    (
        "valerix-shop",
        r#"inventory.items=[{"id": "a", "quantity": 1, "unitPriceMinor": 0, "currency": "EUR"}]"#,
        "/inventory/items/0/unitPriceMinor': minimum: got 0, want 1",
    ),
    (
        "valerix-shop",
        r#"inventory.items=[{"id": "a", "quantity": 1, "unitPriceMinor": 5000000000, "currency": "EUR"}]"#,
        "/inventory/items/0/unitPriceMinor': maximum",
    ),
    (
        "valerix-shop",
        r#"inventory.items=[{"id": "a", "quantity": 5000000000, "unitPriceMinor": 1, "currency": "EUR"}]"#,
        "/inventory/items/0/quantity': maximum",
    ),
    (
        "valerix-shop",
        r#"inventory.items=[{"id": "two words", "quantity": 1, "unitPriceMinor": 1, "currency": "EUR"}]"#,
        "/inventory/items/0/id': 'two words' does not match",
    ),
    (
        "valerix-shop",
        r#"inventory.items=[{"id": "a", "quantity": 1, "unitPriceMinor": 1, "currency": "EUR"},
                            {"id": "a", "quantity": 2, "unitPriceMinor": 1, "currency": "EUR"}]"#,
        "inventory.items names a twice: give each item one entry",
    ),
    (
        "valerix-shop",
        r#"ingress={"enabled": true}"#,
        "ingress.host: name the host under which the shop is reached",
    ),
    (
        "valerix-shop",
        r#"httpRoute={"enabled": true}"#,
        "httpRoute.parentRefs: name the Gateway that the route belongs to",
    ),
    (
        "valerix",
        r#"chaos.maxDuration="25h""#,
        "/chaos/maxDuration': '25h' does not match",
    ),
];

/// That helm and the schemas of Kubernetes accept what the charts make, and that the charts refuse what they should.
///
/// # Errors
/// With the first that is not so.
pub fn check(paths: &Paths, log: &Log) -> Result<()> {
    let helm = go::HELM.install(paths, log)?;
    let kubeconform = go::KUBECONFORM.install(paths, log)?;
    let kubernetes = schemas::write_kubernetes(paths, log)?;
    let crds = schemas::write_crds(&paths.checkout.join("crds"), &paths.checkout.join("target/schemas"))?;
    let location = |folder: &Path| format!("{}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json", folder.display());
    let conform = || {
        // A kind of the Gateway API, which is no part of Kubernetes: nothing here knows its schema.
        let strict = Program::new(&kubeconform).args(["-strict", "-summary", "-skip", "HTTPRoute"]);
        strict.args([
            "-schema-location",
            &location(&kubernetes),
            "-schema-location",
            &location(&crds),
        ])
    };
    for (chart, variants) in VARIANTS {
        let folder = paths.checkout.join("charts").join(chart);
        Program::new(&helm).args(["lint", "--strict"]).arg(&folder).run(log)?;
        for values in variants {
            let template = Program::new(&helm).args(["template", chart, "--set", values]);
            let rendered = template.arg(&folder).read(log)?;
            redis_bounds::check(&rendered).remedy(format!(
                "see charts/{chart}/templates/redis.yaml with the values '{values}'"
            ))?;
            conform()
                .arg("-")
                .input(rendered)
                .run(log)
                .remedy(format!("see `helm template charts/{chart} --set '{values}'`"))?;
        }
    }
    monitors(paths, &helm, log)?;
    refused_values(paths, &helm, log)?;
    conform().arg(paths.checkout.join("examples")).run(log)
}

/// That the shop's own Prometheus and one that goes by monitors or annotations reach the pods of operator and console.
fn monitors(paths: &Paths, helm: &Path, log: &Log) -> Result<()> {
    let charts = paths.checkout.join("charts");
    let values =
        fs::read_to_string(charts.join("valerix-shop/values.yaml")).context("failed to read the shop's values")?;
    let values: serde_yaml::Value = serde_yaml::from_str(&values).context("the shop's values are no YAML")?;
    let read = &values["monitoring"]["prometheus"];
    let addresses = ["operator", "console"].map(|name| read[name].as_str().unwrap_or_default().to_owned());
    for values in SCRAPED {
        let template = Program::new(helm).args(["template", "valerix", "--set", values]);
        let template = template.args(["--api-versions", "monitoring.coreos.com/v1/ServiceMonitor"]);
        let rendered = template.arg(charts.join("valerix")).read(log)?;
        // The shop's own asks without TLS.
        let addresses = if values.contains("tls") { &[] } else { &addresses[..] };
        scraped::check(&rendered, addresses)
            .remedy(format!("see charts/valerix/templates with the values '{values}'"))?;
    }
    Ok(())
}

fn refused_values(paths: &Paths, helm: &Path, log: &Log) -> Result<()> {
    for (chart, values, words) in REFUSED_VALUES {
        let mut said = String::new();
        let rendered = Program::new(helm)
            .args(["template", chart, "--set-json", values])
            .arg(paths.checkout.join("charts").join(chart))
            .run_seeing(log, |line| said.push_str(line));
        ensure!(rendered.is_err(), "charts/{chart} accepts {values}");
        ensure!(
            said.contains(words),
            "`{words}` is not what charts/{chart} says of {values}: {said}"
        );
    }
    Ok(())
}
