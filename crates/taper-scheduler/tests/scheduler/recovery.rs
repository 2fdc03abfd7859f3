//! What a server finds that starts anew, with an executor whose runs outlive it.

use std::{
    collections::HashMap,
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt};
use taper_core::{Device, JobState, RequestedAction};
use taper_scheduler::{
    Scheduler,
    executors::{AttemptId, Away, Executor, Place, Refused, Reports, Ticket},
};
use taper_store::Scope;

use crate::{
    bench::{Bench, Script, config, done},
    restart::left_running,
};

/// Runs that go on whatever becomes of the server, until a test ends them.
#[derive(Default)]
struct Remote {
    runs: Mutex<HashMap<AttemptId, Option<Reports>>>,
    cancelled: Mutex<Vec<AttemptId>>,
}

impl Remote {
    /// Waits until the scheduler listens to an attempt.
    async fn attached(&self, attempt: &AttemptId) -> Reports {
        let attached = async {
            loop {
                let reports = self.runs.lock().unwrap().get_mut(attempt).unwrap().take();
                if let Some(reports) = reports {
                    return reports;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(20), attached);
        waited.await.unwrap()
    }
}

const PLACE: Place = Place {
    device: Device::Cpu,
    threads: 1,
};

impl Executor for Remote {
    fn places(&self) -> &[Place] {
        &[PLACE]
    }

    fn submit(&self, ticket: Ticket, reports: Reports) -> BoxFuture<'_, Result<(), Refused>> {
        let mut runs = self.runs.lock().unwrap();
        runs.insert(ticket.attempt(), Some(reports));
        async { Ok(()) }.boxed()
    }

    fn survey(&self) -> BoxFuture<'_, Result<Vec<AttemptId>, Away>> {
        async { Ok(self.runs.lock().unwrap().keys().cloned().collect()) }.boxed()
    }

    fn request<'a>(
        &'a self,
        attempt: &'a AttemptId,
        action: Option<RequestedAction>,
    ) -> BoxFuture<'a, ()> {
        if action == Some(RequestedAction::Cancel) {
            self.cancelled.lock().unwrap().push(attempt.clone());
        }
        async {}.boxed()
    }

    fn abandon<'a>(&'a self, _: &'a AttemptId) -> BoxFuture<'a, Result<(), Refused>> {
        async { Ok(()) }.boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {}.boxed()
    }
}

#[tokio::test]
async fn an_attempt_that_still_runs_is_waited_for_and_one_that_nobody_wants_is_cancelled() {
    let never = || Script::new(|_, _, _| panic!("must not train here"));
    let bench = Bench::start(never()).await;
    bench.scheduler.shutdown().await;
    let job = left_running(&bench.store).await;
    let (attempt, unwanted) = (
        AttemptId::of(&job),
        AttemptId {
            attempt: 7,
            ..AttemptId::of(&job)
        },
    );
    let remote = Arc::new(Remote::default());
    for seen in [&attempt, &unwanted] {
        remote.runs.lock().unwrap().insert(seen.clone(), None);
    }

    let (store, script) = (bench.store.clone(), Arc::new(never()));
    let started = Scheduler::start(store, script, remote.clone(), config(bench.dir.path()));
    let bench = Bench {
        scheduler: started.await.unwrap(),
        ..bench
    };
    assert_eq!(*remote.cancelled.lock().unwrap(), [unwanted]);
    let reports = remote.attached(&attempt).await;
    let still = bench
        .store
        .job(&Scope::All, &job.id)
        .await
        .unwrap()
        .unwrap();
    let stands = (still.state, still.attempt, still.crashes);
    assert_eq!(stands, (JobState::Running, 1, 0));
    fs::create_dir_all(bench.store.run_dir(&job.id).join("output")).unwrap();
    reports.ended(done());
    assert_eq!(bench.wait(&job, JobState::Succeeded).await.attempt, 1);
}

#[tokio::test]
async fn an_attempt_that_cannot_be_followed_any_more_is_cancelled_before_another_begins() {
    let never = || Script::new(|_, _, _| panic!("must not train here"));
    let bench = Bench::start(never()).await;
    bench.scheduler.shutdown().await;
    let job = left_running(&bench.store).await;
    let attempt = AttemptId::of(&job);
    let remote = Arc::new(Remote::default());
    remote.runs.lock().unwrap().insert(attempt.clone(), None);
    fs::remove_dir_all(bench.dir.path().join("models/base")).unwrap();

    let (store, script) = (bench.store.clone(), Arc::new(never()));
    let started = Scheduler::start(store, script, remote.clone(), config(bench.dir.path()));
    let bench = Bench {
        scheduler: started.await.unwrap(),
        ..bench
    };
    bench.wait(&job, JobState::Failed).await;
    assert_eq!(*remote.cancelled.lock().unwrap(), [attempt]);
}
