//! What the walk asks, and what it hears.

use http::{HeaderName, HeaderValue, Method};
use reqwest::Url;
use serde_json::{Value, json};

use super::Headers;
use crate::testing::values::Schemas;

/// A route of the document.
pub(super) struct Operation<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) spec: &'a Value,
}

impl Operation<'_> {
    pub(super) fn name(&self) -> String {
        format!("{} {}", self.method, self.path)
    }

    pub(super) fn parameters(&self, place: &str) -> impl Iterator<Item = (&str, &Value)> {
        let all = self.spec["parameters"].as_array().into_iter().flatten();
        all.filter(move |one| one["in"] == place)
            .filter_map(|one| Some((one["name"].as_str()?, &one["schema"])))
    }

    pub(super) fn needs_key(&self) -> bool {
        self.parameters("header").any(|(name, _)| name == "Idempotency-Key")
    }

    /// Whether no schema could say what is right for the field: one of the query, as two of them may contradict each other, or
    /// a text of which nothing more is said.
    pub(super) fn is_free(&self, field: &str, schemas: Schemas<'_>) -> bool {
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

    pub(super) fn body(&self) -> Option<&Value> {
        self.content()?.get("schema")
    }

    pub(super) fn example(&self) -> Option<&Value> {
        self.content()?.get("example")
    }

    fn content(&self) -> Option<&Value> {
        self.spec["requestBody"]["content"].get("application/json")
    }
}

pub(super) fn operations(document: &Value) -> Vec<Operation<'_>> {
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
pub(super) struct Flaw {
    pub(super) what: String,
    pub(super) statuses: &'static [u16],
    /// What a refusal by the first of the statuses has to name.
    pub(super) field: Option<String>,
}

pub(super) struct Request {
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) headers: Headers,
    pub(super) body: Option<String>,
    /// A body that is no text.
    pub(super) bytes: Option<Vec<u8>>,
    pub(super) flaw: Option<Flaw>,
    /// Nothing but a 5xx and an undeclared body would be wrong.
    pub(super) lenient: bool,
}

impl Request {
    pub(super) fn header(&mut self, name: &'static str, value: &[u8]) {
        let value = HeaderValue::from_bytes(value).expect("bytes that a header may have");
        self.headers.push((HeaderName::from_static(name), value));
    }

    pub(super) fn refused(&mut self, what: &str, statuses: &'static [u16], field: Option<String>) {
        let what = what.chars().take(80).collect();
        self.flaw = Some(Flaw { what, statuses, field });
    }

    pub(super) fn said(&self) -> String {
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

    pub(super) async fn send(&self, http: &reqwest::Client, base: &str) -> Heard {
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

pub(super) struct Heard {
    pub(super) status: u16,
    pub(super) headers: http::HeaderMap,
    pub(super) kind: String,
    pub(super) text: String,
}

impl Heard {
    pub(super) fn said(&self) -> String {
        let text: String = self.text.chars().take(400).collect();
        format!("{} {} {text}", self.status, self.kind)
    }

    /// What is wrong with it, if it is a refusal.
    pub(super) fn problem(&self, schemas: Schemas<'_>) -> Vec<String> {
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
    pub(super) fn fields(&self) -> Vec<String> {
        let body: Value = serde_json::from_str(&self.text).unwrap_or_default();
        let errors = body["errors"].as_array().into_iter().flatten();
        errors
            .filter_map(|error| error["field"].as_str().map(str::to_owned))
            .collect()
    }
}

/// A value as it stands in a path or a query.
pub(super) fn encoded(value: &Value) -> String {
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
