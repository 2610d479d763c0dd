//! The guided tour that `make demo` ends with: installs the product on the cluster that it is told of, shows each of the
//! three kinds at work, and leaves all of it running.
//!
//! Every step can be repeated: what is there is kept, what can be done only once a day is shown instead.

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use k8s_openapi::{api::core::v1::Service, apimachinery::pkg::apis::meta::v1::Condition};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use uuid::Uuid;
use valerix_crds::{
    Backup, BackupPhase, BackupPolicy, ChaosExperiment, ResilientService, TrialRestoreState, Verdict,
    names::{RUN_ANNOTATION, condition as types},
};
use valerix_e2e::{
    experiments::{self, is_run, status},
    kubectl,
    load::{self, Scenario},
    shop::{self, Order, Reply},
    visitor::Visitor,
    world::{OPERATOR_NAMESPACE, SHOP, World, eventually, has_condition, shop_services},
};

const POD_KILL: &str = "demo-inventory-kill";
/// Who signs in at the console.
const CONSOLE_USER: &str = "console-demo";
const LATENCY: &str = "demo-inventory-slow";

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Installs the product and shows it at work.
    Tour,
    /// Places one order in the demo's shop and prints it.
    Order {
        /// The item's id.
        #[arg(long)]
        item: String,
        /// How many.
        #[arg(long)]
        quantity: i64,
    },
    /// Puts load on the demo's shop, or shows something of it, and ends with a verdict.
    Load {
        /// What is to be shown.
        #[arg(long, value_enum)]
        scenario: Scenario,
        #[command(flatten)]
        options: load::Options,
    },
}

#[tokio::main]
async fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Tour => tour().await,
        Command::Order { item, quantity } => {
            let world = World::installed().await?;
            let (order, reply) = shop::place(&world, &item, quantity).await?;
            eprintln!("{}", line(&order, &reply));
            println!("{}", serde_json::to_string_pretty(&reply.json()?)?);
            Ok(())
        }
        Command::Load { scenario, options } => load::run(&World::installed().await?, scenario, &options).await,
    }
}

async fn tour() -> Result<()> {
    let began = Instant::now();
    let title = |text: &str| println!("\n[{:>6.1} s] {text}", began.elapsed().as_secs_f64());
    title("Installing the operator and the shop (charts/valerix, charts/valerix-shop)");
    let world = World::shared().await?;
    await_services(&world).await?;
    show(&world, &format!("get pods --namespace {OPERATOR_NAMESPACE}")).await?;
    show(&world, "get valerix --all-namespaces").await?;
    title("Placing orders through the real API");
    place_orders(&world).await?;
    title("A customer signs in at the gateway, orders, and is told by e-mail (recorded, not sent)");
    sign_in_and_order(&world).await?;
    title("Changing a circuit breaker's threshold in running pods");
    patch_threshold(&world).await?;
    title("Slowing inventory by 3 s (ChaosExperiment latency)");
    slow_down(&world).await?;
    // Last of the two: its new pod would keep the other waiting until it is old enough.
    title("Killing an inventory pod (ChaosExperiment podKill)");
    kill_a_pod(&world).await?;
    title("Backing up the shop's databases (BackupPolicy shop)");
    back_up(&world).await?;
    let order = world.api::<Service>(SHOP).get("gateway").await?;
    let address = order.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default();
    let console = world.api::<Service>(OPERATOR_NAMESPACE).get("valerix-console").await?;
    let console = console.spec.and_then(|spec| spec.cluster_ip).unwrap_or_default();
    let_someone_in(&world).await?;
    title("All of it is running.");
    print_next(&world, &address, &console);
    Ok(())
}

/// Shows what a kubectl command prints, with the command above it.
async fn show(world: &World, arguments: &str) -> Result<()> {
    let output = world.kubectl(arguments).await?.text()?;
    println!("   $ kubectl {arguments}");
    output.trim_end().lines().for_each(|line| println!("   {line}"));
    Ok(())
}

fn line(order: &Order, reply: &Reply) -> String {
    let Order { order_id, status, .. } = order;
    format!(
        "{order_id} {status}: HTTP {} in {} ms",
        reply.status,
        reply.took.as_millis()
    )
}

fn is_true(conditions: Option<&[Condition]>, kind: &str) -> bool {
    conditions.is_some_and(|conditions| has_condition(conditions, kind, "True"))
}

async fn await_services(world: &World) -> Result<()> {
    for name in shop_services()?.keys() {
        let ready = |service: &ResilientService| {
            let status = service.status.as_ref();
            is_true(status.map(|status| &status.conditions[..]), types::READY)
        };
        world
            .object(SHOP, name, "Ready", Duration::from_secs(180), ready)
            .await?;
    }
    Ok(())
}

async fn place_orders(world: &World) -> Result<()> {
    let mut ids = Vec::new();
    for _ in 0..3 {
        let (order, reply) = shop::place(world, "ps5", 1).await?;
        println!("   {}", line(&order, &reply));
        ids.push(order.order_id);
    }
    shop::settled(world, &ids, Duration::from_secs(60)).await.map(drop)
}

/// The way of a visitor: an account, an order with a token, and the news of it.
async fn sign_in_and_order(world: &World) -> Result<()> {
    let email = format!("{}@customers.example", Uuid::new_v4());
    let customer = Visitor::registered(world, &email, "correct horse battery staple").await?;
    let key = Uuid::new_v4().to_string();
    let wanted = json!({"item_id": "ps5", "quantity": 1});
    let reply = customer
        .ask(world, "POST", "/api/orders", &[("Idempotency-Key", &key)], &wanted)
        .await?;
    ensure!(matches!(reply.status, 201 | 202), "{} {}", reply.status, reply.body);
    let order: Order = serde_json::from_value(reply.json()?)?;
    println!("   {}", line(&order, &reply));
    let news = eventually(Duration::from_secs(30), || async {
        let answer = customer
            .ask(world, "GET", "/notifications", &[], &Value::Null)
            .await
            .ok()?;
        let first = answer.json().ok()?["notifications"][0]["subject"].as_str()?.to_owned();
        Some(first)
    })
    .await
    .context("the customer is told nothing of the order within 30 s")?;
    println!("   {email} is told: {news}");
    Ok(())
}

/// Raises or lowers the threshold by one each time the demo runs, and shows that the same pods took it over.
async fn patch_threshold(world: &World) -> Result<()> {
    let pods = "get pods --selector app.kubernetes.io/name=order --namespace shop \
                --output=custom-columns=POD:.metadata.name,UID:.metadata.uid,RESTARTS:.status.containerStatuses[0].restartCount";
    let hash_of = |service: &ResilientService| Some(service.status.as_ref()?.config.as_ref()?.hash.clone());
    let services = world.api::<ResilientService>(SHOP);
    let order = services.get("order").await?;
    let targets = order.spec.resilience.iter().flat_map(|resilience| &resilience.targets);
    let breaker = targets
        .into_iter()
        .next()
        .and_then(|target| target.circuit_breaker.clone());
    let before = breaker.unwrap_or_default().consecutive_failures;
    let after = if before == Some(5) { 4 } else { 5 };
    let hash = hash_of(&order);
    show(world, pods).await?;
    let began = Instant::now();
    let path = "/spec/resilience/targets/0/circuitBreaker/consecutiveFailures";
    let patch = json!([{"op": "add", "path": path, "value": after}]).to_string();
    println!("   $ kubectl patch rsvc order --namespace shop --type=json --patch '{patch}'");
    let arguments = [
        "patch",
        "rsvc",
        "order",
        "--namespace",
        SHOP,
        "--type=json",
        "--patch",
        &patch,
    ];
    valerix_e2e::kubectl::kubectl_with(&world.environment, &arguments, None)
        .await?
        .text()?;
    let everywhere = |order: &ResilientService| {
        let Some(status) = &order.status else { return false };
        hash_of(order) != hash
            && Some(status.observed_generation) == order.metadata.generation
            && is_true(Some(&status.conditions), types::CONFIG_APPLIED)
    };
    let limit = Duration::from_secs(90);
    world
        .object(SHOP, "order", "ConfigApplied with the new hash", limit, everywhere)
        .await?;
    let took = began.elapsed().as_secs_f64();
    println!("   every pod answered with the new configuration after {took:.1} s");
    show(world, "get rsvc order --namespace shop").await?;
    show(world, pods).await
}

async fn slow_down(world: &World) -> Result<()> {
    let fault = json!({"latency": {"delay": "3s"}, "count": "100%", "duration": "10s"});
    let run = experiments::start(world, LATENCY, fault).await?;
    experiments::injected(world, LATENCY, &run).await?;
    show(world, "get chaos --namespace shop").await?;
    let mut ids = Vec::new();
    for _ in 0..5 {
        let (order, reply) = shop::place(world, "ps5", 1).await?;
        println!("   an order meanwhile: {}", line(&order, &reply));
        ids.push(order.order_id);
    }
    show(world, "get rsvc --namespace shop").await?;
    finish(world, LATENCY, &run).await?;
    for order in shop::settled(world, &ids, Duration::from_secs(90)).await? {
        println!("   after the fault: order {} {}", order.order_id, order.status);
    }
    close_circuits(world).await
}

/// A circuit closes by a call that succeeds: somebody has to order until each pod has made its own.
async fn close_circuits(world: &World) -> Result<()> {
    let services = world.api::<ResilientService>(SHOP);
    let began = Instant::now();
    loop {
        let order = services.get("order").await?;
        let circuits = order
            .status
            .and_then(|status| status.summary)
            .unwrap_or_default()
            .circuits;
        if circuits == "closed" {
            break;
        }
        let limit = Duration::from_secs(60);
        ensure!(
            began.elapsed() < limit,
            "the circuits of order are {circuits} a minute after the fault"
        );
        shop::place(world, "ps5", 1).await?;
    }
    show(world, "get rsvc order --namespace shop").await
}

async fn kill_a_pod(world: &World) -> Result<()> {
    let run = experiments::start(world, POD_KILL, json!({"podKill": {}, "count": 1})).await?;
    let chosen = |experiment: &ChaosExperiment| is_run(experiment, &run) && !status(experiment).targets.is_empty();
    let limit = Duration::from_secs(120);
    let experiment = world.object(SHOP, POD_KILL, "the eviction", limit, chosen).await?;
    println!("   victim: pod UID {}", status(&experiment).targets[0].uid);
    let (order, reply) = shop::place(world, "ps5", 1).await?;
    println!("   an order meanwhile: {}", line(&order, &reply));
    finish(world, POD_KILL, &run).await
}

async fn finish(world: &World, name: &str, run: &str) -> Result<()> {
    let status = experiments::ended(world, name, run).await?;
    show(world, "get chaos --namespace shop").await?;
    ensure!(
        status.verdict == Some(Verdict::Pass),
        "the experiment's verdict is {:?}: {}",
        status.verdict,
        status.message.unwrap_or_default()
    );
    Ok(())
}

/// Runs the day's backup, or shows it when it was made already.
async fn back_up(world: &World) -> Result<()> {
    let run = experiments::run_id();
    let patch = Patch::Merge(json!({"metadata": {"annotations": {RUN_ANNOTATION: run}}}));
    let policies = world.api::<BackupPolicy>(SHOP);
    policies.patch("shop", &PatchParams::default(), &patch).await?;
    let last_run = |policy: &BackupPolicy| policy.status.as_ref()?.last_run.clone().filter(|last| last.id == run);
    let answered = |policy: &BackupPolicy| last_run(policy).is_some();
    let limit = Duration::from_secs(60);
    let policy = world
        .object(SHOP, "shop", "an answer to the run", limit, answered)
        .await?;
    let last = last_run(&policy).context("the policy has no last run")?;
    println!(
        "   asked for a backup: {:?} (slot {}) {}",
        last.result, last.slot, last.message
    );
    let record = format!("shop-{}", last.slot.replace('-', ""));
    let phase = |record: &Backup| record.status.as_ref().map(|status| status.phase);
    let ended = |record: &Backup| {
        use BackupPhase::{Completed, Failed, Missed, Unknown};
        matches!(phase(record), Some(Completed | Failed | Missed | Unknown))
    };
    let backup = world
        .object(SHOP, &record, "its end", Duration::from_secs(240), ended)
        .await?;
    let message = backup.status.as_ref().and_then(|status| status.message.clone());
    ensure!(
        phase(&backup) == Some(BackupPhase::Completed),
        "the backup {record} is {:?}: {}",
        phase(&backup),
        message.unwrap_or_default()
    );
    let trial = |record: &Backup| record.status.as_ref()?.verification.clone();
    let restored = |record: &Backup| trial(record).is_some_and(|trial| trial.state != TrialRestoreState::Running);
    let backup = world
        .object(SHOP, &record, "its trial restore", Duration::from_secs(240), restored)
        .await?;
    show(world, "get bkp,backup.resilience.valerix.io --namespace shop").await?;
    let trial = trial(&backup).unwrap_or_default();
    ensure!(
        trial.state == TrialRestoreState::Restored,
        "the trial restore of {record} is {:?}: {}",
        trial.state,
        trial.message.unwrap_or_default()
    );
    Ok(())
}

/// An account that may do everything in the shop's namespace, for whoever looks at the demo's console.
async fn let_someone_in(world: &World) -> Result<()> {
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": CONSOLE_USER, "namespace": SHOP},
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": CONSOLE_USER, "namespace": SHOP},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "admin"},
        "subjects": [{"kind": "ServiceAccount", "name": CONSOLE_USER, "namespace": SHOP}],
    });
    for object in [account, binding] {
        let apply = ["apply", "--namespace", SHOP, "-f", "-"];
        kubectl::kubectl_with(&world.environment, &apply, Some(&object.to_string()))
            .await?
            .text()?;
    }
    Ok(())
}

fn print_next(world: &World, address: &str, console: &str) {
    let kubectl = world.environment.kubectl.display();
    println!("  kubeconfig      {}", world.environment.kubeconfig.display());
    println!(
        "  shop            http://gateway.shop.svc inside the cluster, http://{address} from its nodes; POST /api/orders"
    );
    println!("  operator        {OPERATOR_NAMESPACE}, metrics on its Service, port 8080");
    println!("  console         http://{console} from its nodes; sign in with what this prints:");
    println!("                  {kubectl} --namespace {SHOP} create token {CONSOLE_USER} --duration 8h");
    println!("\nNext:");
    println!("  export KUBECONFIG=$(make -s kubeconfig)");
    println!("  {kubectl} get valerix --all-namespaces");
    println!("  {kubectl} explain rsvc.spec.resilience.targets");
    println!("  {kubectl} --namespace shop port-forward service/gateway 8080:80");
    println!("  {kubectl} --namespace {OPERATOR_NAMESPACE} port-forward service/valerix-console 8081:80");
    println!("  {kubectl} --namespace shop port-forward service/prometheus 9090:80");
    println!("  make order ITEM=ps5 QUANTITY=1");
    println!("  make down       removes everything again");
}
