//! Requests that chance draws from a service's own OpenAPI document, good ones and bad ones, in any order: none may be
//! answered by a 5xx, each answer has to be one that the document declares, with the body that it declares, and whoever
//! sends a bad request has to be told which field is bad.
//!
//! What good answers say (ids, cursors, tokens) is used in later requests, so that there is something to find.

mod flaws;
mod request;

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use uuid::Uuid;

use self::request::{Flaw, Heard, Operation, Request, encoded, operations};
use super::chance::{Chance, rounds};
use super::values::Schemas;
use super::{Answer, TestServer};

/// Headers that name somebody who may ask a route, by what the document says of its access.
pub type Headers = Vec<(HeaderName, HeaderValue)>;

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
    let examples = operations.iter().filter_map(|one| Some((one, one.example()?)));
    let examples: Vec<_> = examples.collect();
    for round in 0..examples.len() + rounds(slice) {
        let (operation, mut request) = match examples.get(round) {
            Some((operation, example)) => (*operation, walk.example(operation, example)),
            None => {
                let operation = &operations[walk.chance.below(operations.len())];
                (operation, walk.request(operation))
            }
        };
        request.headers.extend(callers(&operation.spec["x-valerix-access"]));
        let answer = request.send(&http, base).await;
        let mut reasons = walk.judge(operation, &request, &answer);
        if round < examples.len() && matches!(answer.status, 400 | 413 | 415 | 422) {
            reasons.push("the example of the document is refused".to_owned());
        }
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

    /// The example of the document, of something that there is.
    fn example(&mut self, operation: &Operation<'_>, example: &Value) -> Request {
        let (mut request, _) = self.good(operation);
        let mut example = example.clone();
        put_known(&self.known.given, &mut example);
        request.body = Some(example.to_string());
        request
    }

    /// A good request, and what its query may say.
    fn good(&mut self, operation: &Operation<'_>) -> (Request, Vec<String>) {
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
        (request, query)
    }

    /// A good request, or one with one flaw.
    fn request(&mut self, operation: &Operation<'_>) -> Request {
        let (mut request, mut query) = self.good(operation);
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

/// What the test knows better stands in for what an example says.
fn put_known(given: &BTreeMap<String, Vec<Value>>, example: &mut Value) {
    match example {
        Value::Object(members) => {
            for (name, value) in members {
                match given.get(name).and_then(|values| values.first()) {
                    Some(known) => *value = known.clone(),
                    None => put_known(given, value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| put_known(given, item)),
        _ => {}
    }
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
