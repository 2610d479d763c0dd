//! Kubernetes Events of one controller, without floods: the same reason with the same text is said once in a while.

use super::clients::Clients;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// The same event of the same object is not repeated before this has passed.
const REPEAT_AFTER: Duration = Duration::from_secs(600);
/// The API server refuses longer notes.
const NOTE_LIMIT: usize = 1000;

/// Something that is worth an event.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    /// Whether it is as it should be: a Normal event, or else a Warning.
    pub good: bool,
    /// One CamelCase word.
    pub reason: Cow<'static, str>,
    /// What was going on, one word; events of the same reason and action are one series.
    pub action: Cow<'static, str>,
    /// A sentence.
    pub note: String,
    /// What it is about, where that is another object than the one that is reconciled.
    pub about: Option<ObjectReference>,
}

impl News {
    /// Something that went as it should.
    pub fn good(
        reason: impl Into<Cow<'static, str>>,
        action: impl Into<Cow<'static, str>>,
        note: impl Into<String>,
    ) -> Self {
        Self {
            good: true,
            reason: reason.into(),
            action: action.into(),
            note: note.into(),
            about: None,
        }
    }

    /// Something that deserves a look.
    pub fn bad(
        reason: impl Into<Cow<'static, str>>,
        action: impl Into<Cow<'static, str>>,
        note: impl Into<String>,
    ) -> Self {
        Self {
            good: false,
            ..Self::good(reason, action, note)
        }
    }

    /// The same about another object, for example a pod that was hurt.
    #[must_use]
    pub fn about(self, reference: ObjectReference) -> Self {
        Self {
            about: Some(reference),
            ..self
        }
    }
}

/// UID of the object, and the reason.
type EventKey = (String, String);

/// The recorder of one controller.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
    said: Arc<Mutex<HashMap<EventKey, (String, Instant)>>>,
}

impl Events {
    /// A recorder that reports as `controller` from `instance`.
    pub fn new(clients: &Clients, controller: &'static str, instance: &str) -> Self {
        let reporter = Reporter {
            controller: format!("{}/{controller}", super::FIELD_MANAGER),
            instance: Some(instance.to_owned()),
        };
        Self {
            recorder: Recorder::new(clients.write.clone(), reporter),
            said: Arc::default(),
        }
    }

    /// Tells every news of `object`, in order.
    pub async fn tell<K: Resource<DynamicType = ()>>(&self, object: &K, news: impl IntoIterator<Item = News>) {
        for news in news {
            let kind = if news.good {
                EventType::Normal
            } else {
                EventType::Warning
            };
            let reference = news.about.unwrap_or_else(|| object.object_ref(&()));
            self.publish(&reference, kind, &news.reason, &news.action, &news.note)
                .await;
        }
    }

    /// Tells of something that went as it should. `reason` and `action` are CamelCase words.
    pub async fn normal<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &str, action: &str, note: &str) {
        self.publish(&object.object_ref(&()), EventType::Normal, reason, action, note)
            .await;
    }

    /// Tells of something that deserves a look.
    pub async fn warning<K: Resource<DynamicType = ()>>(&self, object: &K, reason: &str, action: &str, note: &str) {
        self.publish(&object.object_ref(&()), EventType::Warning, reason, action, note)
            .await;
    }

    /// Tells of something about the object of `reference`. A failure to tell is logged, nothing else.
    pub async fn publish(&self, reference: &ObjectReference, kind: EventType, reason: &str, action: &str, note: &str) {
        if !self.is_news(reference, reason, note, Instant::now()) {
            return;
        }
        let event = Event {
            type_: kind,
            reason: reason.to_owned(),
            note: Some(note.chars().take(NOTE_LIMIT).collect()),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, reference).await {
            tracing::warn!(
                error = super::failure::chain(&error),
                reason,
                "failed to record an event"
            );
        }
    }

    fn is_news(&self, reference: &ObjectReference, reason: &str, note: &str, now: Instant) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|_, (_, at)| now.duration_since(*at) < REPEAT_AFTER);
        let key = (reference.uid.clone().unwrap_or_default(), reason.to_owned());
        if said.get(&key).is_some_and(|(text, _)| text == note) {
            return false;
        }
        said.insert(key, (note.to_owned(), now));
        true
    }
}
