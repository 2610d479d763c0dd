//! The page: files that were compiled in. Every path that is no file is the page's own business, so that links into it
//! survive a reload.

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use rust_embed::RustEmbed;
use valerix_kit::problem::Problem;

#[derive(RustEmbed)]
#[folder = "web/dist"]
struct Files;

/// What is said in the page's place where it was not built.
const NOT_BUILT: &str = "This console was compiled without its page.\n\nBuild it, and then the console again:\n\n  \
    cd services/console/web && npm ci && npm run build\n";

/// A file, or the page.
pub async fn show(request: Request) -> Response {
    let path = request.uri().path().trim_start_matches('/');
    if path == "api" || path.starts_with("api/") {
        let path = request.uri().path().chars().take(200).collect::<String>();
        return Problem::not_found("not-found", format!("there is nothing at {path}")).into_response();
    }
    if let Some(file) = Files::get(path) {
        // The names of files in this folder change with their content.
        let forever = path.starts_with("assets/");
        return answer(path, file.data.into_owned(), forever);
    }
    if path.starts_with("assets/") {
        return StatusCode::NOT_FOUND.into_response();
    }
    match Files::get("index.html") {
        Some(file) => answer("index.html", file.data.into_owned(), false),
        None => (StatusCode::NOT_IMPLEMENTED, NOT_BUILT).into_response(),
    }
}

fn answer(path: &str, body: Vec<u8>, forever: bool) -> Response {
    let kind = match path.rsplit('.').next().unwrap_or_default() {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "json" | "webmanifest" => "application/json",
        "png" => "image/png",
        _ => "application/octet-stream",
    };
    let cached = if forever {
        "public, max-age=31536000, immutable"
    } else {
        "no-cache"
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
        (header::CACHE_CONTROL, HeaderValue::from_static(cached)),
    ];
    (headers, body).into_response()
}
