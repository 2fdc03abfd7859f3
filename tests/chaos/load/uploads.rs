//! L7: large files from many clients at once: little memory, each file whole, and no more of the disk than they need.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::stream;
use reqwest::{
    Body, Method,
    multipart::{Form, Part},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use taper_tests::{client::Client, model::jsonl, server::Folders};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    check::{Passed, Size},
    load::figures::Usage,
};

const MEMORY_MIB: f64 = 150.0;
const MIB: u64 = 1 << 20;

pub(crate) async fn large(size: Size) -> Result<Passed> {
    let (clients, each) = match size {
        Size::Reduced => (4, 20 * MIB),
        Size::Full(_) => (20, 200 * MIB),
    };
    let folders = Folders::new()?;
    let server = folders.serve().await?;
    let rows = server.client.upload("rows.jsonl", jsonl(320)).await?;
    let long = json!({"training": {"num_train_epochs": 10_000, "save_steps": 1_000_000}});
    let job = server.client.submit(&rows, long).await?;
    server.client.wait_for_step(&job, 1).await?;
    let before = disk(&folders.data())?;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..clients {
        tasks.spawn(upload(Client::new(&server.client.addr)?, number, each));
    }
    let (mut memory, mut most) = (0.0, 0);
    while !tasks.is_empty() {
        tokio::select! {
            Some(done) = tasks.join_next() => done??,
            () = sleep(Duration::from_millis(50)) => {}
        }
        memory = Usage::of(server.pid()?)?.rss_mib().max(memory);
        most = disk(&folders.data())?.saturating_sub(before).max(most);
    }
    let seconds = began.elapsed().as_secs_f64();
    let whole = clients * each;
    let share = most as f64 / whole as f64;
    let figures = format!(
        "{clients} clients, {} MiB each, beside a job that trains: {:.0} MiB a second, each sum as it was sent; memory at most {memory:.0} MiB; disk at most {share:.3} times the files",
        each / MIB,
        (whole / MIB) as f64 / seconds
    );
    // What the job writes meanwhile.
    let slack = (64 * MIB) as f64 / whole as f64;
    ensure!(
        share <= 1.0 + slack,
        "more of the disk than the files have: {figures}"
    );
    if size.is_full() {
        ensure!(
            memory <= MEMORY_MIB,
            "more than {MEMORY_MIB} MiB: {figures}"
        );
    }
    Ok(Passed::new(figures))
}

/// Sends a file piece by piece; no two are the same.
async fn upload(client: Client, number: u64, bytes: u64) -> Result<()> {
    let mut hash = Sha256::new();
    let piece = move |place: u64| -> Bytes {
        let mut random = fastrand::Rng::with_seed(number << 32 | place);
        std::iter::repeat_with(|| random.u8(b' '..=b'~'))
            .take(1 << 12)
            .collect::<Vec<_>>()
            .repeat(256)
            .into()
    };
    let pieces = bytes / MIB;
    (0..pieces).for_each(|place| hash.update(piece(place)));
    let sent = stream::iter((0..pieces).map(move |place| Ok::<_, std::io::Error>(piece(place))));
    let part = Part::stream_with_length(Body::wrap_stream(sent), bytes).file_name("large.jsonl");
    let form = Form::new().text("purpose", "fine-tune").part("file", part);
    let request = client.request(Method::POST, "/v1/files").multipart(form);
    let file = client.json(request).await.context("an upload")?;
    ensure!(file["bytes"] == bytes, "{file}");
    ensure!(
        file["sha256"] == format!("{:x}", hash.finalize()),
        "P6: the file is not what was sent: {file}"
    );
    Ok(())
}

/// Bytes that the files of a folder take on the disk, those below it included.
fn disk(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        bytes += match path.symlink_metadata() {
            Ok(it) if it.is_dir() => disk(&path)?,
            Ok(it) => it.blocks() * 512,
            // It has just been renamed.
            Err(_) => 0,
        };
    }
    Ok(bytes)
}
