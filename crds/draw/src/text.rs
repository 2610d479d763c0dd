//! Texts of a schema: by its pattern, its format, or of any characters.

use proptest::{
    strategy::{Strategy, ValueTree},
    string::string_regex,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use rand::{Rng, RngExt, seq::IndexedRandom};
use serde_json::Value;
use std::collections::HashMap;
use valerix_crds::DURATION_PATTERN;

/// Names that the parts of a specification call each other by; any pattern of a name has them.
pub const NAMES: [&str; 4] = ["http", "grpc", "data", "cache"];
const DURATIONS: [&str; 12] = [
    "0s", "1ms", "99ms", "100ms", "500ms", "1s", "2s", "5s", "10s", "30s", "1m30s", "1h",
];
/// Where a target may be: what a pattern makes of it is hardly ever a host.
const URLS: [&str; 5] = [
    "http://inventory",
    "http://ledger.bank.svc:8080/v1",
    "https://api.example.com",
    "https://10.0.0.7:8443",
    "tcp://cache:6379",
];
/// What a text without a pattern may hold beside letters.
const ODD: [&str; 14] = [
    " ", "\n", "\"", "'", "\\", "$(X)", "$", "{{x}}", "%", "..", "/../", ":", "é", "日",
];
/// How often a text that is too long is drawn again.
const ATTEMPTS: usize = 50;

type Regex = proptest::string::RegexGeneratorStrategy<String>;

/// Draws texts.
pub struct Texts {
    runner: TestRunner,
    patterns: HashMap<String, Option<Regex>>,
}

impl Texts {
    /// Begins at `seed`.
    pub fn seeded(seed: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
        Self {
            runner: TestRunner::new_with_rng(Config::default(), random),
            patterns: HashMap::new(),
        }
    }

    /// A text that this schema accepts.
    pub fn draw(&mut self, schema: &Value, path: &str, random: &mut impl Rng) -> String {
        let least = length(schema, "minLength", 0);
        let most = length(schema, "maxLength", 64);
        if schema["format"] == "date-time" {
            return date(random);
        }
        let is_name = path.ends_with(".name") || path.ends_with(".port");
        if is_name && random.random_bool(0.7) {
            return NAMES.choose(random).copied().unwrap_or_default().to_owned();
        }
        if path.ends_with(".url") && random.random_bool(0.7) {
            return URLS.choose(random).copied().unwrap_or_default().to_owned();
        }
        match schema["pattern"].as_str() {
            Some(DURATION_PATTERN) if random.random_bool(0.8) => {
                DURATIONS.choose(random).copied().unwrap_or_default().to_owned()
            }
            Some(pattern) => self.by_pattern(pattern, least, most, random),
            None => characters(least, most, random),
        }
    }

    fn by_pattern(&mut self, pattern: &str, least: usize, most: usize, random: &mut impl Rng) -> String {
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            // Mostly of characters that a person would type, and short.
            let form = match random.random_range(0..10) {
                0 => unanchored(pattern),
                _ => plain(&unanchored(pattern)),
            };
            let strategy = self
                .patterns
                .entry(form)
                .or_insert_with_key(|form| string_regex(form).ok());
            let tree = strategy
                .as_ref()
                .and_then(|strategy| strategy.new_tree(&mut self.runner).ok());
            last = tree.map(|tree| tree.current()).unwrap_or_default();
            if (least..=most).contains(&last.chars().count()) {
                break;
            }
        }
        last
    }
}

fn length(schema: &Value, bound: &str, otherwise: usize) -> usize {
    let bound = schema[bound].as_u64().and_then(|bound| usize::try_from(bound).ok());
    bound.unwrap_or(otherwise)
}

/// What the whole text is, for a pattern that may hold of a part of it.
fn unanchored(pattern: &str) -> String {
    match (pattern.strip_prefix('^'), pattern.strip_suffix('$')) {
        (Some(_), Some(_)) => pattern[1..pattern.len() - 1].to_owned(),
        (Some(begin), None) => format!("{begin}[ -~]*"),
        _ => pattern.to_owned(),
    }
}

/// The same pattern with printable ASCII alone where it excludes characters, and few repetitions.
fn plain(pattern: &str) -> String {
    let mut text = String::new();
    let mut characters = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                text.push(character);
                text.extend(characters.next());
            }
            '[' if !in_class => {
                in_class = true;
                let excludes = characters.peek() == Some(&'^');
                text.push_str(if excludes { "[!-~&&[" } else { "[[" });
            }
            ']' if in_class => {
                in_class = false;
                text.push_str("]]");
            }
            '*' if !in_class => text.push_str("{0,4}"),
            '+' if !in_class => text.push_str("{1,4}"),
            other => text.push(other),
        }
    }
    text
}

/// Letters, and in every eighth text something odd.
fn characters(least: usize, most: usize, random: &mut impl Rng) -> String {
    let wanted = match random.random_range(0..40) {
        0 if most <= 1024 => most,
        1 => least,
        _ => random.random_range(1..=12),
    };
    let is_odd = random.random_bool(0.125);
    let mut text = String::new();
    while text.chars().count() < wanted.clamp(least, most) {
        match is_odd && random.random_bool(0.3) {
            true => text.push_str(ODD.choose(random).copied().unwrap_or_default()),
            false => text.push(char::from(random.random_range(b'a'..=b'z'))),
        }
    }
    text.chars().take(most).collect()
}

fn date(random: &mut impl Rng) -> String {
    let (year, month, day) = (
        random.random_range(2000..2100),
        random.random_range(1..=12),
        random.random_range(1..=28),
    );
    let (hour, minute) = (random.random_range(0..24), random.random_range(0..60));
    let rest = ["00Z", "59.123456789+23:59", "01-00:30", "30.5z"]
        .choose(random)
        .copied();
    format!(
        "{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{}",
        rest.unwrap_or("00Z")
    )
}
