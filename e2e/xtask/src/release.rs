//! Installs both charts by Helm: the operator into `valerix-system`, the reference shop into `shop`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::clusters::Access;
use crate::command::Program;
use crate::failure::WithRemedy;
use crate::paths::Paths;
use crate::steps::Log;
use crate::tools::go;

/// Namespace of the operator.
pub const OPERATOR_NAMESPACE: &str = "valerix-system";
/// Namespace of the shop.
pub const SHOP_NAMESPACE: &str = "shop";

/// Helm on one cluster.
pub struct Helm<'a> {
    program: PathBuf,
    paths: &'a Paths,
    access: &'a Access,
}

impl<'a> Helm<'a> {
    /// The pinned Helm on the cluster of `access`.
    pub fn new(paths: &'a Paths, access: &'a Access) -> Self {
        Self {
            program: go::HELM.path(paths),
            paths,
            access,
        }
    }

    /// Installs or upgrades the operator with its CRDs.
    ///
    /// # Errors
    /// When Helm fails, or the operator is not ready in time.
    pub fn install_operator(&self, images: &BTreeMap<String, String>, log: &Log) -> Result<()> {
        self.install("valerix", OPERATOR_NAMESPACE, &operator_values(images)?, log)
    }

    /// Installs or upgrades the shop with its PostgreSQL and Redis.
    ///
    /// # Errors
    /// When Helm fails, or the shop is not ready in time.
    pub fn install_shop(&self, images: &BTreeMap<String, String>, log: &Log) -> Result<()> {
        self.install("valerix-shop", SHOP_NAMESPACE, &shop_values(images), log)
    }

    fn install(&self, chart: &str, namespace: &str, values: &Value, log: &Log) -> Result<()> {
        Program::new(&self.program)
            .args(["upgrade", "--install", chart])
            .arg(self.paths.checkout.join("charts").join(chart))
            .args([
                "--namespace",
                namespace,
                "--create-namespace",
                // What somebody patched by hand (the demo does) goes back to what the chart says.
                "--force-conflicts",
                "--wait",
                "--timeout",
                "5m",
                "--values",
                "-",
            ])
            .env("KUBECONFIG", &self.access.kubeconfig)
            .input(values.to_string())
            .run(log)
            .remedy(format!(
                "see what is not ready: kubectl --kubeconfig {} get pods,events --namespace {namespace}",
                self.access.kubeconfig.display()
            ))
    }
}

/// Values of charts/valerix.
fn operator_values(images: &BTreeMap<String, String>) -> Result<Value> {
    let image = |role: &str| {
        images
            .get(role)
            .with_context(|| format!("there is no image for {role}"))
    };
    let (repository, tag) = image("operator")?
        .rsplit_once(':')
        .context("the operator's image has no tag")?;
    Ok(json!({
        "image": {"repository": repository, "tag": tag},
        "chaos": {"namespaces": [SHOP_NAMESPACE]},
        "backup": {"image": image("backup")?},
    }))
}

/// Values of charts/valerix-shop.
fn shop_values(images: &BTreeMap<String, String>) -> Value {
    let of_the_shop = ["order", "inventory", "payment", "processor", "postgres", "redis"];
    let images: BTreeMap<_, _> = images
        .iter()
        .filter(|(role, _)| of_the_shop.contains(&role.as_str()))
        .collect();
    json!({"images": images})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images() -> BTreeMap<String, String> {
        let roles = [
            "operator",
            "backup",
            "order",
            "inventory",
            "payment",
            "processor",
            "postgres",
            "redis",
        ];
        roles
            .into_iter()
            .map(|role| (role.to_owned(), format!("r.io:5000/valerix/{role}:1")))
            .collect()
    }

    #[test]
    fn a_registrys_port_is_not_taken_for_a_tag() {
        let values = operator_values(&images()).expect("values");
        assert_eq!(
            values["image"],
            json!({"repository": "r.io:5000/valerix/operator", "tag": "1"})
        );
    }

    #[test]
    fn the_shop_gets_its_images_only() {
        let values = shop_values(&images());
        assert_eq!(values["images"].as_object().expect("images").len(), 6);
        assert_eq!(values["images"].get("operator"), None);
    }
}
