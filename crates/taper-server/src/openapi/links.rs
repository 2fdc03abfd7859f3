//! Links of the API's description: from an answer that tells an id to what can be done with it. Generators of tests follow them.

use utoipa::openapi::{OpenApi, RefOr, link::Link};

/// Id in the answer of an operation that makes a thing.
const MADE: &str = "$response.body#/id";
/// Id of the first element in the answer of an operation that lists things.
const FIRST: &str = "$response.body#/data/0/id";

const FILE: [&str; 3] = ["find_file", "download_file", "delete_file"];
const UPLOAD: [&str; 3] = ["add_upload_part", "complete_upload", "cancel_upload"];
const JOB: [&str; 13] = [
    "find_job",
    "list_events",
    "list_checkpoints",
    "list_artifacts",
    "find_metrics",
    "download_archive",
    "download_model",
    "cancel_job",
    "pause_job",
    "resume_job",
    "retry_job",
    "change_job",
    "delete_job",
];
const EXPERIMENT: [&str; 7] = [
    "find_experiment",
    "list_experiment_events",
    "find_table",
    "cancel_experiment",
    "pause_experiment",
    "resume_experiment",
    "delete_experiment",
];
const MODEL: [&str; 2] = ["find_model", "delete_model"];

/// Operation, where its answer has the id, and the operations that take it.
const LINKS: [(&str, &str, &[&str]); 8] = [
    ("create_file", MADE, &FILE),
    ("list_files", FIRST, &FILE),
    ("create_upload", MADE, &UPLOAD),
    ("create_job", MADE, &JOB),
    ("list_jobs", FIRST, &JOB),
    ("create_experiment", MADE, &EXPERIMENT),
    ("list_experiments", FIRST, &EXPERIMENT),
    ("list_models", FIRST, &MODEL),
];

/// Puts the links into the description.
pub(crate) fn add(api: &mut OpenApi) {
    for item in api.paths.paths.values_mut() {
        for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
            let name = operation.operation_id.as_deref();
            let found = LINKS.iter().find(|(from, ..)| Some(*from) == name);
            let answer = operation.responses.responses.get_mut("200");
            if let (Some((_, id, targets)), Some(RefOr::T(answer))) = (found, answer) {
                for target in *targets {
                    let link = Link::builder().operation_id(*target).parameter("id", *id);
                    answer
                        .links
                        .insert((*target).to_owned(), RefOr::T(link.build()));
                }
            }
        }
    }
}
