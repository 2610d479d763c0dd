//! What users say about themselves, held to its bounds. Pure.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use sqlx::FromRow;
use uuid::Uuid;
use valerix_kit::api::Id;
use valerix_kit::args::Secret;

/// Characters of a password.
const PASSWORD: std::ops::RangeInclusive<usize> = 8..=128;
const LONGEST_EMAIL: usize = 254;
const LONGEST_NAME: usize = 100;

/// A user, as they see themselves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromRow, JsonSchema)]
pub struct User {
    /// Their id, in every service.
    #[schemars(with = "Id")]
    pub id: Uuid,
    /// Where they are written to, in lower case.
    pub email: String,
    /// What they are called.
    pub name: Option<String>,
    /// E.164, e.g. `+43123456789`.
    pub phone: Option<String>,
    /// Whether they have the role `admin`.
    pub admin: bool,
    /// Since when they are a user.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub created_at: DateTime<Utc>,
}

/// The e-mail in its one spelling, lower case without blanks around it.
///
/// # Errors
/// What is wrong with it, in words.
pub fn email(text: &str) -> Result<String, &'static str> {
    let email = text.trim().to_ascii_lowercase();
    let valid = email.len() <= LONGEST_EMAIL
        && email.bytes().all(|byte| byte.is_ascii_graphic())
        && email.split_once('@').is_some_and(|(local, domain)| {
            let labels = |label: &str| {
                !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            };
            (1..=64).contains(&local.len()) && domain.contains('.') && domain.split('.').all(labels)
        });
    if valid {
        Ok(email)
    } else {
        Err("must be an e-mail address such as ada@example.com, in ASCII and of at most 254 characters")
    }
}

/// A password that may be chosen.
///
/// # Errors
/// What is wrong with it, in words.
pub fn password(text: String) -> Result<Secret, &'static str> {
    if PASSWORD.contains(&text.chars().count()) {
        Ok(Secret::from(text))
    } else {
        Err("must have 8 to 128 characters")
    }
}

/// What somebody is called, without blanks around it.
///
/// # Errors
/// What is wrong with it, in words.
pub fn name(text: &str) -> Result<String, &'static str> {
    let name = text.trim();
    let length = name.chars().count();
    if (1..=LONGEST_NAME).contains(&length) && !name.chars().any(char::is_control) {
        Ok(name.to_owned())
    } else {
        Err("must have 1 to 100 characters, none of them a control character")
    }
}

/// A phone number in E.164; blanks and hyphens between the digits are left out.
///
/// # Errors
/// What is wrong with it, in words.
pub fn phone(text: &str) -> Result<String, &'static str> {
    let phone = text.replace([' ', '-'], "");
    let valid = phone.strip_prefix('+').is_some_and(|digits| {
        (7..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.starts_with('0')
    });
    if valid {
        Ok(phone)
    } else {
        Err("must be a number with its country, such as +43123456789: a plus and 7 to 15 digits")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_one_spelling() {
        assert_eq!(email(" Ada@Example.COM "), Ok("ada@example.com".to_owned()));
        assert_eq!(email("a+b_c@x-y.example.org"), Ok("a+b_c@x-y.example.org".to_owned()));
        let long = format!("a@{}.com", "b".repeat(260));
        for bad in [
            "",
            "ada",
            "@example.com",
            "ada@",
            "ada@com",
            "ada@.com",
            "ada@a..b",
            "a b@example.com",
            "a@b@example.com",
            "ä@example.com",
            "a\u{0}@example.com",
            &long,
        ] {
            assert!(email(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn passwords_are_counted_in_characters() {
        assert!(password("ä".repeat(8)).is_ok());
        assert!(password("a".repeat(128)).is_ok());
        assert!(password("a".repeat(7)).is_err());
        assert!(password("a".repeat(129)).is_err());
    }

    #[test]
    fn names_and_phones_are_held_to_their_bounds() {
        assert_eq!(name(" Ada "), Ok("Ada".to_owned()));
        assert!(name(" ").is_err() && name("a\nb").is_err() && name(&"a".repeat(101)).is_err());
        assert_eq!(phone("+43 123-456789"), Ok("+43123456789".to_owned()));
        for bad in [
            "",
            "43123456789",
            "+0123456789",
            "+123456",
            "+1234567890123456",
            "+12345a78",
        ] {
            assert!(phone(bad).is_err(), "{bad:?}");
        }
    }
}
