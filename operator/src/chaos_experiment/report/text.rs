//! Texts as a status holds them. Pure.

use chrono::{DateTime, SecondsFormat, Utc};

/// The longest message of one target.
pub const TARGET_MESSAGE_LIMIT: usize = 256;

pub fn next_text(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

pub fn cut(text: &str, limit: usize) -> String {
    text.chars().take(limit).collect()
}
