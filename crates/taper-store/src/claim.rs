//! Takes the next job out of the queue, or tells it what it waits for.

use taper_core::{Bytes, JobState, Level, NewEvent};

use crate::{Change, Job, Store, StoreError, Transition, job, writer::Tx};

/// How the event of a job begins that waits for others to give memory back.
const WAITING: &str = "Waiting for memory";
/// How it ends where that may take until the end of the server.
const ABANDONED: &str = "which a restart of the server frees";

/// The memory that the next job may take.
#[derive(Debug, Clone, Copy)]
pub struct FreeMemory {
    /// That no run holds; `u64::MAX` = as much as it likes.
    pub bytes: u64,
    /// Held by runs that were given up and have not ended.
    pub given_up: u64,
}

impl FreeMemory {
    pub const UNLIMITED: Self = Self {
        bytes: u64::MAX,
        given_up: 0,
    };

    /// What a job is told that needs more.
    fn waiting(self, needed: u64) -> String {
        let (needed, free) = (Bytes(needed), Bytes(self.bytes));
        let told = format!("{WAITING}: the job needs {needed}, the running ones leave {free}");
        match self.given_up {
            0 => told,
            bytes => format!(
                "{told}; runs that were given up and have not ended hold {}, {ABANDONED}",
                Bytes(bytes)
            ),
        }
    }

    /// Tells whether a message of a job's log says why it waits.
    fn is_told_by(self, message: &str) -> bool {
        message.starts_with(WAITING) && (self.given_up == 0 || message.ends_with(ABANDONED))
    }
}

impl Store {
    /// Takes the next job of the queue and makes it running under a new attempt. Without space all wait.
    pub async fn claim(&self) -> Result<Option<Job>, StoreError> {
        self.claim_within(FreeMemory::UNLIMITED).await
    }

    /// As [`Store::claim`], but a job whose plan needs more bytes of memory than are free waits, and its log says so.
    pub async fn claim_within(&self, free_memory: FreeMemory) -> Result<Option<Job>, StoreError> {
        if self.shortage().is_some() {
            return Ok(None);
        }
        self.write(move |tx| Box::pin(tx.claim(free_memory))).await
    }
}

impl Tx {
    async fn claim(&mut self, free_memory: FreeMemory) -> Result<Option<Job>, StoreError> {
        let next: Option<String> = sqlx::query_scalar(
            "select id from jobs where state = 'queued' order by priority desc, row limit 1",
        )
        .fetch_optional(&mut self.connection)
        .await?;
        let Some(id) = next else { return Ok(None) };
        if free_memory.bytes < u64::MAX && self.waits_for_memory(&id, free_memory).await? {
            return Ok(None);
        }
        self.transition(&Transition {
            job: id,
            from: &[JobState::Queued],
            attempt: None,
            to: JobState::Running,
            level: Level::Info,
            message: "Fine-tuning job started".to_owned(),
            change: Change::default(),
        })
        .await
    }

    /// Tells whether a job needs more memory than is free, and notes in its log, once, that it waits for it; and once more when it
    /// may wait without end.
    async fn waits_for_memory(&mut self, id: &str, free: FreeMemory) -> Result<bool, StoreError> {
        let Some(job) = job::find(&mut self.connection, id).await? else {
            return Ok(false);
        };
        let needed = job.plan.as_ref().map_or(0, |plan| plan.memory.total());
        if needed <= free.bytes {
            return Ok(false);
        }
        let last: Option<String> = sqlx::query_scalar(
            "select message from events where job = ? order by seq desc limit 1",
        )
        .bind(job.row)
        .fetch_optional(&mut self.connection)
        .await?;
        if !last.is_some_and(|message| free.is_told_by(&message)) {
            let event = NewEvent::message(Level::Info, free.waiting(needed));
            self.log(&job.key(), &[event]).await?;
        }
        Ok(true)
    }
}
