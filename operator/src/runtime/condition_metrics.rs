//! Every object's conditions as gauges, read from the cache when somebody scrapes: an object that is gone is gone here.

use super::{Cache, Runtime};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Resource, ResourceExt, core::NamespaceResourceScope};
use prometheus::{IntGaugeVec, Opts, core::Collector, core::Desc, proto::MetricFamily};
use std::fmt::Debug;

/// Objects of one kind that are shown; of more the first by namespace and name.
pub const MOST_OBJECTS: usize = 2000;

/// Reads an object's conditions.
type Conditions<K> = fn(&K) -> &[Condition];

struct ConditionGauges<K: Resource<DynamicType = ()> + Clone + 'static> {
    cache: Cache<K>,
    conditions: Conditions<K>,
    /// Never filled: what describes the gauges.
    described: IntGaugeVec,
}

fn gauges(kind: &str) -> prometheus::Result<IntGaugeVec> {
    let what = "1 for the status that each condition of an object has now.";
    let options = Opts::new("valerix_resource_condition", what).const_label("kind", kind);
    IntGaugeVec::new(options, &["namespace", "name", "condition", "status"])
}

impl Runtime {
    /// Shows the conditions of every object of `cache` as `valerix_resource_condition`.
    pub fn expose_conditions<K>(&self, cache: &Cache<K>, conditions: Conditions<K>)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + Sync + 'static,
    {
        match gauges(&K::kind(&())) {
            Ok(described) => self.metrics.add(ConditionGauges {
                cache: cache.clone(),
                conditions,
                described,
            }),
            Err(error) => tracing::warn!(%error, "failed to describe the conditions' metric"),
        }
    }
}

impl<K> Collector for ConditionGauges<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Send + Sync + 'static,
{
    fn desc(&self) -> Vec<&Desc> {
        self.described.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let Ok(gauges) = gauges(&K::kind(&())) else {
            return Vec::new();
        };
        let mut objects = self.cache.all();
        if objects.len() > MOST_OBJECTS {
            objects.sort_by_key(|object| (object.namespace(), object.name_any()));
            objects.truncate(MOST_OBJECTS);
        }
        for object in objects {
            let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
            for condition in (self.conditions)(&object) {
                let labels = [&namespace, &name, &condition.type_, &condition.status];
                gauges.with_label_values(&labels.map(String::as_str)).set(1);
            }
        }
        gauges.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        fake_api::FakeApi,
        runtime::{Clients, Identity, Scope, WatchOptions},
    };
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;
    use std::{sync::LazyLock, time::Duration};

    const MAPS: &str = "/api/v1/namespaces/shop/configmaps";
    static READY: LazyLock<[Condition; 1]> = LazyLock::new(|| {
        let ready = json!({"type": "Ready", "status": "True", "reason": "Good", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        [serde_json::from_value(ready).unwrap()]
    });

    fn shown(runtime: &Runtime) -> usize {
        let text = String::from_utf8(runtime.metrics.render()).unwrap();
        text.lines()
            .filter(|line| line.starts_with("valerix_resource_condition{"))
            .count()
    }

    #[tokio::test(start_paused = true)]
    async fn conditions_are_those_of_the_objects_that_are_there_and_no_more_than_so_many() {
        let api = FakeApi::default();
        let identity = Identity {
            pod: "one".into(),
            uid: "one".into(),
        };
        let runtime = Runtime::new(identity, Clients::single(api.client()), vec![Scope::Cluster]);
        let cache = runtime.watch::<ConfigMap>(WatchOptions::new("configmaps"));
        runtime.expose_conditions(&cache, |_| &*READY);
        let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
        api.create(MAPS, map("one"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        let text = String::from_utf8(runtime.metrics.render()).unwrap();
        let line = r#"valerix_resource_condition{condition="Ready",kind="ConfigMap",name="one",namespace="shop",status="True"} 1"#;
        assert!(text.contains(line), "{text}");

        api.delete(&format!("{MAPS}/one"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(shown(&runtime), 0, "it is gone");

        for number in 0..MOST_OBJECTS + 5 {
            api.create(MAPS, map(&format!("map-{number}")));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(cache.all().len(), MOST_OBJECTS + 5);
        assert_eq!(shown(&runtime), MOST_OBJECTS);
    }
}
