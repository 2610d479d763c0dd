//! What the fuzzers call (`fuzz/`), and a seeded slice of each that runs with the ordinary tests. In: bytes that nobody
//! chose. Out: nothing, or a panic that names the rule that was broken.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use valerix_policy::{CircuitState, Faults, Policy, Route, Runtime, Window, WindowType};

use crate::breaker::{CircuitBreaker, Outcome, Permit};
use crate::clock::ManualClock;
use crate::deadline::{Deadline, TIMEOUT_HEADER};
use crate::key::{IDEMPOTENCY_KEY, key_from_headers};
use crate::random::Random;

/// The three documents, and the texts within them. What is accepted is written and read again without a difference,
/// and can be put in force.
pub fn documents(bytes: &[u8]) {
    if let Ok(parsed) = Policy::parse(bytes) {
        assert_eq!(parsed.document.violations(), []);
        assert_eq!(parsed.hash, valerix_policy::hash(bytes));
        let again = Policy::parse(parsed.document.render().as_bytes());
        assert_eq!(again.map(|again| again.document).as_ref(), Ok(&parsed.document));
        for target in parsed.document.targets.iter().take(4) {
            let breaker = CircuitBreaker::new(&target.circuit_breaker);
            breaker.reconfigure(&target.circuit_breaker);
            assert!(breaker.try_acquire().is_ok(), "a new breaker lets calls through");
        }
    }
    if let Ok(parsed) = Faults::parse(bytes) {
        let again = Faults::parse(parsed.document.render().as_bytes());
        assert_eq!(again.map(|again| again.document).as_ref(), Ok(&parsed.document));
        for entry in &parsed.document.faults {
            let _ = entry.fault.fault_type();
        }
    }
    if let Err(error) = Runtime::parse(bytes) {
        assert!(!error.to_string().is_empty());
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(duration) = valerix_policy::Duration::from_str(text) {
        assert_eq!(valerix_policy::Duration::from_str(&duration.to_string()), Ok(duration));
    }
    if let Ok(route) = Route::from_str(text) {
        let _ = route.matches("GET", "/");
    }
}

/// Headers as callers and targets send them: each line of the input is one value of each of them.
pub fn headers(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n').take(8) {
        let Ok(value) = HeaderValue::from_bytes(line) else {
            continue;
        };
        for name in [
            TIMEOUT_HEADER,
            IDEMPOTENCY_KEY,
            header::RETRY_AFTER,
            header::DATE,
            FORWARDED,
        ] {
            headers.append(name, value.clone());
        }
    }
    if let Ok(Some(time)) = Deadline::from_headers(&headers) {
        assert!(time.as_millis() < 1_000_000_000);
        let mut again = HeaderMap::new();
        again.insert(TIMEOUT_HEADER, Deadline::header(time));
        assert_eq!(Deadline::from_headers(&again), Ok(Some(time)));
    }
    if let Ok(Some(key)) = key_from_headers(&headers) {
        assert!((1..=255).contains(&key.len()), "{key:?}");
        // Written as the draft writes it, it is the same key.
        let quoted = format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\""));
        let mut again = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_str(&quoted) {
            again.insert(IDEMPOTENCY_KEY, value);
        }
        assert_eq!(key_from_headers(&again).ok().flatten(), Some(key));
    }
    crate::retry::retry_after(&headers);
    #[cfg(feature = "axum")]
    forwarded(&headers, bytes);
}

const FORWARDED: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Whom a request is counted under: never another than the peer unless the peer is trusted.
#[cfg(feature = "axum")]
fn forwarded(headers: &HeaderMap, bytes: &[u8]) {
    use axum::extract::ConnectInfo;

    use crate::limits::Network;
    use crate::limits::address::{self, Client};
    let given = std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse::<Network>().ok());
    let proxy = IpAddr::from(Ipv4Addr::new(10, 0, 0, 1));
    let trusted: Vec<Network> = "10.0.0.0/8".parse().into_iter().chain(given).collect();
    let stranger = IpAddr::from(Ipv4Addr::new(192, 0, 2, 1));
    for peer in [proxy, stranger] {
        let mut extensions = http::Extensions::new();
        extensions.insert(ConnectInfo(SocketAddr::new(peer, 1)));
        let client = address::client(&extensions, headers, &trusted);
        assert!(client.is_some());
        if !trusted.iter().any(|network| network.contains(peer)) {
            assert_eq!(
                client,
                Some(Client::Address(peer)),
                "a stranger's header is not believed"
            );
        }
        assert!(client.map(Client::key).is_some_and(|key| !key.is_empty()));
    }
}

/// A nameserver's answer: the only bytes of the network that the library itself takes apart.
pub fn dns(bytes: &[u8]) {
    crate::outbound::read_any_dns_reply(bytes);
}

/// A breaker under any sequence of calls, answers, time and new settings: closed to calls while it is open, never more
/// probes than permits, and never stuck.
pub fn breaker(bytes: &[u8]) {
    let (head, steps) = bytes.split_at(bytes.len().min(4));
    let settings = settings(head);
    let clock = ManualClock::default();
    let breaker = CircuitBreaker::build(&settings, clock.clone(), Random::seeded(1), 2);
    let generation = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&generation);
    breaker.on_transition(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let generation = || generation.load(Ordering::Relaxed);
    let mut permits = settings.half_open_permits;
    let mut held: Vec<(Permit<'_, ManualClock>, Option<u64>)> = Vec::new();
    for step in steps.chunks_exact(2) {
        let (act, amount) = (step[0] % 8, step[1]);
        let place = usize::from(amount) % held.len().max(1);
        match act {
            0..=2 => {
                let open = breaker.snapshot().next_probe_in.is_some_and(|left| !left.is_zero());
                if let Ok(permit) = breaker.try_acquire() {
                    assert!(!open, "a call passed an open breaker");
                    let probe = breaker.snapshot().machine == CircuitState::HalfOpen;
                    held.push((permit, probe.then(&generation)));
                    let probes = held.iter().filter(|(_, of)| *of == Some(generation())).count();
                    assert!(probes <= permits as usize, "{probes} probes with {permits} permits");
                }
                if held.len() > 64 {
                    drop(held.remove(0));
                }
            }
            3..=5 if !held.is_empty() => {
                let outcome = [Outcome::Failure, Outcome::Success, Outcome::Neutral][usize::from(act - 3)];
                held.swap_remove(place).0.record(outcome);
            }
            6 => clock.advance(Duration::from_millis(u64::from(amount) * u64::from(amount))),
            7 => {
                let settings = self::settings(step);
                // Probes that were let in by more generous settings may still be under way.
                permits = permits.max(settings.half_open_permits);
                breaker.reconfigure(&settings);
            }
            _ => {}
        }
    }
    held.clear();
    clock.advance(Duration::from_secs(3_600));
    for _ in 0..=permits {
        let recovered = breaker.try_acquire();
        assert!(recovered.is_ok(), "it never recovers: {:?}", breaker.snapshot());
        if let Ok(permit) = recovered {
            permit.record(Outcome::Success);
        }
    }
    assert_eq!(breaker.snapshot().machine, CircuitState::Closed, "successes close it");
}

/// Settings that the policy allows.
fn settings(bytes: &[u8]) -> valerix_policy::CircuitBreaker {
    let byte = |place: usize| u32::from(bytes.get(place).copied().unwrap_or_default());
    let millis = |place, factor: u64| valerix_policy::Duration::from_millis((u64::from(byte(place)) + 1) * factor);
    valerix_policy::CircuitBreaker {
        consecutive_failures: (byte(0) % 4 != 0).then_some(byte(0) % 16 + 1),
        window: match byte(1) % 2 {
            0 => Window {
                window_type: WindowType::Time,
                duration: Some(millis(1, 1_000)),
                calls: None,
            },
            _ => Window {
                window_type: WindowType::Count,
                duration: None,
                calls: Some(byte(1) + 20),
            },
        },
        minimum_requests: byte(2) % 20 + 1,
        failure_rate_percent: byte(3) % 100 + 1,
        open_duration: millis(2, 10),
        max_open_duration: millis(2, 40),
        half_open_permits: byte(3) % 5 + 1,
        half_open_timeout: millis(0, 50),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What leads the fuzzers, and the slices, to where it is interesting.
    const DOCUMENTS: [&[u8]; 4] = [
        include_bytes!("../fuzz/seeds/documents/policy"),
        include_bytes!("../fuzz/seeds/documents/faults"),
        include_bytes!("../fuzz/seeds/documents/runtime"),
        include_bytes!("../fuzz/seeds/documents/duration"),
    ];
    const HEADERS: [&[u8]; 5] = [
        include_bytes!("../fuzz/seeds/headers/timeout"),
        include_bytes!("../fuzz/seeds/headers/key"),
        include_bytes!("../fuzz/seeds/headers/forwarded"),
        include_bytes!("../fuzz/seeds/headers/date"),
        include_bytes!("../fuzz/seeds/headers/network"),
    ];

    /// Runs `target` over `rounds` inputs: the seeds, what mutation makes of them, and noise.
    fn slice(seeds: &[&[u8]], rounds: usize, target: fn(&[u8])) {
        let random = Random::seeded(0x5EED);
        let below = |most: usize| usize::try_from(random.up_to(most as u64 - 1)).unwrap();
        let byte = || random.next().to_le_bytes()[0];
        seeds.iter().for_each(|seed| target(seed));
        for round in 0..rounds {
            let mut input = match seeds.get(round % (seeds.len() + 1)) {
                Some(seed) => seed.to_vec(),
                None => (0..below(400)).map(|_| byte()).collect(),
            };
            for _ in 0..=below(4) {
                let place = below(input.len() + 1);
                match below(6) {
                    0 => input.insert(place, byte()),
                    1 if place < input.len() => input[place] ^= 1 << below(8),
                    2 if place < input.len() => drop(input.remove(place)),
                    3 => input.truncate(place),
                    4 => {
                        let piece = input[place..input.len().min(place + 16)].to_vec();
                        input.splice(place..place, piece);
                    }
                    _ => input.splice(place..place, *b"9999999").for_each(drop),
                }
            }
            target(&input);
        }
    }

    #[test]
    fn a_slice_of_the_documents() {
        slice(&DOCUMENTS, 4_000, documents);
    }

    #[test]
    fn a_slice_of_the_headers() {
        slice(&HEADERS, 20_000, headers);
    }

    #[test]
    fn a_slice_of_the_dns() {
        // An SRV record that points at the name asked for, and the address of that name.
        const RECORDS: &[u8] = b"\0\x01\0\x01\xc0\x0c\0\x21\0\x01\0\0\0\x05\0\x08\0\0\0\0\x0b\xb8\xc0\x0c\
            \xc0\x0c\0\x01\0\x01\0\0\0\x05\0\x04\x0a\0\0\x07";
        slice(&[RECORDS], 20_000, dns);
    }

    #[test]
    fn a_slice_of_the_breaker() {
        slice(&[], 4_000, breaker);
    }
}
