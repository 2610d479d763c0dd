//! Values by the JSON Schemas of a service's OpenAPI document: what is wrong with one, and a good one that chance draws.
//! Pure.

use chrono::DateTime;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::chance::Chance;

/// Words of a schema that bind nobody.
const REMARKS: [&str; 6] = ["$schema", "title", "description", "default", "examples", "deprecated"];
/// Words that are held here. Another one makes the test fail: what is not understood is not checked.
const RULES: [&str; 19] = [
    "$ref",
    "type",
    "enum",
    "const",
    "anyOf",
    "oneOf",
    "allOf",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "minItems",
    "maxItems",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "pattern",
    "format",
];

/// Texts that are right where any is, and that have surprised programs before.
const TEXTS: [&str; 12] = [
    "text",
    "x",
    "Zażółć gęślą jaźń",
    "\u{1f4a9}\u{200d}\u{1f525}",
    "\u{202e}abc",
    "e\u{301}",
    "'; DROP TABLE orders; --",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "{\"a\": 1}",
    "%00%ff",
    "${jndi:ldap://x}",
];

/// The schemas of a document, by name.
#[derive(Clone, Copy)]
pub struct Schemas<'a>(pub &'a Value);

impl<'a> Schemas<'a> {
    /// What the schema really is: what it refers to, if it does.
    ///
    /// # Panics
    /// When it refers to what the document has not.
    #[must_use]
    pub fn resolved<'s>(self, schema: &'s Value) -> &'s Value
    where
        'a: 's,
    {
        let Some(reference) = schema["$ref"].as_str() else {
            return schema;
        };
        let name = reference.rsplit('/').next().unwrap_or_default();
        let target = self.0.get(name).unwrap_or_else(|| panic!("{reference} is nowhere"));
        self.resolved(target)
    }

    /// What is wrong with the value, each with a JSON pointer.
    ///
    /// # Panics
    /// When the schema has a word that is not known here.
    #[must_use]
    pub fn violations(self, schema: &Value, value: &Value) -> Vec<String> {
        let mut wrong = Vec::new();
        self.check(schema, value, "", &mut wrong);
        wrong
    }

    fn check(self, schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
        let schema = self.resolved(schema);
        if let Some(any) = schema.as_bool() {
            if !any {
                wrong.push(format!("{at}: nothing may be here"));
            }
            return;
        }
        let rules = schema.as_object().unwrap_or_else(|| panic!("no schema: {schema}"));
        for word in rules.keys().map(String::as_str) {
            let known = REMARKS.contains(&word) || RULES.contains(&word) || word.starts_with("x-");
            assert!(known, "{word} is not understood by these tests: {schema}");
        }
        let mut note = |reason: String| wrong.push(format!("{at}: {reason}"));
        if !types(schema).is_empty() && !types(schema).iter().any(|kind| is(kind, value)) {
            return note(format!("{value} is no {}", schema["type"]));
        }
        if rules.get("const").is_some_and(|constant| constant != value) {
            note(format!("{value} is not {}", schema["const"]));
        }
        if let Some(listed) = schema["enum"].as_array()
            && !listed.contains(value)
        {
            note(format!("{value} is none of {listed:?}"));
        }
        if let Some(number) = value.as_f64()
            && (schema["minimum"].as_f64().is_some_and(|least| number < least)
                || schema["maximum"].as_f64().is_some_and(|most| number > most)
                || !fits(schema, value))
        {
            note(format!("{value} is out of bounds"));
        }
        if let Some(text) = value.as_str() {
            let length = text.chars().count() as u64;
            if schema["minLength"].as_u64().is_some_and(|least| length < least)
                || schema["maxLength"].as_u64().is_some_and(|most| length > most)
            {
                note(format!("has {length} characters"));
            }
            if let Some(pattern) = schema["pattern"].as_str()
                && !Pattern::of(pattern).matches(text)
            {
                note(format!("{value} is not like {pattern}"));
            }
            if !has_format(schema["format"].as_str().unwrap_or_default(), text) {
                note(format!("{value} is no {}", schema["format"]));
            }
        }
        for word in ["anyOf", "oneOf"] {
            if let Some(choices) = schema[word].as_array()
                && !choices.iter().any(|choice| self.violations(choice, value).is_empty())
            {
                note(format!("{value} is nothing of {word}"));
            }
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.check(part, value, at, wrong);
        }
        if let Some(items) = value.as_array() {
            let length = items.len() as u64;
            if schema["minItems"].as_u64().is_some_and(|least| length < least)
                || schema["maxItems"].as_u64().is_some_and(|most| length > most)
            {
                wrong.push(format!("{at}: has {length} items"));
            }
            if let Some(schema) = rules.get("items") {
                for (place, item) in items.iter().enumerate() {
                    self.check(schema, item, &format!("{at}/{place}"), wrong);
                }
            }
        }
        if let Some(members) = value.as_object() {
            self.check_members(rules, members, at, wrong);
        }
    }

    fn check_members(
        self,
        rules: &Map<String, Value>,
        members: &Map<String, Value>,
        at: &str,
        wrong: &mut Vec<String>,
    ) {
        let required = rules.get("required").and_then(Value::as_array).into_iter().flatten();
        for name in required.filter_map(Value::as_str) {
            if !members.contains_key(name) {
                wrong.push(format!("{at}/{name}: is missing"));
            }
        }
        for (name, value) in members {
            let place = format!("{at}/{name}");
            match rules.get("properties").and_then(|properties| properties.get(name)) {
                Some(schema) => self.check(schema, value, &place, wrong),
                None => match rules.get("additionalProperties") {
                    Some(Value::Bool(false)) => wrong.push(format!("{place}: is not known")),
                    Some(schema) => self.check(schema, value, &place, wrong),
                    None => {}
                },
            }
        }
    }

    /// A value of the schema. `known` may give one by the name of the member that it is for.
    ///
    /// # Panics
    /// When the schema has a word that is not known here.
    pub fn draw(
        self,
        schema: &Value,
        name: &str,
        chance: &mut Chance,
        known: &dyn Fn(&str, &mut Chance) -> Option<Value>,
    ) -> Value {
        let schema = self.resolved(schema);
        if let Some(value) = known(name, chance)
            && self.violations(schema, &value).is_empty()
        {
            return value;
        }
        if let Some(constant) = schema.get("const") {
            return constant.clone();
        }
        for word in ["enum", "anyOf", "oneOf"] {
            if let Some(choices) = schema[word].as_array() {
                let choice = &choices[chance.below(choices.len())];
                return if word == "enum" {
                    choice.clone()
                } else {
                    self.draw(choice, name, chance, known)
                };
            }
        }
        let kinds = types(schema);
        let kind = kinds.get(chance.below(kinds.len().max(1))).copied();
        match kind.unwrap_or("object") {
            "null" => Value::Null,
            "boolean" => json!(chance.below(2) == 0),
            "integer" => json!(drawn_integer(schema, chance)),
            "number" => json!(drawn_number(schema, chance)),
            "string" => json!(drawn_text(schema, chance)),
            "array" => {
                let least = schema["minItems"].as_u64().unwrap_or(0) as usize;
                let length = least + chance.below(3);
                let items = (0..length).map(|_| self.draw(&schema["items"], name, chance, known));
                items.collect()
            }
            _ => {
                let mut members = Map::new();
                for (name, of_it) in schema["properties"].as_object().into_iter().flatten() {
                    if is_required(schema, name) || chance.below(2) == 0 {
                        members.insert(name.clone(), self.draw(of_it, name, chance, known));
                    }
                }
                members.into()
            }
        }
    }
}

/// Whether the object that the schema describes must have the member.
#[must_use]
pub fn is_required(schema: &Value, name: &str) -> bool {
    let required = schema["required"].as_array();
    required.is_some_and(|required| required.iter().any(|one| one == name))
}

fn types(schema: &Value) -> Vec<&str> {
    match &schema["type"] {
        Value::String(kind) => vec![kind],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("no type: {other}"),
    }
}

/// The bounds of the integer that a format names.
fn bounds(format: &str) -> Option<(i128, i128)> {
    Some(match format {
        "int32" => (i32::MIN.into(), i32::MAX.into()),
        "uint32" => (0, u32::MAX.into()),
        "int64" => (i64::MIN.into(), i64::MAX.into()),
        "uint64" | "uint" => (0, u64::MAX.into()),
        "uint8" => (0, u8::MAX.into()),
        "uint16" => (0, u16::MAX.into()),
        _ => return None,
    })
}

fn fits(schema: &Value, value: &Value) -> bool {
    let Some((least, most)) = schema["format"].as_str().and_then(bounds) else {
        return true;
    };
    let number = value.as_i64().map(i128::from).or(value.as_u64().map(i128::from));
    number.is_some_and(|number| (least..=most).contains(&number))
}

fn has_format(format: &str, text: &str) -> bool {
    match format {
        "uuid" => Uuid::parse_str(text).is_ok(),
        "date-time" => DateTime::parse_from_rfc3339(text).is_ok(),
        "email" => text
            .trim()
            .split_once('@')
            .is_some_and(|(local, domain)| !local.is_empty() && domain.contains('.')),
        "uri" => text.contains(':') && !text.contains(' '),
        "" => true,
        other => panic!("the format {other} is not understood by these tests"),
    }
}

fn drawn_integer(schema: &Value, chance: &mut Chance) -> i64 {
    let format = schema["format"].as_str().and_then(bounds);
    let (smallest, largest) = format.unwrap_or((i64::MIN.into(), i64::MAX.into()));
    let narrow = |number: i128| i64::try_from(number).unwrap_or(i64::MAX);
    // schemars writes the bounds of a number with a point.
    let given = |word: &str| schema[word].as_f64().map(|bound| bound as i64);
    let (least, most) = (
        given("minimum").unwrap_or(narrow(smallest)),
        given("maximum").unwrap_or(narrow(largest)),
    );
    match chance.below(4) {
        0 => least,
        1 => most,
        _ => least
            .max(0)
            .saturating_add(i64::try_from(chance.below(5)).unwrap_or_default())
            .min(most),
    }
}

fn drawn_number(schema: &Value, chance: &mut Chance) -> f64 {
    let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
    let (least, most) = (least.unwrap_or(-1e6), most.unwrap_or(1e6));
    [least, most, f64::midpoint(least, most)][chance.below(3)]
}

fn drawn_text(schema: &Value, chance: &mut Chance) -> String {
    if let Some(pattern) = schema["pattern"].as_str() {
        return Pattern::of(pattern).draw(chance);
    }
    match schema["format"].as_str().unwrap_or_default() {
        "uuid" => return Uuid::from_u128(chance.below(usize::MAX) as u128 + 1).to_string(),
        "date-time" => {
            let times = [
                "1970-01-01T00:00:00Z",
                "2026-02-28T23:59:60Z",
                "2026-11-28T01:00:00.123456789+14:00",
            ];
            return times[chance.below(times.len())].to_owned();
        }
        "email" => return format!("user-{}@example.com", chance.below(1_000)),
        _ => {}
    }
    let mut text = TEXTS[chance.below(TEXTS.len())].to_owned();
    let (least, most) = (schema["minLength"].as_u64(), schema["maxLength"].as_u64());
    while (text.chars().count() as u64) < least.unwrap_or(0) {
        text.push_str("ß1");
    }
    text.chars().take(most.unwrap_or(u64::MAX) as usize).collect()
}

/// A regular expression of the kind that the documents have: classes, each so or so many times, one after the other.
struct Pattern(Vec<(Vec<char>, usize, usize)>);

impl Pattern {
    /// # Panics
    /// When it is of another kind.
    fn of(text: &str) -> Self {
        let inner = text.strip_prefix('^').and_then(|rest| rest.strip_suffix('$'));
        let mut left = inner.unwrap_or_else(|| panic!("{text} is not anchored"));
        let mut parts = Vec::new();
        while let Some(first) = left.chars().next() {
            let class = if first == '[' {
                let end = left.find(']').unwrap_or_else(|| panic!("{text} has an open class"));
                let class = class(&left[1..end]);
                left = &left[end + 1..];
                class
            } else if let Some(rest) = left.strip_prefix('\\') {
                let escaped = rest
                    .chars()
                    .next()
                    .unwrap_or_else(|| panic!("{text} ends with an escape"));
                left = &rest[escaped.len_utf8()..];
                vec![escaped]
            } else {
                assert!(!"(|)*?.".contains(first), "{text} is not understood by these tests");
                left = &left[first.len_utf8()..];
                vec![first]
            };
            let (mut least, mut most) = (1, 1);
            if let Some((times, rest)) = left.strip_prefix('{').and_then(|rest| rest.split_once('}')) {
                let (from, to) = times.split_once(',').unwrap_or((times, times));
                let number = |text: &str| text.parse().unwrap_or_else(|_| panic!("{times} is no number of times"));
                (least, most, left) = (number(from), number(to), rest);
            } else if let Some(rest) = left.strip_prefix('+') {
                (most, left) = (20, rest);
            }
            parts.push((class, least, most));
        }
        Self(parts)
    }

    /// Takes as much as it can for each part; the documents have none that would have to give back.
    fn matches(&self, text: &str) -> bool {
        let mut left = text;
        for (class, least, most) in &self.0 {
            let taken: Vec<char> = left.chars().take(*most).take_while(|one| class.contains(one)).collect();
            if taken.len() < *least {
                return false;
            }
            left = &left[taken.iter().map(|one| one.len_utf8()).sum()..];
        }
        left.is_empty()
    }

    fn draw(&self, chance: &mut Chance) -> String {
        let mut text = String::new();
        for (class, least, most) in &self.0 {
            let times = [*least, *most, (least + most) / 2][chance.below(3)];
            text.extend((0..times).map(|_| class[chance.below(class.len())]));
        }
        text
    }
}

fn class(inside: &str) -> Vec<char> {
    let signs: Vec<char> = inside.chars().collect();
    let mut class = Vec::new();
    let mut place = 0;
    while place < signs.len() {
        if place + 2 < signs.len() && signs[place + 1] == '-' {
            class.extend(signs[place]..=signs[place + 2]);
            place += 3;
        } else {
            class.push(signs[place]);
            place += 1;
        }
    }
    class
}

#[cfg(test)]
mod tests;
