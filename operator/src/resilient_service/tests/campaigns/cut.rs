//! Killed at a write, which was never sent, took effect, or takes effect when another process leads already.

use super::*;

/// What becomes of the write at which the process dies.
#[derive(Clone, Copy, Debug)]
enum Last {
    NeverSent,
    TookEffect,
    Late(Duration),
}

impl Last {
    fn fault(self) -> Fault {
        match self {
            Self::NeverSent => Fault::Delay(Duration::from_secs(1_000_000)),
            Self::TookEffect => Fault::Silence,
            Self::Late(delay) => Fault::Late(delay),
        }
    }
}

/// One life in which the process is killed at these writes; says how many writes there were.
async fn life_with(deaths: &BTreeMap<usize, Last>, specs: &[Value], wanted: &[State]) -> Result<usize, String> {
    let api = FakeApi::default();
    with_monitors(&api);
    let (writes, killed) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let (counter, notify, plan) = (writes.clone(), killed.clone(), deaths.clone());
    api.inject(move |request| {
        let number = is_operators(request).then(|| counter.fetch_add(1, Ordering::SeqCst))?;
        let last = plan.get(&number)?;
        notify.notify_one();
        Some(last.fault())
    });
    let mut operator = Operator::start(&api);
    // As the second replica of the chart does: its caches are warm.
    let mut next = Operator::stand_by(&api);
    let mut step = 0;
    write(&api, &specs[0]);
    loop {
        let was_killed = tokio::select! {
            () = killed.notified() => true,
            () = settle(&api, REST) => false,
        };
        if was_killed {
            operator = std::mem::replace(&mut next, Operator::stand_by(&api));
            operator.lead();
            // Whoever takes over may find that something else is wanted by now.
            if step + 1 < specs.len() && deaths.values().any(|last| matches!(last, Last::Late(_))) {
                step += 1;
                write(&api, &specs[step]);
            }
            continue;
        }
        if let Some(difference) = difference(&state(&api), &wanted[step]) {
            return Err(format!("step {step}: {difference}"));
        }
        let observed = api.get(ORDER).map(|service| {
            (
                service["status"]["observedGeneration"].clone(),
                service["metadata"]["generation"].clone(),
            )
        });
        if observed
            .as_ref()
            .is_none_or(|(observed, generation)| observed != generation)
        {
            return Err(format!("step {step}: the status is of {observed:?}"));
        }
        step += 1;
        let Some(spec) = specs.get(step) else { break };
        write(&api, spec);
    }
    api.delete(ORDER);
    settle(&api, REST).await;
    api.collect_garbage();
    drop(operator);
    let left = state(&api);
    match left.is_empty() {
        true => Ok(writes.load(Ordering::SeqCst)),
        false => Err(format!("after its deletion there are {:?}", left.keys())),
    }
}

#[tokio::test(start_paused = true)]
async fn killed_at_any_write_another_process_ends_in_the_same_state() {
    let (rounds, seed) = (number("VALERIX_ROUNDS", 30), number("VALERIX_SEED", 1));
    let specs = life();
    let wanted = references(&specs).await;
    let writes = life_with(&BTreeMap::new(), &specs, &wanted).await.unwrap();
    assert!(writes > 20, "{writes}");
    let mut random = StdRng::seed_from_u64(seed);
    for round in 0..rounds {
        // First each write in turn, then more than one at a time.
        let turn = usize::try_from(round).unwrap();
        let times = if turn < writes { 1 } else { random.random_range(1..=4) };
        let deaths: BTreeMap<usize, Last> = (0..times)
            .map(|_| {
                let at = if turn < writes {
                    turn
                } else {
                    random.random_range(0..writes + 5)
                };
                let late = Duration::from_millis(random.random_range(1..5_000));
                let last = [Last::NeverSent, Last::TookEffect, Last::Late(late)]
                    .choose(&mut random)
                    .copied();
                (at, last.unwrap())
            })
            .collect();
        if let Err(difference) = life_with(&deaths, &specs, &wanted).await {
            panic!("seed {seed}, round {round}, killed at {deaths:?}: {difference}");
        }
    }
}
