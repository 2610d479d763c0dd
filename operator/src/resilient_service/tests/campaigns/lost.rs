//! Requests that are lost before or after they took effect, that are answered with errors or late, and an API server that is
//! gone for a while.

use super::*;
use std::collections::HashMap;

/// A fault for every so many requests, by what is asked and how often it was: the same whatever the order.
fn unreliable(api: &FakeApi, seed: u64, percent: u32) -> Arc<AtomicUsize> {
    let injected = Arc::new(AtomicUsize::new(0));
    let (counted, mut times) = (injected.clone(), HashMap::<String, u64>::new());
    api.inject(move |request| {
        let key = format!("{} {} {}", request.method, request.path, request.is_watch());
        let time = times.entry(key.clone()).or_insert(0);
        *time += 1;
        let mixed = key.bytes().fold(seed ^ *time, |sum, byte| {
            sum.wrapping_mul(0x100_0000_01b3).wrapping_add(byte.into())
        });
        let mut random = StdRng::seed_from_u64(mixed);
        if !random.random_ratio(percent, 100) {
            return None;
        }
        counted.fetch_add(1, Ordering::SeqCst);
        // A read is not invalid. To a deletion 409 says that another object has the name by now, of which a watch tells:
        // never without cause.
        let codes = [422, 409, 429, 500, 503, 504];
        let codes = match request.method {
            Method::GET => &codes[1..],
            Method::DELETE => &codes[2..],
            _ => &codes[..],
        };
        let code = codes.choose(&mut random).copied()?;
        let late = Duration::from_millis(random.random_range(1..8_000));
        let faults = [
            Fault::Refuse(code),
            Fault::LoseRequest,
            Fault::LoseAnswer,
            Fault::Delay(late),
        ];
        faults.choose(&mut random).copied()
    });
    injected
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_lost_or_refused_lead_to_the_same_state_and_to_no_false_word() {
    let (rounds, first) = (number("VALERIX_ROUNDS", 5), number("VALERIX_SEED", 1));
    let specs = life();
    let wanted = references(&specs).await;
    let mut faults = 0;
    for seed in first..first + rounds {
        let api = FakeApi::default();
        with_monitors(&api);
        let operator = Operator::start(&api);
        for (step, spec) in specs.iter().enumerate() {
            let injected = unreliable(&api, seed, 30);
            write(&api, spec);
            for _ in 0..300 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                let said = api.get(ORDER).filter(says_all_stands);
                if let Some(lack) = said.and_then(|_| lack(&state(&api), &wanted[step])) {
                    panic!("seed {seed}, step {step}: the status says that all stands, and {lack}");
                }
            }
            faults += injected.load(Ordering::SeqCst);
            api.inject(|_| None);
            settle(&api, LONG_REST).await;
            if let Some(difference) = difference(&state(&api), &wanted[step]) {
                panic!("seed {seed}, step {step}: {difference}");
            }
            let service = api.get(ORDER).unwrap();
            assert!(
                says_all_stands(&service),
                "seed {seed}, step {step}: {}",
                service["status"]
            );
        }
        drop(operator);
    }
    assert!(faults > usize::try_from(rounds).unwrap() * 20, "only {faults} faults");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_was_gone_finds_everything_as_it_is_wanted_soon_after() {
    let (rounds, first) = (number("VALERIX_ROUNDS", 8), number("VALERIX_SEED", 1));
    let specs = life();
    let wanted = references(&specs).await;
    for seed in first..first + rounds {
        let mut random = StdRng::seed_from_u64(seed);
        let api = FakeApi::default();
        with_monitors(&api);
        write(&api, &specs[0]);
        let operator = Operator::start(&api);
        // Gone in the middle of something, or at rest.
        tokio::time::sleep(Duration::from_millis(*[0, 1, 5, 60_000].choose(&mut random).unwrap())).await;
        let fault = *[Fault::LoseRequest, Fault::Refuse(503), Fault::Refuse(500)]
            .choose(&mut random)
            .unwrap();
        api.inject(move |_| Some(fault));
        api.break_watches();
        let now = random.random_range(0..specs.len());
        write(&api, &specs[now]);
        let child = *CHILDREN.choose(&mut random).unwrap();
        if api.get(child).is_some() {
            api.delete(child);
        }
        let gone = Duration::from_secs(random.random_range(1..600));
        let before = api.requests().len();
        tokio::time::sleep(gone).await;
        let asked = api.requests().len() - before;
        assert!(asked < 1_000, "seed {seed}: {asked} requests to nobody in {gone:?}");
        api.inject(|_| None);
        // As long as the longest wait of whatever had failed.
        tokio::time::sleep(LONG_REST).await;
        if let Some(difference) = difference(&state(&api), &wanted[now]) {
            panic!("seed {seed}, gone for {gone:?} by {fault:?}: {difference}");
        }
        api.forget_requests();
        tokio::time::sleep(REST).await;
        assert_eq!(api.writes(), Vec::<String>::new(), "seed {seed}");
        drop(operator);
    }
}

/// What the API server, or the way to it, may answer to a write.
const ANSWERS: [Fault; 8] = [
    Fault::Refuse(409),
    Fault::Refuse(422),
    Fault::Refuse(429),
    Fault::Refuse(500),
    Fault::Refuse(503),
    Fault::Refuse(504),
    Fault::LoseRequest,
    Fault::LoseAnswer,
];

/// Each write of a service with each answer, for minutes: the waits double meanwhile, what was refused stands soon after,
/// and the next failure is waited for as briefly as the first.
#[tokio::test(start_paused = true)]
async fn each_write_is_tried_again_less_and_less_often_and_a_success_starts_over() {
    let (rounds, seed) = (number("VALERIX_ROUNDS", 12), number("VALERIX_SEED", 1));
    let spec = with_every_child()["spec"].clone();
    let wanted = references(std::slice::from_ref(&spec)).await;
    let status = format!("{ORDER}/status");
    let writes = CHILDREN.into_iter().chain([status.as_str()]);
    let mut plans: Vec<(&str, Fault)> = writes.flat_map(|path| ANSWERS.map(|answer| (path, answer))).collect();
    plans.shuffle(&mut StdRng::seed_from_u64(seed));
    plans.truncate(usize::try_from(rounds).unwrap());
    for (path, answer) in plans {
        let api = FakeApi::default();
        with_monitors(&api);
        let refusing = |times: usize| {
            let (path, tries) = (path.to_owned(), Arc::new(AtomicUsize::new(0)));
            let counted = tries.clone();
            api.inject(move |request| {
                let is_it = request.is_write() && request.path == path;
                (is_it && counted.fetch_add(1, Ordering::SeqCst) < times).then_some(answer)
            });
            tries
        };
        let tries = refusing(usize::MAX);
        write(&api, &spec);
        let operator = Operator::start(&api);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let early = tries.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(120)).await;
        let late = tries.load(Ordering::SeqCst) - early;
        // Half a second, one, two, four and so on, and a few for what else came about.
        assert!(
            (1..=16).contains(&early),
            "{path}, {answer:?}: {early} tries in the first minute"
        );
        assert!(late <= 3, "{path}, {answer:?}: {late} tries in two minutes more");
        api.inject(|_| None);
        settle(&api, LONG_REST).await;
        if let Some(difference) = difference(&state(&api), &wanted[0]) {
            panic!("{path}, {answer:?}: {difference}");
        }
        assert!(says_all_stands(&api.get(ORDER).unwrap()), "{path}, {answer:?}");
        if path == status {
            continue;
        }
        refusing(1);
        api.delete(path);
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(
            api.get(path).is_some(),
            "{path}, {answer:?}: the wait does not begin anew"
        );
        drop(operator);
    }
}
