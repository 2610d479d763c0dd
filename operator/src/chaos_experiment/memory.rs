//! What this process remembers of experiments between two looks: nothing that a decision after a restart would miss.

use super::faults::pod_kill::EvictionResult;
use super::identity::EntryName;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Namespace and name of an experiment.
pub type Key = (String, String);

/// Memory of every experiment that this process looked at.
#[derive(Default)]
pub struct Memory(Mutex<HashMap<Key, Notes>>);

#[derive(Default)]
struct Notes {
    uid: String,
    /// The run that the evictions are of, by its entry.
    run: String,
    /// What this process was answered to its evictions, by pod UID.
    evictions: HashMap<String, EvictionResult>,
}

impl Memory {
    /// Notes which object has this name; says which one had it before, if that is gone unseen.
    pub fn note(&self, key: &Key, uid: &str) -> Option<String> {
        let mut all = self.lock();
        let notes = all.entry(key.clone()).or_default();
        if notes.uid == uid {
            return None;
        }
        let before = std::mem::replace(
            notes,
            Notes {
                uid: uid.to_owned(),
                ..Notes::default()
            },
        );
        (!before.uid.is_empty()).then_some(before.uid)
    }

    /// Notes the answer to an eviction.
    pub fn evicted(&self, key: &Key, run: &EntryName, pod_uid: String, result: EvictionResult) {
        let mut all = self.lock();
        let notes = all.entry(key.clone()).or_default();
        let run = run.text();
        if notes.run != run {
            notes.run = run;
            notes.evictions.clear();
        }
        notes.evictions.insert(pod_uid, result);
    }

    /// What was answered to the evictions of this run.
    pub fn evictions(&self, key: &Key, run: &EntryName) -> HashMap<String, EvictionResult> {
        let all = self.lock();
        let notes = all.get(key).filter(|notes| notes.run == run.text());
        notes.map(|notes| notes.evictions.clone()).unwrap_or_default()
    }

    /// Forgets an object that is gone; says which it was.
    pub fn forget(&self, key: &Key) -> Option<String> {
        self.lock().remove(key).map(|notes| notes.uid)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Notes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_that_took_the_name_of_another_tells_of_it() {
        let (memory, key) = (Memory::default(), ("shop".to_owned(), "slow".to_owned()));
        assert_eq!(memory.note(&key, "first"), None);
        assert_eq!(memory.note(&key, "first"), None);
        assert_eq!(memory.note(&key, "second").as_deref(), Some("first"));
        assert_eq!(memory.forget(&key).as_deref(), Some("second"));
    }
}
