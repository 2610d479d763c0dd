//! What one pod's metrics say, as far as it is shown. Pure.

use std::collections::BTreeMap;

/// Routes that say nothing of how callers are served.
const OWN_ROUTES: [&str; 4] = ["/health", "/ready", "/openapi.json", "/docs"];

/// The library's own histogram of requests, which a guard has too: what there is of a service that no kit serves.
const LIBRARY: &str = "resilience_request_duration_seconds";
/// The kit's, which knows routes and every status.
const KIT: &str = "http_request_duration_seconds";

/// Counters and gauges of a pod, or what several pods counted together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scrape {
    /// Whether the kit counted the requests; the library otherwise.
    pub by_kit: bool,
    /// Requests that were answered.
    pub requests: f64,
    /// Of these, with 5xx.
    pub failures: f64,
    /// How long they took together. Unit: seconds.
    pub seconds: f64,
    /// Requests that took at most so long; the bound in microseconds, as floats have no order.
    pub buckets: BTreeMap<u64, f64>,
    /// Requests of which it is known how long they took.
    pub timed: f64,
    /// Processor time. Unit: seconds.
    pub cpu_seconds: Option<f64>,
    /// Unit: bytes.
    pub memory: Option<f64>,
    /// Threads of the process.
    pub threads: Option<f64>,
    /// When the process started. Unit: seconds since 1970.
    pub started: Option<f64>,
}

impl Scrape {
    /// Reads the text format of Prometheus; what is not understood is passed over.
    pub fn parse(text: &str) -> Self {
        let (mut scrape, mut library) = (Self::default(), Self::default());
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else {
                continue;
            };
            let Ok(value) = value.parse::<f64>() else { continue };
            if !value.is_finite() {
                continue;
            }
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            scrape.by_kit |= name == "http_requests_total";
            if OWN_ROUTES.iter().any(|route| label(labels, "route") == Some(route)) {
                continue;
            }
            match name {
                "http_requests_total" => {
                    scrape.requests += value;
                    if label(labels, "status").is_some_and(|status| status.starts_with('5')) {
                        scrape.failures += value;
                    }
                }
                "process_cpu_seconds_total" => scrape.cpu_seconds = Some(value),
                "process_resident_memory_bytes" => scrape.memory = Some(value),
                "process_threads" => scrape.threads = Some(value),
                "process_start_time_seconds" => scrape.started = Some(value),
                _ => {
                    if let Some(part) = name.strip_prefix(KIT) {
                        scrape.time(part, labels, value);
                    } else if let Some(part) = name.strip_prefix(LIBRARY) {
                        library.time(part, labels, value);
                        if part == "_count" {
                            library.requests += value;
                            if label(labels, "class").is_some_and(|class| class.starts_with('5')) {
                                library.failures += value;
                            }
                        }
                    }
                }
            }
        }
        if scrape.by_kit {
            return scrape;
        }
        Self {
            cpu_seconds: scrape.cpu_seconds,
            memory: scrape.memory,
            threads: scrape.threads,
            started: scrape.started,
            ..library
        }
    }

    /// Takes one line of a histogram of requests.
    fn time(&mut self, part: &str, labels: &str, value: f64) {
        match part {
            "_sum" => self.seconds += value,
            "_count" => self.timed += value,
            "_bucket" => {
                let bound = label(labels, "le").and_then(|bound| bound.parse::<f64>().ok());
                if let Some(bound) = bound.filter(|bound| bound.is_finite() && *bound >= 0.0) {
                    *self.buckets.entry((bound * 1e6) as u64).or_default() += value;
                }
            }
            _ => {}
        }
    }

    /// What was counted since `before`; none when the process has begun anew since, or something else counts.
    pub fn since(&self, before: &Self) -> Option<Self> {
        let another = self.started != before.started || self.by_kit != before.by_kit;
        if another || self.requests < before.requests || self.timed < before.timed {
            return None;
        }
        let earlier = |bound: &u64| before.buckets.get(bound).copied().unwrap_or_default();
        Some(Self {
            requests: self.requests - before.requests,
            failures: self.failures - before.failures,
            seconds: self.seconds - before.seconds,
            timed: self.timed - before.timed,
            buckets: self
                .buckets
                .iter()
                .map(|(bound, count)| (*bound, count - earlier(bound)))
                .collect(),
            cpu_seconds: self.cpu_seconds.zip(before.cpu_seconds).map(|(now, then)| now - then),
            ..self.clone()
        })
    }

    /// Adds the counts of another pod.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.failures += other.failures;
        self.seconds += other.seconds;
        self.timed += other.timed;
        for (bound, count) in &other.buckets {
            *self.buckets.entry(*bound).or_default() += count;
        }
    }

    /// How long a request took in the mean. Unit: seconds.
    pub fn mean(&self) -> Option<f64> {
        (self.timed > 0.0).then(|| self.seconds / self.timed)
    }

    /// How long the share `of` of the requests took at most, between the bounds of its bucket in proportion; the last bound
    /// where it took longer. Unit: seconds.
    pub fn quantile(&self, of: f64) -> Option<f64> {
        if self.timed <= 0.0 {
            return None;
        }
        let wanted = self.timed * of;
        let (mut below, mut lower) = (0.0, 0.0);
        for (bound, count) in &self.buckets {
            let upper = *bound as f64 / 1e6;
            if *count >= wanted && *count > below {
                return Some(lower + (upper - lower) * ((wanted - below) / (count - below)).clamp(0.0, 1.0));
            }
            (below, lower) = (*count, upper);
        }
        (!self.buckets.is_empty()).then_some(lower)
    }
}

/// The value of a label; escapes do not occur in those that are looked for.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split(',').find_map(|label| {
        let (key, value) = label.split_once('=')?;
        (key.trim() == name).then(|| value.trim_start_matches('"').split('"').next().unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# HELP http_requests_total Requests answered
http_requests_total{method=\"GET\",route=\"/ready\",status=\"200\"} 900
http_requests_total{method=\"POST\",route=\"/api/orders\",status=\"201\"} 8
http_requests_total{method=\"POST\",route=\"/api/orders\",status=\"503\"} 2
http_request_duration_seconds_bucket{method=\"POST\",route=\"/api/orders\",le=\"0.1\"} 5
http_request_duration_seconds_bucket{method=\"POST\",route=\"/api/orders\",le=\"1\"} 9
http_request_duration_seconds_bucket{method=\"POST\",route=\"/api/orders\",le=\"+Inf\"} 10
http_request_duration_seconds_sum{method=\"POST\",route=\"/api/orders\"} 20
http_request_duration_seconds_count{method=\"POST\",route=\"/api/orders\"} 10
process_threads 7
process_resident_memory_bytes 1048576
process_start_time_seconds 100
a line that is none
process_cpu_seconds_total NaN
";

    #[test]
    fn what_is_shown_is_read_and_health_is_not_counted() {
        let scrape = Scrape::parse(TEXT);
        assert_eq!((scrape.requests, scrape.failures, scrape.timed), (10.0, 2.0, 10.0));
        assert_eq!(
            (scrape.mean(), scrape.threads, scrape.cpu_seconds),
            (Some(2.0), Some(7.0), None)
        );
        assert_eq!(scrape.quantile(0.5), Some(0.1));
        assert_eq!(scrape.quantile(0.7), Some(0.55));
        assert_eq!(
            scrape.quantile(0.99),
            Some(1.0),
            "beyond the last bound nothing is known but that"
        );
    }

    #[test]
    fn where_no_kit_counts_the_library_does() {
        let library = "\
resilience_request_duration_seconds_bucket{class=\"2xx\",le=\"0.1\"} 6
resilience_request_duration_seconds_bucket{class=\"2xx\",le=\"+Inf\"} 6
resilience_request_duration_seconds_sum{class=\"2xx\"} 1
resilience_request_duration_seconds_count{class=\"2xx\"} 6
resilience_request_duration_seconds_bucket{class=\"5xx\",le=\"0.1\"} 1
resilience_request_duration_seconds_bucket{class=\"5xx\",le=\"+Inf\"} 2
resilience_request_duration_seconds_sum{class=\"5xx\"} 3
resilience_request_duration_seconds_count{class=\"5xx\"} 2
process_threads 3
";
        let scrape = Scrape::parse(library);
        assert_eq!((scrape.requests, scrape.failures, scrape.timed), (8.0, 2.0, 8.0));
        assert_eq!(
            (scrape.mean(), scrape.quantile(0.99), scrape.threads),
            (Some(0.5), Some(0.1), Some(3.0))
        );
        let both = Scrape::parse(&format!("{library}{TEXT}"));
        assert_eq!(both.requests, 10.0, "what both count is counted once");
        let waits = "http_requests_total{method=\"GET\",route=\"/ready\",status=\"200\"} 900\n";
        let idle = Scrape::parse(&format!("{library}{waits}"));
        assert_eq!(idle.requests, 0.0, "probes alone do not make the library speak");
        assert_eq!(idle.since(&scrape), None, "another counts than before");
    }

    #[test]
    fn a_process_that_began_anew_has_no_difference() {
        let first = Scrape::parse(TEXT);
        let later = Scrape {
            requests: 15.0,
            ..first.clone()
        };
        assert_eq!(later.since(&first).map(|difference| difference.requests), Some(5.0));
        assert_eq!(first.since(&later), None, "a counter went back");
        let restarted = Scrape {
            started: Some(200.0),
            ..later
        };
        assert_eq!(restarted.since(&first), None);
    }

    #[test]
    fn nothing_was_asked_nothing_is_known() {
        let nothing = Scrape::default();
        assert_eq!((nothing.mean(), nothing.quantile(0.5)), (None, None));
        assert_eq!(Scrape::parse("{} {} 5\n\u{0} x\n{ 1"), Scrape::default());
    }
}
