//! The document as a page to read: one file without a script and without anything from elsewhere, which its policy says to the
//! browser. Pure.

use std::fmt::Write;
use std::sync::LazyLock;

use axum::response::{Html, IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::{HeaderValue, header};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

const STYLE: &str = "body{font:16px/1.5 system-ui;max-width:60rem;margin:2rem auto;padding:0 1rem}\
    summary{cursor:pointer;padding:.2rem 0}code{font-size:1.05em}table{border-collapse:collapse;margin:.5rem 0}\
    td,th{border:1px solid #ccc;padding:.2rem .6rem;text-align:left;vertical-align:top}\
    pre{background:#f4f4f4;padding:1rem;overflow:auto}\
    @media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#8cf}pre{background:#222}td,th{border-color:#444}}";

/// Nothing is loaded, run, sent or framed; the style is the one of this page.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// The page with the headers that keep it harmless.
pub(super) fn answer(page: String) -> Response {
    let mut answer = Html(page).into_response();
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        answer.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    let sniffing = HeaderValue::from_static("nosniff");
    answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, sniffing);
    answer
}

/// Every operation with who may ask it, what it takes and what it gives, and every schema.
pub(super) fn render(
    title: &str,
    description: &str,
    paths: &Map<String, Value>,
    schemas: &Map<String, Value>,
) -> String {
    let (title, description) = (escape(title), escape(description));
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style>\
         <h1>{title}</h1><p>{description}</p><p><a href=\"openapi.json\">openapi.json</a></p>"
    );
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().into_iter().flatten() {
            page.push_str(&one(&method.to_uppercase(), path, operation));
        }
    }
    page.push_str("<h2>Schemas</h2>");
    for (name, schema) in schemas {
        let (name, text) = (escape(name), pretty(schema));
        // Writing to a String does not fail.
        let _ = write!(page, "<h3 id=\"{name}\"><code>{name}</code></h3><pre>{text}</pre>");
    }
    page.push_str("</html>");
    page
}

fn one(method: &str, path: &str, operation: &Value) -> String {
    let text = |value: &Value| escape(value.as_str().unwrap_or_default());
    let mut block = format!(
        "<details><summary><code>{method} {}</code> {}</summary>",
        escape(path),
        text(&operation["summary"])
    );
    match &operation["x-valerix-access"] {
        Value::Null => {}
        Value::String(who) => drop(write!(block, "<p>For: {}</p>", escape(who))),
        services => drop(write!(block, "<p>For: {}</p>", escape(&services.to_string()))),
    }
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let rows: String = parameters
        .map(|parameter| {
            let need = if parameter["required"] == true {
                "required"
            } else {
                "optional"
            };
            let (name, place) = (text(&parameter["name"]), text(&parameter["in"]));
            format!(
                "<tr><td><code>{name}</code></td><td>{place}</td><td>{need}</td><td>{}</td></tr>",
                kind(&parameter["schema"])
            )
        })
        .collect();
    if !rows.is_empty() {
        let _ = write!(
            block,
            "<table><tr><th>Parameter</th><th>in</th><th></th><th>is</th></tr>{rows}</table>"
        );
    }
    let body = operation["requestBody"]["content"].as_object().into_iter().flatten();
    for (media, content) in body {
        let _ = write!(
            block,
            "<p>Body, <code>{}</code>: {}</p>",
            escape(media),
            kind(&content["schema"])
        );
    }
    let answers = operation["responses"].as_object().into_iter().flatten();
    let rows: String = answers
        .map(|(status, answer)| {
            let contents = answer["content"].as_object().into_iter().flatten();
            let gives: Vec<String> = contents
                .map(|(media, content)| format!("<code>{}</code>: {}", escape(media), kind(&content["schema"])))
                .collect();
            let (status, means) = (escape(status), text(&answer["description"]));
            format!(
                "<tr><td>{status}</td><td>{means}</td><td>{}</td></tr>",
                gives.join("<br>")
            )
        })
        .collect();
    let _ = write!(
        block,
        "<table><tr><th>Answer</th><th>means</th><th>gives</th></tr>{rows}</table></details>"
    );
    block
}

/// What a schema says, or where it is said.
fn kind(schema: &Value) -> String {
    match schema["$ref"]
        .as_str()
        .and_then(|reference| reference.rsplit('/').next())
    {
        Some(name) => format!("<a href=\"#{0}\"><code>{0}</code></a>", escape(name)),
        None if schema.is_null() => String::new(),
        None => format!("<code>{}</code>", escape(&schema.to_string())),
    }
}

fn pretty(value: &Value) -> String {
    escape(&serde_json::to_string_pretty(value).unwrap_or_default())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_page_shows_all_of_an_operation_and_lets_no_text_out_of_its_place() {
        let paths = json!({"/a/{id}": {"post": {
            "summary": "<b>does</b> it",
            "x-valerix-access": "user",
            "parameters": [{"name": "id", "in": "path", "required": true, "schema": {"type": "string"}}],
            "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}},
            "responses": {"201": {"description": "made", "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}}}},
        }}});
        let schemas = json!({"Thing": {"type": "object", "description": "\"<script>\""}});
        let page = render("x <y>", "", paths.as_object().unwrap(), schemas.as_object().unwrap());
        for shown in [
            "<h1>x &lt;y&gt;</h1>",
            "<code>POST /a/{id}</code> &lt;b&gt;does&lt;/b&gt; it",
            "<p>For: user</p>",
            "<td><code>id</code></td><td>path</td><td>required</td>",
            "<a href=\"#Thing\"><code>Thing</code></a>",
            "<td>201</td><td>made</td>",
            "<h3 id=\"Thing\">",
        ] {
            assert!(page.contains(shown), "{shown} is not in {page}");
        }
        assert!(
            !page.contains("<script") && !page.contains("http://") && !page.contains("https://"),
            "{page}"
        );
    }

    #[test]
    fn the_browser_is_told_to_load_and_run_nothing() {
        let answer = answer(String::new());
        let policy = answer.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    }
}
