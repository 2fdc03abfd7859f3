//! The cookie of a page that has signed in.

use axum::http::{HeaderMap, HeaderValue, header, uri::Authority};

/// The name on a server that is called without a port. Stands in the API's description as well.
pub(crate) const NAME: &str = "taper_session";

/// The name, with the port by which the server is called: to a browser all ports of a host are one place, so that two servers there
/// would throw each other's sessions out.
fn name(request: &HeaderMap) -> String {
    let host = request
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let port = host.and_then(|host| host.parse::<Authority>().ok()?.port_u16());
    port.map_or_else(|| NAME.to_owned(), |port| format!("{NAME}_{port}"))
}

/// The word in the session's cookie, if there is one.
pub(crate) fn session(headers: &HeaderMap) -> Option<String> {
    let own = name(headers);
    let cookies = headers.get_all(header::COOKIE).iter();
    cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, _)| *name == own)
        .map(|(_, word)| word.to_owned())
}

/// Has a browser keep the word for some seconds. Scripts do not see it, and requests of other sites do not carry it.
pub(crate) fn set(request: &HeaderMap, word: &str, seconds: i64) -> HeaderValue {
    let secure = if is_encrypted(request) {
        "; Secure"
    } else {
        ""
    };
    let name = name(request);
    let text =
        format!("{name}={word}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    HeaderValue::from_str(&text).expect("digits and hexadecimal ones are legal in a header")
}

/// Has a browser forget the word.
pub(crate) fn clear(request: &HeaderMap) -> HeaderValue {
    set(request, "", 0)
}

/// Tells whether the browser speaks TLS to whatever stands before this server: it says itself where its page comes from.
fn is_encrypted(request: &HeaderMap) -> bool {
    let begins = |name: &str, with: &str| {
        let value = request.get(name).and_then(|value| value.to_str().ok());
        value.is_some_and(|value| value.trim_start().starts_with(with))
    };
    begins("origin", "https://") || begins("x-forwarded-proto", "https")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| {
                let name = axum::http::HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            })
            .collect()
    }

    #[test]
    fn the_word_is_found_among_other_cookies() {
        for (cookie, word) in [
            ("taper_session=abc", Some("abc")),
            ("a=b; taper_session=abc; c=d", Some("abc")),
            ("xtaper_session=abc", None),
            ("taper_session", None),
            ("", None),
        ] {
            let found = session(&headers(&[("cookie", cookie)]));
            assert_eq!(found.as_deref(), word, "{cookie}");
        }
        assert_eq!(session(&HeaderMap::new()), None);
    }

    #[test]
    fn servers_on_two_ports_of_a_host_have_a_cookie_each() {
        let cookies = "taper_session=a; taper_session_8000=b; taper_session_8001=c";
        for (host, name, word) in [
            ("localhost:8000", "taper_session_8000", Some("b")),
            ("localhost:8001", "taper_session_8001", Some("c")),
            ("[::1]:8002", "taper_session_8002", None),
            ("taper.example", "taper_session", Some("a")),
            ("[::1]", "taper_session", Some("a")),
        ] {
            let request = headers(&[("host", host), ("cookie", cookies)]);
            assert_eq!(session(&request).as_deref(), word, "{host}");
            let cookie = set(&request, "w", 5);
            assert!(cookie.to_str().unwrap().starts_with(&format!("{name}=w;")));
        }
    }

    #[test]
    fn behind_tls_it_travels_nowhere_else() {
        let plain = "taper_session=w; Path=/; HttpOnly; SameSite=Strict; Max-Age=5";
        let secure = format!("{plain}; Secure");
        for (request, expected) in [
            (headers(&[]), plain),
            (headers(&[("origin", "http://localhost:8000")]), plain),
            (headers(&[("origin", "https://taper.example")]), &secure),
            (headers(&[("x-forwarded-proto", "https")]), &secure),
        ] {
            assert_eq!(set(&request, "w", 5), expected);
        }
    }
}
