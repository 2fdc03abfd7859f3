use std::io::{self, BufReader, Write};

use axum::body::Body;
use taper_store::{ObjectKey, Store};
use tokio::{runtime::Handle, sync::mpsc};
use tokio_util::io::SyncIoBridge;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// A file to be put into an archive.
pub(crate) struct Entry {
    /// Its name in the archive.
    pub(crate) name: String,
    pub(crate) key: ObjectKey,
    pub(crate) bytes: u64,
}

/// Bytes handed over at once.
const PIECE: usize = 64 << 10;
/// Bytes read at once.
const READ: usize = 1 << 20;
/// Pieces that may wait for a slow client; then reading pauses.
const AHEAD: usize = 4;

/// Streams a zip of the entries while it is made, on a blocking thread. A client sees a failure as a body that breaks off.
pub(crate) fn zip(store: Store, entries: Vec<Entry>) -> Body {
    let (sender, mut receiver) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let pipe = Pipe {
            sender,
            piece: Vec::with_capacity(PIECE),
        };
        let pieces = pipe.sender.clone();
        if let Err(error) = write(pipe, &store, &entries) {
            tracing::error!(%error, "an archive broke off");
            // The client may be gone, which is then what broke it.
            let _ = pieces.blocking_send(Err(error));
        }
    });
    Body::from_stream(futures_util::stream::poll_fn(move |context| {
        receiver.poll_recv(context)
    }))
}

fn write(pipe: Pipe, store: &Store, entries: &[Entry]) -> io::Result<()> {
    let runtime = Handle::current();
    let mut archive = ZipWriter::new_stream(pipe);
    for entry in entries {
        archive.start_file(&entry.name, options(entry))?;
        let opened = runtime.block_on(store.open_object(&entry.key, entry.bytes, 0..entry.bytes));
        let reader = SyncIoBridge::new(opened.map_err(io::Error::other)?);
        io::copy(&mut BufReader::with_capacity(READ, reader), &mut archive)?;
    }
    archive.finish()?.into_inner().flush()
}

/// Weights do not compress, so they are stored; the rest is text.
fn options(entry: &Entry) -> SimpleFileOptions {
    let method = if entry.name.ends_with(".safetensors") {
        CompressionMethod::Stored
    } else {
        CompressionMethod::Deflated
    };
    SimpleFileOptions::default()
        .compression_method(method)
        .unix_permissions(0o644)
        .large_file(entry.bytes >= u64::from(u32::MAX))
}

/// The writing end of a stream of pieces.
struct Pipe {
    sender: mpsc::Sender<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.sender
            .blocking_send(Ok(piece))
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}
