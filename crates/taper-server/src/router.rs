//! All routes, as one table.

use std::{any::Any, sync::Arc};

use axum::{
    Extension, Router,
    middleware::{from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::openapi::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::{
    middleware::{
        auth, host_and_origin,
        rate_limit::{self, RateLimits},
        request_filter, request_id, request_timeout, security_headers,
    },
    openapi::{self, Description},
    routes::{
        archive, artifacts, curves, events, experiments,
        fallback::{Fallback, method_not_allowed},
        files, jobs, models, prometheus, service, session, settings, streams, uploads,
    },
    state::AppState,
    transport::{body_timeout, drain_body},
    wire::error::ApiError,
};

/// The table. A new route is a handler and a line here.
fn table() -> OpenApiRouter<AppState> {
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
        .routes(routes!(curves::find_metrics))
        .routes(routes!(artifacts::list_artifacts))
        .routes(routes!(artifacts::download_artifact))
        .routes(routes!(archive::download_archive))
        .routes(routes!(archive::download_model))
        .routes(routes!(models::list_models))
        .routes(routes!(models::find_model, models::delete_model))
        .routes(routes!(
            session::create_session,
            session::find_session,
            session::delete_session
        ))
        .routes(routes!(service::healthz))
        .routes(routes!(service::readyz))
        .routes(routes!(prometheus::metrics))
        .routes(routes!(service::openapi_json))
}

/// The description of the API, made from the table.
pub fn openapi() -> OpenApi {
    openapi::complete(table().into_openapi())
}

/// The whole server: the API, and the page for every other path.
pub fn router(state: AppState) -> Router {
    let (api, described) = table().split_for_parts();
    let described = openapi::complete(described);
    let fallback = Fallback::new(taper_dashboard::router(), &described);
    let description = Description::new(&described);
    let config = Arc::clone(&state.config);
    let limits = RateLimits::new(&config.traffic);
    api.merge(docs())
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(move |request| fallback.answer(request))
        .layer(
            ServiceBuilder::new()
                .layer(from_fn(request_id::identify))
                .layer(from_fn(security_headers::protect))
                .layer(from_fn(body_timeout::limit))
                .layer(from_fn(drain_body::drain))
                .layer(CatchPanicLayer::custom(panicked))
                .layer(Extension(description))
                .layer(from_fn_with_state(limits.clone(), rate_limit::by_address))
                .layer(from_fn_with_state(config, host_and_origin::guard))
                .layer(from_fn_with_state(state.clone(), auth::authenticate))
                .layer(from_fn_with_state(limits, rate_limit::by_key))
                .layer(from_fn(request_filter::filter))
                .layer(from_fn_with_state(
                    request_timeout::TIMEOUT,
                    request_timeout::limit,
                )),
        )
        .with_state(state)
}

/// Swagger UI over the description of the API; all of it comes from the binary.
fn docs() -> SwaggerUi {
    SwaggerUi::new("/docs").config(Config::new(["/openapi.json"]).validator_url("none"))
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
        extract::Request,
        http::StatusCode,
        routing::get,
    };
    use tower::ServiceExt;

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
