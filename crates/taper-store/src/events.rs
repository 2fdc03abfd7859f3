use taper_core::{Event, NewEvent};

use crate::{Page, Store, StoreError};

impl Store {
    /// Appends what a run reports to its job's log, its curves and its last metrics.
    ///
    /// # Errors
    /// [`StoreError::StaleAttempt`] when the job is not running under `attempt`.
    pub async fn append(
        &self,
        job: &str,
        attempt: u32,
        events: Vec<NewEvent>,
    ) -> Result<(), StoreError> {
        unimplemented!("{job} {attempt} {events:?}")
    }

    /// Events of a job after sequence number `seq`, oldest first.
    pub async fn events_after(
        &self,
        job: &str,
        seq: i64,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        unimplemented!("{job} {seq} {limit}")
    }

    /// Events of a job, newest first, older than the one with the row number `after`.
    pub async fn events_page(
        &self,
        job: &str,
        after: Option<i64>,
        limit: u32,
    ) -> Result<Page<Event>, StoreError> {
        unimplemented!("{job} {after:?} {limit}")
    }

    /// Events of all jobs, or of those named, after row number `row`, oldest first.
    pub async fn all_events_after(
        &self,
        row: i64,
        jobs: Option<&[String]>,
        limit: u32,
    ) -> Result<Vec<Event>, StoreError> {
        unimplemented!("{row} {jobs:?} {limit}")
    }

    /// The row number of the newest event of all jobs, 0 when there is none.
    pub async fn last_event_row(&self) -> Result<i64, StoreError> {
        unimplemented!()
    }

    /// The sequence number of a job's newest event, 0 when there is none.
    pub async fn last_event_seq(&self, job: &str) -> Result<i64, StoreError> {
        unimplemented!("{job}")
    }
}
