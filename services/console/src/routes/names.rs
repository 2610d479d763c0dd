//! What may become part of a path of the API server: a name, and nothing that would lead elsewhere. Pure.

use valerix_kit::problem::Problem;

/// The longest name of an object.
const LONGEST: usize = 253;

/// Refuses what no object or namespace is called.
///
/// # Errors
/// 422 that names `field`.
pub fn check(field: &str, text: &str) -> Result<(), Problem> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_name = text.len() <= LONGEST
        && text.bytes().all(|byte| is_plain(byte) || b"-.".contains(&byte))
        && text.bytes().next().is_some_and(is_plain)
        && text.bytes().next_back().is_some_and(is_plain);
    if is_name {
        return Ok(());
    }
    let detail =
        "must be a name as the cluster gives them: a-z, 0-9, '-' and '.', beginning and ending with a letter or digit";
    Err(Problem::invalid_field(field, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_nowhere_else() {
        for name in ["a", "shop", "orders-2026.daily", &"x".repeat(LONGEST)] {
            assert!(check("/name", name).is_ok(), "{name}");
        }
        for wrong in [
            "",
            "..",
            "a/b",
            "a/../b",
            "A",
            "a?x=1",
            "a%2fb",
            "a#b",
            "-a",
            "a.",
            "ü",
            "a b",
            &"x".repeat(254),
        ] {
            assert!(check("/name", wrong).is_err(), "{wrong}");
        }
    }
}
