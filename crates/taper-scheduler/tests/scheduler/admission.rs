use std::sync::{Arc, Mutex};

use taper_core::{Disk, ErrorCode, Full, JobState, Memory, Method, Plan, Project, RunSpec};
use taper_scheduler::{Patience, SchedulerError};
use taper_store::{JobFilter, Limits, NewFile, Scope};

use crate::bench::{Bench, Script, done, plan, spec, until_stopped};

/// What a row takes in these tests.
const ROW: u64 = 100;

/// Memory by the size of a batch: one that can be admitted with another batch, and with LoRA takes a quarter.
fn by_batch(run: &RunSpec) -> Memory {
    let training = &run.spec.training;
    let rows = training.per_device_train_batch_size;
    let tenths = training.max_length.unwrap_or(512) / 64;
    let lora = matches!(run.spec.tuning.method, Method::Lora(_));
    Memory {
        weights: 10,
        activations: rows * tenths * ROW / if lora { 4 } else { 1 },
        ..Memory::default()
    }
}

#[tokio::test]
async fn what_cannot_fit_is_refused_with_three_ways() {
    let script = Script::new(|_, _, _| done()).taking(by_batch);
    let bench = Bench::within(script, 1, 3500).await;
    let mut job = spec(&bench.store).await;
    job.tuning.method = Method::Full(Full {});
    job.training.max_length = Some(512);
    for dry in [false, true] {
        let refused = if dry {
            bench
                .scheduler
                .plan(&Project::default(), job.clone())
                .await
                .map(drop)
        } else {
            bench.scheduler.submit(job.clone()).await.map(drop)
        };
        let Err(SchedulerError::Spec(error)) = refused else {
            panic!("it was admitted")
        };
        assert_eq!(error.first().code, ErrorCode::InsufficientMemory);
        let message = error.to_string();
        for part in [
            "needs 13 KiB (weights 10 B",
            "at its peak, but jobs may take 3 KiB",
            "it needs 3 KiB with training.per_device_train_batch_size 4 and gradient_accumulation_steps 4",
            "it needs 3 KiB with training.max_length 128",
            "it needs 3 KiB with tuning.type lora",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }
}

#[tokio::test]
async fn rows_without_a_length_of_their_own_are_cut_to_what_memory_takes() {
    let script = Script::new(|_, _, _| done()).taking(by_batch);
    let bench = Bench::within(script, 1, 3500).await;
    let mut job = spec(&bench.store).await;
    job.tuning.method = Method::Full(Full {});
    job.training.max_length = None;
    let id = bench.scheduler.submit(job).await.unwrap().id;
    let job = bench.store.job(&Scope::All, &id).await.unwrap().unwrap();
    assert_eq!(job.spec.training.max_length, Some(128));
}

#[tokio::test]
async fn a_way_that_does_not_help_is_not_promised() {
    let script = Script::new(|_, _, _| done()).taking(|_| Memory {
        weights: 1 << 20,
        ..Memory::default()
    });
    let bench = Bench::within(script, 1, 1000).await;
    let Err(error) = bench.scheduler.submit(spec(&bench.store).await).await else {
        panic!("it was admitted")
    };
    let message = error.to_string();
    assert!(message.contains("still too much"), "{message}");
    assert!(message.contains("choose a smaller model"), "{message}");
}

#[tokio::test]
async fn a_job_that_fits_later_waits_and_says_so() {
    let running = Arc::new(Mutex::new((0, 0)));
    let counted = running.clone();
    let script = Script::new(move |run, _, control| {
        let change = |by: i32| {
            let mut running = counted.lock().unwrap();
            running.0 += by;
            running.1 = running.1.max(running.0);
        };
        change(1);
        let result = match run.spec.metadata.get("long") {
            Some(_) => until_stopped(control),
            None => done(),
        };
        change(-1);
        result
    })
    .taking(|_| Memory {
        weights: 600,
        ..Memory::default()
    });
    let bench = Bench::within(script, 2, 1000).await;
    let mut long = spec(&bench.store).await;
    long.metadata.insert("long".to_owned(), String::new());
    let first = bench.scheduler.submit(long).await.unwrap();
    bench.wait(&first, JobState::Running).await;
    let second = bench.submit().await;
    bench.wait(&second, JobState::Queued).await;
    bench
        .wait_for_event(
            &second,
            "Waiting for memory: the job needs 600 B, the running ones leave 400 B",
        )
        .await;
    bench
        .scheduler
        .cancel(&Scope::All, &first.id)
        .await
        .unwrap();
    bench.wait(&second, JobState::Succeeded).await;
    assert_eq!(*running.lock().unwrap(), (0, 1));
}

#[tokio::test]
async fn a_plan_leaves_nothing_behind() {
    let script = Script::new(|_, _, _| done()).taking(by_batch);
    let bench = Bench::start(script).await;
    let plan = bench
        .scheduler
        .plan(&Project::default(), spec(&bench.store).await)
        .await
        .unwrap();
    assert_eq!((plan.total_steps, plan.memory.weights), (2, 10));
    let all = JobFilter {
        limit: 10,
        ..JobFilter::default()
    };
    assert!(
        bench
            .store
            .jobs(&Scope::All, &all)
            .await
            .unwrap()
            .data
            .is_empty()
    );
}

#[tokio::test]
async fn a_job_whose_own_checkpoints_pass_the_quota_is_refused_with_a_way() {
    const MIB: u64 = 1 << 20;
    let script = Script::new(|_, _, _| done()).checking(|run, _| {
        let limit = run.spec.training.save_total_limit;
        let disk = Disk {
            checkpoint: 5 * MIB,
            checkpoints: 5 * MIB * (limit + 1),
            artifacts: MIB,
        };
        Ok(Plan { disk, ..plan() })
    });
    let limits = Limits {
        min_free_bytes: 0,
        max_bytes: Some(17 * MIB),
    };
    let bench = Bench::guarded(script, Patience::default(), limits).await;
    let mut job = spec(&bench.store).await;
    job.training.save_total_limit = 4;
    let planned = bench.scheduler.plan(&Project::default(), job.clone()).await;
    let Err(SchedulerError::Spec(refused)) = planned else {
        panic!("{planned:?}")
    };
    assert_eq!(refused.first().code, ErrorCode::InsufficientDisk);
    let submitted = bench.scheduler.submit(job.clone()).await.unwrap();
    let failed = bench.wait(&submitted, JobState::Failed).await;
    let error = failed.error.unwrap();
    assert_eq!(error.code, ErrorCode::InsufficientDisk);
    let way = "it fits with training.save_total_limit 2";
    assert!(error.message.ends_with(way), "{}", error.message);
    job.training.save_total_limit = 2;
    let submitted = bench.scheduler.submit(job).await.unwrap();
    bench.wait(&submitted, JobState::Succeeded).await;
}

#[tokio::test]
async fn a_job_s_own_files_count_against_the_quota_once() {
    const MIB: u64 = 1 << 20;
    let script = Script::new(|_, _, _| done()).checking(|_, _| {
        let disk = Disk {
            checkpoint: 5 * MIB,
            checkpoints: 5 * MIB,
            artifacts: MIB,
        };
        Ok(Plan { disk, ..plan() })
    });
    let limits = Limits {
        min_free_bytes: 0,
        max_bytes: Some(16 * MIB),
    };
    let bench = Bench::guarded(script, Patience::default(), limits).await;
    let upload = async |bytes: u64| {
        let mut upload = bench.store.begin_upload().await.unwrap();
        upload.write(&vec![b'\n'; bytes as usize]).await.unwrap();
        let file = upload.finish(NewFile::new("rows.jsonl", "fine-tune"));
        file.await.unwrap().id
    };
    let mut job = spec(&bench.store).await;
    job.training_file = upload(6 * MIB).await;
    job.validation_file = Some(job.training_file.clone());
    bench
        .scheduler
        .plan(&Project::default(), job.clone())
        .await
        .unwrap();
    job.validation_file = Some(upload(5 * MIB).await);
    let planned = bench.scheduler.plan(&Project::default(), job).await;
    let Err(SchedulerError::Spec(refused)) = planned else {
        panic!("{planned:?}")
    };
    let message = refused.to_string();
    assert!(message.contains("its files 11 MiB"), "{message}");
}
