use taper_core::code;
use taper_runner::RunnerError;
use taper_store::JobFilter;

use crate::bench::{Bench, Script, done, spec};

#[tokio::test]
async fn what_does_not_exist_is_named_by_its_field() {
    let bench = Bench::start(Script::new(|_, _, _| done())).await;
    let mut upload = bench.store.begin_upload().await.unwrap();
    upload.write(b"x").await.unwrap();
    let batch = upload
        .finish(taper_store::NewFile::new("b.jsonl", "batch"))
        .await
        .unwrap();
    let mut wrong = spec(&bench.store).await;
    wrong.model = "../base".to_owned();
    wrong.training_file = "file-none".to_owned();
    wrong.validation_file = Some(batch.id);
    let Err(RunnerError::Spec(error)) = bench.runner.submit(wrong).await else {
        panic!("accepted");
    };
    let found: Vec<_> = error
        .findings()
        .iter()
        .map(|finding| (finding.param.as_str(), finding.code.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("model", code::MODEL_NOT_FOUND),
            ("training_file", code::FILE_NOT_FOUND),
            ("validation_file", code::INVALID_VALUE),
        ]
    );
    let filter = JobFilter {
        limit: 1,
        ..JobFilter::default()
    };
    assert!(bench.store.jobs(&filter).await.unwrap().data.is_empty());
}
