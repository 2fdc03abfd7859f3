//! What goes over the wire: objects, errors, and how requests are read.

pub(crate) mod byte_range;
pub(crate) mod error;
pub(crate) mod expires_after;
pub(crate) mod extract;
pub(crate) mod file_download;
pub(crate) mod file_upload;
pub(crate) mod json;
pub(crate) mod paging;
pub(crate) mod query;
mod types;
pub(crate) mod zip_stream;

pub use types::*;
