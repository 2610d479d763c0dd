//! What pods answer on `/metrics`, asked every five seconds while somebody looks, and what it says of their services.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::{StreamExt, stream};

use crate::board::Board;
use crate::view::{Item, PodView, ServiceView};
use crate::vitals::{Moment, PodVitals, Scrape, Vitals, Window};

/// How often pods are asked.
const PERIOD: Duration = Duration::from_secs(5);
/// How long a pod may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pods that are asked at a time.
const AT_ONCE: usize = 16;
/// The most pods that are asked.
const MOST_PODS: usize = 300;
/// The most bytes of an answer.
const MOST_BYTES: usize = 2 * 1024 * 1024;
/// Requests that take longer than this in the mean make a service slow. Unit: seconds.
const SLOW: f64 = 1.0;

/// Asks for as long as it is not dropped.
pub async fn watch(board: Board, http: reqwest::Client) {
    let mut windows = HashMap::new();
    let mut period = tokio::time::interval(PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        if board.readers() > 0 {
            let vitals = look(&board, &http, &mut windows).await;
            board.measure(vitals);
        }
    }
}

/// Asks every pod once.
async fn look(board: &Board, http: &reqwest::Client, windows: &mut HashMap<String, Window>) -> Vec<Vitals> {
    let (mut services, mut pods) = (Vec::<ServiceView>::new(), Vec::<PodView>::new());
    for object in board.objects() {
        match &*object {
            Item::ResilientService(service) if service.report_port.is_some() => services.push(service.clone()),
            Item::Pod(pod) => pods.push(pod.clone()),
            _ => {}
        }
    }
    let of = |service: &'_ ServiceView| (service.namespace.clone(), service.name.clone());
    let known: HashMap<(String, String), Option<u16>> = services
        .iter()
        .map(|service| (of(service), service.report_port))
        .collect();
    let questions = pods.into_iter().filter_map(|pod| {
        let port = known.get(&(pod.namespace.clone(), pod.service.clone()))?;
        let address = SocketAddr::new(pod.address?, (*port)?);
        Some((pod, address))
    });
    let mut questions: Vec<(PodView, SocketAddr)> = questions.collect();
    let mut passed_over = HashMap::<(String, String), usize>::new();
    for (pod, _) in questions.split_off(MOST_PODS.min(questions.len())) {
        *passed_over.entry((pod.namespace, pod.service)).or_default() += 1;
    }
    let answers: Vec<(PodView, Option<Scrape>)> = stream::iter(questions)
        .map(|(pod, address)| async move {
            let text = fetch(http, address, "metrics").await;
            (pod, text.ok().map(|text| Scrape::parse(&text)))
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    windows.retain(|pod, _| answers.iter().any(|(known, _)| *pod == id(known)));
    let now = Utc::now();
    let mut vitals: Vec<Vitals> = services
        .iter()
        .map(|service| {
            let passed_over = passed_over.get(&of(service)).copied().unwrap_or_default();
            judge(service, &answers, passed_over, windows, now)
        })
        .collect();
    vitals.sort_by(|one, other| (&one.namespace, &one.name).cmp(&(&other.namespace, &other.name)));
    vitals
}

fn judge(
    service: &ServiceView,
    answers: &[(PodView, Option<Scrape>)],
    passed_over: usize,
    windows: &mut HashMap<String, Window>,
    now: DateTime<Utc>,
) -> Vitals {
    let mut sum = Scrape::default();
    let (mut seconds, mut pods) = (0.0_f64, Vec::new());
    let own = answers
        .iter()
        .filter(|(pod, _)| pod.namespace == service.namespace && pod.service == service.name);
    for (pod, scrape) in own {
        let Some(scrape) = scrape else {
            pods.push(PodVitals {
                pod: pod.name.clone(),
                ..PodVitals::default()
            });
            continue;
        };
        let window = windows.entry(id(pod)).or_default();
        window.push(now, scrape.clone());
        let difference = window.difference();
        let cpu = difference
            .as_ref()
            .and_then(|(scrape, seconds)| Some(scrape.cpu_seconds? / seconds));
        if let Some((difference, elapsed)) = difference {
            sum.add(&difference);
            seconds = seconds.max(elapsed);
        }
        pods.push(PodVitals {
            pod: pod.name.clone(),
            answered: true,
            cpu,
            memory: scrape.memory,
            threads: scrape.threads,
            uptime: scrape
                .started
                .map(|started| (now.timestamp_millis() as f64 / 1000.0 - started).max(0.0)),
        });
    }
    pods.sort_by(|one, other| one.pod.cmp(&other.pod));
    let mean = sum.mean();
    Vitals {
        namespace: service.namespace.clone(),
        name: service.name.clone(),
        moment: Moment {
            at: now,
            rate: (seconds > 0.0).then(|| sum.requests / seconds),
            errors: (sum.requests > 0.0).then(|| sum.failures / sum.requests),
            mean,
            p50: sum.quantile(0.5),
            p95: sum.quantile(0.95),
            p99: sum.quantile(0.99),
        },
        slow: mean.is_some_and(|mean| mean > SLOW),
        pods,
        left_out: (passed_over > 0).then(|| {
            format!("{passed_over} of its pods are not asked: {MOST_PODS} are at most, in order of their namespaces and names")
        }),
        guarded: service.guarded,
    }
}

fn id(pod: &PodView) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}

/// What a pod answers on its report port.
///
/// # Errors
/// In a sentence, when it does not answer, or not as it should.
pub async fn fetch(http: &reqwest::Client, address: SocketAddr, path: &str) -> Result<String, String> {
    let host = match address.ip() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let url = format!("http://{host}:{}/{path}", address.port());
    let ask = async {
        let mut answer = http
            .get(url)
            .send()
            .await
            .map_err(|_| "the pod does not answer on its report port")?;
        if !answer.status().is_success() {
            return Err("the pod refuses to report");
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|_| "the pod broke off its report")? {
            if body.len() + chunk.len() > MOST_BYTES {
                return Err("the pod's report is too large");
            }
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).map_err(|_| "the pod's report is no text")
    };
    let answer = tokio::time::timeout(PATIENCE, ask).await;
    answer
        .unwrap_or(Err("the pod did not report in time"))
        .map_err(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kinds::Kind;

    #[tokio::test]
    async fn a_service_whose_pods_are_not_asked_is_not_one_without_pods() {
        let board = Board::default();
        let service = |name: &str, mode: &str| {
            let spec = json!({"image": "i", "resilience": {"reportPort": 1}, "guard": {"mode": mode}});
            let object = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
            Item::ResilientService(ServiceView::from(&serde_json::from_value(object).unwrap()))
        };
        let pod = |of: &str, number: usize| {
            let labels = json!({valerix_crds::names::SERVICE_LABEL: of});
            let name = format!("{of}-{number:03}");
            let object = json!({"metadata": {"name": name, "namespace": "shop", "labels": labels}, "status": {"podIP": "127.0.0.1"}});
            Item::Pod(PodView::from(&serde_json::from_value(object).unwrap()))
        };
        board.relist(
            Kind::ResilientService,
            &None,
            vec![service("a", "Off"), service("b", "Sidecar")],
            false,
        );
        let pods = (0..299)
            .map(|number| pod("a", number))
            .chain((0..3).map(|number| pod("b", number)));
        board.relist(Kind::Pod, &None, pods.collect(), false);
        let vitals = look(&board, &reqwest::Client::new(), &mut HashMap::new()).await;
        let told: Vec<_> = vitals
            .iter()
            .map(|vitals| (vitals.pods.len(), vitals.left_out.as_deref(), vitals.guarded))
            .collect();
        let few = "2 of its pods are not asked: 300 are at most, in order of their namespaces and names";
        assert_eq!(told, [(299, None, false), (1, Some(few), true)]);
    }
}
