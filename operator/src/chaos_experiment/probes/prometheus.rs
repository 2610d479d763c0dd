//! Asks a Prometheus for one number and compares it. Reads the network; writes nothing.
//!
//! A query that does not come to one number proves nothing about the system, so it is never a pass and never a failure: the
//! question could not be asked, and the text says what came instead.

use super::address::{Resolver, Unresolved};
use super::http::{BODY_LIMIT, MOST, answer};
use super::mark::Mark;
use super::samples::ProbeResult;
use crate::allowed_url::refusal;
use crate::runtime::failure;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde_json::Value;
use std::cmp::Ordering;
use std::net::SocketAddr;
use std::sync::Arc;
use valerix_crds::{Comparator, PrometheusProbe};

/// The port of a Prometheus that does not say otherwise.
const USUAL_PORT: i32 = 9090;

/// Asks questions; cheap to clone.
#[derive(Clone)]
pub struct PrometheusAsker {
    client: reqwest::Client,
}

impl PrometheusAsker {
    /// A client without redirects, proxies and cookies that never connects to the node that it runs on.
    ///
    /// # Errors
    /// If the TLS library cannot be set up.
    pub fn new() -> Result<Self, reqwest::Error> {
        Ok(Self {
            client: builder().build()?,
        })
    }

    /// Asks once.
    pub async fn ask(&self, resolver: &dyn Resolver, mark: &Mark, question: &PrometheusProbe) -> ProbeResult {
        match tokio::time::timeout(MOST, self.number(resolver, mark, question)).await {
            Ok(Ok(number)) => compare(question, number),
            Ok(Err(why)) => ProbeResult::NotAsked(why.into()),
            Err(_) => ProbeResult::NotAsked(format!("Prometheus gave no whole answer within {MOST:?}").into()),
        }
    }

    async fn number(&self, resolver: &dyn Resolver, mark: &Mark, question: &PrometheusProbe) -> Result<f64, String> {
        let (namespace, mut host) = (mark.namespace.as_str(), None);
        let base = match (&question.service, &question.url) {
            (Some(service), _) => {
                let port = question.port.unwrap_or(USUAL_PORT);
                let port = u16::try_from(port).map_err(|_| format!("port {port} is no TCP port"))?;
                let address = resolver
                    .resolve(namespace, service, port)
                    .await
                    .map_err(|error| match error {
                        Unresolved::NotAsked(why) | Unresolved::NobodyThere(why) => why
                            .replace("http.service", "prometheus.service")
                            .replace("http.port", "prometheus.port"),
                    })?;
                host = Some(format!("{service}.{namespace}.svc"));
                format!("http://{address}")
            }
            (None, Some(url)) => url.trim_end_matches('/').to_owned(),
            (None, None) => return Err("set exactly one of prometheus.service and prometheus.url".into()),
        };
        let request = self.client.get(format!("{base}/api/v1/query"));
        let mut request = mark
            .put(request)
            .query(&[("query", question.query.as_str()), ("timeout", "5s")]);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let (status, body) = answer(request)
            .await
            .map_err(|error| format!("Prometheus did not answer: {}", failure::chain(&error)))?;
        one_number(status, &body)
    }
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .http1_only()
        .pool_max_idle_per_host(0)
        .dns_resolver(Arc::new(Elsewhere))
        .user_agent("valerix-probe")
}

/// Resolves names, and leaves out what no probe may reach whoever allows it: what it connects to is what was checked.
struct Elsewhere;

impl Resolve for Elsewhere {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let refused = found.iter().find_map(|address| refusal(address.ip()));
            let allowed: Vec<_> = found
                .into_iter()
                .filter(|address| refusal(address.ip()).is_none())
                .collect();
            match (allowed.is_empty(), refused) {
                (true, Some(what)) => {
                    let why = format!("{} leads to {what}; a probe must not ask there", name.as_str());
                    Err(why.into())
                }
                _ => Ok(Box::new(allowed.into_iter()) as Addrs),
            }
        })
    }
}

/// The one number of an answer, or what the answer is instead.
fn one_number(status: u16, body: &[u8]) -> Result<f64, String> {
    let Ok(answer) = serde_json::from_slice::<Value>(body) else {
        return Err(if body.len() >= BODY_LIMIT {
            "the answer is longer than 64 KiB; aggregate the query to one sample, for example with sum(...)".into()
        } else {
            format!("status {status} and no JSON: what answers there is no Prometheus")
        });
    };
    let text = |field: &str| answer[field].as_str().unwrap_or_default();
    if text("status") != "success" {
        return Err(if text("error").is_empty() {
            format!("status {status} without a result: what answers there is no Prometheus")
        } else {
            format!("Prometheus refused the query: {}: {}", text("errorType"), text("error"))
        });
    }
    let result = &answer["data"]["result"];
    let value = match answer["data"]["resultType"].as_str().unwrap_or_default() {
        "scalar" => result,
        "vector" => {
            let samples = result.as_array().map(Vec::as_slice).unwrap_or_default();
            let [sample] = samples else {
                return Err(match samples.len() {
                    0 => "the query has no sample; a series that need not exist gets a value by `or vector(0)`".into(),
                    several => format!(
                        "the query has {several} samples and a probe compares one; aggregate it, for example with sum(...)"
                    ),
                });
            };
            if sample.get("value").is_none() {
                return Err(
                    "the sample is a histogram; take a number of it, for example with histogram_quantile(...)".into(),
                );
            }
            &sample["value"]
        }
        "matrix" => {
            return Err("the query is a range of samples; make it one number, for example with rate(...)".into());
        }
        other => return Err(format!("the query comes to a {other}, not to a number")),
    };
    let text = value.get(1).and_then(Value::as_str).unwrap_or_default();
    let number: f64 = text
        .parse()
        .map_err(|_| format!("the sample's value `{text}` is no number"))?;
    if number.is_nan() {
        return Err(
            "the value is NaN, which compares with nothing (a division by zero, or a quantile of no observations); give the query a value for that case"
                .into(),
        );
    }
    Ok(number)
}

fn compare(question: &PrometheusProbe, number: f64) -> ProbeResult {
    let wanted = question.value;
    let order = number.partial_cmp(&wanted);
    let (holds, sign) = match question.comparator {
        Comparator::Less => (order == Some(Ordering::Less), "<"),
        Comparator::LessOrEqual => (matches!(order, Some(Ordering::Less | Ordering::Equal)), "<="),
        Comparator::Greater => (order == Some(Ordering::Greater), ">"),
        Comparator::GreaterOrEqual => (matches!(order, Some(Ordering::Greater | Ordering::Equal)), ">="),
        Comparator::Equal => (order == Some(Ordering::Equal), "=="),
        Comparator::NotEqual => (matches!(order, Some(Ordering::Less | Ordering::Greater)), "!="),
        Comparator::Unknown => {
            return ProbeResult::NotAsked("prometheus.comparator must be <, <=, >, >=, == or !=".into());
        }
    };
    if holds {
        ProbeResult::Passed
    } else {
        ProbeResult::Failed(format!("the query comes to {number}, which is not {sign} {wanted}").into())
    }
}

#[cfg(test)]
mod tests;
