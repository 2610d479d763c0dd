//! Which fields of an event are personal data, by their names. Pure.

use serde_json::Value;

/// Words of a field's name that stand for personal data wherever they appear, also in the plural or with a number behind.
const WORDS: [&str; 24] = [
    "email",
    "mail",
    "phone",
    "telephone",
    "mobile",
    "card",
    "iban",
    "cvc",
    "pan",
    "address",
    "password",
    "birthday",
    "birthdate",
    "surname",
    // Two words that some write as one.
    "username",
    "firstname",
    "lastname",
    "fullname",
    "emailaddress",
    "mailaddress",
    "phonenumber",
    "mobilenumber",
    "cardnumber",
    "creditcard",
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
    let words = words(name);
    let whole: Vec<&str> = words.iter().map(|word| singular(word)).collect();
    NAMES.contains(&whole.join("_").as_str())
        || words
            .iter()
            .any(|word| WORDS.contains(&word.as_str()) || WORDS.contains(&singular(word)))
}

/// The words of a name in lower case, whether they are told apart by capitals or by anything that is no letter.
fn words(name: &str) -> Vec<String> {
    let characters: Vec<char> = name.chars().collect();
    let mut words = vec![String::new()];
    for (place, &character) in characters.iter().enumerate() {
        let before = place.checked_sub(1).map(|place| characters[place]);
        let after = characters.get(place + 1);
        // EMAIL is one word, and HTTPAddress two.
        let begins = character.is_uppercase()
            && before.is_some_and(|before| {
                before.is_lowercase() || (before.is_uppercase() && after.is_some_and(|after| after.is_lowercase()))
            });
        if begins || !character.is_alphabetic() {
            words.push(String::new());
        }
        if let (true, Some(word)) = (character.is_alphabetic(), words.last_mut()) {
            word.extend(character.to_lowercase());
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The word without the ending of its plural.
fn singular(word: &str) -> &str {
    word.strip_suffix("sses")
        .map(|stem| &word[..stem.len() + 2])
        .or_else(|| word.strip_suffix('s').filter(|stem| !stem.ends_with('s')))
        .unwrap_or(word)
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
            (json!({"EMAIL": "a"}), "EMAIL"),
            (json!({"E-MAIL": "a"}), "E-MAIL"),
            (json!({"customerEMAIL": "a"}), "customerEMAIL"),
            (json!({"EMAILAddress": "a"}), "EMAILAddress"),
            (json!({"USER_EMAIL": "a"}), "USER_EMAIL"),
            (json!({"emails": ["a"]}), "emails"),
            (json!({"Addresses": []}), "Addresses"),
            (json!({"cardNumbers": []}), "cardNumbers"),
            (json!({"firstNames": []}), "firstNames"),
            (json!({"NAMES": []}), "NAMES"),
            (json!({"lastname": "a"}), "lastname"),
            (json!({"phone2": "a"}), "phone2"),
            (json!({"user.email": "a"}), "user.email"),
        ] {
            assert_eq!(personal_field(&payload), Some(field), "{payload}");
        }
        let fine = json!({"user_id": "0198", "order_id": 7, "item_name": "email", "company": 1, "discarded": true, "span": 1,
            "spans": 1, "headphones": 2, "cardinal": 3, "item_names": [], "addressed": true, "success": true,
            "amount_minor": 5, "currency": "EUR", "reason": "PAYMENT_DECLINED", "quantity": [1, 2]});
        assert_eq!(personal_field(&fine), None);
    }
}
