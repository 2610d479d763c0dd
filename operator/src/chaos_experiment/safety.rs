//! The stop order of the whole cluster, read once for all runs.
//!
//! Every run under way asks for it again and again. Were each to ask the API server, hundreds of runs would be hundreds of
//! requests a second; so those that only wait share what one of them was told lately. Whoever acts asks for itself.

use super::error::Error;
use super::step::SOON;
use crate::runtime::Clients;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use valerix_crds::names::SAFETY_CONFIG_MAP;

/// Where the stop order stands, and what it said last.
pub struct Safety {
    clients: Clients,
    namespace: String,
    last: Mutex<Option<Told>>,
}

#[derive(Clone)]
struct Told {
    at: Instant,
    order: Option<String>,
}

impl Safety {
    /// The stop order in the operator's namespace.
    pub fn new(clients: Clients, namespace: &str) -> Self {
        Self {
            clients,
            namespace: namespace.to_owned(),
            last: Mutex::new(None),
        }
    }

    /// Why every experiment must stop, as the API server says at this moment.
    ///
    /// # Errors
    /// When it could not be read: a run that cannot see does not act.
    pub async fn now(&self) -> Result<Option<String>, Error> {
        let maps: Api<ConfigMap> = self.clients.api(&self.namespace);
        let read = maps.get_opt(SAFETY_CONFIG_MAP).await;
        let order = read
            .map(|map| map.as_ref().and_then(stop_order))
            .map_err(|source| Error::read(format!("ConfigMap {SAFETY_CONFIG_MAP}"), source));
        *self.last() = order.as_ref().ok().map(|order| Told {
            at: Instant::now(),
            order: order.clone(),
        });
        order
    }

    /// The same for whoever only waits: what was said within the time between two looks.
    ///
    /// # Errors
    /// When it had to be read and could not be.
    pub async fn lately(&self) -> Result<Option<String>, Error> {
        match self.heard() {
            Some(told) => Ok(told.order),
            None => self.now().await,
        }
    }

    /// What was said lately; when that was too long ago, nothing for the first who asks, who then reads it for all.
    fn heard(&self) -> Option<Told> {
        let mut last = self.last();
        let told = last.as_mut()?;
        if told.at.elapsed() < SOON {
            return Some(told.clone());
        }
        told.at = Instant::now();
        None
    }

    fn last(&self) -> MutexGuard<'_, Option<Told>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why every experiment must stop, if the ConfigMap says so.
pub fn stop_order(map: &ConfigMap) -> Option<String> {
    let data = map.data.as_ref()?;
    let stop = data.get("stop")?.trim();
    let engaged = !stop.is_empty() && !stop.eq_ignore_ascii_case("false");
    engaged.then(|| {
        data.get("reason")
            .cloned()
            .unwrap_or_else(|| "no reason was given".into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_stop_order_is_engaged_by_any_word_but_false() {
        let order = |data: serde_json::Value| {
            stop_order(&serde_json::from_value(json!({"metadata": {"name": "valerix-safety"}, "data": data})).unwrap())
        };
        assert_eq!(
            order(json!({"stop": "true", "reason": "incident"})).as_deref(),
            Some("incident")
        );
        assert_eq!(order(json!({"stop": "yes"})).as_deref(), Some("no reason was given"));
        for data in [
            json!({}),
            json!({"stop": ""}),
            json!({"stop": "False", "reason": "x"}),
            json!({"reason": "x"}),
        ] {
            assert_eq!(order(data), None);
        }
    }
}
