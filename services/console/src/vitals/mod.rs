//! How the services are. `scrape` reads what one of their pods answers, `window` keeps half a minute of that. Pure.

mod scrape;
mod window;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;

pub use scrape::Scrape;
pub use window::Window;

/// How a service is.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Vitals {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The last half minute.
    #[serde(flatten)]
    pub moment: Moment,
    /// Whether its requests took longer than a second in the mean.
    pub slow: bool,
    /// Each of its pods, as far as they were asked and may be known.
    pub pods: Vec<PodVitals>,
    /// Why that is not all of them.
    pub left_out: Option<String>,
    /// Whether what processes use is said of the guard's in each pod, as nobody asks the image's own.
    pub guarded: bool,
}

impl Vitals {
    /// The same without its pods, and why.
    pub fn without_pods(&self, why: &str) -> Self {
        Self {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            moment: self.moment.clone(),
            slow: self.slow,
            pods: Vec::new(),
            left_out: Some(why.to_owned()),
            guarded: self.guarded,
        }
    }
}

/// Half a minute of a service. What can not be known, as nothing was asked of it, is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Moment {
    /// When it ended.
    pub at: DateTime<Utc>,
    /// Unit: requests per second.
    pub rate: Option<f64>,
    /// Share of requests that were answered with 5xx, 0 to 1.
    pub errors: Option<f64>,
    /// Unit: seconds.
    pub mean: Option<f64>,
    /// Unit: seconds.
    pub p50: Option<f64>,
    /// Unit: seconds.
    pub p95: Option<f64>,
    /// Unit: seconds.
    pub p99: Option<f64>,
}

/// How a pod is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodVitals {
    /// Its name.
    pub pod: String,
    /// Whether it answered.
    pub answered: bool,
    /// Processors in use.
    pub cpu: Option<f64>,
    /// Unit: bytes.
    pub memory: Option<f64>,
    /// Threads of the process.
    pub threads: Option<f64>,
    /// Unit: seconds.
    pub uptime: Option<f64>,
}
