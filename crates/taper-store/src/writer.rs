//! The one writer. It knows no domain: whoever writes brings a function that works in a transaction, and many of them share one commit.

use std::{pin::Pin, sync::Arc, time::Instant};

use sqlx::{Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
use taper_core::Event;
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::{
    counters::Counters,
    database::{self, Opened},
    error::StoreError,
};

/// The most writes that share one commit. An fsync costs milliseconds, so sharing it is what makes the writer fast.
const GROUP: usize = 128;
/// Writes that may wait for the writer before callers have to.
const WAITING_WRITES: usize = 1024;

/// A transaction under way and the events that it will publish.
pub(crate) struct Tx {
    pub(crate) connection: SqliteConnection,
    pub(crate) events: Vec<Event>,
}

/// What a write does in its transaction.
pub(crate) type Work<'t, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 't>>;

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// A write with its caller: it runs in the transaction, and answers once that is committed.
type Write =
    Box<dyn for<'t> FnOnce(&'t mut Tx) -> Pin<Box<dyn Future<Output = Done> + Send + 't>> + Send>;

/// What the writer may be asked for.
enum Request {
    Write(Write),
    Close(Reply<()>),
}

/// What is to be told to a caller once the commit is done.
type Answer = Box<dyn FnOnce() + Send>;

/// The outcome of a write: its answer, and whether what it did stays.
struct Done {
    answer: Answer,
    keep: bool,
}

impl Done {
    fn new<T: Send + 'static>(reply: Reply<T>, result: Result<T, StoreError>) -> Self {
        Self {
            keep: result.is_ok(),
            // A caller that no longer listens has gone away; what it asked for is done all the same.
            answer: Box::new(move || drop(reply.send(result))),
        }
    }
}

/// The callers' end of the writer.
#[derive(Debug)]
pub(crate) struct WriterHandle(mpsc::Sender<Request>);

impl WriterHandle {
    /// Has `work` done in the next transaction and waits for its commit. Where it fails, what it did is undone, and nothing else is.
    pub(crate) async fn write<T: Send + 'static>(
        &self,
        work: impl for<'t> FnOnce(&'t mut Tx) -> Work<'t, T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.ask(|reply| {
            Request::Write(Box::new(move |tx| {
                Box::pin(async move { Done::new(reply, work(tx).await) })
            }))
        })
        .await
    }

    /// Has what waits committed and the database closed.
    pub(crate) async fn close(&self) -> Result<(), StoreError> {
        self.ask(Request::Close).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        if self.0.send(request(reply)).await.is_err() {
            return Err(StoreError::Closed);
        }
        match answer.await {
            Ok(result) => result,
            Err(_) if self.0.is_closed() => Err(StoreError::Closed),
            Err(_) => Err(StoreError::NotCommitted),
        }
    }
}

/// The owner of the only connection that writes. It drains its channel into one transaction at a time; answers and events leave
/// it only after the commit.
pub(crate) struct Writer {
    options: SqliteConnectOptions,
    /// Absent after a failure, until the next commit opens it anew: what a failed fsync leaves behind must not be trusted.
    connection: Option<SqliteConnection>,
    epoch: i32,
    events: broadcast::Sender<Arc<Event>>,
    counters: Arc<Counters>,
}

/// Why a group was not committed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("another server has taken the data directory over; this one must write no more")]
    Replaced,
}

/// What comes after a group.
enum Next {
    Serve,
    Close(Option<Reply<()>>),
}

impl Writer {
    /// Starts the writer of an open database. It serves until told to close, until replaced, or until every handle is gone.
    pub(crate) fn start(
        options: SqliteConnectOptions,
        opened: Opened,
        events: broadcast::Sender<Arc<Event>>,
        counters: Arc<Counters>,
    ) -> WriterHandle {
        let writer = Self {
            options,
            connection: Some(opened.connection),
            epoch: opened.epoch,
            events,
            counters,
        };
        let (requests, queue) = mpsc::channel(WAITING_WRITES);
        tokio::spawn(writer.run(queue));
        WriterHandle(requests)
    }

    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.recv().await {
            let mut group = vec![first];
            while group.len() < GROUP
                && let Ok(next) = requests.try_recv()
            {
                group.push(next);
            }
            if let Next::Close(reply) = self.serve(group).await {
                requests.close();
                let result = match self.connection.take() {
                    Some(connection) => connection.close().await.map_err(StoreError::from),
                    None => Ok(()),
                };
                drop(requests);
                if let Some(reply) = reply {
                    drop(reply.send(result));
                }
                return;
            }
        }
    }

    /// Commits a group and answers it. Dropping an answer tells its caller that nothing was committed.
    async fn serve(&mut self, group: Vec<Request>) -> Next {
        let mut closing = None;
        let mut writes = Vec::with_capacity(group.len());
        for request in group {
            match request {
                Request::Close(reply) => closing = Some(reply),
                Request::Write(write) => writes.push(write),
            }
        }
        let begun = Instant::now();
        match self.commit(writes).await {
            Ok((answers, events)) => {
                self.counters.committed(begun.elapsed());
                for event in events {
                    self.counters.count_end(&event);
                    // Nobody may be listening.
                    drop(self.events.send(Arc::new(event)));
                }
                answers.into_iter().for_each(|answer| answer());
            }
            Err(error) => {
                tracing::error!(%error, "a transaction failed; its callers are told so");
                self.counters.not_committed();
                if matches!(error, Failure::Replaced) {
                    return Next::Close(closing);
                }
            }
        }
        closing.map_or(Next::Serve, |reply| Next::Close(Some(reply)))
    }

    async fn commit(&mut self, writes: Vec<Write>) -> Result<(Vec<Answer>, Vec<Event>), Failure> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => SqliteConnection::connect_with(&self.options).await?,
        };
        let mut tx = Tx {
            connection,
            events: Vec::new(),
        };
        let mut answers = Vec::with_capacity(writes.len());
        tx.connection.execute("begin immediate").await?;
        if database::epoch(&mut tx.connection).await? != self.epoch {
            return Err(Failure::Replaced);
        }
        for write in writes {
            answers.push(tx.guarded(write).await?);
        }
        tx.connection.execute("commit").await?;
        self.connection = Some(tx.connection);
        Ok((answers, tx.events))
    }
}

impl Tx {
    /// Runs a write in a savepoint, so that a refusal does not undo its neighbours.
    async fn guarded(&mut self, write: Write) -> Result<Answer, sqlx::Error> {
        self.connection.execute("savepoint write").await?;
        let events = self.events.len();
        let done = write(self).await;
        if !done.keep {
            self.events.truncate(events);
            self.connection.execute("rollback to write").await?;
        }
        self.connection.execute("release write").await?;
        Ok(done.answer)
    }
}
