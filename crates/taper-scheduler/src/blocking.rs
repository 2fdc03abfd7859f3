use crate::error::SchedulerError;

/// Does work that waits for the disk or computes for long off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SchedulerError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| SchedulerError::Inspection(error.to_string()))
}
