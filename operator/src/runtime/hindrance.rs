//! Why a pod does not start, in one set of words for every kind. Pure.
//!
//! Kubernetes goes back and forth between several words and texts for the same trouble; a [`Hindrance`] does not, so
//! that a status that shows it stands still.

use super::reason::reasons;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Pod};
use kube::ResourceExt;

/// Longest text that is taken over from Kubernetes. Unit: characters.
const TEXT_LIMIT: usize = 256;
/// What a LimitRange says, and nobody else.
const LIMIT_RANGES: [&str; 2] = [" usage per ", " max limit to request ratio per "];

reasons! {
    /// One word for what stands in the way of a pod.
    pub enum HindranceReason {
        /// No pod can be made: a quota, a limit range or an admission policy refuses it.
        PodRefused,
        /// No node takes the pod.
        Unschedulable,
        /// A volume is not there: its claim, its Secret or its ConfigMap does not exist or cannot be mounted; the message names it.
        WaitingForVolumes,
        /// The image cannot be pulled: its name, its tag or the credentials are wrong, or the registry does not answer.
        ImagePullFailed,
        /// A Secret that an environment variable names does not exist.
        SecretNotFound,
        /// A ConfigMap that an environment variable names does not exist.
        ConfigMapNotFound,
        /// The kubelet cannot make the container; the message has its words.
        ContainerNotCreated,
        /// The container was made and its command cannot be run, for example because there is no such file.
        ContainerCannotRun,
        /// The process ends again and again; its last log lines say why.
        CrashLoopBackOff,
    }
}

/// What stands in the way of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hindrance {
    /// One word.
    pub reason: HindranceReason,
    /// A sentence that names pod, cause and, where it is known, the remedy.
    pub message: String,
}

/// What the user of a kind can do about its pods.
#[derive(Clone, Copy, Debug)]
pub struct Remedies {
    /// About an image that cannot be pulled, for example `check its name and spec.imagePullSecrets`.
    pub image: &'static str,
    /// The field that sets requests and limits, for example `spec.resources`.
    pub resources: &'static str,
}

/// The first hindrance of the pods by name; a container that cannot run counts before a pod that finds no node, which
/// a new node may yet help. Pods that are being deleted do not count.
pub fn of_pods<'a>(pods: impl IntoIterator<Item = &'a Pod>, remedies: &Remedies) -> Option<Hindrance> {
    let mut pods: Vec<&Pod> = pods.into_iter().collect();
    pods.sort_by_key(|pod| pod.name_any());
    pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
    let of_container = |pod: &&Pod| {
        let status = pod.status.as_ref()?;
        // Those that start first are what the others wait for.
        let statuses = status.init_container_statuses.iter().chain(&status.container_statuses);
        statuses
            .flatten()
            .find_map(|status| of_container(pod, status, remedies))
    };
    let waiting = pods.iter().find_map(of_container);
    waiting.or_else(|| pods.iter().find_map(|pod| unschedulable(pod)))
}

/// No pod can be made: `said` is what the API server answered to whoever tried (a ReplicaSet, a Job).
pub fn refused(said: &str, remedies: &Remedies) -> Hindrance {
    // Before that stands the name of the pod, another one at each attempt.
    let why = said.split_once(" is forbidden: ").map_or(said, |(_, why)| why);
    let remedy = if why.contains("must specify") {
        format!("; set {}", remedies.resources)
    } else if why.contains("exceeded quota") {
        format!("; raise the quota, or ask for less in {}", remedies.resources)
    } else if LIMIT_RANGES.iter().any(|words| why.contains(words)) {
        format!("; change {}, or the namespace's LimitRange", remedies.resources)
    } else {
        String::new()
    };
    Hindrance {
        reason: HindranceReason::PodRefused,
        message: format!("no pod can be made: {}{remedy}", cut(why)),
    }
}

fn of_container(pod: &Pod, container: &ContainerStatus, remedies: &Remedies) -> Option<Hindrance> {
    let state = container.state.as_ref()?;
    let last = container.last_state.as_ref();
    let ended = state
        .terminated
        .as_ref()
        .or_else(|| last.and_then(|last| last.terminated.as_ref()))
        .filter(|ended| ended.exit_code != 0);
    let (reason, text) = match (&state.waiting, ended) {
        (Some(waiting), ended) => of_waiting(pod, container, waiting, ended, remedies)?,
        // Between its end and the next attempt: the same trouble.
        (None, Some(ended)) if state.terminated.is_some() => of_end(ended),
        _ => return None,
    };
    Some(Hindrance {
        reason,
        message: format!("pod {} waits: {text}", pod.name_any()),
    })
}

fn of_waiting(
    pod: &Pod,
    container: &ContainerStatus,
    waiting: &ContainerStateWaiting,
    ended: Option<&ContainerStateTerminated>,
    remedies: &Remedies,
) -> Option<(HindranceReason, String)> {
    let said = waiting.message.as_deref().unwrap_or_default();
    let word = waiting.reason.as_deref()?;
    Some(match (word, ended) {
        ("ContainerCreating" | "PodInitializing", _) => return None,
        ("ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "ErrImageNeverPull", _) => {
            let image = &container.image;
            let why = registry_words(word, said);
            let text = format!("image {image} cannot be pulled{why}; {}", remedies.image);
            (HindranceReason::ImagePullFailed, text)
        }
        ("CrashLoopBackOff", Some(ended)) => of_end(ended),
        ("RunContainerError" | "StartError" | "ContainerCannotRun", _) => {
            let text = ended.and_then(|ended| ended.message.as_deref()).unwrap_or(said);
            (HindranceReason::ContainerCannotRun, cannot_run(text))
        }
        ("CrashLoopBackOff", None) => (HindranceReason::CrashLoopBackOff, or_word(word, said)),
        _ => match missing_object(said) {
            Some(reason) => {
                let namespace = pod.namespace().unwrap_or_default();
                (reason, format!("{}; create it in namespace {namespace}", cut(said)))
            }
            None => (HindranceReason::ContainerNotCreated, or_word(word, said)),
        },
    })
}

/// A container that ended badly. One that never began has no log: the runtime's own words are all there is.
fn of_end(ended: &ContainerStateTerminated) -> (HindranceReason, String) {
    let reason = ended.reason.as_deref().unwrap_or_default();
    if matches!(reason, "StartError" | "ContainerCannotRun") {
        let text = ended.message.as_deref().unwrap_or(reason);
        return (HindranceReason::ContainerCannotRun, cannot_run(text));
    }
    let named = match reason {
        "" | "Error" => String::new(),
        reason => format!(" ({reason})"),
    };
    let text = format!(
        "its container ended with exit code {}{named}; read `kubectl logs --previous`",
        ended.exit_code
    );
    (HindranceReason::CrashLoopBackOff, text)
}

fn cannot_run(said: &str) -> String {
    // The cause stands last, behind the names of every layer of the runtime.
    let characters = said.chars().count();
    let end: String = said.chars().skip(characters.saturating_sub(TEXT_LIMIT)).collect();
    format!("its command cannot be run: {end}; check spec.command, spec.args and the image")
}

/// What the registry said, in brackets: the same text whether the kubelet pulls or waits to pull again.
fn registry_words(word: &str, said: &str) -> String {
    let words = match said.split_once("ErrImagePull: ") {
        Some((_, words)) => words,
        None if word == "ImagePullBackOff" => "",
        None => said,
    };
    if words.is_empty() {
        return String::new();
    }
    format!(" ({})", cut(words))
}

/// The kubelet says `secret "x" not found` or `configmap "x" not found` for variables.
fn missing_object(text: &str) -> Option<HindranceReason> {
    let text = text.trim_start();
    if !text.contains("not found") {
        return None;
    }
    if text.starts_with("secret ") {
        Some(HindranceReason::SecretNotFound)
    } else if text.starts_with("configmap ") {
        Some(HindranceReason::ConfigMapNotFound)
    } else {
        None
    }
}

fn unschedulable(pod: &Pod) -> Option<Hindrance> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let scheduled = conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    let said = scheduled.message.as_deref().unwrap_or_default();
    // The scheduler says `persistentvolumeclaim "x" not found`, behind how many nodes it looked at.
    let is_claim = said.contains("persistentvolumeclaim") && said.contains("not found");
    (scheduled.status == "False").then(|| {
        let (reason, remedy) = match is_claim {
            true => (
                HindranceReason::WaitingForVolumes,
                format!("; create it in namespace {}", pod.namespace().unwrap_or_default()),
            ),
            false => (HindranceReason::Unschedulable, String::new()),
        };
        Hindrance {
            reason,
            message: format!("pod {} finds no node: {}{remedy}", pod.name_any(), cut(said)),
        }
    })
}

fn or_word(word: &str, said: &str) -> String {
    cut(if said.is_empty() { word } else { said })
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_LIMIT).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::{Value, json};

    const REMEDIES: Remedies = Remedies {
        image: "check its name",
        resources: "spec.resources",
    };

    fn pod(name: &str, status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": "shop"}, "status": status})).unwrap()
    }

    fn container(state: Value, last: Value) -> Value {
        json!({"containerStatuses": [{
            "name": "order", "image": "a", "imageID": "", "ready": false, "restartCount": 3, "state": state, "lastState": last
        }]})
    }

    fn waits(reason: &str, message: &str) -> Value {
        container(json!({"waiting": {"reason": reason, "message": message}}), json!({}))
    }

    fn told(status: Value) -> Option<(HindranceReason, String)> {
        of_pods([&pod("order-1", status)], &REMEDIES).map(|hindrance| (hindrance.reason, hindrance.message))
    }

    #[rstest]
    #[case::secret(
        waits("CreateContainerConfigError", "secret \"db\" not found"),
        HindranceReason::SecretNotFound,
        "pod order-1 waits: secret \"db\" not found; create it in namespace shop"
    )]
    #[case::config_map(
        waits("CreateContainerConfigError", "configmap \"region\" not found"),
        HindranceReason::ConfigMapNotFound,
        "pod order-1 waits: configmap \"region\" not found; create it in namespace shop"
    )]
    #[case::silent(
        waits("CreateContainerError", ""),
        HindranceReason::ContainerNotCreated,
        "pod order-1 waits: CreateContainerError"
    )]
    #[case::crash(
        container(json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}), json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}})),
        HindranceReason::CrashLoopBackOff,
        "pod order-1 waits: its container ended with exit code 137 (OOMKilled); read `kubectl logs --previous`"
    )]
    fn a_hindrance_has_one_word_and_a_remedy(
        #[case] status: Value,
        #[case] reason: HindranceReason,
        #[case] text: &str,
    ) {
        assert_eq!(told(status), Some((reason, text.to_owned())));
    }

    #[test]
    fn a_container_that_starts_first_is_told_before_those_that_wait_for_it() {
        let mut status = waits("PodInitializing", "");
        let mut first = waits("ErrImagePull", "manifest unknown")["containerStatuses"].take();
        first[0]["image"] = json!("guard:1");
        status["initContainerStatuses"] = first;
        let text = "pod order-1 waits: image guard:1 cannot be pulled (manifest unknown); check its name";
        assert_eq!(told(status), Some((HindranceReason::ImagePullFailed, text.to_owned())));
    }

    #[test]
    fn one_trouble_is_told_alike_whichever_words_kubernetes_is_at() {
        let same = |statuses: Vec<Value>, reason, text: &str| {
            for status in statuses {
                assert_eq!(told(status.clone()), Some((reason, text.to_owned())), "{status}");
            }
        };
        // The kubelet tries, and waits to try again; the registry's sentence is the same.
        same(
            vec![
                waits("ErrImagePull", "manifest unknown"),
                waits(
                    "ImagePullBackOff",
                    "Back-off pulling image \"a\": ErrImagePull: manifest unknown",
                ),
            ],
            HindranceReason::ImagePullFailed,
            "pod order-1 waits: image a cannot be pulled (manifest unknown); check its name",
        );
        // A command that is no file: started, ended, and waiting for the next attempt.
        let words = "runc create failed: exec: \"redis-servr\": executable file not found in $PATH";
        let ended = json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": words}});
        same(
            vec![
                waits("RunContainerError", words),
                container(
                    json!({"waiting": {"reason": "RunContainerError", "message": "start again"}}),
                    ended.clone(),
                ),
                container(ended.clone(), json!({})),
                container(
                    json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}),
                    ended,
                ),
            ],
            HindranceReason::ContainerCannotRun,
            &format!(
                "pod order-1 waits: its command cannot be run: {words}; check spec.command, spec.args and the image"
            ),
        );
        // A process that ends again and again.
        let ended = json!({"terminated": {"exitCode": 2, "reason": "Error"}});
        same(
            vec![
                container(ended.clone(), json!({})),
                container(json!({"waiting": {"reason": "CrashLoopBackOff"}}), ended),
            ],
            HindranceReason::CrashLoopBackOff,
            "pod order-1 waits: its container ended with exit code 2; read `kubectl logs --previous`",
        );
    }

    #[test]
    fn steps_on_the_way_and_a_good_end_are_no_hindrances() {
        for status in [
            waits("ContainerCreating", ""),
            waits("PodInitializing", ""),
            container(json!({"terminated": {"exitCode": 0}}), json!({})),
            container(
                json!({"running": {}}),
                json!({"terminated": {"exitCode": 1, "reason": "Error"}}),
            ),
            json!({"conditions": [{"type": "PodScheduled", "status": "True"}]}),
        ] {
            assert_eq!(told(status.clone()), None, "{status}");
        }
    }

    #[test]
    fn the_first_pod_by_name_that_stays_is_told_and_containers_count_before_nodes() {
        let unscheduled = json!({"conditions": [
            {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "x".repeat(300)}
        ]});
        let of = |pods: &[Pod]| of_pods(pods, &REMEDIES).map(|hindrance| hindrance.message);
        let alone = of(&[pod("order-0", unscheduled.clone())]).unwrap();
        assert_eq!(alone, format!("pod order-0 finds no node: {}", "x".repeat(TEXT_LIMIT)));
        let waits = waits("CreateContainerError", "");
        let pods = [
            pod("order-0", unscheduled),
            pod("order-2", waits.clone()),
            pod("order-1", waits.clone()),
        ];
        assert!(of(&pods).unwrap().starts_with("pod order-1 waits"));
        let mut going = pod("order-1", waits);
        going.metadata.deletion_timestamp = serde_json::from_value(json!("2026-08-21T12:00:00Z")).unwrap();
        assert_eq!(of(&[going]), None);
    }

    #[test]
    fn a_refused_pod_is_told_without_its_passing_name_and_with_the_field() {
        let told = |said: &str| refused(said, &REMEDIES).message;
        assert_eq!(
            told("pods \"order-6b9f-x2x4v\" is forbidden: failed quota: q: must specify limits.cpu for: order"),
            "no pod can be made: failed quota: q: must specify limits.cpu for: order; set spec.resources"
        );
        assert_eq!(
            told(
                "pods \"order-6b9f-aaaaa\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=9, limited: pods=9"
            ),
            "no pod can be made: exceeded quota: q, requested: pods=1, used: pods=9, limited: pods=9; raise the quota, or ask for less in spec.resources"
        );
        for said in [
            "maximum memory usage per Container is 32Mi, but limit is 64Mi",
            "[minimum cpu usage per Pod is 1, but request is 100m, maximum cpu usage per Pod is 2.  No limit is specified]",
            "memory max limit to request ratio per Container is 2, but provided ratio is 4.000000",
        ] {
            assert_eq!(
                told(&format!("pods \"order-6b9f-aaaaa\" is forbidden: {said}")),
                format!("no pod can be made: {said}; change spec.resources, or the namespace's LimitRange")
            );
        }
        assert_eq!(told("no such account"), "no pod can be made: no such account");
    }
}
