//! Why `verify` has no verdict.

use crate::runtime::failure;

/// Why there is no verdict; a sentence with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("failed to read {file}: {source}")]
    Unreadable {
        /// Which.
        file: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not one experiment that may run.
    #[error("failed to take {file}: {what}")]
    File {
        /// Which.
        file: String,
        /// What it is instead, and the remedy.
        what: String,
    },
    /// There is no way to a cluster.
    #[error("failed to find a cluster: {why}; set KUBECONFIG, or name a context of it with --context")]
    NoCluster {
        /// What was tried.
        why: String,
    },
    /// The cluster does not know the kind.
    #[error(
        "failed to find kind ChaosExperiment in the cluster: its CustomResourceDefinition chaosexperiments.resilience.valerix.io is missing; install the chart valerix"
    )]
    NoKind,
    /// What was asked for is not there.
    #[error("failed to find {what}")]
    NotFound {
        /// What, and the remedy.
        what: String,
    },
    /// The experiment may not run.
    #[error("failed to run experiment {name}: {why}")]
    Refused {
        /// Which.
        name: String,
        /// Why, and the remedy.
        why: String,
    },
    /// The API server refused or did not answer.
    #[error("failed to {doing}: {why}")]
    Api {
        /// What was being done.
        doing: String,
        /// What the API server or the way to it answered.
        why: String,
    },
    /// The experiment went away.
    #[error("failed to see the end of the run: experiment {name} was deleted, which stopped it")]
    Deleted {
        /// Which.
        name: String,
    },
    /// There was no verdict in time.
    #[error("failed to get a verdict within {seconds}s: {why}; {stopped}")]
    Late {
        /// How long was waited.
        seconds: u64,
        /// What the run was doing.
        why: String,
        /// What became of the run.
        stopped: String,
    },
    /// Somebody interrupted before there was a verdict.
    #[error("interrupted: {stopped}")]
    Interrupted {
        /// What became of the run.
        stopped: String,
    },
    /// A report cannot be written.
    #[error("failed to write {file}: {source}; name a file in a directory that exists and may be written to")]
    Report {
        /// Which.
        file: String,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    /// What the API server answered to `doing`, as a sentence for whoever asked.
    pub fn api(doing: &str, name: &str, source: &kube::Error) -> Self {
        let doing = format!("{doing} experiment {name}");
        let kube::Error::Api(status) = source else {
            return Self::Api {
                doing,
                why: failure::chain(source),
            };
        };
        let of = status.details.as_ref().map(|details| details.kind.as_str());
        match (status.code, of) {
            (404, Some("namespaces")) => Self::NotFound {
                what: format!("the namespace: {}; create it or correct it", status.message),
            },
            // A path that the API server does not serve is answered without the name of an object.
            (404, None | Some("")) => Self::NoKind,
            (404, _) => Self::NotFound {
                what: format!(
                    "experiment {name}: {}; correct the name or the namespace, or name its file with -f",
                    status.message
                ),
            },
            (403, _) => Self::Api {
                doing,
                why: format!(
                    "{}; verify needs get, list, watch, create, update and patch on chaosexperiments of the namespace",
                    status.message
                ),
            },
            _ => Self::Api {
                doing,
                why: status.message.clone(),
            },
        }
    }
}
