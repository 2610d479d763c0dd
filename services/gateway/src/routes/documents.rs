//! `GET /services`: a page that leads to the descriptions of the services behind, by the table of routes. It loads, runs and
//! frames nothing.

use axum::extract::State;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, header};
use valerix_kit::api::Api;

use super::AppState;
use crate::document::OWN;

const POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");

pub(super) fn routes(api: Api<AppState>) -> Api<AppState> {
    // Not described: it is a page, and no API.
    api.undescribed(OWN[2], get(show))
}

async fn show(State(state): State<AppState>) -> Response {
    let mut answer = Html(page(&state.routes.table().documents)).into_response();
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// `documents`: target and path of each page. A target's name has none of the characters that mean something in HTML.
fn page(documents: &[(String, String)]) -> String {
    let line = |(target, path): &(String, String)| format!("<li><a href=\"{}\">{target}</a></li>", quoted(path));
    let lines: String = documents.iter().map(line).collect();
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Services</title><h1>Services</h1>\
         <p>What each of them is asked and answers; the <a href=\"/docs\">gateway</a> itself has a page of its own.</p>\
         <ul>{lines}</ul></html>"
    )
}

fn quoted(path: &str) -> String {
    path.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_a_path() {
        let page = page(&[("odd".to_owned(), "/a\"><script>&b".to_owned())]);
        assert!(page.contains("href=\"/a&quot;>&lt;script>&amp;b\""), "{page}");
    }
}
