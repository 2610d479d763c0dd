//! Installations that are whole, and ones that lack something.

use super::*;
use crate::fake_api::{Recorded, answering};
use clap::Parser;
use serde_json::{Value, json};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU32, Ordering},
};

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    settings: CheckSettings,
}

fn settings(arguments: &[&str]) -> CheckSettings {
    Arguments::parse_from(["check"].iter().chain(arguments)).settings
}

/// What an API server of a whole installation says; each look at the Lease finds it renewed.
struct Server {
    kinds: Vec<&'static str>,
    /// Verb and resource that nobody may.
    forbidden: Option<(&'static str, &'static str)>,
    holder: &'static str,
    renews: bool,
    looks: AtomicU32,
    /// Namespace, resource and name of what was asked about.
    asked: Mutex<Vec<String>>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            kinds: rights::of_our_kinds().into_iter().collect(),
            forbidden: None,
            holder: "operator-1",
            renews: true,
            looks: AtomicU32::new(0),
            asked: Mutex::default(),
        }
    }
}

impl Server {
    fn answer(&self, request: &Recorded) -> (u16, Value) {
        match request.path.as_str() {
            "/apis/resilience.valerix.io/v1alpha1" => {
                let resources = self.kinds.iter().map(|name| {
                    json!({"name": name, "singularName": "", "namespaced": true, "kind": "Any", "verbs": ["get"]})
                });
                let resources: Vec<Value> = resources.collect();
                (
                    200,
                    json!({"kind": "APIResourceList", "groupVersion": API_VERSION, "resources": resources}),
                )
            }
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews" => {
                let asked = &request.body["spec"]["resourceAttributes"];
                let said = |field: &str| asked[field].as_str().unwrap_or_default();
                self.asked
                    .lock()
                    .unwrap()
                    .push([said("namespace"), said("resource"), said("name")].join("/"));
                let is_allowed = self.forbidden != Some((said("verb"), said("resource")));
                let mut answer = request.body.clone();
                answer["status"] = json!({"allowed": is_allowed});
                (201, answer)
            }
            "/apis/coordination.k8s.io/v1/namespaces/valerix-system/leases/valerix-operator" => {
                let look = self.looks.fetch_add(1, Ordering::SeqCst);
                let second = if self.renews { look % 60 } else { 0 };
                let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": LEASE_NAME},
                    "spec": {"holderIdentity": self.holder, "renewTime": format!("2026-08-21T00:00:{second:02}.000000Z")}});
                (200, lease)
            }
            other => panic!("{other} is not asked for"),
        }
    }
}

async fn look_at(server: Server, arguments: &[&str]) -> (bool, String, Vec<String>) {
    let server = Arc::new(server);
    let answering_server = server.clone();
    let clients = Clients::single(answering(move |request| answering_server.answer(request)));
    let mut output = Vec::new();
    let looked = look(&clients, &settings(arguments), &mut output).await;
    let asked = server.asked.lock().unwrap().clone();
    (looked.is_ok(), String::from_utf8(output).unwrap(), asked)
}

#[tokio::test(start_paused = true)]
async fn a_whole_installation_is_found_so() {
    let (is_whole, text, asked) = look_at(Server::default(), &["--operator-deployment=valerix-operator"]).await;
    assert!(is_whole, "{text}");
    assert!(text.contains("ok      leader: operator-1 renews"), "{text}");
    assert!(!text.contains("FAILED"), "{text}");
    let has = |question: &str| asked.iter().any(|asked| asked == question);
    assert!(has("/resilientservices/") && has("valerix-system/leases/valerix-operator"));
    assert!(has("valerix-system/deployments/valerix-operator"));
    assert!(has("/clusterroles/valerix-backup-runner"));
    // What was not asked for is not needed.
    assert!(!has("/tokenreviews/") && !asked.iter().any(|asked| asked.contains("{{")));
    assert!(
        !asked
            .iter()
            .any(|asked| asked.contains("/pods/") && asked.starts_with("shop/"))
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_about_follows_the_settings() {
    let arguments = [
        "--watch-namespaces=shop,bank",
        "--chaos-namespaces=shop",
        "--metrics-authentication=true",
    ];
    let (is_whole, text, asked) = look_at(Server::default(), &arguments).await;
    assert!(is_whole && text.contains("in bank, in shop"), "{text}");
    let has = |question: &str| asked.iter().any(|asked| asked == question);
    assert!(has("shop/resilientservices/") && has("bank/resilientservices/") && !has("/resilientservices/"));
    assert!(has("/tokenreviews/") && has("/subjectaccessreviews/"));
    // By hand there is no Deployment to end.
    assert!(
        !asked
            .iter()
            .any(|asked| asked.starts_with("valerix-system/deployments/"))
    );
}

#[tokio::test(start_paused = true)]
async fn each_thing_that_is_missing_is_told_with_the_remedy_and_hides_no_other() {
    let server = Server {
        kinds: vec!["resilientservices", "resilientservices/status"],
        forbidden: Some(("patch", "configmaps")),
        renews: false,
        ..Server::default()
    };
    let (is_whole, text, _) = look_at(server, &[]).await;
    assert!(!is_whole);
    for words in [
        "FAILED  kinds: resilience.valerix.io/v1alpha1 does not serve backuppolicies,",
        "so upgrade the chart",
        "patch configmaps (resilient_service/apply: children",
        "patch configmaps valerix-safety in valerix-system",
        "upgrade the chart, or grant them",
        "operator-1 holds Lease valerix-operator in valerix-system and does not renew it",
    ] {
        assert!(text.contains(words), "`{words}` is not in {text}");
    }
    let nobody = Server {
        holder: "",
        ..Server::default()
    };
    let (is_whole, text, _) = look_at(nobody, &[]).await;
    assert!(
        !is_whole && text.contains("nobody holds Lease valerix-operator"),
        "{text}"
    );
}
