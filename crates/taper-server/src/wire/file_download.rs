use std::ops::Range;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use taper_store::{ObjectKey, Store};
use tokio_util::io::ReaderStream;

use super::{
    byte_range::{self, ByteRange},
    error::ApiError,
};

/// A file to be sent, with what is known of it.
pub(crate) struct Download {
    pub(crate) key: ObjectKey,
    /// The name under which a browser keeps it.
    pub(crate) name: String,
    pub(crate) bytes: u64,
    /// Hex; its ETag, since a file here never changes.
    pub(crate) sha256: String,
}

impl Download {
    /// Answers with the file or the part that the headers ask for, or tells that the client has it already.
    pub(crate) async fn answer(
        self,
        store: &Store,
        request: &HeaderMap,
    ) -> Result<Response, ApiError> {
        let etag = format!("\"{}\"", self.sha256);
        if has_already(request, &etag) {
            return Ok((StatusCode::NOT_MODIFIED, self.headers(&etag)).into_response());
        }
        let range = request
            .get(header::RANGE)
            .and_then(|value| value.to_str().ok())
            .filter(|_| still_the_same(request, &etag));
        match byte_range::parse(range, self.bytes) {
            ByteRange::Whole => {
                let body = self.body(store, 0..self.bytes).await?;
                let length = [(header::CONTENT_LENGTH, HeaderValue::from(self.bytes))];
                Ok((self.headers(&etag), length, body).into_response())
            }
            ByteRange::Part(part) => {
                let (length, total) = (part.end - part.start, self.bytes);
                let content_range = format!("bytes {}-{}/{total}", part.start, part.end - 1);
                let body = self.body(store, part).await?;
                let headers = [
                    (header::CONTENT_LENGTH, HeaderValue::from(length)),
                    (header::CONTENT_RANGE, value(&content_range)),
                ];
                Ok((
                    StatusCode::PARTIAL_CONTENT,
                    self.headers(&etag),
                    headers,
                    body,
                )
                    .into_response())
            }
            ByteRange::Unsatisfiable => Ok(self.beyond()),
        }
    }

    fn headers(&self, etag: &str) -> [(HeaderName, HeaderValue); 5] {
        [
            (header::ETAG, value(etag)),
            (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
            (
                header::CACHE_CONTROL,
                HeaderValue::from_static("private, no-cache"),
            ),
            (
                header::CONTENT_TYPE,
                HeaderValue::from_static(content_type(&self.name)),
            ),
            (header::CONTENT_DISPOSITION, attachment(&self.name)),
        ]
    }

    async fn body(&self, store: &Store, range: Range<u64>) -> Result<Body, ApiError> {
        let reader = store.open_object(&self.key, self.bytes, range).await?;
        Ok(Body::from_stream(ReaderStream::with_capacity(
            reader,
            64 << 10,
        )))
    }

    fn beyond(&self) -> Response {
        let message = format!(
            "the Range header asks for bytes that are not there; the file has {}",
            self.bytes
        );
        let content_range = value(&format!("bytes */{}", self.bytes));
        let error = ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, message);
        ([(header::CONTENT_RANGE, content_range)], error).into_response()
    }
}

/// `If-None-Match`: the client holds this very file.
fn has_already(request: &HeaderMap, etag: &str) -> bool {
    request
        .get_all(header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|held| held.trim().trim_start_matches("W/"))
        .any(|held| held == etag || held == "*")
}

/// `If-Range`: a part is of use only to a client that has the rest of this very file.
fn still_the_same(request: &HeaderMap, etag: &str) -> bool {
    request
        .get(header::IF_RANGE)
        .is_none_or(|held| held.as_bytes() == etag.as_bytes())
}

/// Makes a browser keep the answer under a name instead of showing it.
pub(crate) fn attachment(name: &str) -> HeaderValue {
    let plain: String = name
        .chars()
        .map(|c| match c {
            '"' | '\\' => '_',
            c if c.is_ascii_graphic() || c == ' ' => c,
            _ => '_',
        })
        .collect();
    if plain == name {
        return value(&format!("attachment; filename=\"{plain}\""));
    }
    let mut encoded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    value(&format!(
        "attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"
    ))
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("all that is put into headers here is printable ASCII")
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, ending)| ending) {
        "json" => "application/json",
        "jsonl" => "application/jsonl",
        "csv" => "text/csv; charset=utf-8",
        "md" | "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_quoted() {
        for (name, expected) in [
            ("a b.jsonl", "attachment; filename=\"a b.jsonl\""),
            (
                "é\"\r\n.csv",
                "attachment; filename=\"____.csv\"; filename*=UTF-8''%C3%A9%22%0D%0A.csv",
            ),
        ] {
            assert_eq!(attachment(name), expected);
        }
    }
}
