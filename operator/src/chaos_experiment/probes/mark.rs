//! What every question of a probe carries, so that whoever is asked can tell it from a customer's.
//!
//! Pure.

use crate::chaos_experiment::identity::EntryName;
use http::HeaderValue;
use uuid::Uuid;
use valerix_policy::PROBE_HEADER;

/// The header of W3C Trace Context.
const TRACE_HEADER: &str = "traceparent";

/// Whose questions they are.
#[derive(Clone, Debug)]
pub struct Mark {
    /// The experiment's namespace, in which services are looked for.
    pub namespace: String,
    value: HeaderValue,
}

impl Mark {
    /// The mark of a run.
    pub fn new(namespace: &str, name: &EntryName) -> Self {
        let text = format!("{namespace}/{}/{}", name.experiment, name.run);
        Self {
            namespace: namespace.to_owned(),
            // A run's identity is visible ASCII, or its hash.
            value: HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("unknown")),
        }
    }

    /// Marks a question. It begins a trace of its own that nobody is to record: a thousand of them would hide what
    /// customers did.
    pub fn put(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        let trace = Uuid::new_v4().simple().to_string();
        let span = Uuid::new_v4().simple().to_string();
        let context = format!("00-{trace}-{}-00", span.get(..16).unwrap_or_default());
        request
            .header(PROBE_HEADER, self.value.clone())
            .header(TRACE_HEADER, context)
    }
}

#[cfg(test)]
pub mod testing {
    use super::*;

    /// The mark of run `run` of experiment `slow` in `shop`.
    pub fn mark() -> Mark {
        let name = EntryName {
            experiment: "slow".into(),
            uid: "uid".into(),
            intent: 7,
            run: "run".into(),
        };
        Mark::new("shop", &name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_run_of_the_longest_name_is_a_header() {
        let name = EntryName {
            experiment: "x".repeat(63),
            uid: "uid".into(),
            intent: 0,
            run: "~".repeat(128),
        };
        let mark = Mark::new(&"n".repeat(63), &name);
        assert_eq!(mark.value.len(), 63 + 1 + 63 + 1 + 128);
    }

    #[test]
    fn each_question_has_a_trace_of_its_own_that_is_not_recorded() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mark = testing::mark();
        let client = reqwest::Client::new();
        let ask = || mark.put(client.get("http://order/")).build().unwrap();
        let (one, other) = (ask(), ask());
        assert_eq!(one.headers()[PROBE_HEADER], "shop/slow/run");
        let context = one.headers()[TRACE_HEADER].to_str().unwrap();
        let parts: Vec<_> = context.split('-').map(str::len).collect();
        assert_eq!(parts, [2, 32, 16, 2], "{context}");
        assert!(context.starts_with("00-") && context.ends_with("-00"), "{context}");
        assert_ne!(one.headers()[TRACE_HEADER], other.headers()[TRACE_HEADER]);
    }
}
