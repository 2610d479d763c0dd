//! A slice of fuzzing.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use valerix_policy::{Faults, Policy, Runtime};

use crate::full::POLICY as FULL;

/// One mutation of the full document's bytes.
fn mutate(bytes: &mut Vec<u8>, place: usize, kind: u8, value: u8) {
    let place = place % bytes.len().max(1);
    match kind % 5 {
        0 if !bytes.is_empty() => bytes[place] = value,
        1 => bytes.insert(place.min(bytes.len()), value),
        2 if !bytes.is_empty() => {
            bytes.remove(place);
        }
        3 => bytes.truncate(place),
        _ => {
            let piece: Vec<u8> = bytes.iter().skip(place).take(usize::from(value)).copied().collect();
            bytes.splice(place..place, piece);
        }
    }
}

/// The seeded slice of fuzzing: `VALERIX_FUZZ_CASES` raises it from 3,000. No input makes a parser panic, and what is
/// accepted is written and read back as the same value.
#[test]
fn no_bytes_make_a_parser_panic() {
    let cases = std::env::var("VALERIX_FUZZ_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(3_000);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let mutation = (any::<usize>(), any::<u8>(), any::<u8>());
    runner
        .run(&proptest::collection::vec(mutation, 0..6), |mutations| {
            let mut bytes = FULL.as_bytes().to_vec();
            for (place, kind, value) in mutations {
                mutate(&mut bytes, place, kind, value);
            }
            if let Ok(parsed) = Policy::parse(&bytes) {
                let again = Policy::parse(parsed.document.render().as_bytes()).unwrap();
                prop_assert_eq!(again.document, parsed.document);
            }
            let _ = Faults::parse(&bytes);
            let _ = Runtime::parse(&bytes);
            Ok(())
        })
        .unwrap();
}
