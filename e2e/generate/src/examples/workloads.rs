//! Every Deployment of two applications that many know, as ResilientServices: what their manifests say of images, ports,
//! variables, probes, resources, volumes and users, in the words of the kind. What they leave open is the kind's own
//! default: restricted, under an account of the service's name, spread over nodes.

pub mod online_boutique;
pub mod sock_shop;

use super::{Object, object};
use anyhow::Result;
use std::collections::BTreeMap;
use valerix_crds::{
    ContainerPort, EnvVar, Lifecycle, ReportProtocol, Resilience, ResilientService, ResilientServiceSpec,
};

/// A service under the name that its application calls it by. Its image knows nothing of us, and its pods keep the label
/// that Services and policies of the application select.
fn workload(label: &str, name: &str, spec: ResilientServiceSpec) -> Result<Object> {
    object(&ResilientService::new(
        name,
        ResilientServiceSpec {
            pod_labels: texts([(label, name)]),
            resilience: Some(Resilience {
                protocol: Some(ReportProtocol::None),
                ..Default::default()
            }),
            ..spec
        },
    ))
}

fn texts<const N: usize>(entries: [(&str, &str); N]) -> BTreeMap<String, String> {
    entries.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
}

fn variables(entries: &[(&str, &str)]) -> Vec<EnvVar> {
    let entries = entries.iter().map(|(name, value)| EnvVar {
        name: (*name).to_owned(),
        value: Some((*value).to_owned()),
        value_from: None,
    });
    entries.collect()
}

/// A port that the Service offers under the same number.
fn port(name: &str, number: i32) -> ContainerPort {
    ContainerPort {
        name: name.into(),
        container_port: number,
        service_port: None,
    }
}

/// The process has the whole of its time to end, as in pods that say nothing of a pause.
fn no_pause() -> Result<Option<Lifecycle>> {
    Ok(Some(Lifecycle {
        pre_stop_sleep: Some(super::duration("0s")?),
    }))
}
