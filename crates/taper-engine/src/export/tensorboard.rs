//! A TensorBoard event file with the scalars and the sample texts of a run.
//!
//! The format is that of TFRecord (length, masked CRC-32C, data, masked CRC-32C) around protocol-buffer messages `Event`, of which
//! four fields are used: wall_time = 1 (double), step = 2 (int64), file_version = 3 (string), summary = 5. See
//! `tensorflow/core/util/event.proto`, `tensorflow/core/framework/{summary,tensor}.proto` and `tensorflow/core/lib/io/record_writer.h`.

use taper_core::Sample;

use crate::history::Logged;

/// The bytes of an event file.
pub(super) fn event_file(history: &[Logged]) -> Vec<u8> {
    let mut file = Vec::new();
    let start = history.first().map_or(0.0, |logged| logged.unix_seconds);
    let mut version = double(1, start);
    version.extend(bytes(3, b"brain.Event:2"));
    record(&mut file, &version);
    for logged in history {
        let mut event = double(1, logged.unix_seconds);
        event.extend(varint(2, logged.metrics.get("step").unwrap_or(0.0) as u64));
        let values = logged
            .metrics
            .iter()
            .filter(|(name, _)| !matches!(*name, "step" | "total_steps"));
        let scalars = values.map(|(name, value)| scalar(name, value as f32));
        let texts = logged.samples.iter().enumerate();
        let texts = texts.map(|(i, sample)| text(&format!("samples/{i}"), &markdown(sample)));
        let summary: Vec<u8> = scalars
            .chain(texts)
            .flat_map(|message| bytes(1, &message))
            .collect();
        event.extend(bytes(5, &summary));
        record(&mut file, &event);
    }
    file
}

/// A message `Summary.Value`: tag = 1, simple_value = 2.
fn scalar(tag: &str, value: f32) -> Vec<u8> {
    let mut message = bytes(1, tag.as_bytes());
    message.push(2 << 3 | 5);
    message.extend(value.to_le_bytes());
    message
}

/// A message `Summary.Value` for TensorBoard's plugin `text`: tag = 1, tensor = 8 (dtype = 1, string_val = 8), metadata = 9 (plugin_data = 1
/// with plugin_name = 1). Without a shape the tensor is a scalar.
fn text(tag: &str, text: &str) -> Vec<u8> {
    const STRING: u64 = 7;
    let mut tensor = varint(1, STRING);
    tensor.extend(bytes(2, &[]));
    tensor.extend(bytes(8, text.as_bytes()));
    let metadata = bytes(1, &bytes(1, b"text"));
    let parts = [(1, tag.as_bytes()), (8, &tensor), (9, &metadata)];
    parts
        .into_iter()
        .flat_map(|(field, content)| bytes(field, content))
        .collect()
}

/// TensorBoard shows texts as Markdown; an indented block is shown as it is.
fn markdown(sample: &Sample) -> String {
    let parts = [
        ("Prompt", &sample.prompt),
        ("Completion", &sample.completion),
        ("Reference", &sample.reference),
    ];
    let part = |(title, text): (&str, &String)| {
        format!("{title}\n\n    {}\n\n", text.replace('\n', "\n    "))
    };
    parts.into_iter().map(part).collect()
}

fn record(file: &mut Vec<u8>, data: &[u8]) {
    let length = (data.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked_crc(&length).to_le_bytes());
    file.extend(data);
    file.extend(masked_crc(data).to_le_bytes());
}

fn masked_crc(data: &[u8]) -> u32 {
    crc32c::crc32c(data)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

fn double(field: u8, value: f64) -> Vec<u8> {
    let mut out = vec![field << 3 | 1];
    out.extend(value.to_le_bytes());
    out
}

fn varint(field: u8, value: u64) -> Vec<u8> {
    let mut out = vec![field << 3];
    out.extend(base128(value));
    out
}

fn bytes(field: u8, data: &[u8]) -> Vec<u8> {
    let mut out = vec![field << 3 | 2];
    out.extend(base128(data.len() as u64));
    out.extend(data);
    out
}

fn base128(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

#[cfg(test)]
mod tests {
    use taper_core::Metrics;

    use super::*;

    #[test]
    fn a_record_is_framed_as_tensorflow_frames_it() {
        let logged = Logged {
            unix_seconds: 1.5,
            metrics: Metrics::from([("step", 300.0), ("train_loss", 0.5)]),
            samples: Vec::new(),
        };
        let file = event_file(&[logged]);
        // The first record: 9 bytes of time, 15 of version; the CRC of its length as TensorFlow's own files have it.
        assert_eq!(file[..8], 24u64.to_le_bytes());
        assert_eq!(file[8..12], [0xa3, 0x7f, 0x4b, 0x22]);
        let event = &file[12 + 24 + 4 + 12..];
        assert_eq!(event[9..12], [2 << 3, 0xac, 0x02]);
        let tag = b"train_loss";
        assert!(event.windows(tag.len()).any(|w| w == tag));
        assert!(event.windows(4).any(|w| w == 0.5f32.to_le_bytes()));
    }
}
