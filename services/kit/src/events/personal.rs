//! Which fields of an event are personal data, by their names. Pure.

use serde_json::Value;

/// Words of a field's name that stand for personal data wherever they appear.
const WORDS: [&str; 12] = [
    "email", "mail", "phone", "mobile", "card", "iban", "cvc", "pan", "address", "password", "birthday", "username",
];
/// Whose name a name is; goods may have one.
const NAMES: [&str; 7] = [
    "name",
    "first_name",
    "last_name",
    "full_name",
    "user_name",
    "customer_name",
    "surname",
];

/// The first field of `payload`, at whatever depth, that is personal data.
pub(super) fn personal_field(payload: &Value) -> Option<&str> {
    match payload {
        Value::Object(fields) => fields.iter().find_map(|(name, value)| {
            if is_personal(name) {
                Some(name.as_str())
            } else {
                personal_field(value)
            }
        }),
        Value::Array(values) => values.iter().find_map(personal_field),
        _ => None,
    }
}

fn is_personal(name: &str) -> bool {
    let mut snake = String::with_capacity(name.len() + 4);
    for character in name.chars() {
        if character.is_ascii_uppercase() && !snake.is_empty() && !snake.ends_with('_') {
            snake.push('_');
        }
        snake.push(if character == '-' {
            '_'
        } else {
            character.to_ascii_lowercase()
        });
    }
    NAMES.contains(&snake.as_str()) || snake.split('_').any(|word| WORDS.contains(&word))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn personal_fields_are_found_however_they_are_written_and_nested() {
        for (payload, field) in [
            (json!({"email": "a"}), "email"),
            (json!({"user_id": 1, "contact": {"phoneNumber": null}}), "phoneNumber"),
            (
                json!({"lines": [{"item_id": "a"}, {"card_last4": "1234"}]}),
                "card_last4",
            ),
            (json!({"name": "Ada"}), "name"),
            (json!({"lastName": "Lovelace"}), "lastName"),
            (json!({"billing-address": {}}), "billing-address"),
        ] {
            assert_eq!(personal_field(&payload), Some(field), "{payload}");
        }
        let fine = json!({"user_id": "0198", "order_id": 7, "item_name": "email", "company": 1, "discarded": true, "span": 1,
            "amount_minor": 5, "currency": "EUR", "reason": "PAYMENT_DECLINED", "quantity": [1, 2]});
        assert_eq!(personal_field(&fine), None);
    }
}
