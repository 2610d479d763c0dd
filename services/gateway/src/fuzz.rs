//! What the fuzzer of routes calls (`services/proxy/fuzz`), and a seeded slice of it that runs with the ordinary tests. In:
//! bytes that nobody chose. Out: nothing, or a panic that names the rule that was broken.

use crate::document::Gateway;
use crate::table::{prefixes, rest};

/// The file of routes. What is accepted is written and read again without a difference; and a request under a route's prefix
/// finds it, whatever comes after.
pub fn routes(bytes: &[u8]) {
    let parsed = match Gateway::parse(bytes) {
        Ok(parsed) => parsed.document,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let text = serde_json::to_vec(&parsed).unwrap_or_default();
    assert_eq!(Gateway::parse(&text).map(|again| again.document).as_ref(), Ok(&parsed));
    let longest = parsed.routes.iter().map(|route| route.matches.path_prefix.len()).max();
    for route in &parsed.routes {
        let prefix = &route.matches.path_prefix;
        for path in [prefix.clone(), format!("{prefix}/more/of/it").replace("//", "/")] {
            assert!(rest(&path, prefix).is_some(), "{path} {prefix}");
            let mut found = prefixes(&path, longest.unwrap_or_default());
            assert!(found.any(|found| found == prefix), "{path} {prefix}");
        }
        let beside = format!("{prefix}x");
        let mut found = prefixes(&beside, longest.unwrap_or_default());
        assert!(
            prefix == "/" || !found.any(|found| found == prefix),
            "{beside} {prefix}"
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;
    use proptest::test_runner::RngSeed;

    use super::*;

    const SEED: &str = include_str!("../../proxy/fuzz/seeds/routes/shop");

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 1_000,
            rng_seed: RngSeed::Fixed(0x5EED),
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn a_slice_of_the_routes(
            changes in prop::collection::vec((any::<prop::sample::Index>(), select(&["", "/", "\"", "9", "..", "%2f", "a", "{", "null"][..])), 0..4),
        ) {
            let mut text = SEED.to_owned();
            for (place, put) in changes {
                let place = place.index(text.len());
                let end = (place + put.len().min(1)).min(text.len());
                text.replace_range(place..end, put);
            }
            routes(text.as_bytes());
        }

        #[test]
        fn a_slice_of_the_prefixes(prefix in "(/[a-z.-]{1,4}){1,5}|/", host in "[A-Za-z.]{0,6}") {
            let route = serde_json::json!({"name": "a", "match": {"pathPrefix": prefix, "host": host}, "target": "a"});
            let document = serde_json::json!({"version": 1, "targets": [{"name": "a", "url": "http://a"}], "routes": [route]});
            routes(document.to_string().as_bytes());
        }
    }
}
