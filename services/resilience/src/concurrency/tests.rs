use valerix_policy::{PriorityHeader, RoutePriority};

use super::*;
use crate::clock::ManualClock;

fn gate(settings: &Concurrency) -> Arc<Gate> {
    let gate = Gate::default();
    gate.configure(Some(settings), Mode::Enforce);
    Arc::new(gate)
}

fn fixed(max: u32) -> Concurrency {
    Concurrency {
        max,
        ..Concurrency::default()
    }
}

async fn place<C: Clock + Clone>(gate: &Gate<C>, priority: Priority) -> Place<C> {
    match gate.enter(priority).await {
        Entry::Admitted(place) => place,
        _ => panic!("{priority:?} got no place"),
    }
}

async fn refusal(gate: &Gate, priority: Priority) -> &'static str {
    match gate.enter(priority).await {
        Entry::Refused(reason) => reason,
        _ => panic!("{priority:?} was not refused"),
    }
}

async fn settle() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn no_more_than_the_limit_and_a_place_comes_back() {
    let gate = gate(&fixed(2));
    let first = place(&gate, Priority::Default).await;
    let _second = place(&gate, Priority::BestEffort).await;
    // Without priorities all are alike.
    refusal(&gate, Priority::Critical).await;
    drop(first);
    let third = place(&gate, Priority::Default).await;
    refusal(&gate, Priority::Default).await;
    let held = third.ended(Ended::Answered);
    refusal(&gate, Priority::Default).await;
    drop(held);
    place(&gate, Priority::Default).await;
}

#[tokio::test]
async fn who_queues_waits_and_a_full_queue_refuses_at_once() {
    let queue_timeout = valerix_policy::Duration::from_secs(60);
    let gate = gate(&Concurrency {
        max_queue: 1,
        queue_timeout,
        ..fixed(1)
    });
    let held = place(&gate, Priority::Default).await;
    let waiting = gate.clone();
    let queued = tokio::spawn(async move { matches!(waiting.enter(Priority::Default).await, Entry::Admitted(_)) });
    settle().await;
    assert_eq!(gate.levels(), Some([1, 1, 1]));
    refusal(&gate, Priority::Default).await;
    drop(held);
    assert!(queued.await.unwrap());
    assert_eq!(gate.levels(), Some([1, 0, 0]));
}

#[tokio::test]
async fn shadow_and_disabled_let_all_pass() {
    let gate: Gate = Gate::default();
    gate.configure(Some(&fixed(1)), Mode::Shadow);
    let _first = place(&gate, Priority::Default).await;
    assert!(matches!(gate.enter(Priority::Default).await, Entry::Shadow));
    gate.configure(Some(&fixed(1)), Mode::Disabled);
    assert!(matches!(gate.enter(Priority::Default).await, Entry::Unlimited));
}

#[tokio::test]
async fn a_reload_keeps_places_that_are_taken() {
    let gate = gate(&fixed(2));
    let _held = [
        place(&gate, Priority::Default).await,
        place(&gate, Priority::Default).await,
    ];
    gate.configure(Some(&fixed(3)), Mode::Enforce);
    let _third = place(&gate, Priority::Default).await;
    refusal(&gate, Priority::Default).await;
}

#[tokio::test]
async fn the_less_important_are_refused_first_as_the_limit_fills() {
    let gate = gate(&Concurrency {
        priorities: Some(Priorities::default()),
        ..fixed(20)
    });
    let (mut held, mut admitted) = (Vec::new(), [0; 4]);
    // The least important ones ask first and get no more than their share.
    for (index, priority) in Priority::ALL.into_iter().enumerate().rev() {
        while let Entry::Admitted(place) = gate.enter(priority).await {
            held.push(place);
            admitted[index] += 1;
        }
    }
    assert_eq!(admitted, [2, 3, 5, 10], "100, 90, 75 and 50 percent of 20 places");
    // One place is freed: it is for the most important ones only.
    held.pop();
    for priority in [Priority::BestEffort, Priority::Sheddable, Priority::Default] {
        refusal(&gate, priority).await;
    }
    held.push(place(&gate, Priority::Critical).await);
    held.truncate(9);
    place(&gate, Priority::BestEffort).await;
}

#[tokio::test]
async fn critical_requests_pass_the_queue_and_sheddable_ones_never_wait() {
    let gate = gate(&Concurrency {
        max_queue: 10,
        queue_timeout: valerix_policy::Duration::from_secs(60),
        priorities: Some(Priorities::default()),
        ..fixed(1)
    });
    let held = place(&gate, Priority::Critical).await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for priority in [
        Priority::Default,
        Priority::Critical,
        Priority::Default,
        Priority::Critical,
    ] {
        let (gate, order) = (gate.clone(), order.clone());
        tasks.push(tokio::spawn(async move {
            let _place = place(&gate, priority).await;
            order.lock().unwrap().push(priority);
        }));
        settle().await;
    }
    let began = std::time::Instant::now();
    for priority in [Priority::Sheddable, Priority::BestEffort] {
        assert!(refusal(&gate, priority).await.contains("more important"));
    }
    assert!(began.elapsed() < Duration::from_secs(30), "they never wait");
    drop(held);
    for task in tasks {
        task.await.unwrap();
    }
    use Priority::{Critical, Default};
    assert_eq!(*order.lock().unwrap(), [Critical, Critical, Default, Default]);
}

#[tokio::test]
async fn abandoned_waits_and_requests_leave_nothing_behind() {
    let gate = gate(&Concurrency {
        max_queue: 100,
        queue_timeout: valerix_policy::Duration::from_secs(60),
        priorities: Some(Priorities::default()),
        ..fixed(2)
    });
    let held = [
        place(&gate, Priority::Default).await,
        place(&gate, Priority::Critical).await,
    ];
    let tasks: Vec<_> = (0..40)
        .map(|index| {
            let (gate, priority) = (gate.clone(), Priority::ALL[index % 2]);
            tokio::spawn(async move { place(&gate, priority).await })
        })
        .collect();
    settle().await;
    assert_eq!(gate.levels(), Some([2, 2, 40]));
    drop(held);
    for task in tasks {
        task.abort();
        drop(task.await);
    }
    assert_eq!(gate.levels(), Some([2, 0, 0]));
}

#[tokio::test]
async fn the_header_does_what_the_policy_says_and_no_more() {
    let with = |header| {
        let routes = vec![RoutePriority {
            route: "GET /items/{id}".to_owned(),
            priority: Priority::Sheddable,
        }];
        let priorities = Some(Priorities {
            header,
            routes,
            ..Priorities::default()
        });
        gate(&Concurrency { priorities, ..fixed(1) })
    };
    use Priority::{BestEffort, Critical, Default, Sheddable};
    for (header, claimed, on_route, elsewhere) in [
        (PriorityHeader::Ignore, None, Sheddable, Default),
        (PriorityHeader::Ignore, Some("Critical"), Sheddable, Default),
        (PriorityHeader::Ignore, Some("BestEffort"), Sheddable, Default),
        (PriorityHeader::Lower, Some("critical"), Sheddable, Default),
        (PriorityHeader::Lower, Some("besteffort"), BestEffort, BestEffort),
        (PriorityHeader::Trust, Some("Critical"), Critical, Critical),
        (PriorityHeader::Trust, Some("urgent"), Sheddable, Default),
        (PriorityHeader::Trust, Some(""), Sheddable, Default),
    ] {
        let gate = with(header);
        let found = [
            gate.priority("GET", "/items/1", claimed),
            gate.priority("GET", "/", claimed),
        ];
        assert_eq!(found, [on_route, elsewhere], "{header:?} {claimed:?}");
    }
    let open: Gate = Gate::default();
    assert_eq!(open.priority("GET", "/", Some("Critical")), Default);
}

/// A reader that takes its time must not look like a slow service, and one that goes away not like a fast one.
#[tokio::test]
async fn only_the_time_to_an_answer_is_measured() {
    let clock = ManualClock::default();
    let gate = Gate {
        limit: ArcSwapOption::default(),
        clock: clock.clone(),
    };
    let adaptive = Concurrency {
        concurrency_type: ConcurrencyType::Adaptive,
        min: 1,
        initial: 10,
        ..fixed(100)
    };
    gate.configure(Some(&adaptive), Mode::Enforce);
    let limit = || gate.levels().unwrap()[0];
    let answer = async |latency: u64, body: u64| {
        let place = place(&gate, Priority::Default).await;
        clock.advance(Duration::from_millis(latency));
        let held = place.ended(Ended::Answered);
        clock.advance(Duration::from_millis(body));
        drop(held);
    };
    for _ in 0..200 {
        answer(10, 0).await;
    }
    for _ in 0..200 {
        answer(10, 5_000).await;
    }
    assert_eq!(limit(), 10, "slow readers");
    for _ in 0..200 {
        drop(place(&gate, Priority::Default).await);
        clock.advance(Duration::from_millis(10));
    }
    for _ in 0..200 {
        answer(15, 0).await;
    }
    assert_eq!(limit(), 10, "the baseline is still 10 ms");
    for _ in 0..200 {
        answer(25, 0).await;
    }
    assert!(limit() < 10, "a slow service is noticed");
}

/// A document that comes while the service is overloaded: what it does then is not what it does at rest.
#[tokio::test]
async fn other_settings_do_not_make_an_overload_the_rule() {
    let clock = ManualClock::default();
    let gate = Gate {
        limit: ArcSwapOption::default(),
        clock: clock.clone(),
    };
    let adaptive = Concurrency {
        concurrency_type: ConcurrencyType::Adaptive,
        min: 1,
        initial: 10,
        ..fixed(100)
    };
    gate.configure(Some(&adaptive), Mode::Enforce);
    let limit = || gate.levels().unwrap()[0];
    let answers = async |latency: u64, at_once: usize| {
        let mut places = Vec::new();
        for _ in 0..at_once {
            places.push(place(&gate, Priority::Default).await);
        }
        clock.advance(Duration::from_millis(latency));
        let held: Vec<_> = places.into_iter().map(|place| place.ended(Ended::Answered)).collect();
        drop(held);
    };
    for _ in 0..50 {
        answers(10, 1).await;
    }
    assert_eq!(limit(), 10);
    for _ in 0..4 {
        answers(50, limit()).await;
    }
    let found = limit();
    assert!(found < 10, "{found}: five times as slow is too slow");
    let longer = Concurrency {
        max_queue: adaptive.max_queue + 1,
        ..adaptive
    };
    gate.configure(Some(&longer), Mode::Enforce);
    assert_eq!(limit(), found);
    for _ in 0..8 {
        answers(50, limit()).await;
    }
    assert!(limit() < found, "{} is still too slow", limit());
}

/// A queue that has not been empty for a while stands: waiting in it helps nobody.
#[tokio::test(start_paused = true)]
async fn waits_are_short_while_the_queue_stands_and_long_again_when_it_flows() {
    let clock = ManualClock::default();
    let gate = Gate {
        limit: ArcSwapOption::empty(),
        clock: clock.clone(),
    };
    let settings = Concurrency {
        max_queue: 10,
        queue_timeout: valerix_policy::Duration::from_millis(400),
        ..fixed(1)
    };
    gate.configure(Some(&settings), Mode::Enforce);
    let waited = async || {
        let began = tokio::time::Instant::now();
        let Entry::Refused(reason) = gate.enter(Priority::Critical).await else {
            panic!("a place, though all are taken")
        };
        assert_eq!(reason, "this service was not free in time");
        // The timer of tokio has millisecond steps.
        began.elapsed().as_millis() / 5 * 5
    };
    let held = place(&gate, Priority::Critical).await;
    clock.advance(Duration::from_millis(100));
    assert_eq!(waited().await, 400);
    clock.advance(Duration::from_millis(1));
    assert_eq!(waited().await, 5, "nobody found a place at once for more than 100 ms");
    drop(held);
    let _held = place(&gate, Priority::Critical).await;
    assert_eq!(waited().await, 400);
}

#[tokio::test(start_paused = true)]
async fn a_larger_limit_lets_those_in_who_wait() {
    let queued = |max| Concurrency {
        max_queue: 10,
        queue_timeout: valerix_policy::Duration::from_secs(60),
        ..fixed(max)
    };
    let gate = gate(&queued(1));
    let _held = place(&gate, Priority::Critical).await;
    let mut waiting = std::pin::pin!(place(&gate, Priority::Critical));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    gate.configure(Some(&queued(2)), Mode::Enforce);
    // Without a timer: nobody's time has to end for it.
    assert!(futures::poll!(waiting.as_mut()).is_ready());
}

#[tokio::test]
async fn a_refusal_is_reported() {
    let gate = gate(&fixed(1));
    let _held = place(&gate, Priority::Default).await;
    refusal(&gate, Priority::Default).await;
    let report = gate.report().unwrap();
    assert_eq!(
        (report.limit, report.in_use, report.allowed, report.refused),
        (1, 1, 1, 1)
    );
}

/// A place that was freed and is not taken yet belongs to who was woken for it.
#[tokio::test]
async fn who_comes_while_others_wait_stands_behind_them() {
    let gate = gate(&Concurrency {
        max_queue: 10,
        queue_timeout: valerix_policy::Duration::from_secs(60),
        ..fixed(1)
    });
    let held = place(&gate, Priority::Default).await;
    let mut first = Box::pin(place(&gate, Priority::Default));
    assert!(futures::poll!(first.as_mut()).is_pending());
    let mut second = Box::pin(place(&gate, Priority::Default));
    assert!(futures::poll!(second.as_mut()).is_pending());
    assert_eq!(gate.levels(), Some([1, 1, 2]));
    drop(held);
    let mut third = Box::pin(place(&gate, Priority::Default));
    assert!(futures::poll!(third.as_mut()).is_pending(), "two were here before");
    drop(first.await);
    drop(second.await);
    drop(third.await);
}

#[tokio::test]
async fn one_queue_is_bounded_over_all_priorities() {
    let gate = gate(&Concurrency {
        max_queue: 2,
        queue_timeout: valerix_policy::Duration::from_secs(60),
        priorities: Some(Priorities {
            default_percent: 100,
            ..Priorities::default()
        }),
        ..fixed(1)
    });
    let _held = place(&gate, Priority::Critical).await;
    let mut waiting = [Priority::Critical, Priority::Default].map(|priority| Box::pin(gate.enter(priority)));
    for wait in &mut waiting {
        assert!(futures::poll!(wait.as_mut()).is_pending());
    }
    assert_eq!(gate.levels(), Some([1, 1, 2]), "both count");
    for priority in [Priority::Critical, Priority::Default] {
        let mut third = Box::pin(gate.enter(priority));
        assert!(
            futures::poll!(third.as_mut()).is_ready(),
            "{priority:?} is refused at once"
        );
    }
}
