use axum::{
    body::HttpBody,
    extract::{
        DefaultBodyLimit, FromRequest, Multipart, Request,
        multipart::{Field, MultipartError},
    },
    http::StatusCode,
};
use taper_core::{ErrorCode, FieldError, Project};
use taper_store::{ChunkedUpload, FileRecord, NewFile, Once, Store, Upload, UploadPart};

use super::{
    error::{ApiError, readable},
    expires_after::ExpiresAfterForm,
    extract::has_media_type,
};
use crate::{state::AppState, transport::body_timeout};

/// Purposes that OpenAI's upload takes.
pub(crate) const PURPOSES: [&str; 6] = [
    "fine-tune",
    "assistants",
    "batch",
    "vision",
    "user_data",
    "evals",
];
const FIELDS: [&str; 4] = [
    "purpose",
    "file",
    ExpiresAfterForm::ANCHOR,
    ExpiresAfterForm::SECONDS,
];
/// OpenAI's limit on one part of a chunked upload.
const MAX_PART_BYTES: u64 = 64 << 20;
/// What a form may have besides the file: boundaries, headers, the purpose.
const FORM_BYTES: u64 = 1 << 20;
/// What a text field of a form may have.
const TEXT_BYTES: usize = 64;
const NAME_CHARS: usize = 255;

/// An upload form that is still on its way.
pub(crate) struct MultipartUpload {
    form: Multipart,
    limit: u64,
}

impl FromRequest<AppState> for MultipartUpload {
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

/// What the form says of the file.
#[derive(Default)]
struct FormFields {
    purpose: Option<String>,
    expires_after: ExpiresAfterForm,
}

impl MultipartUpload {
    /// Takes the parts in the order in which they come, the file straight to the disk. On an error nothing is left behind.
    pub(crate) async fn store_file(
        mut self,
        store: &Store,
        project: Project,
        once: Once,
    ) -> Result<FileRecord, ApiError> {
        let (mut fields, mut file) = (FormFields::default(), None);
        loop {
            let next = self.form.next_field().await;
            let Some(part) = next.map_err(|error| broken(&error, self.limit))? else {
                break;
            };
            match part.name() {
                Some(name) if let Some(place) = fields.place(name) => {
                    *place = Some(read_text(part, self.limit).await?);
                }
                Some("file") if file.is_none() => {
                    file = Some(read_file(part, store, self.limit).await?);
                }
                name => return Err(unwanted(name.unwrap_or_default(), &FIELDS)),
            }
        }
        let purpose = fields.purpose.ok_or_else(|| missing("purpose"))?;
        check_purpose(&purpose)?;
        let file = file.ok_or_else(|| missing("file"))?;
        let new = NewFile {
            project,
            filename: file.filename,
            purpose,
            expires_after: fields.expires_after.read()?,
            once: Some(once),
        };
        Ok(file.upload.finish(new).await?)
    }

    /// Takes the one part of a chunked upload that the form holds.
    pub(crate) async fn store_part(
        mut self,
        store: &Store,
        upload: &ChunkedUpload,
        once: Once,
    ) -> Result<UploadPart, ApiError> {
        let mut data = None;
        loop {
            let next = self.form.next_field().await;
            let Some(part) = next.map_err(|error| broken(&error, self.limit))? else {
                break;
            };
            match part.name() {
                Some("data") if data.is_none() => {
                    let limit = self.limit.min(MAX_PART_BYTES);
                    let begun = store.begin_part().await?;
                    data = Some(read_bytes(part, begun, ("data", limit)).await?);
                }
                name => return Err(unwanted(name.unwrap_or_default(), &["data"])),
            }
        }
        let data = data.ok_or_else(|| missing("data"))?;
        Ok(data.finish_part(upload, Some(once)).await?)
    }
}

impl FormFields {
    /// Where the text of a field goes, if it is one and has not come yet.
    fn place(&mut self, name: &str) -> Option<&mut Option<String>> {
        let place = match name {
            "purpose" => &mut self.purpose,
            ExpiresAfterForm::ANCHOR => &mut self.expires_after.anchor,
            ExpiresAfterForm::SECONDS => &mut self.expires_after.seconds,
            _ => return None,
        };
        place.is_none().then_some(place)
    }
}

async fn read_text(mut part: Field<'_>, limit: u64) -> Result<String, ApiError> {
    let mut text = Vec::new();
    while let Some(bytes) = part.chunk().await.map_err(|error| broken(&error, limit))? {
        text.extend_from_slice(&bytes);
        if text.len() > TEXT_BYTES {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

pub(crate) fn check_purpose(text: &str) -> Result<(), FieldError> {
    if PURPOSES.contains(&text) {
        return Ok(());
    }
    let message = format!(
        "'purpose' must be one of {}, not '{}'; data of jobs has \"fine-tune\"",
        PURPOSES.join(", "),
        readable(text)
    );
    Err(FieldError::invalid("purpose", message))
}

async fn read_file(part: Field<'_>, store: &Store, limit: u64) -> Result<Received, ApiError> {
    let Some(filename) = part.file_name().map(file_name) else {
        let message =
            "'file' must be a file with a name, not a text field; with curl: -F file=@data.jsonl";
        return Err(ApiError::invalid("file", message));
    };
    let upload = store.begin_upload().await?;
    let upload = read_bytes(part, upload, ("file", limit)).await?;
    Ok(Received { upload, filename })
}

/// Brings the bytes of a part, which has a name and the most bytes it may have, to the disk.
async fn read_bytes(
    mut part: Field<'_>,
    mut upload: Upload,
    (name, limit): (&str, u64),
) -> Result<Upload, ApiError> {
    while let Some(bytes) = part.chunk().await.map_err(|error| broken(&error, limit))? {
        if upload.bytes() + bytes.len() as u64 > limit {
            return Err(ApiError::too_large(&format!("the {name}"), limit).about(name));
        }
        upload.write(&bytes).await?;
    }
    if upload.bytes() == 0 {
        let message = format!("'{name}' is empty; send at least one byte");
        return Err(ApiError::invalid(name, message));
    }
    Ok(upload)
}

/// A client's file name as it may be shown: without folders and control characters, and not too long. It is never a path here.
pub(crate) fn file_name(given: &str) -> String {
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
    FieldError::new(name, ErrorCode::MissingParameter, message).into()
}

fn unwanted(name: &str, known: &[&str]) -> ApiError {
    if known.contains(&name) {
        return ApiError::invalid(name, format!("'{name}' may stand only once"));
    }
    let shown = readable(name);
    let message = format!(
        "unknown parameter: '{shown}'; known here: {}",
        known.join(", ")
    );
    FieldError::new(shown, ErrorCode::UnknownParameter, message).into()
}

fn broken(error: &MultipartError, limit: u64) -> ApiError {
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::too_large("the file", limit).about("file");
    }
    if body_timeout::is_cause_of(error) {
        return ApiError::slow_body();
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
            ("CON", "CON"),
            ("x.jsonl. ", "x.jsonl."),
            ("x/", "file"),
            ("é ü.jsonl", "é ü.jsonl"),
        ] {
            assert_eq!(file_name(given), kept);
        }
        assert_eq!(file_name(&"x".repeat(10_000)).len(), NAME_CHARS);
    }
}
