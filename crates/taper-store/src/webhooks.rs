//! Ends of jobs that are to be told elsewhere. They are read off the log of events, so that none is lost however the server ends.

use serde_json::json;
use sqlx::{Row, sqlite::SqliteRow};
use uuid::Uuid;

use crate::{Store, StoreError, ground::now, writer::Tx};

/// Something to be told, to one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub row: i64,
    /// `evt_…`; the same at every attempt.
    pub id: String,
    pub url: String,
    /// JSON, as it is signed and sent.
    pub body: String,
    /// Attempts so far.
    pub attempts: u32,
    /// Unix seconds.
    pub due_at: i64,
}

/// What came of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It has been told, or never will be.
    Done,
    /// It is to be tried again, in this many seconds.
    Again(u64),
}

impl Store {
    /// Says where ends of jobs are to be told from now on. What has happened before an address was named is not told there.
    pub async fn set_webhooks(&self, urls: Vec<String>) -> Result<(), StoreError> {
        self.write(|tx| Box::pin(tx.set_webhooks(urls))).await
    }

    /// Notes the ends of jobs that have come since the last time.
    pub async fn fill_webhooks(&self) -> Result<(), StoreError> {
        self.write(|tx| Box::pin(tx.fill_webhooks())).await
    }

    /// What is yet to be told, the next first.
    pub async fn webhooks(&self, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        let rows = sqlx::query("select * from webhooks order by due_at, row limit ?")
            .bind(limit)
            .fetch_all(&mut *self.reader().await?)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Notes what came of an attempt.
    pub async fn settle_webhook(&self, row: i64, outcome: Outcome) -> Result<(), StoreError> {
        self.write(move |tx| Box::pin(tx.settle_webhook(row, outcome)))
            .await
    }
}

fn read(row: &SqliteRow) -> Result<Delivery, StoreError> {
    Ok(Delivery {
        row: row.try_get("row")?,
        id: row.try_get("id")?,
        url: row.try_get("url")?,
        body: row.try_get("body")?,
        attempts: row.try_get("attempts")?,
        due_at: row.try_get("due_at")?,
    })
}

impl Tx {
    async fn set_webhooks(&mut self, urls: Vec<String>) -> Result<(), StoreError> {
        let known: Vec<String> = sqlx::query_scalar("select url from webhook_targets")
            .fetch_all(&mut self.connection)
            .await?;
        for url in known.iter().filter(|url| !urls.contains(url)) {
            sqlx::query("delete from webhook_targets where url = ?")
                .bind(url)
                .execute(&mut self.connection)
                .await?;
        }
        for url in urls.iter().filter(|url| !known.contains(url)) {
            sqlx::query(
                "insert or ignore into webhook_targets (url, event)
                 values (?, (select coalesce(max(row), 0) from events))",
            )
            .bind(url)
            .execute(&mut self.connection)
            .await?;
        }
        Ok(())
    }

    pub(crate) async fn fill_webhooks(&mut self) -> Result<(), StoreError> {
        let targets = sqlx::query("select url, event from webhook_targets")
            .fetch_all(&mut self.connection)
            .await?;
        for target in targets {
            let url: String = target.try_get("url")?;
            let last = self.fill_target(&url, target.try_get("event")?).await?;
            sqlx::query("update webhook_targets set event = ? where url = ?")
                .bind(last)
                .bind(url)
                .execute(&mut self.connection)
                .await?;
        }
        Ok(())
    }

    /// Notes for one address the ends after an event, and tells the last event that was looked at.
    async fn fill_target(&mut self, url: &str, after: i64) -> Result<i64, StoreError> {
        let last: i64 = sqlx::query_scalar("select coalesce(max(row), ?1) from events")
            .bind(after)
            .fetch_one(&mut self.connection)
            .await?;
        let ends = sqlx::query(
            "select jobs.id, events.created_at, json_extract(events.data, '$.status') as status
             from events join jobs on jobs.row = events.job
             where events.row > ? and events.row <= ? and kind = 'message'
             and json_extract(events.data, '$.attempt') is not null
             and status in ('succeeded', 'failed', 'cancelled') order by events.row",
        )
        .bind(after)
        .bind(last)
        .fetch_all(&mut self.connection)
        .await?;
        for end in ends {
            let id = format!("evt_{}", Uuid::now_v7().simple());
            let (job, status): (String, String) = (end.try_get("id")?, end.try_get("status")?);
            let created_at: i64 = end.try_get("created_at")?;
            let body = json!({
                "id": id, "object": "event", "created_at": created_at,
                "type": format!("fine_tuning.job.{status}"), "data": {"id": job},
            });
            sqlx::query("insert into webhooks (id, url, body, due_at) values (?, ?, ?, ?)")
                .bind(&id)
                .bind(url)
                .bind(body.to_string())
                .bind(now())
                .execute(&mut self.connection)
                .await?;
        }
        Ok(last)
    }

    async fn settle_webhook(&mut self, row: i64, outcome: Outcome) -> Result<(), StoreError> {
        match outcome {
            Outcome::Done => sqlx::query("delete from webhooks where row = ?").bind(row),
            Outcome::Again(seconds) => {
                sqlx::query("update webhooks set attempts = attempts + 1, due_at = ? where row = ?")
                    .bind(now() + seconds as i64)
                    .bind(row)
            }
        }
        .execute(&mut self.connection)
        .await?;
        Ok(())
    }
}
