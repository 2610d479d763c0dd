//! Kinds that somebody else defines: they come and go with their CustomResourceDefinition, which is watched by name.

use super::{Presence, Runtime, cache::watch::patient, failure};
use futures::StreamExt;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api,
    core::PartialObjectMeta,
    runtime::watcher::{self, Event},
};
use tokio::sync::watch;

impl Runtime {
    /// Follows the definition of this name, such as `servicemonitors.monitoring.coreos.com`. Who may not read it is told
    /// that the kind is absent: nothing of it can be written then either.
    pub fn watch_definition(&self, name: &'static str) -> watch::Receiver<Presence> {
        let (sender, receiver) = watch::channel(Presence::Unknown);
        let api: Api<PartialObjectMeta<CustomResourceDefinition>> = Api::all(self.clients.read.clone());
        let config = super::cache::watch_config(None).fields(&format!("metadata.name={name}"));
        let shutdown = self.shutdown.clone();
        let errors = self.metrics.watch_errors.clone();
        self.spawn("definitions", async move {
            let events = patient(watcher::watcher(api, config)).take_until(shutdown.cancelled_owned());
            let mut events = std::pin::pin!(events);
            let mut listed = Presence::Absent;
            while let Some(event) = events.next().await {
                let found = match event {
                    Ok(Event::Init) => {
                        listed = Presence::Absent;
                        continue;
                    }
                    Ok(Event::InitApply(definition)) => {
                        listed = presence(&definition);
                        continue;
                    }
                    Ok(Event::InitDone) => listed,
                    Ok(Event::Apply(definition)) => presence(&definition),
                    Ok(Event::Delete(_)) => Presence::Absent,
                    Err(error) => {
                        errors.with_label_values(&["customresourcedefinitions"]).inc();
                        tracing::warn!(
                            name,
                            error = failure::chain(&error),
                            "watch of a definition failed; it is opened again"
                        );
                        match error {
                            watcher::Error::InitialListFailed(source) if failure::is_status(&source, 403) => {
                                Presence::Absent
                            }
                            _ => continue,
                        }
                    }
                };
                sender.send_if_modified(|known| {
                    let is_news = *known != found;
                    *known = found;
                    is_news
                });
            }
        });
        receiver
    }
}

/// One that is being deleted takes its objects with it: whoever writes one now is refused, or writes it in vain.
fn presence(definition: &PartialObjectMeta<CustomResourceDefinition>) -> Presence {
    match definition.metadata.deletion_timestamp {
        Some(_) => Presence::Absent,
        None => Presence::Present,
    }
}
