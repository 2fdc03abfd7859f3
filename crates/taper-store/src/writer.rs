use std::{sync::Arc, time::Instant};

use sqlx::{Connection, Executor, SqliteConnection, sqlite::SqliteConnectOptions};
use taper_core::{Event, RequestedAction};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::{
    Checkpoint, ChunkedUpload, ExperimentRecord, FileRecord, FreeMemory, Job, NewExperiment,
    NewJob, Once, Recovered, Scope, StoreError, Transition, UploadPart,
    checkpoints::{Publication, Refusal},
    chunked::{Completion, NewUpload},
    events::Report,
    experiments::GoneJobs,
    expiry::Leftovers,
    sessions::NewSession,
    startup::{self, Opened},
    telemetry::Counters,
    tuned::Gone,
    webhooks::Outcome,
};

/// The most commands that share one commit. An fsync costs milliseconds, so sharing it is what makes the writer fast.
const GROUP: usize = 128;

pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// All that may be asked of the writer.
pub(crate) enum Command {
    AddFile(FileRecord, Option<Once>, Reply<FileRecord>),
    DeleteFile(String, Reply<bool>),
    CreateJob(Box<NewJob>, Reply<Job>),
    CreateExperiment(Box<NewExperiment>, Reply<ExperimentRecord>),
    /// Answers with the jobs that were changed.
    StopExperiment(String, RequestedAction, Reply<Vec<Job>>),
    /// Answers with the jobs that need not stop any more.
    ResumeExperiment(String, Reply<Vec<Job>>),
    DeleteExperiment(String, Reply<Option<GoneJobs>>),
    /// Answers whether any run goes on.
    DecideRung(String, Reply<bool>),
    Transition(Box<Transition>, Reply<Option<Job>>),
    Claim(FreeMemory, Reply<Option<Job>>),
    Request(String, RequestedAction, Reply<Option<Job>>),
    Hold(String, Reply<Option<Job>>),
    Prioritize(String, i32, Reply<Option<Job>>),
    /// Answers with the ids of the result files that have gone with the job.
    DeleteJob(String, Reply<Option<Vec<String>>>),
    Recover(Vec<(String, u32)>, Reply<Recovered>),
    Append(Report, Reply<()>),
    PublishCheckpoint(Publication, Reply<(Checkpoint, Vec<String>)>),
    /// Answers with the folders that have lost their rows.
    DeleteCheckpoints(String, Reply<Vec<String>>),
    RefuseCheckpoints(Refusal, Reply<()>),
    CreateUpload(NewUpload, Option<Once>, Reply<ChunkedUpload>),
    AddPart(UploadPart, Option<Once>, Reply<UploadPart>),
    CompleteUpload(Completion, Reply<(ChunkedUpload, Vec<String>)>),
    CancelUpload(String, Reply<(ChunkedUpload, Vec<String>)>),
    Expire(Reply<Leftovers>),
    DeleteModel(Scope, String, Reply<Option<Gone>>),
    OpenSession(NewSession, Reply<()>),
    CloseSession(Vec<String>, Reply<()>),
    NoteUse(String, Reply<()>),
    SetWebhooks(Vec<String>, Reply<()>),
    FillWebhooks(Reply<()>),
    SettleWebhook(i64, Outcome, Reply<()>),
    /// Commits nothing, and so tells whether commits work.
    Ready(Reply<()>),
    Close(Reply<()>),
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

/// A transaction under way and the events that it will publish.
pub(crate) struct Tx<'a> {
    pub(crate) connection: &'a mut SqliteConnection,
    pub(crate) events: Vec<Event>,
}

/// What is to be told to a caller once the commit is done.
type Answer = Box<dyn FnOnce() + Send>;

/// The outcome of a command: its answer, and whether what it did stays.
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

impl Writer {
    pub(crate) fn new(
        options: SqliteConnectOptions,
        opened: Opened,
        events: broadcast::Sender<Arc<Event>>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            options,
            connection: Some(opened.connection),
            epoch: opened.epoch,
            events,
            counters,
        }
    }

    /// Serves until told to close, until replaced, or until every handle is gone.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        while let Some(first) = commands.recv().await {
            let mut group = vec![first];
            while group.len() < GROUP
                && let Ok(next) = commands.try_recv()
            {
                group.push(next);
            }
            if let Next::Close(reply) = self.serve(group).await {
                commands.close();
                let result = match self.connection.take() {
                    Some(connection) => connection.close().await.map_err(StoreError::from),
                    None => Ok(()),
                };
                drop(commands);
                if let Some(reply) = reply {
                    drop(reply.send(result));
                }
                return;
            }
        }
    }

    /// Commits a group and answers it. Dropping an answer tells its caller that nothing was committed.
    async fn serve(&mut self, group: Vec<Command>) -> Next {
        let mut closing = None;
        let mut work = Vec::with_capacity(group.len());
        for command in group {
            match command {
                Command::Close(reply) => closing = Some(reply),
                command => work.push(command),
            }
        }
        let begun = Instant::now();
        match self.commit(work).await {
            Ok((answers, events)) => {
                self.counters.committed(begun.elapsed());
                for event in events {
                    self.counters.heed(&event);
                    // Nobody may be listening.
                    drop(self.events.send(Arc::new(event)));
                }
                answers.into_iter().for_each(|answer| answer());
            }
            Err(error) => {
                tracing::error!(%error, "a transaction failed; its callers are told so");
                self.counters.not_committed();
                self.connection = None;
                if matches!(error, Failure::Replaced) {
                    return Next::Close(closing);
                }
            }
        }
        closing.map_or(Next::Serve, |reply| Next::Close(Some(reply)))
    }

    async fn commit(&mut self, work: Vec<Command>) -> Result<(Vec<Answer>, Vec<Event>), Failure> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(SqliteConnection::connect_with(&self.options).await?),
        };
        let mut answers = Vec::with_capacity(work.len());
        connection.execute("begin immediate").await?;
        if startup::epoch(connection).await? != self.epoch {
            return Err(Failure::Replaced);
        }
        let mut tx = Tx {
            connection,
            events: Vec::new(),
        };
        for command in work {
            answers.push(tx.guarded(command).await?);
        }
        let events = tx.events;
        connection.execute("commit").await?;
        Ok((answers, events))
    }
}

impl Tx<'_> {
    /// Runs a command in a savepoint, so that a refusal does not undo its neighbours.
    async fn guarded(&mut self, command: Command) -> Result<Answer, sqlx::Error> {
        self.connection.execute("savepoint command").await?;
        let events = self.events.len();
        let done = self.run(command).await;
        if !done.keep {
            self.events.truncate(events);
            self.connection.execute("rollback to command").await?;
        }
        self.connection.execute("release command").await?;
        Ok(done.answer)
    }

    async fn run(&mut self, command: Command) -> Done {
        match command {
            Command::AddFile(file, once, reply) => {
                Done::new(reply, self.add_file(file, once.as_ref()).await)
            }
            Command::DeleteFile(id, reply) => Done::new(reply, self.delete_file(&id).await),
            Command::CreateJob(job, reply) => Done::new(reply, self.create_job(*job).await),
            Command::CreateExperiment(new, reply) => {
                Done::new(reply, self.create_experiment(*new).await)
            }
            Command::StopExperiment(id, action, reply) => {
                Done::new(reply, self.stop_experiment(&id, action).await)
            }
            Command::ResumeExperiment(id, reply) => {
                Done::new(reply, self.resume_experiment(&id).await)
            }
            Command::DeleteExperiment(id, reply) => {
                Done::new(reply, self.delete_experiment(&id).await)
            }
            Command::DecideRung(id, reply) => Done::new(reply, self.decide_rung(&id).await),
            Command::Transition(it, reply) => Done::new(reply, self.transition(&it).await),
            Command::Request(id, action, reply) => {
                Done::new(reply, self.request(&id, action).await)
            }
            Command::Hold(id, reply) => Done::new(reply, self.hold(&id).await),
            Command::Prioritize(id, priority, reply) => {
                Done::new(reply, self.prioritize(&id, priority).await)
            }
            Command::DeleteJob(id, reply) => Done::new(reply, self.delete_job(&id).await),
            Command::DeleteCheckpoints(id, reply) => {
                Done::new(reply, self.delete_checkpoints(&id).await)
            }
            Command::RefuseCheckpoints(it, reply) => Done::new(reply, self.refuse(&it).await),
            Command::Claim(free, reply) => Done::new(reply, self.claim(free).await),
            Command::Recover(seen, reply) => Done::new(reply, self.recover(&seen).await),
            Command::Append(report, reply) => Done::new(reply, self.append(report).await),
            Command::PublishCheckpoint(it, reply) => Done::new(reply, self.publish(it).await),
            Command::CreateUpload(new, once, reply) => {
                Done::new(reply, self.create_upload(new, once.as_ref()).await)
            }
            Command::AddPart(part, once, reply) => {
                Done::new(reply, self.add_part(part, once.as_ref()).await)
            }
            Command::CompleteUpload(it, reply) => Done::new(reply, self.complete(it).await),
            Command::CancelUpload(id, reply) => Done::new(reply, self.cancel_upload(&id).await),
            Command::Expire(reply) => Done::new(reply, self.expire().await),
            Command::DeleteModel(scope, name, reply) => {
                Done::new(reply, self.delete_model(&scope, &name).await)
            }
            Command::OpenSession(new, reply) => Done::new(reply, self.open_session(&new).await),
            Command::CloseSession(ids, reply) => Done::new(reply, self.close_session(&ids).await),
            Command::NoteUse(key, reply) => Done::new(reply, self.note_use(&key).await),
            Command::SetWebhooks(urls, reply) => Done::new(reply, self.set_webhooks(&urls).await),
            Command::FillWebhooks(reply) => Done::new(reply, self.fill_webhooks().await),
            Command::SettleWebhook(row, outcome, reply) => {
                Done::new(reply, self.settle_webhook(row, outcome).await)
            }
            Command::Ready(reply) | Command::Close(reply) => Done::new(reply, Ok(())),
        }
    }
}
