//! What clients send, as the fuzzer (`fuzz/`) hands it over: each function reads bytes and may refuse them, but never panic. The
//! fuzzer's corpora are replayed as tests.

use axum::{
    body::Body,
    extract::{FromRequestParts, Request},
    http::HeaderValue,
};
use futures_util::FutureExt;
use taper_core::{ExperimentRequest, JobChange, JobSpec, Project};

use crate::{
    routes::{
        curves::MetricsQuery,
        files::FileQuery,
        jobs::{JobQuery, Submission},
        streams::{LAST_EVENT_ID, Resume, StreamQuery},
    },
    wire::{
        CompleteUpload, CreateUpload, FineTuningEvent,
        byte_range::{self, ByteRange},
        json,
        paging::Paged,
        query::{FromPairs, Query},
    },
};

/// Reads a body of JSON as each of the routes that take one. A specification must survive being written down.
pub fn spec(bytes: &[u8]) {
    let Ok(body) = json::parse(bytes) else {
        return;
    };
    let _ = (
        CreateUpload::read(&body, Project::default()),
        CompleteUpload::read(&body),
    );
    let _ = (JobChange::parse(&body), ExperimentRequest::parse(&body));
    let Ok(spec) = JobSpec::parse(&body) else {
        return;
    };
    let (per_epoch, total) = spec.training.steps(1000);
    assert!(per_epoch > 0 && total > 0 && spec.training.warmup(total) < u64::MAX);
    assert!(
        spec.tuned_model_name(&Project::default(), "ftjob-00000000")
            .ends_with(":00000000")
    );
    let written = serde_json::to_string(&spec).expect("a specification has string keys");
    let read: JobSpec = serde_json::from_str(&written).expect("what was written can be read");
    assert_eq!(read, spec);
}

/// Reads a text as every kind of place in a list, a stream or a file.
pub fn cursor(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(FineTuningEvent::row_of(text).is_none_or(|row| row >= 0));
        queries(text);
        for length in [0, 1, 1000, u64::MAX] {
            if let ByteRange::Part(part) = byte_range::parse(Some(text), length) {
                assert!(part.start < part.end && part.end <= length);
            }
        }
    }
    if let Ok(value) = HeaderValue::from_bytes(bytes) {
        let headers = [(LAST_EVENT_ID, value)].into_iter().collect();
        if let Ok(Resume::After(seen)) = Resume::read(&headers, 100) {
            assert!((0..=100).contains(&seen));
        }
    }
}

fn queries(text: &str) {
    let Ok(request) = Request::get(format!("/?{text}")).body(Body::empty()) else {
        return;
    };
    let mut parts = request.into_parts().0;
    read::<Paged<20, JobQuery>>(&mut parts);
    read::<Submission>(&mut parts);
    read::<Paged<10_000, FileQuery>>(&mut parts);
    read::<Paged<20>>(&mut parts);
    read::<MetricsQuery>(&mut parts);
    read::<StreamQuery>(&mut parts);
}

fn read<T: FromPairs + Send>(parts: &mut axum::http::request::Parts) {
    let read = Query::<T>::from_request_parts(parts, &()).now_or_never();
    assert!(read.is_some(), "a query is read at once");
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    fn replay(target: &str, read: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        let entries: Vec<_> = fs::read_dir(folder.join(target)).unwrap().collect();
        assert!(entries.len() >= 10, "{target} has hardly a corpus");
        for entry in entries {
            read(&fs::read(entry.unwrap().path()).unwrap());
        }
    }

    #[test]
    fn corpora_of_the_fuzzer() {
        replay("spec_json", super::spec);
        replay("cursor", super::cursor);
    }
}
