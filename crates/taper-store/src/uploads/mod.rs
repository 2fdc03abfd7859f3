//! Files that come in several requests: OpenAI's uploads. Parts lie beside the files until they are put together.

mod actions;
pub(crate) mod state;
mod upload;

pub use self::{
    state::UploadState,
    upload::{ChunkedUpload, NewUpload, UploadPart},
};
