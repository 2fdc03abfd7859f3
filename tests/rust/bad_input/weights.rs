//! B54, B60, B61: files of weights, as whoever made a model may have left them.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Fixture, models::copy};
use crate::{model::write_tiny_bert, server::MODEL};

/// A header and what follows it.
fn file(header: &str, data: &[u8]) -> Vec<u8> {
    [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        data,
    ]
    .concat()
}

fn length_only(length: u64) -> Vec<u8> {
    [&length.to_le_bytes()[..], b"{}"].concat()
}

fn entry(dtype: &str, shape: &str, offsets: &str) -> String {
    format!("{{\"x\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}")
}

/// What is wrong, and the file.
#[expect(clippy::too_many_lines, reason = "a table")]
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let two = |a: &str, b: &str| {
        format!(
            "{{\"a\":{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":{a}}},\"b\":{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":{b}}}}}"
        )
    };
    let many: String = (0..100_000)
        .map(|i| format!("\"t{i}\":{{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}},"))
        .collect();
    let many = format!("{{{}}}", many.trim_end_matches(','));
    let rank = format!("[{}]", vec!["1"; 1000].join(","));
    let large = format!(
        "{{\"__metadata__\":{{\"x\":\"{}\"}}}}",
        "y".repeat(50 << 20)
    );
    let same = "{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}";
    vec![
        ("nothing", Vec::new()),
        ("one byte", vec![1]),
        ("seven bytes", vec![1; 7]),
        ("a header of 0 bytes", length_only(0)),
        ("a header of 2^63 bytes", length_only(1 << 63)),
        ("a header of 2^64 - 1 bytes", length_only(u64::MAX)),
        ("a header longer than the file", length_only(1000)),
        ("a header of 100 MB", length_only(100_000_000)),
        (
            "a header that is no UTF-8",
            [&2u64.to_le_bytes()[..], &[b'{', 0xff]].concat(),
        ),
        ("a header that is no object", file("[]", &[])),
        ("a header that is no JSON", file("x", &[])),
        (
            "100,000 tensors, none of them the model's",
            file(&many, &[]),
        ),
        ("a name twice", file(same, &[0; 8])),
        (
            "tensors that overlap",
            file(&two("[0,4]", "[2,6]"), &[0; 6]),
        ),
        ("a hole", file(&two("[0,4]", "[8,12]"), &[0; 12])),
        (
            "data beyond the file",
            file(&entry("F32", "[4]", "[0,16]"), &[0; 8]),
        ),
        (
            "data beyond every file",
            file(
                &entry("F32", "[1]", "[18446744073709551612,18446744073709551615]"),
                &[0; 4],
            ),
        ),
        (
            "a shape that overflows",
            file(
                &entry("F32", "[4294967296,4294967296,4294967296]", "[0,4]"),
                &[0; 4],
            ),
        ),
        (
            "a shape that wraps to 0",
            file(&entry("F32", "[1099511627776,1099511627776]", "[0,0]"), &[]),
        ),
        (
            "an unknown format",
            file(&entry("X9", "[1]", "[0,4]"), &[0; 4]),
        ),
        (
            "an end before the start",
            file(&entry("F32", "[1]", "[4,0]"), &[0; 4]),
        ),
        (
            "a negative size",
            file(&entry("F32", "[-1]", "[0,4]"), &[0; 4]),
        ),
        ("no elements", file(&entry("F32", "[0]", "[0,0]"), &[])),
        (
            "a thousand dimensions",
            file(&entry("F32", &rank, "[0,4]"), &[0; 4]),
        ),
        (
            "bytes after the last tensor",
            file(&entry("F32", "[1]", "[0,4]"), &[0; 9]),
        ),
        ("50 MB of metadata", file(&large, &[])),
        ("a pickle", b"\x80\x02}q\x00.".to_vec()),
        ("a zip file", b"PK\x03\x04\x14\x00\x00\x00".to_vec()),
    ]
}

#[tokio::test]
async fn weights_that_are_none() -> Result<()> {
    let fixture = Fixture::start().await?;
    let folder = fixture.folders.models().join("acme/broken");
    write_tiny_bert(&folder)?;
    for (what, bytes) in files() {
        fs::write(folder.join("model.safetensors"), bytes)?;
        let body = fixture.body(json!({"model": "acme/broken"}));
        let wanted = (400, Some("model"), "");
        fixture.refuse_job(body, wanted).await.context(what)?;
    }
    Ok(())
}

/// B60: other files of weights are not looked at.
#[tokio::test]
async fn pickles() -> Result<()> {
    let fixture = Fixture::start().await?;
    let folder = fixture.folders.models().join("acme/pickled");
    write_tiny_bert(&folder)?;
    fs::remove_file(folder.join("model.safetensors"))?;
    for name in [
        "pytorch_model.bin",
        "model.pth",
        "model.gguf",
        "tf_model.h5",
    ] {
        fs::write(folder.join(name), b"\x80\x02}q\x00.")?;
        let body = fixture.body(json!({"model": "acme/pickled"}));
        fixture
            .refuse_job(body, (400, Some("model"), "model.safetensors"))
            .await?;
        fs::remove_file(folder.join(name))?;
    }
    Ok(())
}

/// B61.
#[tokio::test]
async fn shards_that_do_not_fit() -> Result<()> {
    let fixture = Fixture::start().await?;
    let whole = fixture.folders.models().join(MODEL);
    let folder = fixture.folders.models().join("acme/sharded");
    copy(&whole, &folder)?;
    fs::rename(
        folder.join("model.safetensors"),
        folder.join("one.safetensors"),
    )?;
    fs::copy(
        folder.join("one.safetensors"),
        folder.join("two.safetensors"),
    )?;
    let index = |map: Value| json!({"metadata": {}, "weight_map": map}).to_string();
    for (text, message) in [
        (
            index(json!({"a": "../tiny-bert/model.safetensors"})),
            "is not the name of a file in the model folder",
        ),
        (
            index(json!({"a": "/etc/passwd"})),
            "is not the name of a file in the model folder",
        ),
        (
            index(json!({"a": ".."})),
            "is not the name of a file in the model folder",
        ),
        (
            index(json!({"a": ""})),
            "is not the name of a file in the model folder",
        ),
        (
            index(json!({"a": "three.safetensors"})),
            "three.safetensors",
        ),
        (
            index(json!({"a": "one.safetensors", "b": "two.safetensors"})),
            "is in two of the weight files",
        ),
        (index(json!({})), "model"),
        (index(json!({"a": 1})), "model.safetensors.index.json"),
        ("{".to_owned(), "model.safetensors.index.json"),
    ] {
        write(&folder, &text)?;
        let body = fixture.body(json!({"model": "acme/sharded"}));
        let wanted = (400, Some("model"), message);
        fixture.refuse_job(body, wanted).await.context(text)?;
    }
    write(&folder, &index(json!({"a": "one.safetensors"})))?;
    let body = fixture.body(json!({"model": "acme/sharded"}));
    let (status, job) = fixture.client().create(&body).await?;
    assert_eq!(status.as_u16(), 200, "{job}");
    Ok(())
}

fn write(folder: &Path, index: &str) -> Result<()> {
    Ok(fs::write(
        folder.join("model.safetensors.index.json"),
        index,
    )?)
}
