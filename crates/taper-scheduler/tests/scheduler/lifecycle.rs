use std::{
    fs,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
};

use taper_core::{
    CheckpointFiles, Event, JobState, Level, Metrics, Outcome, RunEvent, RunSink, RunSpec,
    TrainError,
};
use taper_store::{Change, CurveQuery, Scope, Transition};

use crate::bench::{Bench, Script, done, failure, plan};

fn write(run: &RunSpec, name: &str, text: &str) {
    let path = run.run_dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn good_run(run: &RunSpec, sink: &mut dyn RunSink) -> Result<Outcome, TrainError> {
    assert_eq!(rayon::current_num_threads(), 2);
    let thread = std::thread::current().name().unwrap().to_owned();
    assert!(thread.starts_with("worker-0"), "{thread}");
    for step in 1..=2 {
        let figures = [("step", step as f64), ("train_loss", 1.0 / step as f64)];
        sink.event(RunEvent::Step(Metrics::from(figures)));
        write(run, &format!("checkpoints/step-{step:08}/state"), "state");
        sink.checkpoint(CheckpointFiles {
            step,
            dir: run.checkpoint_dir(step),
            metrics: Metrics::from(figures),
            superseded: (1..step).collect(),
        })?;
    }
    write(run, "output/adapter/adapter_config.json", "{}");
    write(run, "output/metrics.csv", "step,train_loss\n");
    write(run, "output/result.csv", "step,train_loss,train_accuracy\n");
    sink.event(RunEvent::Message(Level::Info, "the last word".to_owned()));
    Ok(Outcome {
        metrics: Metrics::from([("train_seconds", 1.5)]),
        trained_tokens: 42,
    })
}

#[tokio::test]
async fn a_job_goes_from_submission_to_its_artifacts() {
    let bench = Bench::start(Script::new(|run, sink, _| good_run(run, sink))).await;
    let submitted = bench.submit().await;
    assert_eq!(submitted.state, JobState::ValidatingFiles);
    assert_eq!(submitted.spec.training.learning_rate, Some(0.125));
    let job = bench.wait(&submitted, JobState::Succeeded).await;
    assert_eq!((job.attempt, job.plan.clone()), (1, Some(plan())));
    assert_eq!(job.trained_tokens, Some(42));
    assert_eq!(job.metrics.get("train_seconds"), Some(1.5));
    assert_eq!(job.metrics.get("train_loss"), Some(0.5));
    let name = job.fine_tuned_model.clone().unwrap();
    assert_eq!(
        name,
        format!("ft:base:default:mine:{}", &job.id[job.id.len() - 8..])
    );
    let artifacts = bench.store.artifacts(&job).await.unwrap();
    let paths: Vec<_> = artifacts.iter().map(|a| a.path.as_str()).collect();
    assert_eq!(paths, ["adapter/adapter_config.json", "metrics.csv"]);
    assert_eq!(
        artifacts[0].sha256,
        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    );
    let table = bench
        .store
        .file(&Scope::All, &job.result_files[0])
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (table.filename.as_str(), table.purpose.as_str()),
        ("step_metrics.csv", "fine-tune-results")
    );
    let text = fs::read_to_string(bench.store.file_path(&table.id)).unwrap();
    assert_eq!(text, "step,train_loss,train_accuracy\n");
    let models = bench.scheduler.models(&Scope::All).await.unwrap();
    let ids: Vec<_> = models.iter().map(|m| m.id.as_str()).collect();
    assert_eq!(ids, ["base", name.as_str()]);
    assert_eq!(
        bench.scheduler.model(&Scope::All, &name).await.unwrap(),
        models[1]
    );
    assert!(bench.scheduler.model(&Scope::All, "ft:none").await.is_err());
}

#[tokio::test]
async fn a_jobs_log_tells_its_story_in_order() {
    let bench = Bench::start(Script::new(|run, sink, _| good_run(run, sink))).await;
    let job = bench.submit().await;
    bench.wait(&job, JobState::Succeeded).await;
    let events = bench.store.events_after(&job, 0, 100).await.unwrap();
    let told: Vec<_> = events.iter().map(|event| event.message.as_str()).collect();
    assert_eq!(
        told,
        [
            format!("Created fine-tuning job: {}", job.id).as_str(),
            &plan().to_string(),
            "Files validated, moving job to queued state",
            "Fine-tuning job started",
            "Step 1/0: training loss=1.0000",
            "Checkpoint created at step 1",
            "Step 2/0: training loss=0.5000",
            "Checkpoint created at step 2",
            "the last word",
            &events[9].message,
            "The job has successfully completed",
        ]
    );
    assert!(
        events[9]
            .message
            .starts_with("New fine-tuned model created: ft:base")
    );
    let states: Vec<_> = events.iter().filter_map(Event::state).collect();
    assert_eq!(
        states,
        [
            JobState::ValidatingFiles,
            JobState::Queued,
            JobState::Running,
            JobState::Succeeded
        ]
    );
    let curves = bench
        .store
        .curves(&job, &CurveQuery::default())
        .await
        .unwrap();
    assert_eq!(curves["train_loss"], [(1, Some(1.0)), (2, Some(0.5))]);
    let checkpoints = bench.store.checkpoints(&job, None, 10).await.unwrap();
    assert_eq!(
        checkpoints.data.iter().map(|c| c.step).collect::<Vec<_>>(),
        [2]
    );
    assert_eq!(bench.left_behind(&job), ["checkpoints", "output"]);
}

#[tokio::test]
async fn a_failed_run_tells_why_and_leaves_nothing_half_done() {
    let script = Script::new(|run, _, _| {
        write(run, "output.tmp/model", "half");
        write(run, "checkpoints/step-00000001.tmp/state", "half");
        Err(failure("non_finite"))
    });
    let bench = Bench::start(script).await;
    let job = bench.submit().await;
    let job = bench.wait(&job, JobState::Failed).await;
    let error = job.error.clone().unwrap();
    assert_eq!((error.code.as_str(), error.step), ("non_finite", Some(7)));
    assert_eq!(error.param.as_deref(), Some("training_file"));
    assert_eq!(bench.left_behind(&job), ["checkpoints"]);
    let checkpoints = bench.store.run_dir(&job.id).join("checkpoints");
    assert_eq!(fs::read_dir(checkpoints).unwrap().count(), 0);
}

#[tokio::test]
async fn a_panic_ends_one_job_and_the_worker_goes_on() {
    let runs = AtomicUsize::new(0);
    let script = Script::new(move |run, _, _| {
        assert!(
            runs.fetch_add(1, Ordering::Relaxed) > 0,
            "index 3 out of bounds"
        );
        write(run, "output/metrics.csv", "step\n");
        done()
    });
    let bench = Bench::start(script).await;
    let broken = bench.submit().await;
    let good = bench.submit().await;
    let error = bench.wait(&broken, JobState::Failed).await.error.unwrap();
    assert_eq!(error.code, "panic");
    assert!(
        error.message.contains("index 3 out of bounds"),
        "{}",
        error.message
    );
    bench.wait(&good, JobState::Succeeded).await;
}

#[tokio::test]
async fn what_the_check_finds_fails_the_job_before_it_is_queued() {
    let runs = AtomicUsize::new(0);
    let script = Script::new(|_, _, _| panic!("must not train")).checking(move |_, _| {
        match runs.fetch_add(1, Ordering::Relaxed) {
            0 => Err(failure("invalid_training_file")),
            _ => panic!("no such token"),
        }
    });
    let bench = Bench::start(script).await;
    let job = bench.submit().await;
    let job = bench.wait(&job, JobState::Failed).await;
    assert_eq!(
        (job.error.unwrap().code.as_str(), job.attempt),
        ("invalid_training_file", 0)
    );
    let job = bench.submit().await;
    let job = bench.wait(&job, JobState::Failed).await;
    assert_eq!(job.error.unwrap().code, "panic");
}

#[tokio::test]
async fn a_run_that_has_lost_its_job_is_stopped_and_changes_nothing() {
    let met = Arc::new(Barrier::new(2));
    let script = {
        let met = met.clone();
        Script::new(move |run, sink, _| {
            if run.attempt > 1 {
                return Err(failure("second"));
            }
            met.wait();
            met.wait();
            write(run, "checkpoints/step-00000001/state", "state");
            sink.checkpoint(CheckpointFiles {
                step: 1,
                dir: run.checkpoint_dir(1),
                metrics: Metrics::new(),
                superseded: vec![],
            })?;
            panic!("a stale checkpoint was published");
        })
    };
    let bench = Bench::with_workers(script, 2).await;
    let job = bench.submit().await;
    tokio::task::spawn_blocking({
        let met = met.clone();
        move || met.wait()
    })
    .await
    .unwrap();
    let lost = Transition {
        job: job.id.clone(),
        from: &[JobState::Running],
        attempt: Some(1),
        to: JobState::Failed,
        level: Level::Error,
        message: "taken away".to_owned(),
        change: Change::default(),
    };
    bench.store.transition(lost).await.unwrap().unwrap();
    let seq = bench.store.last_event_seq(&job).await.unwrap();
    tokio::task::spawn_blocking(move || met.wait())
        .await
        .unwrap();
    bench.scheduler.shutdown().await;
    let after = bench
        .store
        .job(&Scope::All, &job.id)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((after.state, after.error), (JobState::Failed, None));
    assert_eq!(bench.store.last_event_seq(&job).await.unwrap(), seq);
    let kept = bench.store.checkpoints(&job, None, 1).await.unwrap();
    assert!(kept.data.is_empty());
}

#[tokio::test]
async fn each_worker_runs_a_job_of_its_own_at_the_same_time() {
    let both = Barrier::new(2);
    let script = Script::new(move |run, _, _| {
        both.wait();
        write(run, "output/metrics.csv", "step\n");
        done()
    });
    let bench = Bench::with_workers(script, 2).await;
    let jobs = [bench.submit().await, bench.submit().await];
    for job in &jobs {
        bench.wait(job, JobState::Succeeded).await;
    }
}

#[tokio::test]
async fn a_run_that_tells_more_than_it_waits_for_loses_nothing() {
    const STEPS: i64 = 25_000;
    let script = Script::new(|run, sink, _| {
        write(run, "output/metrics.csv", "step\n");
        for step in 1..=STEPS {
            sink.event(RunEvent::Message(Level::Info, step.to_string()));
        }
        done()
    });
    let bench = Bench::start(script).await;
    let submitted = bench.submit().await;
    let job = bench.wait(&submitted, JobState::Succeeded).await;
    let events = bench.store.events_after(&job, 0, 100_000).await.unwrap();
    let told = events.iter().filter_map(|event| event.message.parse().ok());
    assert_eq!(
        told.collect::<Vec<i64>>(),
        (1..=STEPS).collect::<Vec<i64>>()
    );
}
