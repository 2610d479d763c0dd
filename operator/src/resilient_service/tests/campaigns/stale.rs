//! Views of the past: a process that starts on caches of an API server that lags behind, each kind by as much as it
//! likes, and changes that no watch has told.

use super::*;

/// Lists tell the past and watches open late, until the time has come.
fn look_back(api: &FakeApi, seed: u64, versions: Vec<u64>) {
    let api_versions = Arc::new(versions);
    api.inject(move |request| {
        if request.method != Method::GET {
            return None;
        }
        // The same for every request of a kind, whatever the order in which they come.
        let kind = request.path.rsplit('/').next().unwrap_or_default();
        let mut random = StdRng::seed_from_u64(
            kind.bytes()
                .fold(seed, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())),
        );
        let version = *api_versions.choose(&mut random)?;
        let late = Duration::from_millis(random.random_range(0..20_000));
        Some(if request.is_watch() {
            Fault::Delay(late)
        } else {
            Fault::AsOf(version)
        })
    });
}

/// Children that the operator deleted although the specification of now wants them.
fn wrongly_deleted(api: &FakeApi, wanted: &State) -> Vec<String> {
    let requests = api.requests();
    let deletes = requests.iter().filter(|request| request.method == Method::DELETE);
    deletes
        .map(|request| request.path.clone())
        .filter(|path| wanted.contains_key(path.as_str()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_process_that_starts_in_the_past_deletes_nothing_of_now_and_arrives() {
    // From here on the first few find an operator that prunes by a specification of before.
    let (rounds, first) = (number("VALERIX_ROUNDS", 15), number("VALERIX_SEED", 30));
    let specs = life();
    let wanted = references(&specs).await;
    for seed in first..first + rounds {
        let mut random = StdRng::seed_from_u64(seed);
        let api = FakeApi::default();
        with_monitors(&api);
        let operator = Operator::start(&api);
        let mut versions = vec![api.version()];
        let mut now = 0;
        for _ in 0..random.random_range(1..=3) {
            if random.random_bool(0.3) && api.get(ORDER).is_some() {
                api.delete(ORDER);
                settle(&api, REST).await;
                api.collect_garbage();
                versions.push(api.version());
            }
            now = random.random_range(0..specs.len());
            write(&api, &specs[now]);
            settle(&api, REST).await;
            versions.push(api.version());
        }
        let before = uids(&api);
        drop(operator);
        api.forget_requests();
        look_back(&api, seed, versions.clone());
        let operator = Operator::start(&api);
        tokio::time::sleep(Duration::from_secs(25)).await;
        api.inject(|_| None);
        settle(&api, REST).await;
        // What was made for a service of before.
        api.collect_garbage();
        settle(&api, REST).await;
        let told = || {
            format!(
                "seed {seed}, specification {now}, versions {versions:?}, writes {:?}",
                api.writes()
            )
        };
        if let Some(difference) = difference(&state(&api), &wanted[now]) {
            panic!("{}: {difference}", told());
        }
        assert_eq!(wrongly_deleted(&api, &wanted[now]), Vec::<String>::new(), "{}", told());
        assert_eq!(uids(&api), before, "{}", told());
        drop(operator);
    }
}

#[tokio::test(start_paused = true)]
async fn changes_that_no_watch_told_lead_to_the_same_state() {
    let (rounds, first) = (number("VALERIX_ROUNDS", 15), number("VALERIX_SEED", 1));
    let specs = life();
    let wanted = references(&specs).await;
    for seed in first..first + rounds {
        let mut random = StdRng::seed_from_u64(seed);
        let api = FakeApi::default();
        with_monitors(&api);
        write(&api, &specs[0]);
        let _operator = Operator::start(&api);
        settle(&api, REST).await;
        let mut done = Vec::new();
        let mut now = 0;
        // Every watch is over, and no list comes before all of this has happened.
        api.break_watches();
        for _ in 0..random.random_range(1..=4) {
            match random.random_range(0..4) {
                0 => {
                    api.delete(ORDER);
                    write(&api, &specs[now]);
                    done.push("service made anew".to_owned());
                }
                1 => {
                    now = random.random_range(0..specs.len());
                    write(&api, &specs[now]);
                    done.push(format!("specification {now}"));
                }
                choice => {
                    let path = *CHILDREN.choose(&mut random).unwrap();
                    let Some(mut child) = api.get(path) else { continue };
                    api.delete(path);
                    done.push(format!("deleted {path}"));
                    // A Deployment without a selector is none.
                    if choice == 3 && path != DEPLOYMENT {
                        // By the same name and of the same owner, but empty.
                        child["spec"] = json!({});
                        child["data"] = json!({});
                        child["metadata"].as_object_mut().unwrap().remove("uid");
                        let (collection, _) = path.rsplit_once('/').unwrap();
                        api.create(collection, child);
                        done.push("made anew".to_owned());
                    }
                }
            }
        }
        settle(&api, REST).await;
        // What was made for the service of before, whose end nobody had told.
        api.collect_garbage();
        settle(&api, REST).await;
        if let Some(difference) = difference(&state(&api), &wanted[now]) {
            panic!("seed {seed}, after {done:?}: {difference}");
        }
    }
}
