//! What the tests are told by environment variables. A missing one fails the run and says what sets it.

use anyhow::{Context, Result};
use serde::Deserialize;
use std::{collections::BTreeMap, env, path::PathBuf};

/// Where the cluster is, which images to install, and the programs to use.
#[derive(Clone, Debug)]
pub struct Environment {
    /// Kubeconfig of a cluster that may be changed at will (`VALERIX_E2E_KUBECONFIG`).
    pub kubeconfig: PathBuf,
    /// Image reference by role (`VALERIX_IMAGES`, a JSON object).
    pub images: Images,
    /// Helm 4 (`VALERIX_HELM`).
    pub helm: PathBuf,
    /// kubectl (`VALERIX_KUBECTL`).
    pub kubectl: PathBuf,
    /// The API server's audit log (`VALERIX_CLUSTER_AUDIT_LOG`); only the project's own cluster has one to read.
    pub audit_log: Option<PathBuf>,
    /// The operator as a program of this host (`VALERIX_OPERATOR_BINARY`), for the tests that kill it at a request.
    pub operator_binary: Option<PathBuf>,
    /// The program of the project's own cluster (`VALERIX_CLUSTER_PROGRAM`), for the test that loses a node.
    pub cluster_program: Option<PathBuf>,
    /// An S3 server as a program (`VALERIX_STORE_PROGRAM`) that runs in any image, for the test that loses all but a bucket.
    pub store_program: Option<PathBuf>,
    /// More values of the shop's chart (`VALERIX_SHOP_VALUES`), as `redis.guarded=true,postgres.guarded=true`.
    pub shop_values: Option<String>,
    /// The project's folder.
    pub root: PathBuf,
}

/// Image references by role.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct Images(BTreeMap<String, String>);

impl Images {
    /// The reference of a role, for example `order`.
    ///
    /// # Errors
    /// If the role is not among the images.
    pub fn of(&self, role: &str) -> Result<&str> {
        self.0
            .get(role)
            .map(String::as_str)
            .with_context(|| format!("VALERIX_IMAGES has no image of `{role}`"))
    }
}

impl Environment {
    /// Reads the variables.
    ///
    /// # Errors
    /// If one that is needed is missing or unreadable; the message says that `make e2e` sets it.
    pub fn read() -> Result<Self> {
        let required = |name: &str| {
            env::var_os(name).with_context(|| format!("{name} is not set; run the tests by `make e2e`, which sets it"))
        };
        let images = required("VALERIX_IMAGES")?;
        Ok(Self {
            kubeconfig: required("VALERIX_E2E_KUBECONFIG")?.into(),
            images: serde_json::from_str(&images.to_string_lossy())
                .context("VALERIX_IMAGES is not a JSON object of texts")?,
            helm: required("VALERIX_HELM")?.into(),
            kubectl: required("VALERIX_KUBECTL")?.into(),
            audit_log: env::var_os("VALERIX_CLUSTER_AUDIT_LOG").map(Into::into),
            operator_binary: env::var_os("VALERIX_OPERATOR_BINARY").map(Into::into),
            cluster_program: env::var_os("VALERIX_CLUSTER_PROGRAM").map(Into::into),
            store_program: env::var_os("VALERIX_STORE_PROGRAM").map(Into::into),
            shop_values: env::var("VALERIX_SHOP_VALUES").ok(),
            root: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(".."),
        })
    }
}
