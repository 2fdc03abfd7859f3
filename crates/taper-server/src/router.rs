//! All routes, as one table.

use std::{any::Any, sync::Arc};

use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, Method, StatusCode, header},
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use tower::{ServiceBuilder, ServiceExt};
use tower_http::catch_panic::CatchPanicLayer;
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::{
    auth, deadline, doors,
    error::ApiError,
    openapi,
    rates::{self, Rates},
    refusals, remains,
    routes::{
        archive, artifacts, events, experiments, files, jobs, metrics, models, service, session,
        settings, streams, telemetry, uploads,
    },
    slow,
    state::AppState,
};

/// The table. A new route is a handler and a line here.
pub(crate) fn table() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(openapi::head())
        .routes(routes!(files::create_file, files::list_files))
        .routes(routes!(files::find_file, files::delete_file))
        .routes(routes!(files::download_file))
        .routes(routes!(uploads::create_upload))
        .routes(routes!(uploads::add_upload_part))
        .routes(routes!(uploads::complete_upload))
        .routes(routes!(uploads::cancel_upload))
        .routes(routes!(settings::list_settings))
        .routes(routes!(jobs::create_job, jobs::list_jobs))
        .routes(routes!(jobs::find_job, jobs::change_job, jobs::delete_job))
        .routes(routes!(jobs::cancel_job))
        .routes(routes!(jobs::pause_job))
        .routes(routes!(jobs::resume_job))
        .routes(routes!(jobs::retry_job))
        .routes(routes!(
            experiments::create_experiment,
            experiments::list_experiments
        ))
        .routes(routes!(
            experiments::find_experiment,
            experiments::delete_experiment
        ))
        .routes(routes!(experiments::cancel_experiment))
        .routes(routes!(experiments::pause_experiment))
        .routes(routes!(experiments::resume_experiment))
        .routes(routes!(experiments::list_experiment_events))
        .routes(routes!(experiments::stream_experiment_events))
        .routes(routes!(experiments::find_table))
        .routes(routes!(events::list_events))
        .routes(routes!(events::list_checkpoints))
        .routes(routes!(streams::stream_job_events))
        .routes(routes!(streams::stream_all_events))
        .routes(routes!(metrics::find_metrics))
        .routes(routes!(artifacts::list_artifacts))
        .routes(routes!(artifacts::download_artifact))
        .routes(routes!(archive::download_archive))
        .routes(routes!(models::list_models))
        .routes(routes!(models::find_model, models::delete_model))
        .routes(routes!(
            session::create_session,
            session::find_session,
            session::delete_session
        ))
        .routes(routes!(service::healthz))
        .routes(routes!(service::readyz))
        .routes(routes!(telemetry::metrics))
        .routes(routes!(service::openapi_json))
}

/// The whole server: the API, and the page for every other path.
pub fn router(state: AppState) -> Router {
    let (api, _) = table().split_for_parts();
    let page = taper_dashboard::router();
    let config = Arc::clone(&state.config);
    let rates = Rates::new(&config.traffic);
    api.merge(docs())
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(move |request| page_or_error(page, request))
        .layer(
            ServiceBuilder::new()
                .layer(from_fn(doors::identify))
                .layer(from_fn(doors::protect))
                .layer(from_fn(slow::limit))
                .layer(from_fn(remains::linger))
                .layer(CatchPanicLayer::custom(panicked))
                .layer(from_fn_with_state(rates.clone(), rates::by_address))
                .layer(from_fn_with_state(config, doors::guard))
                .layer(from_fn_with_state(state.clone(), auth::authenticate))
                .layer(from_fn_with_state(rates, rates::by_key))
                .layer(from_fn(refusals::refuse))
                .layer(from_fn_with_state(deadline::LONGEST, deadline::keep)),
        )
        .with_state(state)
}

/// Swagger UI over the description of the API; all of it comes from the binary.
fn docs() -> SwaggerUi {
    SwaggerUi::new("/docs").config(Config::new(["/openapi.json"]).validator_url("none"))
}

async fn method_not_allowed(method: Method) -> ApiError {
    let message = format!("{method} is not possible here; the Allow header lists what is");
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

async fn page_or_error(page: Router, request: Request) -> Response {
    if doors::is_api(request.uri().path()) {
        return ApiError::no_route(request.uri().path()).into_response();
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = method_not_allowed(request.method().clone())
            .await
            .into_response();
        let allow = HeaderValue::from_static("GET,HEAD");
        response.headers_mut().insert(header::ALLOW, allow);
        return response;
    }
    match page.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let cause = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("without a message");
    ApiError::internal(format_args!("a handler panicked: {cause}")).into_response()
}

#[cfg(test)]
mod tests {
    use axum::{
        body::{Body, to_bytes},
        routing::get,
    };

    use super::*;

    async fn break_down() {
        panic!("a secret cause");
    }

    #[tokio::test]
    async fn a_panic_is_an_error_like_others() {
        let router = Router::<()>::new()
            .route("/", get(break_down))
            .layer(CatchPanicLayer::custom(panicked));
        let response = router.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let body = to_bytes(response.into_body(), 1000).await.unwrap();
        let text = std::str::from_utf8(&body).unwrap();
        assert!(text.contains("\"type\":\"server_error\"") && !text.contains("secret"));
    }
}
