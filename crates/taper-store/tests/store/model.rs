//! The store against a model of itself: random commands, after each of which both must say the same of every job.

use fastrand::Rng;
use taper_core::{Action, CheckpointFiles, JobState, Level, NewEvent, RequestedAction};
use taper_store::{FileRecord, Job, Scope, Store};

use crate::{checkpoint, spec, store, upload};

const SEEDS: u64 = 10;
const COMMANDS: usize = 120;
/// Deaths of the server after which a job is no longer tried.
const MOST_CRASHES: u32 = 3;

/// What must be known of a job.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    id: String,
    state: JobState,
    attempt: u32,
    crashes: u32,
    priority: i32,
    requested: Option<RequestedAction>,
    /// Steps of its checkpoints.
    steps: Vec<u64>,
    events: i64,
}

impl Known {
    fn enter(&mut self, next: JobState) {
        let next = self
            .requested
            .take()
            .and_then(|action| action.redirect(next))
            .unwrap_or(next);
        if self.state.is_terminal() {
            self.crashes = 0;
        }
        self.attempt += u32::from(next == JobState::Running);
        self.state = next;
        self.events += 1;
    }

    fn runs_under(&self, attempt: u32) -> bool {
        self.state == JobState::Running && self.attempt == attempt
    }
}

struct Pair {
    store: Store,
    file: FileRecord,
    random: Rng,
    /// In the order of their creation.
    jobs: Vec<Known>,
}

impl Pair {
    async fn command(&mut self) {
        let command = self.random.u8(0..20);
        if self.jobs.is_empty() || command == 0 {
            return self.create().await;
        }
        let at = self.random.usize(0..self.jobs.len());
        match command {
            1..=6 => self.transition(at).await,
            7..=9 => self.claim().await,
            10 | 11 => self.request(at).await,
            12 => self.prioritize(at).await,
            13..=15 => self.publish(at).await,
            16 => self.append(at).await,
            17 => self.recover().await,
            _ => self.delete(at).await,
        }
    }

    async fn create(&mut self) {
        let job = self.store.create_job(spec(&self.file)).await.unwrap();
        self.jobs.push(Known {
            id: job.id,
            state: JobState::ValidatingFiles,
            attempt: 0,
            crashes: 0,
            priority: 0,
            requested: None,
            steps: Vec::new(),
            events: 1,
        });
    }

    async fn job(&self, at: usize) -> Job {
        let found = self.store.job(&Scope::All, &self.jobs[at].id).await;
        found.unwrap().unwrap()
    }

    /// An attempt that is the job's own, or that of somebody who comes late.
    fn attempt(&mut self, at: usize) -> u32 {
        self.jobs[at].attempt.saturating_sub(self.random.u32(0..2))
    }

    async fn transition(&mut self, at: usize) {
        let attempt = self.attempt(at);
        let from = self.random.choice(JobState::ALL).unwrap();
        let next = JobState::ALL
            .into_iter()
            .filter(|next| from.can_become(*next));
        let Some(next) = self.random.choice(next.collect::<Vec<_>>()) else {
            return;
        };
        let job = taper_store::Transition {
            job: self.jobs[at].id.clone(),
            from: Vec::leak(vec![from]),
            attempt: Some(attempt),
            to: next,
            level: Level::Info,
            message: format!("now {next}"),
            change: taper_store::Change::default(),
        };
        let happened = self.store.transition(job).await.unwrap().is_some();
        let known = &mut self.jobs[at];
        assert_eq!(happened, known.state == from && known.attempt == attempt);
        if happened {
            known.enter(next);
        }
    }

    async fn claim(&mut self) {
        let queued = self
            .jobs
            .iter_mut()
            .filter(|job| job.state == JobState::Queued);
        // Of equals the first, which is the oldest.
        let next = queued.reduce(|best, job| {
            if job.priority > best.priority {
                job
            } else {
                best
            }
        });
        let claimed = self.store.claim().await.unwrap().map(|job| job.id);
        assert_eq!(claimed, next.as_ref().map(|job| job.id.clone()));
        if let Some(job) = next {
            job.enter(JobState::Running);
        }
    }

    async fn request(&mut self, at: usize) {
        let action = self
            .random
            .choice([RequestedAction::Pause, RequestedAction::Cancel])
            .unwrap();
        let job = self.job(at).await;
        let kept = self.store.request(&job, action).await.unwrap().is_some();
        let known = &mut self.jobs[at];
        let held = matches!(known.state, JobState::ValidatingFiles | JobState::Running);
        assert_eq!(kept, held);
        if kept && known.requested != Some(RequestedAction::Cancel) {
            known.requested = Some(action);
        }
    }

    async fn prioritize(&mut self, at: usize) {
        let priority = self.random.i32(-1..=1);
        let job = self.job(at).await;
        let changed = self.store.prioritize(&job, priority).await.unwrap();
        let known = &mut self.jobs[at];
        assert_eq!(changed.is_some(), !known.state.is_terminal());
        if changed.is_some() && known.priority != priority {
            known.priority = priority;
            known.events += 1;
        }
    }

    async fn publish(&mut self, at: usize) {
        let attempt = self.attempt(at);
        let known = &mut self.jobs[at];
        let step = known.steps.last().copied().unwrap_or(0) + 1;
        let files = CheckpointFiles {
            superseded: known
                .steps
                .iter()
                .copied()
                .take_while(|s| s + 1 < step)
                .collect(),
            ..checkpoint(&self.store, &known.id, step)
        };
        let published = self.store.publish_checkpoint(&known.id, attempt, files);
        let published = published.await.is_ok();
        assert_eq!(published, known.runs_under(attempt));
        if published {
            known.steps.retain(|s| s + 1 >= step);
            known.steps.push(step);
            known.crashes = 0;
            known.events += 1;
        }
    }

    async fn append(&mut self, at: usize) {
        let attempt = self.attempt(at);
        let known = &mut self.jobs[at];
        let event = NewEvent::message(Level::Info, "a word");
        let told = self.store.append(&known.id, attempt, vec![event]).await;
        assert_eq!(told.is_ok(), known.runs_under(attempt));
        known.events += i64::from(told.is_ok());
    }

    async fn recover(&mut self) {
        self.store.recover().await.unwrap();
        let running = self
            .jobs
            .iter_mut()
            .filter(|job| job.state == JobState::Running);
        for job in running {
            job.crashes += 1;
            job.enter(match job.crashes {
                ..MOST_CRASHES => JobState::Queued,
                _ => JobState::Failed,
            });
        }
    }

    async fn delete(&mut self, at: usize) {
        let job = self.job(at).await;
        let known = &self.jobs[at];
        let deleted = self.store.delete_job(&job).await.unwrap();
        assert_eq!(deleted, Action::Delete.from().contains(&known.state));
        if deleted {
            assert!(!self.store.run_dir(&known.id).exists());
            self.jobs.remove(at);
        }
    }

    async fn compare(&self) {
        let filter = taper_store::JobFilter {
            limit: 1000,
            ..Default::default()
        };
        let page = self.store.jobs(&Scope::All, &filter).await.unwrap();
        let mut found = Vec::new();
        for job in page.data.into_iter().rev() {
            let kept = self.store.checkpoints(&job, None, 100).await.unwrap();
            found.push(Known {
                events: self.store.last_event_seq(&job).await.unwrap(),
                steps: kept.data.iter().rev().map(|c| c.step).collect(),
                id: job.id,
                state: job.state,
                attempt: job.attempt,
                crashes: job.crashes,
                priority: job.priority,
                requested: job.requested,
            });
        }
        assert_eq!(found, self.jobs);
    }
}

#[tokio::test]
async fn random_commands_leave_what_a_model_expects() {
    for seed in 0..SEEDS {
        let (_dir, store) = store().await;
        let mut pair = Pair {
            file: upload(&store, b"{}").await,
            store,
            random: Rng::with_seed(seed),
            jobs: Vec::new(),
        };
        for _ in 0..COMMANDS {
            pair.command().await;
            pair.compare().await;
        }
    }
}
