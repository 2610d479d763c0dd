//! Requests that chance draws from a service's own OpenAPI document, good ones and bad ones, in any order: none may be
//! answered by a 5xx, each answer has to be one that the document declares, with the body that it declares, and whoever
//! sends a bad request has to be told which field is bad.
//!
//! What good answers say (ids, cursors, tokens) is used in later requests, so that there is something to find.

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderName, HeaderValue, Method};
use reqwest::Url;
use serde_json::{Value, json};
use uuid::Uuid;

use super::chance::{Chance, rounds};
use super::values::{Schemas, is_required};
use super::{Answer, TestServer};

/// Headers that name somebody who may ask a route, by what the document says of its access.
pub type Headers = Vec<(HeaderName, HeaderValue)>;

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
/// Headers that say nothing to a service, or nothing that it understands: an answer is not changed by them.
const NOISE: [(&str, &str); 12] = [
    ("if-match", "\"1\""),
    ("if-none-match", "*"),
    ("if-modified-since", "yesterday"),
    ("if-unmodified-since", "Thu, 01 Jan 1970 00:00:00 GMT"),
    ("range", "bytes=5-1"),
    ("accept", "image/png"),
    ("accept-language", "*;q=7"),
    ("accept-encoding", "br;q=x"),
    ("traceparent", "00-zz-zz-zz"),
    ("x-forwarded-for", "not an address"),
    ("x-http-method-override", "DELETE"),
    ("content-language", "\t"),
];

/// What the walk has seen: the statuses of each operation.
pub type Seen = BTreeMap<String, BTreeSet<u16>>;

/// The operations that no request of the walk has done well at: what they answer then was not looked at.
#[must_use]
pub fn never_well(seen: &Seen) -> Vec<&str> {
    let well = |statuses: &BTreeSet<u16>| statuses.iter().any(|status| (200..300).contains(status));
    let rest = seen.iter().filter(|(_, statuses)| !well(statuses));
    rest.map(|(name, _)| name.as_str()).collect()
}

/// Asks `server`, `slice` times unless `VALERIX_ROUNDS` says otherwise. `known`: values by the name of a member, such as an
/// item that there is. `callers` gives the headers of one who may ask a route.
///
/// # Panics
/// With all that was wrong, and the seed that shows it again.
pub async fn walk(
    server: &TestServer,
    slice: usize,
    known: &[(&str, Value)],
    callers: impl FnMut(&Value) -> Headers,
) -> Seen {
    walk_at(&server.base, slice, known, callers).await
}

/// The same with the service at `base`.
///
/// # Panics
/// As [`walk`] does.
pub async fn walk_at(
    base: &str,
    slice: usize,
    known: &[(&str, Value)],
    mut callers: impl FnMut(&Value) -> Headers,
) -> Seen {
    let http = reqwest::Client::new();
    let document = Answer::of(http.get(format!("{base}/openapi.json"))).await.body();
    let (chance, seed) = Chance::seeded(9);
    let mut walk = Walk {
        document: &document,
        chance,
        known: Known::default(),
        keys: Vec::new(),
    };
    for (name, value) in known {
        let values = walk.known.given.entry((*name).to_owned()).or_default();
        values.push(value.clone());
    }
    let operations = operations(&document);
    let mut seen: Seen = operations.iter().map(|one| (one.name(), BTreeSet::new())).collect();
    let mut wrong = Vec::new();
    for round in 0..rounds(slice) {
        let operation = &operations[walk.chance.below(operations.len())];
        let mut request = walk.request(operation);
        request.headers.extend(callers(&operation.spec["x-valerix-access"]));
        let answer = request.send(&http, base).await;
        let reasons = walk.judge(operation, &request, &answer);
        if !reasons.is_empty() {
            wrong.push(format!(
                "round {round}: {}\n  {}\n  {}",
                request.said(),
                answer.said(),
                reasons.join("; ")
            ));
        }
        seen.entry(operation.name()).or_default().insert(answer.status);
        if wrong.len() >= 20 {
            break;
        }
    }
    wrong.extend(strange_methods(&http, base, &operations).await);
    assert!(wrong.is_empty(), "with VALERIX_SEED={seed}:\n{}", wrong.join("\n"));
    seen
}

/// A route of the document.
struct Operation<'a> {
    method: Method,
    path: &'a str,
    spec: &'a Value,
}

impl Operation<'_> {
    fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    fn parameters(&self, place: &str) -> impl Iterator<Item = (&str, &Value)> {
        let all = self.spec["parameters"].as_array().into_iter().flatten();
        all.filter(move |one| one["in"] == place)
            .filter_map(|one| Some((one["name"].as_str()?, &one["schema"])))
    }

    fn needs_key(&self) -> bool {
        self.parameters("header").any(|(name, _)| name == "Idempotency-Key")
    }

    /// Whether no schema could say what is right for the field: one of the query, as two of them may contradict each other, or
    /// a text of which nothing more is said.
    fn is_free(&self, field: &str, schemas: Schemas<'_>) -> bool {
        let Some(member) = field.strip_prefix('/') else {
            return self.parameters("query").any(|(name, _)| name == field);
        };
        let body = self.body().map(|schema| schemas.resolved(schema));
        let Some(schema) = body.and_then(|body| body["properties"].get(member)) else {
            return false;
        };
        let said = ["pattern", "format", "enum", "const"];
        schema["type"].to_string().contains("\"string\"") && !said.iter().any(|word| schema.get(word).is_some())
    }

    fn body(&self) -> Option<&Value> {
        self.spec["requestBody"]["content"]
            .get("application/json")?
            .get("schema")
    }
}

fn operations(document: &Value) -> Vec<Operation<'_>> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, spec) in item.as_object().expect("operations") {
            if spec.get("x-valerix-access").is_some() {
                let method = Method::try_from(method.to_uppercase().as_str()).expect("a method");
                operations.push(Operation { method, path, spec });
            }
        }
    }
    operations
}

/// What is bad about a request, and how it may be refused.
struct Flaw {
    what: String,
    statuses: &'static [u16],
    /// What a refusal by the first of the statuses has to name.
    field: Option<String>,
}

struct Request {
    method: Method,
    target: String,
    headers: Headers,
    body: Option<String>,
    /// A body that is no text.
    bytes: Option<Vec<u8>>,
    flaw: Option<Flaw>,
    /// Nothing but a 5xx and an undeclared body would be wrong.
    lenient: bool,
}

impl Request {
    fn header(&mut self, name: &'static str, value: &[u8]) {
        let value = HeaderValue::from_bytes(value).expect("bytes that a header may have");
        self.headers.push((HeaderName::from_static(name), value));
    }

    fn refused(&mut self, what: &str, statuses: &'static [u16], field: Option<String>) {
        let what = what.chars().take(80).collect();
        self.flaw = Some(Flaw { what, statuses, field });
    }

    fn said(&self) -> String {
        let body = self
            .bytes
            .as_ref()
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let body: String = body
            .or(self.body.clone())
            .unwrap_or_default()
            .chars()
            .take(300)
            .collect();
        let headers = self
            .headers
            .iter()
            .filter(|(name, _)| *name != http::header::AUTHORIZATION);
        let headers: Vec<String> = headers.map(|(name, value)| format!("{name}: {value:?}")).collect();
        format!("{} {} [{}] {body}", self.method, self.target, headers.join(", "))
    }

    async fn send(&self, http: &reqwest::Client, base: &str) -> Heard {
        let url = Url::parse(&format!("{base}{}", self.target)).expect("a URL");
        let mut request = http.request(self.method.clone(), url);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        if let Some(body) = self.bytes.clone().or(self.body.clone().map(String::into_bytes)) {
            request = request.body(body);
        }
        let response = request.send().await.expect("the service answers");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let kind = headers.get("content-type").and_then(|kind| kind.to_str().ok());
        let kind = kind
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default()
            .to_owned();
        // A stream of events may never end.
        let text = if kind == "text/event-stream" {
            String::new()
        } else {
            response.text().await.expect("an answer comes to its end")
        };
        Heard {
            status,
            headers,
            kind,
            text,
        }
    }
}

struct Heard {
    status: u16,
    headers: http::HeaderMap,
    kind: String,
    text: String,
}

impl Heard {
    fn said(&self) -> String {
        let text: String = self.text.chars().take(400).collect();
        format!("{} {} {text}", self.status, self.kind)
    }

    /// What is wrong with it, if it is a refusal.
    fn problem(&self, schemas: Schemas<'_>) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.kind != "application/problem+json" {
            return vec![format!("{} without problem+json", self.status)];
        }
        let Ok(body) = serde_json::from_str::<Value>(&self.text) else {
            return vec!["a problem that is no JSON".to_owned()];
        };
        wrong.extend(schemas.violations(&json!({"$ref": "#/components/schemas/Problem"}), &body));
        if body["status"] != self.status {
            wrong.push(format!("a problem of {} with {}", body["status"], self.status));
        }
        for (status, header) in [(401, "www-authenticate"), (405, "allow"), (429, "retry-after")] {
            if self.status == status && !self.headers.contains_key(header) {
                wrong.push(format!("{status} without {header}"));
            }
        }
        wrong
    }

    /// The fields that a refusal names.
    fn fields(&self) -> Vec<String> {
        let body: Value = serde_json::from_str(&self.text).unwrap_or_default();
        let errors = body["errors"].as_array().into_iter().flatten();
        errors
            .filter_map(|error| error["field"].as_str().map(str::to_owned))
            .collect()
    }
}

struct Walk<'a> {
    document: &'a Value,
    chance: Chance,
    known: Known,
    keys: Vec<String>,
}

/// Values by the name of a member.
#[derive(Default)]
struct Known {
    /// By the test. As likely as all that was learned: an item that is nowhere is learned from each order of it.
    given: BTreeMap<String, Vec<Value>>,
    /// From answers.
    learned: BTreeMap<String, Vec<Value>>,
}

impl Walk<'_> {
    fn schemas(&self) -> Schemas<'_> {
        Schemas(&self.document["components"]["schemas"])
    }

    fn one_of<'b, T: ?Sized>(&mut self, all: &[&'b T]) -> &'b T {
        all[self.chance.below(all.len())]
    }

    fn value(&mut self, schema: &Value, name: &str) -> Value {
        let known = std::mem::take(&mut self.known);
        let schemas = Schemas(&self.document["components"]["schemas"]);
        let value = schemas.draw(schema, name, &mut self.chance, &|name, chance| {
            recalled(&known, name, chance)
        });
        self.known = known;
        value
    }

    /// A good request, or one with one flaw.
    fn request(&mut self, operation: &Operation<'_>) -> Request {
        let mut request = Request {
            method: operation.method.clone(),
            target: operation.path.to_owned(),
            headers: Headers::new(),
            body: None,
            bytes: None,
            flaw: None,
            lenient: false,
        };
        for (name, schema) in operation.parameters("path") {
            let value = self.value(schema, name);
            request.target = request.target.replace(&format!("{{{name}}}"), &encoded(&value));
        }
        let mut query = Vec::new();
        for (name, schema) in operation.parameters("query") {
            let value = self.value(schema, name);
            if self.chance.below(2) == 0 && !value.is_null() {
                query.push(format!("{name}={}", encoded(&value)));
            }
        }
        if operation.needs_key() {
            let fresh = self.chance.below(8) > 0 || self.keys.is_empty();
            if fresh {
                self.keys
                    .push(Uuid::from_u128(self.chance.below(usize::MAX) as u128).to_string());
            }
            let key = self.keys[if fresh {
                self.keys.len() - 1
            } else {
                self.chance.below(self.keys.len())
            }]
            .clone();
            request.header("idempotency-key", key.as_bytes());
        }
        if let Some(schema) = operation.body() {
            request.body = Some(self.value(schema, "").to_string());
            request.header("content-type", b"application/json");
        }
        if self.chance.below(5) == 0 {
            let (name, value) = NOISE[self.chance.below(NOISE.len())];
            request.header(name, value.as_bytes());
        }
        match self.chance.below(10) {
            0 => self.spoil_place(operation, &mut request),
            1 => self.spoil_query(operation, &mut request, &mut query),
            2 if operation.needs_key() => self.spoil_key(&mut request),
            3 | 4 if operation.body().is_some() => self.spoil_body(&mut request),
            5..=7 if operation.body().is_some() => self.spoil_member(operation, &mut request),
            _ => {}
        }
        if !query.is_empty() {
            request.target = format!("{}?{}", request.target, query.join("&"));
        }
        request
    }

    fn spoil_place(&mut self, operation: &Operation<'_>, request: &mut Request) {
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

    fn spoil_query(&mut self, operation: &Operation<'_>, request: &mut Request, query: &mut Vec<String>) {
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

    fn spoil_key(&mut self, request: &mut Request) {
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
    fn spoil_body(&mut self, request: &mut Request) {
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
    fn spoil_member(&mut self, operation: &Operation<'_>, request: &mut Request) {
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

    fn judge(&mut self, operation: &Operation<'_>, request: &Request, answer: &Heard) -> Vec<String> {
        let schemas = Schemas(&self.document["components"]["schemas"]);
        let mut wrong = Vec::new();
        if answer.status >= 500 {
            wrong.push("a 5xx".to_owned());
        }
        let declared = operation.spec["responses"].get(answer.status.to_string());
        if answer.status >= 400 {
            wrong.extend(answer.problem(schemas));
        } else if let Some(declared) = declared {
            match declared["content"]
                .as_object()
                .and_then(|content| content.iter().next())
            {
                None if !answer.text.is_empty() => wrong.push("a body where none is declared".to_owned()),
                None => {}
                Some((kind, _)) if *kind != answer.kind => wrong.push(format!("no {kind}")),
                Some((kind, _)) if kind == "text/event-stream" => {}
                Some((_, content)) => {
                    let body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
                    wrong.extend(schemas.violations(&content["schema"], &body));
                    learn(&mut self.known.learned, "", &body, &mut self.chance);
                }
            }
        } else {
            wrong.push(format!("{} is not declared", answer.status));
        }
        match &request.flaw {
            Some(flaw) if !flaw.statuses.contains(&answer.status) => {
                wrong.push(format!("{} and not one of {:?}", flaw.what, flaw.statuses));
            }
            Some(Flaw {
                what,
                statuses,
                field: Some(field),
            }) if statuses.first() == Some(&answer.status) => {
                let fields = answer.fields();
                if !fields
                    .iter()
                    .any(|named| named == field || named.starts_with(&format!("{field}/")))
                {
                    wrong.push(format!("{what}: {field:?} is not named, {fields:?} are"));
                }
            }
            // Who asks well may be refused for what the document says, for what they are, for how often they ask, and for a
            // text of which a schema cannot say what is right, such as a duration.
            None if !request.lenient && declared.is_none() && !matches!(answer.status, 401 | 429) => {
                let fields = answer.fields();
                if fields.is_empty() || !fields.iter().all(|field| operation.is_free(field, schemas)) {
                    wrong.push(format!("{} to a good request is not declared", answer.status));
                }
            }
            _ => {}
        }
        wrong
    }
}

/// A value that the test or an answer gave for a member of that name; an id is as good as any other.
fn recalled(known: &Known, name: &str, chance: &mut Chance) -> Option<Value> {
    let Known { given, learned } = known;
    let given = given.get(name).map_or(&[][..], Vec::as_slice);
    // A switch that a test sets stays as it is.
    if let [switch @ Value::Bool(_), ..] = given {
        return Some(switch.clone());
    }
    let turn = chance.below(3);
    if turn == 0 {
        return None;
    }
    let names = match name {
        "id" => learned.keys().filter(|known| known.ends_with("id")).collect(),
        "cursor" => learned.keys().filter(|known| *known == "next_cursor").collect(),
        name => learned.keys().filter(|known| *known == name).collect::<Vec<_>>(),
    };
    let learned = names.into_iter().flat_map(|name| &learned[name]).collect::<Vec<_>>();
    let given = given.iter().collect::<Vec<_>>();
    let values = if given.is_empty() || turn == 1 && !learned.is_empty() {
        learned
    } else {
        given
    };
    (!values.is_empty()).then(|| values[chance.below(values.len())].clone())
}

/// How many values of one name are kept.
const KEPT: usize = 30;

fn learn(known: &mut BTreeMap<String, Vec<Value>>, name: &str, value: &Value, chance: &mut Chance) {
    match value {
        Value::Object(members) => members
            .iter()
            .for_each(|(name, value)| learn(known, name, value, chance)),
        Value::Array(items) => items.iter().for_each(|item| learn(known, name, item, chance)),
        Value::String(_) | Value::Number(_) => {
            let values = known.entry(name.to_owned()).or_default();
            if values.len() < KEPT {
                values.push(value.clone());
            } else {
                values[chance.below(KEPT)] = value.clone();
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

/// A value as it stands in a path or a query.
fn encoded(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_~".contains(&byte);
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

/// A method that a path has not is 405, a path that is nowhere 404; both as problems.
async fn strange_methods(http: &reqwest::Client, base: &str, operations: &[Operation<'_>]) -> Vec<String> {
    let mut wrong = Vec::new();
    let none = json!({"Problem": {"type": "object", "required": ["type", "title", "status"]}});
    let mut requests = vec![
        (Method::GET, "/nowhere".to_owned(), 404),
        (Method::POST, "/".to_owned(), 404),
    ];
    for path in operations
        .iter()
        .map(|operation| operation.path)
        .collect::<BTreeSet<_>>()
    {
        let has = |method: &Method| operations.iter().any(|one| one.path == path && one.method == method);
        for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::TRACE] {
            if !has(&method) {
                let place = path.replace(['{', '}'], "-");
                requests.push((method, place, 405));
            }
        }
    }
    for (method, path, status) in requests {
        let request = Request {
            method,
            target: path,
            headers: Headers::new(),
            body: None,
            bytes: None,
            flaw: None,
            lenient: true,
        };
        let answer = request.send(http, base).await;
        let mut reasons = answer.problem(Schemas(&none));
        if answer.status != status {
            reasons.push(format!("not {status}"));
        }
        if !reasons.is_empty() {
            wrong.push(format!(
                "{}\n  {}\n  {}",
                request.said(),
                answer.said(),
                reasons.join("; ")
            ));
        }
    }
    wrong
}

/// Whether it is an array whose last entry is an object.
fn holds_objects(value: &Value) -> bool {
    value
        .as_array()
        .and_then(|entries| entries.last())
        .is_some_and(Value::is_object)
}
