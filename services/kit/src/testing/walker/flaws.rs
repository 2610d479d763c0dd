//! What is made wrong about a request that was good.

use serde_json::{Value, json};

use super::Walk;
use super::request::{Operation, Request};
use crate::testing::values::{Schemas, is_required};

/// Bodies that are no JSON.
const NO_JSON: [&[u8]; 9] = [
    b"",
    b"{",
    b"nul",
    b"{\"a\": NaN}",
    b"{'a': 1}",
    b"{\"a\": 1} x",
    b"\xef\xbb\xbf{}",
    b"{\"a\": \"\xff\xfe\"}",
    b"{\"a\": \"\\ud800\"}",
];
/// Bodies that are JSON and no object.
const NO_OBJECT: [&str; 6] = ["[]", "null", "\"{}\"", "7", "true", "[{}]"];
const NO_JSON_TYPE: [&str; 5] = [
    "text/plain",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "application/jsonp",
    "json",
];
/// JSON that some member has no use for; which, its schema says.
const ODD: [&str; 20] = [
    "null",
    "true",
    "0",
    "-1",
    "1.5",
    "1e3",
    "1.0",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "99999999999999999999",
    "1e308",
    "\"\"",
    "\" \"",
    "\"\\u0000\"",
    "\"\\ud83d\\udca9\"",
    "[]",
    "[[[[[[[[1]]]]]]]]",
    "{}",
    "{\"$ref\": \"#\"}",
];
/// Places in a path and values in a query that are no UUID.
const NO_ID: [&str; 8] = [
    "7",
    "%00",
    "%ff",
    "%F0%9F%92%A9",
    "not-a-uuid",
    "00000000-0000-0000-0000-00000000000g",
    "'%20OR%201=1",
    "-",
];
const NO_KEY: [&[u8]; 5] = [b"", b"a b", b"\"open", b"\xc3\xa4", b"a,b"];
impl Walk<'_> {
    pub(super) fn spoil_place(&mut self, operation: &Operation<'_>, request: &mut Request) {
        let Some((name, schema)) = operation.parameters("path").next() else {
            return;
        };
        let bad = self.one_of(&NO_ID);
        request.target = operation.path.replace(&format!("{{{name}}}"), bad);
        if schema["format"] == "uuid" {
            request.refused(bad, &[400], Some(name.to_owned()));
        } else {
            request.lenient = true;
        }
    }

    pub(super) fn spoil_query(&mut self, operation: &Operation<'_>, request: &mut Request, query: &mut Vec<String>) {
        let parameters: Vec<_> = operation.parameters("query").collect();
        if parameters.is_empty() {
            query.push("surprise=%ff&=&&x[]=1".to_owned());
            return;
        }
        let (name, schema) = parameters[self.chance.below(parameters.len())];
        let schema = self.schemas().resolved(schema).clone();
        query.retain(|one| !one.starts_with(&format!("{name}=")));
        let numbers = ["x", "", "1.5", "99999999999999999999", "-1", "0", "0x10", "101"];
        let (bad, plain): (&str, bool) = match schema["type"].as_str() {
            Some("integer") => {
                let bad = self.one_of(&numbers);
                let number = bad.parse::<i64>().map(Value::from);
                let good = number.is_ok_and(|number| self.schemas().violations(&schema, &number).is_empty());
                (bad, !good)
            }
            _ if schema["format"] == "uuid" || schema["format"] == "date-time" => (self.one_of(&NO_ID), true),
            _ => (self.one_of(&["%00", "%ff", "%zz", "", "a=b", "%F0%9F%92%A9"]), false),
        };
        query.push(format!("{name}={bad}"));
        if self.chance.below(5) == 0 {
            query.push(format!("{name}={bad}"));
        }
        if plain {
            request.refused(&format!("{name}={bad}"), &[400], Some(name.to_owned()));
        } else {
            request.lenient = true;
        }
    }

    pub(super) fn spoil_key(&mut self, request: &mut Request) {
        request.headers.retain(|(name, _)| name != "idempotency-key");
        let long = [b'k'; 256];
        match self.chance.below(4) {
            0 => {}
            1 => request.header("idempotency-key", &long),
            2 => {
                request.header("idempotency-key", b"a");
                request.header("idempotency-key", b"b");
            }
            _ => {
                let bad = NO_KEY[self.chance.below(NO_KEY.len())];
                request.header("idempotency-key", bad);
            }
        }
        request.refused("a bad key", &[400], Some("Idempotency-Key".to_owned()));
    }

    /// Spoils the body as a whole, or what is said of it.
    pub(super) fn spoil_body(&mut self, request: &mut Request) {
        match self.chance.below(16) {
            0..=5 => {
                let bytes = NO_JSON[self.chance.below(NO_JSON.len())].to_vec();
                // Up to where it is no JSON a member may be one that is not known.
                request.refused("no JSON", &[400, 422], None);
                request.bytes = Some(bytes);
            }
            6..=9 => {
                let body = self.one_of(&NO_OBJECT);
                request.refused(body, &[422], Some(String::new()));
                request.body = Some(body.to_owned());
            }
            10..=13 => {
                request.headers.retain(|(name, _)| name != "content-type");
                if self.chance.below(4) > 0 {
                    let kind = self.one_of(&NO_JSON_TYPE);
                    request.header("content-type", kind.as_bytes());
                }
                request.refused("no JSON by its type", &[415], None);
            }
            14 => {
                let (open, close) = self.one_of(&[&("[", "]"), &("{\"a\":", "}")]);
                let deep = 20_000;
                request.body = Some(format!("{}1{}", open.repeat(deep), close.repeat(deep)));
                request.refused("very deep", &[400, 422], None);
            }
            _ => {
                let body = request.body.clone().unwrap_or_default();
                request.body = Some(format!("{}{body}", " ".repeat(1 << 20)));
                request.refused("more than 1 MiB", &[413], None);
            }
        }
    }

    /// Spoils one member of the body.
    pub(super) fn spoil_member(&mut self, operation: &Operation<'_>, request: &mut Request) {
        let document = self.document;
        let schemas = Schemas(&document["components"]["schemas"]);
        let schema = operation.body().map(|schema| schemas.resolved(schema)).expect("a body");
        let body: Value = serde_json::from_str(request.body.as_deref().unwrap_or_default()).expect("drawn JSON");
        let Some(mut members) = body.as_object().cloned() else {
            return;
        };
        let properties = schema["properties"].as_object();
        let names: Vec<&String> = properties.into_iter().flatten().map(|(name, _)| name).collect();
        if names.is_empty() {
            return;
        }
        let name = names[self.chance.below(names.len())].clone();
        let field = Some(format!("/{name}"));
        match self.chance.below(8) {
            0 if is_required(schema, &name) => {
                members.remove(&name);
                request.refused(&format!("without {name}"), &[422], field);
                request.body = Some(Value::from(members).to_string());
            }
            1 => {
                members.insert("ünknown/~".to_owned(), json!(1));
                if schema["additionalProperties"] == json!(false) {
                    request.refused("an unknown member", &[422], Some("/ünknown~1~0".to_owned()));
                }
                request.body = Some(Value::from(members).to_string());
            }
            2 => {
                let value = members
                    .entry(name.clone())
                    .or_insert_with(|| self.value(&schema["properties"][&name], &name));
                let twice = json!({(name.clone()): value}).to_string();
                let body = Value::from(members).to_string();
                let open = body.strip_suffix('}').unwrap_or_default();
                request.body = Some(format!("{open},{}", &twice[1..]));
                request.refused(&format!("{name} twice"), &[422], field);
            }
            3 if members.get(&name).is_some_and(holds_objects) => {
                let entries = members.get_mut(&name).and_then(Value::as_array_mut);
                let entry = entries.and_then(|entries| entries.last_mut());
                if let Some(entry) = entry {
                    *entry = entry
                        .as_object()
                        .into_iter()
                        .flatten()
                        .map(|(_, value)| value.clone())
                        .collect();
                }
                request.refused(&format!("{name} with an array for an object"), &[422], field);
                request.body = Some(Value::from(members).to_string());
            }
            _ => {
                let odd = self.one_of(&ODD);
                let long = format!("\"{}\"", "x".repeat(100_000));
                let odd = if self.chance.below(20) == 0 { long.as_str() } else { odd };
                members.insert(name.clone(), json!("here"));
                let body = Value::from(members).to_string();
                let told = format!("\"{name}\":\"here\"");
                request.body = Some(body.replacen(&told, &format!("\"{name}\":{odd}"), 1));
                let value: Value = serde_json::from_str(odd).expect("odd JSON");
                if schemas.violations(&schema["properties"][&name], &value).is_empty() {
                    request.lenient = true;
                } else {
                    request.refused(&format!("{name} is {odd}"), &[422], field);
                }
            }
        }
    }
}

/// Whether it is an array whose last entry is an object.
fn holds_objects(value: &Value) -> bool {
    value
        .as_array()
        .and_then(|entries| entries.last())
        .is_some_and(Value::is_object)
}
