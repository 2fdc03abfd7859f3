//! Which names the server may be called by, and which sites may call it from a browser.

use std::{net::IpAddr, sync::Arc};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use taper_core::ErrorCode;

use crate::{config::ServerConfig, wire::error::ApiError};

/// Refuses requests that a foreign web page has made a browser send, and bodies that would have to be inflated.
pub(crate) async fn guard(
    State(config): State<Arc<ServerConfig>>,
    request: Request,
    next: Next,
) -> Response {
    let passed = check_host(&config, &request)
        .and_then(|()| check_origin(request.headers()))
        .and_then(|()| check_encoding(request.headers()));
    match passed {
        Ok(()) => next.run(request).await,
        Err(error) => error.into_response(),
    }
}

/// A name that resolves to this machine is not enough: a foreign page can point its own name here (DNS rebinding).
fn check_host(config: &ServerConfig, request: &Request) -> Result<(), ApiError> {
    let written = request.headers().get_all(header::HOST).iter();
    let mut hosts: Vec<&str> = written.map(|v| v.to_str().unwrap_or_default()).collect();
    hosts.extend(
        request
            .uri()
            .authority()
            .map(|authority| authority.as_str()),
    );
    if !hosts.is_empty() && hosts.iter().all(|host| is_allowed(config, host)) {
        return Ok(());
    }
    let message = "this server does not go by the name in the Host header; call it as localhost, or start it with --allow-host NAME";
    Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, message).coded(ErrorCode::HostNotAllowed))
}

fn is_allowed(config: &ServerConfig, host: &str) -> bool {
    let name = without_port(host);
    let address = name
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<IpAddr>();
    match address {
        Ok(address) if address.is_loopback() || address == config.bound.ip() => true,
        _ => std::iter::once("localhost")
            .chain(config.allow_hosts.iter().map(String::as_str))
            .any(|allowed| allowed.eq_ignore_ascii_case(name)),
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => {
            name
        }
        _ => host,
    }
}

fn check_origin(headers: &HeaderMap) -> Result<(), ApiError> {
    let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
    let same = headers.get_all(header::ORIGIN).iter().all(|origin| {
        let name = origin.to_str().ok().and_then(|text| {
            text.strip_prefix("http://")
                .or_else(|| text.strip_prefix("https://"))
        });
        match (name, host) {
            (Some(name), Some(host)) => name.as_bytes().eq_ignore_ascii_case(host),
            _ => false,
        }
    });
    if same {
        return Ok(());
    }
    let message = "the Origin header names another site; only the server's own page may call it from a browser";
    Err(ApiError::new(StatusCode::FORBIDDEN, message).coded(ErrorCode::OriginNotAllowed))
}

fn check_encoding(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(header::CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => Err(ApiError::media_type(
            "bodies are taken uncompressed; leave the Content-Encoding header out",
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_under_which_the_server_may_be_called() {
        let config = ServerConfig {
            allow_hosts: vec!["taper.example".to_owned()],
            ..ServerConfig::new("192.168.1.5:8000".parse().unwrap())
        };
        for host in [
            "localhost",
            "LOCALHOST:8000",
            "127.0.0.1:8000",
            "127.9.9.9",
            "[::1]:8000",
            "192.168.1.5:8000",
            "taper.example",
            "Taper.Example:443",
        ] {
            assert!(is_allowed(&config, host), "{host}");
        }
        for host in [
            "",
            "evil.com",
            "localhost.evil.com",
            "localhost:80:80",
            "192.168.1.6",
            "127.0.0.1.evil.com",
            "localhost@evil.com",
            "[::2]",
        ] {
            assert!(!is_allowed(&config, host), "{host}");
        }
    }
}
