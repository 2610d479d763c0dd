//! YAML as every reader takes it: Helm and kubectl read YAML 1.1, in which some words mean true and false.

use anyhow::Result;
use serde::Serialize;

const WORDS: [&str; 6] = ["y", "n", "yes", "no", "on", "off"];

/// A value as YAML, with those words in quotes.
///
/// # Errors
/// If it cannot be written.
pub fn write(value: &impl Serialize) -> Result<String> {
    let mut text = String::new();
    for line in serde_yaml::to_string(value)?.lines() {
        let begin = line.rfind(": ").or_else(|| line.rfind("- ")).map_or(0, |at| at + 2);
        let (before, word) = line.split_at(begin);
        let key = before.trim_start_matches([' ', '-']);
        let is_scalar = key.is_empty() || key.strip_suffix(": ").is_some_and(|key| !key.contains(' '));
        if is_scalar && WORDS.contains(&word.to_lowercase().as_str()) {
            text.push_str(&format!("{before}\"{word}\"\n"));
        } else {
            text.push_str(&format!("{line}\n"));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn words_that_older_readers_take_for_booleans_are_quoted() {
        let value = json!({"default": "Off", "enum": ["Off", "Weekly", "No"], "text": "on and off", "flag": true});
        let expected = "default: \"Off\"\nenum:\n- \"Off\"\n- Weekly\n- \"No\"\ntext: on and off\nflag: true\n";
        assert_eq!(write(&value).unwrap(), expected);
        let again: serde_json::Value = serde_yaml::from_str(&write(&value).unwrap()).unwrap();
        assert_eq!(again, value);
    }
}
