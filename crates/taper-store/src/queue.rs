//! Where queued jobs stand, and when their turn will come.

use std::{cmp::Reverse, collections::BinaryHeap};

use sqlx::SqliteConnection;
use taper_core::JobState;

use crate::{Job, StoreError, ground::now};

/// Places in the queue up to which a start is predicted; further down it would be a guess, and cost a walk along the whole queue.
const PREDICTED: u64 = 500;

/// Fills in the queued jobs' places and starts.
pub(crate) async fn add_queue_positions(
    connection: &mut SqliteConnection,
    jobs: &mut [Job],
) -> Result<(), StoreError> {
    let is_queued = |job: &&mut Job| job.state == JobState::Queued;
    let mut queued: Vec<_> = jobs.iter_mut().filter(is_queued).collect();
    if queued.is_empty() {
        return Ok(());
    }
    queued.sort_by_key(|job| (job.priority, job.row));
    let mut before: Option<(i32, i64, u64)> = None;
    for job in &mut queued {
        let position = position(connection, job, before).await?;
        job.queue_position = Some(position);
        before = Some((job.priority, job.row, position));
    }
    if queued
        .iter()
        .all(|job| job.queue_position > Some(PREDICTED))
    {
        return Ok(());
    }
    let starts = starts(connection).await?;
    for job in queued {
        let place = job.queue_position.unwrap_or(u64::MAX) as usize;
        job.estimated_start = starts.get(place - 1).copied();
    }
    Ok(())
}

/// A job's place. It counts on from the one before it, so that a page costs one walk along the queue.
async fn position(
    connection: &mut SqliteConnection,
    job: &Job,
    before: Option<(i32, i64, u64)>,
) -> Result<u64, StoreError> {
    let same = before.filter(|(priority, ..)| *priority == job.priority);
    let (row, position) = match same {
        Some((_, row, position)) => (row, position),
        None => (0, 1 + count_above(connection, job.priority).await?),
    };
    let between: i64 = sqlx::query_scalar(
        "select count(*) from jobs
         where state = 'queued' and priority = ? and row >= ? and row < ?",
    )
    .bind(job.priority)
    .bind(row)
    .bind(job.row)
    .fetch_one(connection)
    .await?;
    Ok(position + between as u64)
}

async fn count_above(connection: &mut SqliteConnection, priority: i32) -> Result<u64, StoreError> {
    let count: i64 =
        sqlx::query_scalar("select count(*) from jobs where state = 'queued' and priority > ?")
            .bind(priority)
            .fetch_one(connection)
            .await?;
    Ok(count as u64)
}

/// The times at which the first jobs of the queue will start, as far as all durations before them are known.
async fn starts(connection: &mut SqliteConnection) -> Result<Vec<i64>, StoreError> {
    let running: Vec<Option<f64>> = sqlx::query_scalar(
        "select coalesce(json_extract(metrics, '$.eta_seconds'), json_extract(plan, '$.estimated_seconds'))
         from jobs where state = 'running'",
    )
    .fetch_all(&mut *connection)
    .await?;
    let queued: Vec<Option<f64>> = sqlx::query_scalar(
        "select json_extract(plan, '$.estimated_seconds') from jobs
         where state = 'queued' order by priority desc, row limit ?",
    )
    .bind(PREDICTED as i64)
    .fetch_all(connection)
    .await?;
    let known = |seconds: Option<f64>| seconds.filter(|s| *s > 0.0);
    let running: Option<Vec<f64>> = running.into_iter().map(known).collect();
    let waits = running.map_or_else(Vec::new, |running| {
        waits(&running, queued.into_iter().map(known))
    });
    let now = now();
    Ok(waits.into_iter().map(|wait| now + wait as i64).collect())
}

/// Seconds until each queued job starts: it takes the worker that is free first. While jobs wait, every worker has one, so the running
/// jobs tell how many there are.
fn waits(running: &[f64], queued: impl Iterator<Item = Option<f64>>) -> Vec<u64> {
    let seconds = |x: f64| x.ceil() as u64;
    let mut workers: BinaryHeap<_> = running.iter().map(|s| Reverse(seconds(*s))).collect();
    if workers.is_empty() {
        workers.push(Reverse(0));
    }
    let mut waits = Vec::new();
    for duration in queued {
        let Some(Reverse(start)) = workers.pop() else {
            break;
        };
        waits.push(start);
        let Some(duration) = duration else { break };
        workers.push(Reverse(start + seconds(duration)));
    }
    waits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_takes_the_worker_that_is_free_first() {
        let queued = [Some(10.0), Some(1.0), Some(5.0), None, Some(1.0)];
        assert_eq!(waits(&[4.0], queued.into_iter()), [4, 14, 15, 20]);
        assert_eq!(waits(&[4.0, 30.0], queued.into_iter()), [4, 14, 15, 20]);
        assert_eq!(waits(&[3.2, 1.0], queued.into_iter()), [1, 4, 5, 10]);
        assert_eq!(waits(&[], queued.into_iter()), [0, 10, 11, 16]);
    }
}
