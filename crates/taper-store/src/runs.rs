//! The local folders in which runs work, and what is left in them.

use std::path::PathBuf;

use crate::{
    Store, StoreError,
    filesystem::{self, make_dir},
    ground::blocking,
    objects::ObjectKey,
};

impl Store {
    /// Where a job's run works. `job` must come from a [`crate::Job`], never from a client.
    pub fn run_dir(&self, job: &str) -> PathBuf {
        self.data_dir().run_dir(job)
    }

    /// Makes the folder in which a job's run works, unless it is there.
    pub async fn make_run_dir(&self, job: &str) -> Result<(), StoreError> {
        let dir = self.run_dir(job);
        blocking("cannot make a run's folder", move || make_dir(&dir)).await
    }

    /// Removes what a run that has ended left half done, checkpoints that did not become known, and its output if it is not wanted.
    pub async fn sweep_run(&self, job: &str, keep_output: bool) -> Result<(), StoreError> {
        let cannot = || StoreError::io("cannot sweep a run's folder");
        let folders: Vec<String> = sqlx::query_scalar(
            "select folder from checkpoints where job = (select row from jobs where id = ?)",
        )
        .bind(job)
        .fetch_all(&mut *self.reader().await?)
        .await?;
        let (store, id) = (self.clone(), job.to_owned());
        blocking("cannot sweep a run's folder", move || {
            store.data_dir().sweep_run(&id)
        })
        .await?;
        let found = self.objects().list(&ObjectKey::checkpoints(job)).await;
        let mut gone = found.map_err(cannot())?;
        gone.retain(|key| !folders.iter().any(|folder| folder == key.name()));
        if !keep_output {
            gone.push(ObjectKey::output(job));
        }
        for key in gone {
            self.objects().delete(&key).await.map_err(cannot())?;
        }
        Ok(())
    }

    /// Removes all checkpoints of a job, whose rows are about to go.
    pub async fn remove_checkpoints(&self, job: &str) -> Result<(), StoreError> {
        let deleted = self.objects().delete(&ObjectKey::checkpoints(job)).await;
        deleted.map_err(StoreError::io("cannot remove a job's checkpoints"))
    }

    /// Removes all that a job has left whose row has gone.
    pub(crate) async fn remove_run(&self, job: &str) {
        self.remove_unlisted(vec![ObjectKey::job(job)]).await;
        let dir = self.run_dir(job);
        let removed = blocking("cannot remove a run's folder", move || {
            filesystem::remove(&dir)
        });
        if let Err(error) = removed.await {
            tracing::error!(job, %error, "the next start removes what is left");
        }
    }
}
