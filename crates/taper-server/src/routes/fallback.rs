//! What is answered where there is no route: the page to a browser, and to everybody else what they may have meant.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use tower::ServiceExt;
use utoipa::openapi::OpenApi;

use crate::{
    middleware::is_api,
    wire::error::{ApiError, readable},
};

/// Routes of OpenAI's that answer with what a model says.
const INFERENCE: [&str; 4] = [
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/responses",
];

const NO_INFERENCE: &str = "this server trains models and does not run them: load the files of GET \
     /v1/fine_tuning/jobs/{id}/adapter.zip with PEFT, transformers or what serves your models";

/// The page, and what is needed to guess at a route.
#[derive(Clone)]
pub(crate) struct Fallback {
    page: Router,
    /// What stands behind `/v1/` in the routes of the API.
    resources: Arc<BTreeSet<String>>,
}

impl Fallback {
    pub(crate) fn new(page: Router, api: &OpenApi) -> Self {
        let resource = |path: &String| {
            path.strip_prefix("/v1/")?
                .split('/')
                .next()
                .map(str::to_owned)
        };
        Self {
            page,
            resources: Arc::new(api.paths.paths.keys().filter_map(resource).collect()),
        }
    }

    pub(crate) async fn answer(self, request: Request) -> Response {
        let path = request.uri().path();
        if is_api(path) || !self.is_of_page(&request) {
            return self.no_route(path).into_response();
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let error = method_not_allowed(request.method().clone()).await;
            let allow = HeaderValue::from_static("GET,HEAD");
            return ([(header::ALLOW, allow)], error).into_response();
        }
        match self.page.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Tells whether the page answers: with its files, and with itself where a browser asks for one of its views.
    fn is_of_page(&self, request: &Request) -> bool {
        let path = request.uri().path();
        let of_view = || match *request.method() {
            Method::GET | Method::HEAD => takes_html(request.headers()),
            // A client of the API with another base URL.
            _ => self.meant(path).is_none(),
        };
        taper_dashboard::is_file(path) || (taper_dashboard::is_view(path) && of_view())
    }

    fn no_route(&self, path: &str) -> ApiError {
        if INFERENCE.contains(&path.strip_prefix("/v1").unwrap_or(path)) {
            return ApiError::no_route(path, NO_INFERENCE);
        }
        let hint = match self.meant(path) {
            Some(meant) => format!("did you mean {}?", readable(&meant)),
            None => "GET /openapi.json lists what there is".to_owned(),
        };
        ApiError::no_route(path, &hint)
    }

    /// The route that a path becomes with `/v1` before the first part that the API knows: it lacks, or comes twice, where a client has
    /// another base URL.
    fn meant(&self, path: &str) -> Option<String> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let known = parts
            .iter()
            .position(|part| self.resources.contains(*part))?;
        let meant = format!("/v1/{}", parts[known..].join("/"));
        (meant != path).then_some(meant)
    }
}

pub(crate) async fn method_not_allowed(method: Method) -> ApiError {
    let message = format!("{method} is not possible here; the Allow header lists what is");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

fn takes_html(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let mut types = accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|range| range.split(';').next());
    types.any(|media_type| media_type.trim().eq_ignore_ascii_case("text/html"))
}
