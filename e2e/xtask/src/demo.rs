//! The guided tour: brings everything up, then shows each of the three kinds at work, and leaves all of it running.
//!
//! Every step can be repeated: what is there is kept, what can be done only once a day is shown instead.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::clusters::{Access, Cluster};
use crate::images;
use crate::kubectl::{Kubectl, condition};
use crate::orders::Shop;
use crate::paths::Paths;
use crate::release::{Helm, OPERATOR_NAMESPACE, SHOP_NAMESPACE};
use crate::steps::{Log, Steps};

const RUN: &str = "resilience.valerix.io/run";
const POD_KILL: &str = "demo-inventory-kill";
const LATENCY: &str = "demo-inventory-slow";

/// Runs the whole tour.
///
/// # Errors
/// [`crate::failure::Shown`] when a step failed.
pub fn run(paths: &Paths) -> Result<()> {
    let mut steps = Steps::begin(paths.logs("demo"))?;
    let cluster = Cluster::choose("demo", paths)?;
    println!("Valerix demo on {}", cluster.describe());

    steps.run("Installing what is needed", |log| cluster.install_tools(log))?;
    steps.run("Making the base images", |log| cluster.prepare_base_images(log))?;
    let access = steps.run("Bringing the cluster up", |log| cluster.up(log))?;
    let built = steps.run("Building the images", |log| {
        images::build(paths, cluster.builder(), log)
    })?;
    let loaded: BTreeMap<_, _> = steps
        .run("Loading the images", |log| cluster.load(&built, log))?
        .into_iter()
        .collect();
    let helm = Helm::new(paths, &access);
    let kubectl = cluster.kubectl(&access)?;
    steps.run("Installing the operator (charts/valerix)", |log| {
        // The operator's rights in the shop's namespace are part of its own chart.
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SHOP_NAMESPACE}});
        kubectl.apply(&namespace, log)?;
        helm.install_operator(&loaded, log)?;
        kubectl.show(&format!("get pods --namespace {OPERATOR_NAMESPACE}"), log)
    })?;
    steps.run("Installing the shop (charts/valerix-shop)", |log| {
        helm.install_shop(&loaded, log)?;
        let wait = "wait rsvc --all --for=condition=Ready --timeout=180s --namespace";
        kubectl.call(wait.split(' ')).arg(SHOP_NAMESPACE).run(log)?;
        kubectl.show("get valerix --all-namespaces", log)
    })?;
    steps.run("Placing orders through the real API", |log| {
        place_orders(&kubectl, 3, log)
    })?;
    steps.run("Changing a circuit breaker's threshold in running pods", |log| {
        patch_threshold(&kubectl, log)
    })?;
    steps.run("Slowing inventory by 3 s (ChaosExperiment latency)", |log| {
        slow_down(&kubectl, log)
    })?;
    // Last of the two: its new pod would keep the other waiting until it is old enough.
    steps.run("Killing an inventory pod (ChaosExperiment podKill)", |log| {
        kill_a_pod(&kubectl, log)
    })?;
    steps.run("Backing up the shop's databases (BackupPolicy shop)", |log| {
        back_up(&kubectl, log)
    })?;
    let shop = steps.run("Finding the shop's address", |log| {
        address_of_shop(&kubectl, &cluster, log)
    })?;
    println!("\n{}", steps.summary());
    print_next(&kubectl, &access, &cluster, &shop);
    Ok(())
}

fn place_orders(kubectl: &Kubectl, count: u32, log: &Log) -> Result<()> {
    let shop = Shop::connect(kubectl, log)?;
    for _ in 0..count {
        let order = shop.place("ps5", 1)?;
        log.say(&order.describe());
        shop.await_final(&order, Duration::from_secs(60))?;
    }
    Ok(())
}

/// Raises or lowers the threshold by one each time the demo runs, and shows that the same pods took it over.
fn patch_threshold(kubectl: &Kubectl, log: &Log) -> Result<()> {
    let order = kubectl.get("rsvc", SHOP_NAMESPACE, "order", log)?;
    let breaker = "/spec/resilience/targets/0/circuitBreaker";
    let before = order
        .pointer(&format!("{breaker}/consecutiveFailures"))
        .and_then(Value::as_u64);
    let after = if before == Some(5) { 4 } else { 5 };
    let operation = match order.pointer(breaker) {
        Some(_) => json!({"op": "add", "path": format!("{breaker}/consecutiveFailures"), "value": after}),
        None => json!({"op": "add", "path": breaker, "value": {"consecutiveFailures": after}}),
    };
    let pods = "get pods --selector app.kubernetes.io/name=order --namespace shop \
                --output=custom-columns=POD:.metadata.name,UID:.metadata.uid,RESTARTS:.status.containerStatuses[0].restartCount";
    kubectl.show(pods, log)?;
    let hash = order["status"]["config"]["hash"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let began = std::time::Instant::now();
    kubectl
        .call([
            "patch",
            "rsvc",
            "order",
            "--namespace",
            SHOP_NAMESPACE,
            "--type=json",
            "--patch",
        ])
        .arg(json!([operation]).to_string())
        .run(log)?;
    let shown = before.map_or_else(|| "unset".to_owned(), |value| value.to_string());
    log.say(&format!(
        "patched order's target inventory: circuitBreaker.consecutiveFailures {shown} -> {after}"
    ));
    let everywhere = Duration::from_secs(90);
    kubectl.await_object(
        ("rsvc", SHOP_NAMESPACE, "order"),
        "ConfigApplied with the new hash",
        everywhere,
        log,
        |order| {
            let current = order["status"]["config"]["hash"]
                .as_str()
                .is_some_and(|now| now != hash)
                && order["status"]["observedGeneration"] == order["metadata"]["generation"]
                && condition(order, "ConfigApplied") == Some("True");
            Ok(current.then_some(()))
        },
    )?;
    log.say(&format!(
        "every pod answered with the new configuration after {:.1} s",
        began.elapsed().as_secs_f64()
    ));
    kubectl.show("get rsvc order --namespace shop", log)?;
    kubectl.show(pods, log)
}

fn kill_a_pod(kubectl: &Kubectl, log: &Log) -> Result<()> {
    let experiment = experiment(POD_KILL, json!({"podKill": {}, "count": 1}));
    let run = start(kubectl, &experiment, log)?;
    let shop = Shop::connect(kubectl, log)?;
    let victim = kubectl.await_object(
        ("chaos", SHOP_NAMESPACE, POD_KILL),
        "the eviction",
        Duration::from_secs(120),
        log,
        |object| {
            Ok(object["status"]["targets"][0]["uid"]
                .as_str()
                .filter(|_| is_run(object, &run))
                .map(str::to_owned))
        },
    )?;
    log.say(&format!("victim: pod UID {victim}"));
    log.say(&format!("an order meanwhile: {}", shop.place("ps5", 1)?.describe()));
    finish(kubectl, POD_KILL, &run, log)
}

fn slow_down(kubectl: &Kubectl, log: &Log) -> Result<()> {
    let fault = json!({"latency": {"delay": "3s"}, "count": "100%", "duration": "15s"});
    let run = start(kubectl, &experiment(LATENCY, fault), log)?;
    let active = Duration::from_secs(120);
    kubectl.await_object(("chaos", SHOP_NAMESPACE, LATENCY), "the fault", active, log, |object| {
        Ok((is_run(object, &run) && object["status"]["injectedAt"].is_string()).then_some(()))
    })?;
    kubectl.show("get chaos --namespace shop", log)?;
    let shop = Shop::connect(kubectl, log)?;
    let mut orders = Vec::new();
    for _ in 0..5 {
        let order = shop.place("ps5", 1)?;
        log.say(&format!("an order meanwhile: {}", order.describe()));
        orders.push(order);
    }
    kubectl.show("get rsvc --namespace shop", log)?;
    finish(kubectl, LATENCY, &run, log)?;
    for order in orders.iter().filter(|order| !order.is_final()) {
        let order = shop.await_final(order, Duration::from_secs(90))?;
        log.say(&format!("after the fault: order {} {}", order.id, order.status));
    }
    Ok(())
}

fn experiment(name: &str, fault: Value) -> Value {
    let mut spec = json!({
        "target": {"service": "inventory"},
        "safety": {"minPodAge": "30s"},
        "steadyState": {
            // The order service is up: it answers its health whatever inventory does.
            "probes": [{
                "name": "order-answers",
                "http": {"service": "order", "port": 80, "path": "/health", "expect": {"status": 200}},
                "interval": "1s",
            }],
        },
    });
    if let (Value::Object(spec), Value::Object(fault)) = (&mut spec, fault) {
        spec.extend(fault);
    }
    json!({
        "apiVersion": "resilience.valerix.io/v1alpha1",
        "kind": "ChaosExperiment",
        "metadata": {"name": name, "namespace": SHOP_NAMESPACE},
        "spec": spec,
    })
}

/// Applies the experiment with a new run id, once the target's pods are old enough and an earlier run has ended.
fn start(kubectl: &Kubectl, experiment: &Value, log: &Log) -> Result<String> {
    let name = experiment["metadata"]["name"]
        .as_str()
        .context("the experiment has no name")?;
    let exists = kubectl
        .call(["get", "chaos", name, "--namespace", SHOP_NAMESPACE])
        .succeeds();
    if exists {
        let ended = Duration::from_secs(180);
        kubectl.await_object(
            ("chaos", SHOP_NAMESPACE, name),
            "the end of the last run",
            ended,
            log,
            |object| Ok((object["status"].is_null() || condition(object, "Completed") == Some("True")).then_some(())),
        )?;
    }
    await_pod_age(kubectl, Duration::from_secs(31), log)?;
    let run = run_id();
    let mut experiment = experiment.clone();
    experiment["metadata"]["annotations"] = json!({RUN: run});
    kubectl.apply(&experiment, log)?;
    log.say(&format!("applied chaosexperiment/{name}, run {run}"));
    Ok(run)
}

/// An experiment spares pods that have just started, so the demo waits instead of being skipped.
fn await_pod_age(kubectl: &Kubectl, age: Duration, log: &Log) -> Result<()> {
    let selector = "app.kubernetes.io/name=inventory";
    let youngest = "jsonpath={range .items[*]}{.status.startTime}{'\\n'}{end}";
    let text = kubectl
        .call([
            "get",
            "pods",
            "--namespace",
            SHOP_NAMESPACE,
            "--selector",
            selector,
            "--output",
            youngest,
        ])
        .read(log)?;
    let Some(started) = text.lines().filter_map(seconds_of_timestamp).max() else {
        return Ok(());
    };
    let ready_at = UNIX_EPOCH + Duration::from_secs(started) + age;
    if let Ok(left) = ready_at.duration_since(SystemTime::now()) {
        log.say(&format!(
            "waiting {} s until every inventory pod is older than minPodAge",
            left.as_secs() + 1
        ));
        let until = std::time::Instant::now() + left;
        while std::time::Instant::now() < until {
            crate::interrupt::check()?;
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    Ok(())
}

fn finish(kubectl: &Kubectl, name: &str, run: &str, log: &Log) -> Result<()> {
    let limit = Duration::from_secs(180);
    let verdict = kubectl.await_object(
        ("chaos", SHOP_NAMESPACE, name),
        "the end of the run",
        limit,
        log,
        |object| {
            let over = is_run(object, run) && condition(object, "Completed") == Some("True");
            let text = |field: &str| object["status"][field].as_str().unwrap_or_default().to_owned();
            Ok(over.then(|| (text("verdict"), text("message"))))
        },
    )?;
    kubectl.show("get chaos --namespace shop", log)?;
    ensure!(
        verdict.0 == "Pass",
        "the experiment's verdict is {}: {}",
        verdict.0,
        verdict.1
    );
    Ok(())
}

fn is_run(object: &Value, run: &str) -> bool {
    object["status"]["run"] == run
}

/// Runs the day's backup, or shows it when it was made already.
fn back_up(kubectl: &Kubectl, log: &Log) -> Result<()> {
    let run = run_id();
    kubectl
        .call([
            "annotate",
            "bkp",
            "shop",
            "--namespace",
            SHOP_NAMESPACE,
            "--overwrite",
            &format!("{RUN}={run}"),
        ])
        .run(log)?;
    let answered = Duration::from_secs(60);
    let last = kubectl.await_object(
        ("bkp", SHOP_NAMESPACE, "shop"),
        "an answer to the run",
        answered,
        log,
        |policy| {
            let last = &policy["status"]["lastRun"];
            Ok((last["id"] == run.as_str()).then(|| last.clone()))
        },
    )?;
    let text = |field: &str| last[field].as_str().unwrap_or_default().to_owned();
    log.say(&format!(
        "asked for a backup: {} (slot {}) {}",
        text("result"),
        text("slot"),
        text("message")
    ));
    let record = record_of(&text("slot"));
    let limit = Duration::from_secs(240);
    let (phase, message) = kubectl.await_object(
        ("backup.resilience.valerix.io", SHOP_NAMESPACE, &record),
        "its end",
        limit,
        log,
        |backup| {
            let phase = backup["status"]["phase"].as_str().unwrap_or_default();
            let message = backup["status"]["message"].as_str().unwrap_or_default();
            let ended = matches!(phase, "Completed" | "Failed" | "Missed" | "Unknown");
            Ok(ended.then(|| (phase.to_owned(), message.to_owned())))
        },
    )?;
    kubectl.show("get bkp,backup.resilience.valerix.io --namespace shop", log)?;
    ensure!(phase == "Completed", "the backup {record} is {phase}: {message}");
    Ok(())
}

/// The record's name for a slot, which is a civil date with or without dashes.
fn record_of(slot: &str) -> String {
    let digits: String = slot.chars().filter(char::is_ascii_digit).collect();
    format!("shop-{digits}")
}

/// A run id that no earlier run of the demo had.
fn run_id() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("demo-{}", now.as_secs())
}

/// Seconds since the epoch of a Kubernetes timestamp such as `2026-11-21T05:32:10Z`.
fn seconds_of_timestamp(text: &str) -> Option<u64> {
    let mut fields = text
        .trim()
        .trim_end_matches('Z')
        .split(['-', 'T', ':'])
        .map(|field| field.parse::<u64>().ok());
    let mut next = || fields.next().flatten();
    let (year, month, day, hour, minute, second) = (next()?, next()?, next()?, next()?, next()?, next()?);
    // Days since 1970-01-01 with the year beginning in March, so that the leap day is its last day.
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year.checked_sub(1)?, month + 9)
    };
    let days = (365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day).checked_sub(719_469)?;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn address_of_shop(kubectl: &Kubectl, cluster: &Cluster<'_>, log: &Log) -> Result<String> {
    if !cluster.reaches_services() {
        return Ok("http://order.shop.svc inside the cluster".to_owned());
    }
    let service = kubectl.get("service", SHOP_NAMESPACE, "order", log)?;
    let address = service["spec"]["clusterIP"]
        .as_str()
        .context("the service order has no address")?;
    Ok(format!(
        "http://{address} from this host, http://order.shop.svc inside the cluster"
    ))
}

fn print_next(kubectl: &Kubectl, access: &Access, cluster: &Cluster<'_>, shop: &str) {
    let kubectl = kubectl.program().display();
    println!("\nAll of it is running on {}.", cluster.describe());
    println!("  kubeconfig      {}", access.kubeconfig.display());
    println!("  shop            {shop}; POST /api/orders");
    println!("  operator        {OPERATOR_NAMESPACE}, metrics on its Service, port 8080");
    println!("\nNext:");
    println!("  export KUBECONFIG=$(make -s kubeconfig)");
    println!("  {kubectl} get valerix --all-namespaces");
    println!("  {kubectl} explain rsvc.spec.resilience.targets");
    println!("  {kubectl} --namespace shop port-forward service/order 3001:80");
    println!("  make order ITEM=ps5 QUANTITY=1");
    println!("  make down       removes everything again");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_read_as_seconds() {
        assert_eq!(seconds_of_timestamp("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(seconds_of_timestamp("2000-02-29T12:00:01Z"), Some(951_825_601));
        assert_eq!(seconds_of_timestamp("2026-11-21T05:32:10Z"), Some(1_795_239_130));
        assert_eq!(seconds_of_timestamp("soon"), None);
    }

    #[test]
    fn a_slot_names_its_record() {
        assert_eq!(record_of("2026-11-21"), "shop-20261121");
        assert_eq!(record_of("20261121"), "shop-20261121");
    }

    #[test]
    fn an_experiment_has_its_fault_beside_the_common_fields() {
        let experiment = experiment("x", json!({"podKill": {}, "count": 1}));
        assert_eq!(experiment["spec"]["count"], 1);
        assert_eq!(experiment["spec"]["target"]["service"], "inventory");
    }
}
