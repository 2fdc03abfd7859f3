//! The browser page: a Svelte app in `web/`, built by the build script and embedded here. It knows the API and nothing of the crates behind it.
//!
//! Start reading at `web/src/App.svelte`, the table of views. `client.ts` is the one way to the API, typed by its description; `live/` loads
//! what a view shows and follows its events; `parts/` is what views share; `settings.svelte.ts` has what the server says of methods and
//! settings, so that no name of a method stands in the page.

use std::fmt::Write;

use axum::{
    Router,
    extract::Path,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use rust_embed::{EmbeddedFile, RustEmbed};

#[derive(RustEmbed)]
#[folder = "$OUT_DIR/dist"]
struct Page;

/// Serves the page: its files under `/assets/`, and `index.html` for every other path, because the page has views of its own.
pub fn router() -> Router {
    Router::new()
        .route("/assets/{*path}", get(asset))
        .fallback(get(index))
}

/// Tells whether a path is that of a file of the page.
pub fn is_file(path: &str) -> bool {
    path.starts_with("/assets/")
}

/// Tells whether a path is that of one of the page's views, as `web/src/router.svelte.ts` has them.
pub fn is_view(path: &str) -> bool {
    matches!(path, "/" | "/experiments" | "/compare")
        || path.starts_with("/jobs/")
        || path.starts_with("/experiments/")
}

/// A file's name holds a hash of its content, so a browser may keep it for ever.
async fn asset(Path(path): Path<String>, request: HeaderMap) -> Response {
    let path = format!("assets/{path}");
    match Page::get(&path) {
        Some(file) => serve(&path, file, "public, max-age=31536000, immutable", &request),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn index(request: HeaderMap) -> Response {
    let file = Page::get("index.html").expect("the build script always writes it");
    serve("index.html", file, "no-cache", &request)
}

fn serve(path: &str, file: EmbeddedFile, keep: &'static str, request: &HeaderMap) -> Response {
    let etag = etag(&file.metadata.sha256_hash());
    let known = request.get(header::IF_NONE_MATCH);
    let headers = [
        (header::CACHE_CONTROL, keep.to_owned()),
        (header::ETAG, etag.clone()),
    ];
    if known.is_some_and(|value| value.as_bytes() == etag.as_bytes()) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let kind = mime_guess::from_path(path).first_or_octet_stream();
    let kind = [(header::CONTENT_TYPE, kind.to_string())];
    (headers, kind, file.data).into_response()
}

fn etag(hash: &[u8; 32]) -> String {
    let mut etag = String::from("\"");
    for byte in &hash[..16] {
        write!(etag, "{byte:02x}").expect("writing to a string does not fail");
    }
    etag + "\""
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use tower::ServiceExt;

    use super::*;

    async fn get(path: &str, known: Option<&str>) -> Response {
        let mut request = Request::get(path);
        if let Some(etag) = known {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let request = request.body(Body::empty()).unwrap();
        router().oneshot(request).await.unwrap()
    }

    fn told(response: &Response, name: header::HeaderName) -> String {
        response.headers()[name].to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn every_view_is_the_same_page_and_is_asked_for_anew() {
        for path in ["/", "/jobs/ftjob-1"] {
            let response = get(path, None).await;
            assert_eq!(told(&response, header::CACHE_CONTROL), "no-cache");
            assert_eq!(told(&response, header::CONTENT_TYPE), "text/html");
            let etag = told(&response, header::ETAG);
            let again = get(path, Some(&etag)).await;
            assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        }
    }

    #[tokio::test]
    async fn assets_are_kept_for_ever() {
        for path in Page::iter().filter(|path| path.starts_with("assets/")) {
            let response = get(&format!("/{path}"), None).await;
            assert_eq!(response.status(), StatusCode::OK);
            assert!(told(&response, header::CACHE_CONTROL).ends_with("immutable"));
        }
        let missing = get("/assets/none.js", None).await;
        assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    }
}
