//! What of a body decides whether two requests with one key ask for the same. Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// A body as it is compared with another: JSON with its members in order and without spacing, anything else as it came.
/// Numbers are compared as they are written: read as numbers, two that differ beyond what a double holds would be one.
///
/// ```
/// use valerix_resilience::comparable_body;
///
/// assert_eq!(comparable_body(br#"{"to": "a", "amount": 1.50}"#), comparable_body(br#"{"amount":1.50,"to":"a"}"#));
/// assert_ne!(comparable_body(b"9007199254740993.0"), comparable_body(b"9007199254740992.0"));
/// ```
#[must_use]
pub fn comparable_body(body: &[u8]) -> Cow<'_, [u8]> {
    canonical(body).map_or(Cow::Borrowed(body), Cow::Owned)
}

/// `None`: it is no JSON.
fn canonical(body: &[u8]) -> Option<Vec<u8>> {
    // From here on it is known to be JSON, and how deep at most.
    let _: serde_json::Value = serde_json::from_slice(body).ok()?;
    let mut written = Vec::with_capacity(body.len());
    Reader(body).value(&mut written)?;
    Some(written)
}

/// What is left of a text of JSON that is known to be good.
struct Reader<'text>(&'text [u8]);

impl<'text> Reader<'text> {
    /// Reads one value and writes it anew.
    fn value(&mut self, written: &mut Vec<u8>) -> Option<()> {
        match self.next()? {
            b'{' => self.object(written),
            b'[' => self.array(written),
            b'"' => serde_json::to_writer(written, &self.string()?).ok(),
            _ => {
                let ends = |byte: &u8| byte.is_ascii_whitespace() || matches!(byte, b',' | b']' | b'}');
                let length = self.0.iter().position(ends).unwrap_or(self.0.len());
                written.extend_from_slice(self.take(length)?);
                Some(())
            }
        }
    }

    fn object(&mut self, written: &mut Vec<u8>) -> Option<()> {
        let mut members = BTreeMap::new();
        self.take(1)?;
        while self.next()? != b'}' {
            let name = self.string()?;
            self.skip(b':')?;
            let mut value = Vec::new();
            self.value(&mut value)?;
            // Of two members of one name the last counts, as for whoever reads it.
            members.insert(name, value);
            self.skip(b',');
        }
        self.take(1)?;
        written.push(b'{');
        for (number, (name, value)) in members.iter().enumerate() {
            if number > 0 {
                written.push(b',');
            }
            serde_json::to_writer(&mut *written, name).ok()?;
            written.push(b':');
            written.extend_from_slice(value);
        }
        written.push(b'}');
        Some(())
    }

    fn array(&mut self, written: &mut Vec<u8>) -> Option<()> {
        written.extend_from_slice(self.take(1)?);
        while self.next()? != b']' {
            self.value(written)?;
            if self.skip(b',').is_some() {
                written.push(b',');
            }
        }
        written.extend_from_slice(self.take(1)?);
        Some(())
    }

    /// A string, without its escapes.
    fn string(&mut self) -> Option<String> {
        let mut escaped = false;
        let ends = |byte: &u8| {
            let is_end = *byte == b'"' && !escaped;
            escaped = *byte == b'\\' && !escaped;
            is_end
        };
        let length = self.0.get(1..)?.iter().position(ends)? + 2;
        serde_json::from_slice(self.take(length)?).ok()
    }

    /// The next byte that is no space; it stays.
    fn next(&mut self) -> Option<u8> {
        self.0 = self.0.trim_ascii_start();
        self.0.first().copied()
    }

    fn skip(&mut self, wanted: u8) -> Option<()> {
        (self.next()? == wanted).then(|| self.take(1)).flatten().map(drop)
    }

    fn take(&mut self, length: usize) -> Option<&'text [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn is_same(one: &str, other: &str) -> bool {
        comparable_body(one.as_bytes()) == comparable_body(other.as_bytes())
    }

    #[test]
    fn the_same_json_is_the_same_however_it_is_written() {
        let base = r#"{"a": 1, "b": {"c": [1, 2, {}, []], "d": "x\"}"}, "e": [true, null, -1.5e3]}"#;
        for same in [
            r#"{"e":[true,null,-1.5e3],"b":{"d":"x\"}","c":[1,2,{},[]]},"a":1}"#,
            "\n{ \"a\" : 1 ,\t\"b\":{\"c\":[1,2,{ },[ ]],\"d\":\"\\u0078\\u0022}\"},\r\"\\u0065\":[ true,null , -1.5e3 ]}\n",
            r#"{"a": 2, "a": 1, "b": {"c": [1, 2, {}, []], "d": "x\"}"}, "e": [true, null, -1.5e3]}"#,
        ] {
            assert!(is_same(base, same), "{same}");
        }
        for other in [
            r#"{"a": 1, "b": {"c": [2, 1, {}, []], "d": "x\"}"}, "e": [true, null, -1.5e3]}"#,
            r#"{"a": "1", "b": {"c": [1, 2, {}, []], "d": "x\"}"}, "e": [true, null, -1.5e3]}"#,
            r#"{"a": 1}"#,
            "",
        ] {
            assert!(!is_same(base, other), "{other}");
        }
    }

    #[test]
    fn numbers_are_the_same_only_as_they_are_written() {
        for (one, other) in [
            ("1", "1.0"),
            ("9007199254740993.0", "9007199254740992.0"),
            ("18446744073709551616", "18446744073709551617"),
            ("0.12345678901234567", "0.12345678901234568"),
            ("0.1000000000000000055", "0.1"),
        ] {
            assert!(!is_same(one, other), "{one} {other}");
            let within = |number: &str| format!(r#"{{"account": [{number}], "to": 1}}"#);
            assert!(!is_same(&within(one), &within(other)), "{one} {other}");
        }
    }

    #[test]
    fn what_is_no_json_is_compared_byte_by_byte() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        for body in [
            "",
            "a",
            "{",
            "01",
            "{\"a\":1,}",
            "1 2",
            "\u{feff}{}",
            "\"\\ud800\"",
            deep.as_str(),
        ] {
            assert_eq!(comparable_body(body.as_bytes()), body.as_bytes(), "{body:.20}");
        }
        assert_eq!(comparable_body(b"\xff"), &b"\xff"[..]);
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<f64>().prop_map(Into::into),
            any::<String>().prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                proptest::collection::vec((any::<String>(), inner), 0..5)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        /// Against the plain way to the same, which knows numbers of 64 bits only.
        #[test]
        fn order_and_spacing_make_no_difference(value in json()) {
            let mut sorted = value.clone();
            sorted.sort_all_objects();
            let plain = serde_json::to_vec(&sorted).unwrap();
            let pretty = serde_json::to_vec_pretty(&value).unwrap();
            prop_assert_eq!(comparable_body(&pretty), &plain[..]);
        }

        #[test]
        fn any_body_is_answered(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = comparable_body(&body);
        }
    }
}
