//! The choice of addresses on a clock turned by hand.

use std::time::Duration;

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::clock::ManualClock;
use crate::outbound::hosts::Listeners;

fn addresses(count: u8) -> Vec<SocketAddr> {
    (0..count)
        .map(|number| SocketAddr::from(([10, 0, 0, number], 80)))
        .collect()
}

fn balancer(count: u8) -> (Balancer<ManualClock>, ManualClock) {
    let clock = ManualClock::default();
    clock.advance(Duration::from_secs(1_000));
    let hosts = Arc::new(Hosts::new(Listeners::default()));
    (Balancer::build(hosts, None, addresses(count), clock.clone()), clock)
}

fn fail(balancer: &Balancer<ManualClock>, socket: SocketAddr, times: u32) -> bool {
    let address = balancer.hosts().address(socket);
    (0..times).map(|_| balancer.failed(&address)).last().unwrap()
}

/// Which addresses a thousand calls go to that each end at once.
fn picked(balancer: &Balancer<ManualClock>) -> Vec<SocketAddr> {
    let mut picked: Vec<_> = (0..1_000).map(|_| balancer.pick(&[], &[]).unwrap().socket()).collect();
    picked.sort_unstable();
    picked.dedup();
    picked
}

#[test]
fn calls_under_way_are_spread_evenly() {
    for count in [1, 2, 3, 10] {
        let (balancer, _) = balancer(count);
        let flights: Vec<_> = (0..1_000).map(|_| balancer.pick(&[], &[]).unwrap()).collect();
        let share = 1_000 / usize::from(count);
        for address in balancer.hosts().all() {
            let in_flight = address.in_flight.load(Ordering::Relaxed);
            assert!(
                in_flight.abs_diff(share) <= 10,
                "{count} addresses: {in_flight} on {}",
                address.socket
            );
        }
        drop(flights);
        let left: usize = balancer
            .hosts()
            .all()
            .iter()
            .map(|address| address.in_flight.load(Ordering::Relaxed))
            .sum();
        assert_eq!(left, 0);
        assert_eq!(picked(&balancer), addresses(count));
    }
}

#[test]
fn of_a_long_answer_each_client_takes_its_own_part_and_keeps_it() {
    let all: Vec<_> = (0..1_000_u16)
        .map(|number| SocketAddr::from(([10, 0, 0, 1], number)))
        .collect();
    let mut called: Vec<SocketAddr> = Vec::new();
    for _ in 0..40 {
        let (balancer, _) = balancer(0);
        let taken = || -> Vec<_> {
            balancer.take([all.clone(), all.clone()].concat());
            balancer.addresses.load().iter().map(|address| address.socket).collect()
        };
        let part = taken();
        assert_eq!(part.len(), MAX_ADDRESSES);
        assert!(part.is_sorted());
        assert_eq!(taken(), part, "the same of the same answer");
        called.extend(part);
    }
    called.sort_unstable();
    called.dedup();
    // Forty clients leave one of a thousand out with a chance of less than one in a hundred.
    assert!(called.len() > 990, "{} of 1000 are called by somebody", called.len());
}

#[test]
fn three_failures_in_a_row_eject_for_ten_seconds() {
    let (balancer, clock) = balancer(3);
    let all = addresses(3);
    assert!(!fail(&balancer, all[0], 2));
    assert_eq!(balancer.failing(), all[..1]);
    balancer.succeeded(&balancer.hosts().address(all[0]));
    assert!(balancer.failing().is_empty());
    assert!(!fail(&balancer, all[0], 2), "a success between ends the row");
    assert!(fail(&balancer, all[0], 1));
    assert_eq!(picked(&balancer), all[1..]);
    clock.advance(Duration::from_millis(9_999));
    assert_eq!(picked(&balancer), all[1..]);
    clock.advance(Duration::from_millis(1));
    assert_eq!(picked(&balancer), all);
    assert!(fail(&balancer, all[0], 1), "one that still fails goes again at once");
}

#[test]
fn at_most_half_are_ejected() {
    for (count, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
        let (balancer, _) = balancer(count);
        for address in addresses(count) {
            fail(&balancer, address, 5);
        }
        assert_eq!(balancer.ejected(), most, "of {count}");
        assert_eq!(picked(&balancer).len(), usize::from(count) - most);
    }
}

#[test]
fn none_left_means_all() {
    let (balancer, _) = balancer(2);
    let all = addresses(2);
    fail(&balancer, all[0], 3);
    // The other one goes from DNS: what is left is ejected, and called all the same.
    balancer.take(vec![all[0]]);
    assert_eq!(picked(&balancer), all[..1]);
}

#[test]
fn an_address_tried_before_comes_last_but_for_ejected_ones() {
    let (balancer, _) = balancer(3);
    let all = addresses(3);
    for _ in 0..100 {
        assert_eq!(balancer.pick(&all[..2], &[]).unwrap().socket(), all[2]);
    }
    fail(&balancer, all[2], 3);
    assert!(!balancer.has_other(&all[..2], &[]));
    for _ in 0..100 {
        assert_ne!(balancer.pick(&all[..2], &[]).unwrap().socket(), all[2]);
        assert_eq!(balancer.pick(&[], &all[..2]).unwrap().socket(), all[2]);
    }
    assert!(balancer.pick(&[], &all).is_none());
}

#[test]
fn what_stays_keeps_its_count_and_what_goes_is_forgotten() {
    let (balancer, _) = balancer(2);
    let all = addresses(3);
    fail(&balancer, all[0], 2);
    balancer.take(vec![all[2], all[0], all[2]]);
    assert_eq!(picked(&balancer), [all[0], all[2]]);
    assert!(fail(&balancer, all[0], 1), "its third failure");
    let known: Vec<_> = balancer.hosts().all().iter().map(|address| address.socket).collect();
    assert_eq!(known, [all[0], all[2]]);
    let many = (0..=u16::MAX)
        .map(|port| SocketAddr::from(([10, 0, 0, 1], port)))
        .collect();
    balancer.take(many);
    assert_eq!(
        (balancer.len(), balancer.hosts().all().len()),
        (MAX_ADDRESSES, MAX_ADDRESSES)
    );
}

/// A resolver that a test answers for.
struct Scripted(Mutex<Vec<std::io::Result<Vec<SocketAddr>>>>, AtomicUsize);

impl Resolve for Scripted {
    fn resolve<'resolver>(&'resolver self, _: &'resolver Endpoint) -> super::super::resolve::Resolving<'resolver> {
        self.1.fetch_add(1, Ordering::SeqCst);
        let mut answers = self.0.lock().unwrap();
        let answer = if answers.is_empty() {
            Err(std::io::Error::other("silent"))
        } else {
            answers.remove(0)
        };
        Box::pin(std::future::ready(answer))
    }
}

#[tokio::test]
async fn the_last_good_answer_stays_when_dns_fails() {
    let all = addresses(3);
    let failure = || Err(std::io::Error::other("no route to the nameserver"));
    let script = vec![Ok(all[..1].to_vec()), failure(), Ok(Vec::new()), Ok(all[1..].to_vec())];
    let resolver = Arc::new(Scripted(Mutex::new(script), AtomicUsize::new(0)));
    let source = Source {
        endpoint: Endpoint::new("http", "upstream", 80),
        resolver: Arc::clone(&resolver) as Arc<dyn Resolve>,
    };
    let clock = ManualClock::default();
    clock.advance(Duration::from_secs(1_000));
    let hosts = Arc::new(Hosts::new(Listeners::default()));
    let balancer = Arc::new(Balancer::build(hosts, Some(source), Vec::new(), clock.clone()));
    let patience = Duration::from_secs(20);
    let asked = || resolver.1.load(Ordering::SeqCst);

    balancer.ready(patience).await;
    assert_eq!((picked(&balancer), asked()), (all[..1].to_vec(), 1));
    clock.advance(Duration::from_millis(4_999));
    balancer.ready(patience).await;
    assert_eq!(asked(), 1, "the answer is recent");
    // A failure, then an empty answer: nothing changes. Long out of date, each is waited for.
    for questions in [2, 3] {
        clock.advance(Duration::from_secs(60));
        balancer.ready(patience).await;
        assert_eq!((picked(&balancer), asked()), (all[..1].to_vec(), questions));
    }
    clock.advance(Duration::from_secs(60));
    balancer.ready(patience).await;
    assert_eq!((picked(&balancer), asked()), (all[1..].to_vec(), 4));
    // A connect error asks at once, and then not again for a second.
    clock.advance(Duration::from_secs(1));
    let mut answers = balancer.answers.subscribe();
    balancer.unreachable();
    balancer.unreachable();
    answers.changed().await.unwrap();
    balancer.unreachable();
    assert_eq!(asked(), 5);
    clock.advance(Duration::from_secs(1));
    balancer.unreachable();
    answers.changed().await.unwrap();
    assert_eq!((asked(), picked(&balancer)), (6, all[1..].to_vec()));
}

#[tokio::test]
async fn a_resolver_that_hangs_or_panics_holds_nothing_up_for_good() {
    struct Bad(AtomicUsize);
    impl Resolve for Bad {
        fn resolve<'resolver>(&'resolver self, _: &'resolver Endpoint) -> super::super::resolve::Resolving<'resolver> {
            let number = self.0.fetch_add(1, Ordering::SeqCst);
            Box::pin(async move {
                assert!(number > 0, "a resolver that panics");
                Ok(addresses(1))
            })
        }
    }
    let source = Source {
        endpoint: Endpoint::new("http", "upstream", 80),
        resolver: Arc::new(Bad(AtomicUsize::new(0))),
    };
    let clock = ManualClock::default();
    clock.advance(Duration::from_secs(1_000));
    let hosts = Arc::new(Hosts::new(Listeners::default()));
    let balancer = Arc::new(Balancer::build(hosts, Some(source), Vec::new(), clock));
    balancer.ready(Duration::from_secs(20)).await;
    assert!(balancer.pick(&[], &[]).is_none());
    balancer.ready(Duration::from_secs(20)).await;
    assert!(balancer.pick(&[], &[]).is_some());
}
