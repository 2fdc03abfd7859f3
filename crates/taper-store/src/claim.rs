//! Takes the next job out of the queue, or tells it what it waits for.

use taper_core::{Bytes, JobState, Level, NewEvent};

use crate::{Change, Job, Store, StoreError, Transition, job, writer::Tx};

/// The memory that the next job may take.
#[derive(Debug, Clone, Copy)]
pub struct FreeMemory {
    /// That no run holds; `u64::MAX` = as much as it likes.
    pub bytes: u64,
    /// Held by runs that were abandoned and have not ended.
    pub abandoned: u64,
}

impl FreeMemory {
    pub const UNLIMITED: Self = Self {
        bytes: u64::MAX,
        abandoned: 0,
    };

    /// What a job is told that needs more.
    fn message(self, needed: u64) -> String {
        let (needed, free) = (Bytes(needed), Bytes(self.bytes));
        let told =
            format!("Waiting for memory: the job needs {needed}, the running ones leave {free}");
        match self.abandoned {
            0 => told,
            bytes => format!(
                "{told}; runs that were given up and have not ended hold {}, which a restart of the server frees",
                Bytes(bytes)
            ),
        }
    }
}

/// What a claim has come to.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// No job is queued, or there is no space for a run.
    Nothing,
    /// The next job needs more memory than is free; those behind it wait with it.
    Waits(Waiting),
    Job(Box<Job>),
}

/// A job whose log says that it waits for memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    job: String,
    /// The number of the event that says so; what has been logged since has told something else.
    seq: i64,
    /// It says as well that this may take until the end of the server.
    may_last: bool,
}

impl Store {
    /// Takes the next job of the queue and makes it running under a new attempt. Without space all wait.
    pub async fn claim(&self) -> Result<Option<Job>, StoreError> {
        match self.claim_within(FreeMemory::UNLIMITED, None).await? {
            Claim::Job(job) => Ok(Some(*job)),
            Claim::Nothing | Claim::Waits(_) => Ok(None),
        }
    }

    /// As [`Store::claim`], but a job whose plan needs more bytes of memory than are free waits. Its log says so, unless it is `told`, as
    /// the claim before has answered.
    pub async fn claim_within(
        &self,
        free_memory: FreeMemory,
        told: Option<Waiting>,
    ) -> Result<Claim, StoreError> {
        if self.shortage().is_some() {
            return Ok(Claim::Nothing);
        }
        self.write(move |tx| Box::pin(tx.claim(free_memory, told)))
            .await
    }
}

impl Tx {
    async fn claim(
        &mut self,
        free_memory: FreeMemory,
        told: Option<Waiting>,
    ) -> Result<Claim, StoreError> {
        let next: Option<String> = sqlx::query_scalar(
            "select id from jobs where state = 'queued' order by priority desc, row limit 1",
        )
        .fetch_optional(&mut self.connection)
        .await?;
        let Some(id) = next else {
            return Ok(Claim::Nothing);
        };
        if free_memory.bytes < u64::MAX
            && let Some(waiting) = self.wait_for_memory(&id, free_memory, told).await?
        {
            return Ok(Claim::Waits(waiting));
        }
        let start = Transition {
            job: id,
            from: &[JobState::Queued],
            attempt: None,
            to: JobState::Running,
            level: Level::Info,
            message: "Fine-tuning job started".to_owned(),
            change: Change::default(),
        };
        let claimed = self.transition(&start).await?;
        Ok(claimed.map_or(Claim::Nothing, |job| Claim::Job(Box::new(job))))
    }

    /// Notes in the log of a job that needs more memory than is free, once, that it waits for it, and once more when it may wait without
    /// end; `None` when it need not wait.
    async fn wait_for_memory(
        &mut self,
        id: &str,
        free: FreeMemory,
        told: Option<Waiting>,
    ) -> Result<Option<Waiting>, StoreError> {
        let Some(job) = job::find(&mut self.connection, id).await? else {
            return Ok(None);
        };
        let needed = job.plan.as_ref().map_or(0, |plan| plan.memory.total());
        if needed <= free.bytes {
            return Ok(None);
        }
        let may_last = free.abandoned > 0;
        let last = self.last_seq(job.row).await?;
        let told = told.filter(|it| it.job == id && it.seq == last && (it.may_last || !may_last));
        if told.is_some() {
            return Ok(told);
        }
        let event = NewEvent::message(Level::Info, free.message(needed));
        self.log(&job.key(), &[event]).await?;
        Ok(Some(Waiting {
            job: job.id,
            seq: self.last_seq(job.row).await?,
            may_last,
        }))
    }

    /// The number of the last event in a job's log.
    async fn last_seq(&mut self, job: i64) -> Result<i64, StoreError> {
        let last = sqlx::query_scalar("select coalesce(max(seq), 0) from events where job = ?")
            .bind(job)
            .fetch_one(&mut self.connection)
            .await?;
        Ok(last)
    }
}
