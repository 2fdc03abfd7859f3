use axum::{
    body::HttpBody,
    extract::{
        DefaultBodyLimit, FromRequest, Multipart, Request,
        multipart::{Field, MultipartError},
    },
    http::StatusCode,
};
use taper_core::{FieldError, code};
use taper_store::{FileRecord, Store, Upload};

use crate::{
    error::{ApiError, readable},
    extract::has_media_type,
    state::AppState,
};

/// Purposes that OpenAI's upload takes.
const PURPOSES: [&str; 6] = [
    "fine-tune",
    "assistants",
    "batch",
    "vision",
    "user_data",
    "evals",
];
/// What a form may have besides the file: boundaries, headers, the purpose.
const FORM_BYTES: u64 = 1 << 20;
const PURPOSE_BYTES: usize = 64;
const NAME_CHARS: usize = 255;

/// An upload form that is still on its way.
pub(crate) struct Incoming {
    form: Multipart,
    limit: u64,
}

impl FromRequest<AppState> for Incoming {
    type Rejection = ApiError;

    async fn from_request(mut request: Request, state: &AppState) -> Result<Self, ApiError> {
        if !has_media_type(request.headers(), "multipart/form-data") {
            return Err(ApiError::media_type(
                "this route takes a form; send the header Content-Type: multipart/form-data",
            ));
        }
        let limit = state.config.upload_limit;
        let most = limit.saturating_add(FORM_BYTES);
        if request.body().size_hint().lower() > most {
            return Err(ApiError::too_large("the file", limit).about("file"));
        }
        DefaultBodyLimit::max(usize::try_from(most).unwrap_or(usize::MAX)).apply(&mut request);
        let form = Multipart::from_request(request, state)
            .await
            .map_err(|error| ApiError::bad_request(error.body_text()))?;
        Ok(Self { form, limit })
    }
}

/// A file whose bytes have all come.
struct Received {
    upload: Upload,
    filename: String,
}

impl Incoming {
    /// Takes the parts in the order in which they come, the file straight to the disk. On an error nothing is left behind.
    pub(crate) async fn keep(mut self, store: &Store) -> Result<FileRecord, ApiError> {
        let (mut purpose, mut file) = (None, None);
        loop {
            let next = self.form.next_field().await;
            let Some(part) = next.map_err(|error| broken(&error, self.limit))? else {
                break;
            };
            match part.name() {
                Some("purpose") if purpose.is_none() => {
                    purpose = Some(read_purpose(part, self.limit).await?);
                }
                Some("file") if file.is_none() => {
                    file = Some(read_file(part, store, self.limit).await?);
                }
                name => return Err(unwanted(name.unwrap_or_default())),
            }
        }
        let purpose = purpose.ok_or_else(|| missing("purpose"))?;
        let file = file.ok_or_else(|| missing("file"))?;
        Ok(file.upload.finish(&file.filename, &purpose).await?)
    }
}

async fn read_purpose(mut part: Field<'_>, limit: u64) -> Result<String, ApiError> {
    let mut text = Vec::new();
    while let Some(bytes) = part.chunk().await.map_err(|error| broken(&error, limit))? {
        text.extend_from_slice(&bytes);
        if text.len() > PURPOSE_BYTES {
            break;
        }
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    if PURPOSES.contains(&text.as_str()) {
        return Ok(text);
    }
    let message = format!(
        "'purpose' must be one of {}, not '{}'; data of jobs has \"fine-tune\"",
        PURPOSES.join(", "),
        readable(&text)
    );
    Err(ApiError::invalid("purpose", message))
}

async fn read_file(mut part: Field<'_>, store: &Store, limit: u64) -> Result<Received, ApiError> {
    let Some(filename) = part.file_name().map(file_name) else {
        let message =
            "'file' must be a file with a name, not a text field; with curl: -F file=@data.jsonl";
        return Err(ApiError::invalid("file", message));
    };
    let mut upload = store.begin_upload().await?;
    while let Some(bytes) = part.chunk().await.map_err(|error| broken(&error, limit))? {
        if upload.bytes() + bytes.len() as u64 > limit {
            return Err(ApiError::too_large("the file", limit).about("file"));
        }
        upload.write(&bytes).await?;
    }
    if upload.bytes() == 0 {
        let message = "'file' is empty; upload a file with at least one row";
        return Err(ApiError::invalid("file", message));
    }
    Ok(Received { upload, filename })
}

/// A client's file name as it may be shown: without folders and control characters, and not too long. It is never a path here.
fn file_name(given: &str) -> String {
    let name = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = name
        .chars()
        .filter(|c| !c.is_control())
        .take(NAME_CHARS)
        .collect();
    match name.trim() {
        "" | "." | ".." => "file".to_owned(),
        name => name.to_owned(),
    }
}

fn missing(name: &str) -> ApiError {
    let message = format!("missing required parameter: '{name}'");
    FieldError::new(name, code::MISSING, message).into()
}

fn unwanted(name: &str) -> ApiError {
    let shown = readable(name);
    match name {
        "purpose" | "file" => ApiError::invalid(name, format!("'{name}' may stand only once")),
        _ if name.starts_with("expires_after") => FieldError::new(
            "expires_after",
            code::UNSUPPORTED,
            "'expires_after' is not supported by this version: files do not expire; leave it out",
        )
        .into(),
        _ => FieldError::new(
            shown.clone(),
            code::UNKNOWN,
            format!("unknown parameter: '{shown}'; known here: purpose, file"),
        )
        .into(),
    }
}

fn broken(error: &MultipartError, limit: u64) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::too_large("the file", limit).about("file");
    }
    ApiError::bad_request(format!(
        "the form cannot be read: {}; send it again",
        error.body_text()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_without_folders() {
        for (given, kept) in [
            ("data.jsonl", "data.jsonl"),
            ("../../etc/passwd", "passwd"),
            ("C:\\data\\a.csv", "a.csv"),
            ("a\u{0}\r\nb", "ab"),
            ("..", "file"),
            ("x/", "file"),
            ("é ü.jsonl", "é ü.jsonl"),
        ] {
            assert_eq!(file_name(given), kept);
        }
        assert_eq!(file_name(&"x".repeat(10_000)).len(), NAME_CHARS);
    }
}
