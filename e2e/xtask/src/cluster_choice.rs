//! Decides which cluster a command works on. Pure: what was seen goes in, a choice or a refusal comes out.
//!
//! 1. `KUBE_CONTEXT` names a context of the user's kubeconfig. Images then have to be pushed, so `REGISTRY` is needed.
//! 2. kind, when a Docker engine answers. (A `docker` program alone proves nothing: it may be the client only.)
//! 3. The project's own cluster on this host.
//!
//! The current context of a kubeconfig is never used just because it is there: it may be somebody's production.

use std::fmt;

/// What the choice depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `KUBE_CONTEXT`; empty counts as unset.
    pub kube_context: Option<String>,
    /// `REGISTRY`; empty counts as unset.
    pub registry: Option<String>,
    /// Whether `docker info` answered.
    pub docker_engine: bool,
    /// Whether this is Linux, where the project's own cluster can run.
    pub linux: bool,
}

/// The cluster to work on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// A context of the user's kubeconfig; images are pushed to `registry`.
    Context {
        /// The context's name.
        context: String,
        /// Where images are pushed, for example `registry.example.com/team`, without a trailing slash.
        registry: String,
    },
    /// A kind cluster on the Docker engine of this machine.
    Kind,
    /// The project's own cluster on this host (`e2e/cluster`).
    Own,
}

/// Why no cluster can be chosen, with the remedy in the same sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// `KUBE_CONTEXT` without `REGISTRY`.
    RegistryMissing {
        /// The context that was named.
        context: String,
    },
    /// No Docker engine, and not a Linux host.
    NothingToRunOn,
    /// Fake nodes on a cluster that is not the project's own.
    NoFakeNodes,
}

impl Choice {
    /// Fake nodes are what the project's own cluster alone can have.
    ///
    /// # Errors
    /// For any other.
    pub fn may_have_fake_nodes(&self) -> Result<(), Refusal> {
        match self {
            Self::Own => Ok(()),
            Self::Context { .. } | Self::Kind => Err(Refusal::NoFakeNodes),
        }
    }
}

impl Refusal {
    /// What the user can do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::RegistryMissing { .. } => {
                "set REGISTRY=<host>/<path> to a registry that you may push to and the cluster may pull from"
            }
            Self::NothingToRunOn => {
                "start Docker, or run on Linux as root, or name a cluster by KUBE_CONTEXT=<context> REGISTRY=<host>/<path>"
            }
            Self::NoFakeNodes => "run it on Linux as root with KUBE_CONTEXT unset, where no Docker engine answers",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RegistryMissing { context } => {
                write!(
                    formatter,
                    "KUBE_CONTEXT={context} names a cluster, but REGISTRY does not say where its images go"
                )
            }
            Self::NothingToRunOn => formatter.write_str("no Docker engine answers, and this host is not Linux"),
            Self::NoFakeNodes => formatter.write_str(
                "this needs fake nodes, which only the project's own cluster has: KUBE_CONTEXT is set, or a Docker engine answers",
            ),
        }
    }
}

impl std::error::Error for Refusal {}

/// Chooses; the rules are in the module's description.
///
/// # Errors
/// When a context is named without a registry, or nothing here can run a cluster.
pub fn choose(seen: &Seen) -> Result<Choice, Refusal> {
    let set = |value: &Option<String>| value.clone().filter(|value| !value.trim().is_empty());
    if let Some(context) = set(&seen.kube_context) {
        return match set(&seen.registry) {
            Some(registry) => Ok(Choice::Context {
                context,
                registry: registry.trim_end_matches('/').to_owned(),
            }),
            None => Err(Refusal::RegistryMissing { context }),
        };
    }
    if seen.docker_engine {
        return Ok(Choice::Kind);
    }
    if seen.linux {
        return Ok(Choice::Own);
    }
    Err(Refusal::NothingToRunOn)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Seen {
        Seen {
            kube_context: None,
            registry: None,
            docker_engine: false,
            linux: true,
        }
    }

    fn text(value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    #[test]
    fn a_named_context_comes_first() {
        let seen = Seen {
            kube_context: text("prod"),
            registry: text("r.io/x/"),
            docker_engine: true,
            ..nothing()
        };
        let expected = Choice::Context {
            context: "prod".into(),
            registry: "r.io/x".into(),
        };
        assert_eq!(choose(&seen), Ok(expected));
    }

    #[test]
    fn a_context_without_a_registry_is_refused_even_with_docker() {
        for registry in [None, text(""), text("  ")] {
            let seen = Seen {
                kube_context: text("prod"),
                registry,
                docker_engine: true,
                ..nothing()
            };
            let refusal = choose(&seen).expect_err("it is refused");
            assert_eq!(refusal, Refusal::RegistryMissing { context: "prod".into() });
            assert!(refusal.remedy().contains("REGISTRY="));
        }
    }

    #[test]
    fn an_empty_context_is_no_context() {
        assert_eq!(
            choose(&Seen {
                kube_context: text(""),
                ..nothing()
            }),
            Ok(Choice::Own)
        );
    }

    #[test]
    fn a_registry_alone_chooses_nothing() {
        assert_eq!(
            choose(&Seen {
                registry: text("r.io"),
                ..nothing()
            }),
            Ok(Choice::Own)
        );
    }

    #[test]
    fn kind_needs_an_engine_that_answers() {
        assert_eq!(
            choose(&Seen {
                docker_engine: true,
                ..nothing()
            }),
            Ok(Choice::Kind)
        );
        assert_eq!(
            choose(&Seen {
                docker_engine: true,
                linux: false,
                ..nothing()
            }),
            Ok(Choice::Kind)
        );
        assert_eq!(choose(&nothing()), Ok(Choice::Own));
    }

    #[test]
    fn a_foreign_host_without_docker_is_told_what_to_do() {
        assert_eq!(
            choose(&Seen {
                linux: false,
                ..nothing()
            }),
            Err(Refusal::NothingToRunOn)
        );
    }

    #[test]
    fn fake_nodes_are_refused_on_every_cluster_but_the_projects_own() {
        let context = Choice::Context {
            context: "prod".into(),
            registry: "r.io/x".into(),
        };
        for other in [context, Choice::Kind] {
            let refusal = other.may_have_fake_nodes().expect_err("it is refused");
            assert!(refusal.remedy().contains("KUBE_CONTEXT"), "{other:?}");
        }
        assert_eq!(Choice::Own.may_have_fake_nodes(), Ok(()));
    }
}
