//! One order after the other, each with one fault at one call of one process: it is killed, stands still, or its connection is
//! cut, slow or silent until it is given up, before the call is heard, before its answer is, or right after. Two replicas of order, payment and inventory.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::RwLock;
use tokio::time::Instant;
use valerix_kit::testing::chance::{Chance, rounds};

use super::{place_until_told, undo};
use crate::shop::{Acknowledged, Fault, History, Moment, Shop, Trap, Wire, order_policy};

const STOCK: u32 = 10_000;
/// Faults that a test tries.
const SLICE: usize = 18;
/// Longer than a consumer's lease (3 s), than order's lock of a key and than payment's lease of a charge.
const PAUSE: Fault = Fault::Pause(Duration::from_secs(5));
const DELAY: Fault = Fault::Delay(Duration::from_millis(1_500));
/// What a kernel needs to notice that nobody is there any more; longer than anybody waits for an answer.
const HOLE: Fault = Fault::Hole(Duration::from_secs(12));
/// How long a fault is waited for once its order is known: the rest goes by events.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// The replicas that an order meets which is placed at the first.
const SIDES: [[&str; 3]; 2] = [
    ["order", "payment", "inventory"],
    ["order-2", "payment-2", "inventory-2"],
];

/// What a client does with an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Errand {
    Buy,
    /// Cancels it at once.
    ChangeMind,
    /// The order is confirmed before anything goes wrong.
    GiveBack,
}

impl Errand {
    const ALL: [Self; 3] = [Self::Buy, Self::ChangeMind, Self::GiveBack];

    /// From `begin` on calls are counted.
    async fn run(self, shop: &RwLock<Shop>, side: usize, key: String, begin: impl FnOnce()) -> Acknowledged {
        let replicas = [SIDES[side][0], SIDES[1 - side][0]];
        let body = json!({"item_id": "ps5", "quantity": 1});
        if self != Self::GiveBack {
            begin();
            let known = place_until_told(shop, &replicas, key, body).await;
            if self == Self::ChangeMind {
                undo(&*shop.read().await, replicas[0], known.order(), "cancel").await;
            }
            return known;
        }
        let known = place_until_told(shop, &replicas, key, body).await;
        let shop = shop.read().await;
        shop.ends(known.order()).await;
        begin();
        undo(&shop, replicas[0], known.order(), "refund").await;
        known
    }
}

/// One fault.
struct Plan {
    errand: Errand,
    side: usize,
    process: &'static str,
    wire: Arc<Wire>,
    trap: Trap,
}

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            errand,
            process,
            wire,
            trap,
            ..
        } = self;
        let Trap { call, moment, fault } = trap;
        write!(
            formatter,
            "{errand:?}: {fault:?} of {process} at call {call} of {}, {moment:?}",
            wire.name
        )
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_order_is_lost_or_doubled_whichever_call_goes_wrong() {
    let (mut chance, seed) = Chance::seeded(11);
    let shop = RwLock::new(start().await);
    let (mut history, mut plans) = (History::new(), vec![]);
    for errand in Errand::ALL {
        plans.extend(every_plan(&shop, errand, &mut history).await);
    }
    let possible = plans.len();
    chance.shuffle(&mut plans);
    let plans = slice_of(plans, rounds(SLICE));
    let (mut felt, mut unready) = (BTreeMap::<Fault, usize>::new(), BTreeSet::new());
    for (number, plan) in plans.iter().enumerate() {
        eprintln!("seed {seed}, fault {number}: {plan}");
        if unready.remove(plan.process) {
            shop.read().await.ready(plan.process).await;
        }
        let (known, came_true) = attempt(&shop, plan, format!("fault-{number}")).await;
        history.push(known);
        if came_true {
            *felt.entry(plan.trap.fault).or_default() += 1;
            if plan.trap.fault == Fault::Kill {
                shop.write().await.again(plan.process);
                unready.insert(plan.process);
            }
        }
    }
    let shop = shop.into_inner();
    shop.all_ready().await;
    eprintln!(
        "seed {seed}: {} of {possible} faults, of which came true {felt:?}",
        plans.len()
    );
    let felt: usize = felt.values().sum();
    assert!(
        felt * 8 > plans.len(),
        "only {felt} faults came true, which proves little"
    );
    shop.all_is_well("order-2", &history, i64::from(STOCK)).await;
}

/// Two of each, each with its own neighbours, and wires everywhere.
async fn start() -> Shop {
    let settings = [
        ("payment", "SETTLE_LEASE", "1s"),
        ("order", "COMMAND_RESEND", "1s"),
        ("order", "ORDER_BUDGET", "1s"),
    ];
    let mut shop = Shop::closed(STOCK, &settings).await;
    let mut policy = order_policy();
    policy["inbound"] = json!({"timeout": "2s", "idempotency": {"lockTimeout": "3s"}});
    shop.policy("order", &policy);
    for [order, payment, inventory] in &SIDES[1..] {
        shop.replica("order", order);
        shop.replica("payment", payment);
        shop.replica("inventory", inventory);
        let (payment, inventory) = (shop.url(payment), shop.url(inventory));
        shop.set(order, "PAYMENT_URL", &payment);
        shop.set(order, "INVENTORY_URL", &inventory);
    }
    // Less than a key is locked, so that another replica takes over from one that stands still.
    shop.patience = Duration::from_millis(2_500);
    shop.interpose().await;
    shop.open().await;
    shop
}

/// Every call that the processes of one order make, with every fault and moment; pauses are long and so at one moment only.
async fn every_plan(shop: &RwLock<Shop>, errand: Errand, history: &mut History) -> Vec<Plan> {
    let mut plans = vec![];
    for (side, names) in SIDES.iter().enumerate() {
        let processes: Vec<_> = names.iter().copied().chain(["processor"]).collect();
        let wires: Vec<Vec<Arc<Wire>>> = {
            let shop = shop.read().await;
            processes.iter().map(|process| shop.wires(process).to_vec()).collect()
        };
        // The first finds nothing prepared: no connection, no statement.
        for key in ["first", "counted"] {
            let begin = || wires.iter().flatten().for_each(|wire| wire.set(None));
            let known = errand.run(shop, side, format!("{errand:?}-{side}-{key}"), begin).await;
            shop.read().await.ends(known.order()).await;
            history.push(known);
        }
        for (process, wires) in processes.iter().zip(wires) {
            for wire in wires {
                for (call, moment) in (1..=wire.calls()).flat_map(|call| Moment::ALL.map(|moment| (call, moment))) {
                    let pause = (moment == Moment::BeforeAnswer).then_some(PAUSE);
                    plans.extend(
                        [Fault::Kill, Fault::Cut, DELAY, HOLE]
                            .into_iter()
                            .chain(pause)
                            .map(|fault| Plan {
                                errand,
                                side,
                                process,
                                wire: Arc::clone(&wire),
                                trap: Trap { call, moment, fault },
                            }),
                    );
                }
            }
        }
    }
    plans
}

/// The first of `plans`: of each kind of wire in turn, as most calls are those of databases; as many kills as of almost all
/// others, and few pauses.
fn slice_of(plans: Vec<Plan>, rounds: usize) -> Vec<Plan> {
    let mut counts = BTreeMap::<&str, usize>::new();
    let mut turns: Vec<_> = plans
        .into_iter()
        .map(|plan| {
            let turn = counts.entry(plan.wire.name).or_default();
            *turn += 1;
            (*turn, plan)
        })
        .collect();
    turns.sort_by_key(|(turn, _)| *turn);
    let mut slice: Vec<_> = turns.into_iter().map(|(_, plan)| plan).collect();
    let share = |fault: Fault| match fault {
        Fault::Kill => rounds * 4 / 9,
        Fault::Cut => rounds * 2 / 9,
        Fault::Pause(_) => rounds / 9,
        Fault::Delay(_) | Fault::Hole(_) => rounds / 9,
    };
    let mut taken = BTreeMap::<Fault, usize>::new();
    slice.retain(|plan| {
        let taken = taken.entry(plan.trap.fault).or_default();
        *taken += 1;
        *taken <= share(plan.trap.fault)
    });
    slice
}

/// One order with one fault. Says whether it came true.
async fn attempt(shop: &RwLock<Shop>, plan: &Plan, key: String) -> (Acknowledged, bool) {
    let Plan {
        errand,
        side,
        wire,
        trap,
        ..
    } = plan;
    let before = wire.sprung();
    let known = errand.run(shop, *side, key, || wire.set(Some(*trap))).await;
    let waited = Instant::now();
    while wire.sprung() == before && waited.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    wire.set(None);
    (known, wire.sprung() > before)
}
