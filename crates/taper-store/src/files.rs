use sqlx::{QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};
use taper_core::{JobSpec, Project};

use crate::{
    ObjectKey, Once, Order, Page, Scope, Store, StoreError, scope::project_of, writer::Tx,
};

/// A file that was kept whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRecord {
    pub row: i64,
    /// `file-…`
    pub id: String,
    pub project: Project,
    pub bytes: u64,
    /// Unix seconds.
    pub created_at: i64,
    pub filename: String,
    pub purpose: String,
    /// Hex.
    pub sha256: String,
    /// When it goes by itself, unless an open job names it.
    pub expires_at: Option<i64>,
}

/// What is known of a file before its bytes are whole.
#[derive(Debug, Clone)]
pub struct NewFile {
    pub project: Project,
    pub filename: String,
    pub purpose: String,
    /// Seconds that it is to live.
    pub expires_after: Option<u64>,
    /// Marks of the request that brings it; their digest is made from the file.
    pub once: Option<Once>,
}

impl NewFile {
    /// A file that does not expire, of whoever names no project.
    pub fn new(filename: &str, purpose: &str) -> Self {
        Self {
            project: Project::default(),
            filename: filename.to_owned(),
            purpose: purpose.to_owned(),
            expires_after: None,
            once: None,
        }
    }
}

/// Which files to list.
#[derive(Debug, Clone)]
pub struct FileFilter {
    pub purpose: Option<String>,
    /// The id of the last file of the page before.
    pub after: Option<String>,
    pub limit: u32,
    pub order: Order,
}

impl FileRecord {
    /// Of its bytes.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::file(&self.id)
    }

    fn read(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            row: row.try_get("row")?,
            id: row.try_get("id")?,
            project: project_of(row)?,
            bytes: row.try_get::<i64, _>("bytes")? as u64,
            created_at: row.try_get("created_at")?,
            filename: row.try_get("filename")?,
            purpose: row.try_get("purpose")?,
            sha256: row.try_get("sha256")?,
            expires_at: row.try_get("expires_at")?,
        })
    }
}

impl Store {
    /// Finds a file by its id.
    pub async fn file(&self, scope: &Scope, id: &str) -> Result<Option<FileRecord>, StoreError> {
        let found = find(&mut *self.reader().await?, id).await?;
        Ok(found.filter(|file| scope.holds(&file.project)))
    }

    /// Lists files.
    ///
    /// # Errors
    /// [`StoreError::UnknownCursor`] when `after` names no file.
    pub async fn files(
        &self,
        scope: &Scope,
        filter: &FileFilter,
    ) -> Result<Page<FileRecord>, StoreError> {
        let mut reader = self.reader().await?;
        let mut query = QueryBuilder::<Sqlite>::new("select * from files where true");
        scope.narrow(&mut query, "project");
        let (beyond, order) = match filter.order {
            Order::Asc => (" and row > ", " order by row asc limit "),
            Order::Desc => (" and row < ", " order by row desc limit "),
        };
        if let Some(after) = &filter.after {
            let found = find(&mut reader, after).await?;
            let last = found.filter(|file| scope.holds(&file.project));
            let row = last.map(|file| file.row);
            let row = row.ok_or_else(|| StoreError::UnknownCursor(after.clone()))?;
            query.push(beyond).push_bind(row);
        }
        if let Some(purpose) = &filter.purpose {
            query.push(" and purpose = ").push_bind(purpose.clone());
        }
        query.push(order).push_bind(i64::from(filter.limit) + 1);
        let rows = query.build().fetch_all(&mut *reader).await?;
        let files: Result<_, _> = rows.iter().map(FileRecord::read).collect();
        Ok(Page::cut(files?, filter.limit))
    }

    /// Tells whether a listed file still lies there whole, by its size.
    ///
    /// # Errors
    /// [`StoreError::Replaced`]
    pub async fn check_file(&self, file: &FileRecord) -> Result<(), StoreError> {
        let opened = self.open_object(&file.key(), file.bytes, 0..0).await;
        opened.map(drop)
    }

    /// Deletes a file; false when there is none.
    ///
    /// # Errors
    /// [`StoreError::FileInUse`] while a job that has not ended names it.
    pub async fn delete_file(&self, scope: &Scope, id: &str) -> Result<bool, StoreError> {
        let Some(file) = self.file(scope, id).await? else {
            return Ok(false);
        };
        // The row goes first: a file without a row is swept at the next start, a row without a file would be a lie.
        let (id, key) = (file.id.clone(), file.key());
        let deleted = self.write(|tx| Box::pin(async move { tx.delete_file(&id).await }));
        let deleted = deleted.await?;
        if deleted {
            self.remove_unlisted(vec![key]).await;
        }
        Ok(deleted)
    }
}

pub(crate) async fn find(
    connection: &mut SqliteConnection,
    id: &str,
) -> Result<Option<FileRecord>, StoreError> {
    let row = sqlx::query("select * from files where id = ?")
        .bind(id)
        .fetch_optional(connection)
        .await?;
    Ok(row.as_ref().map(FileRecord::read).transpose()?)
}

impl Tx {
    /// Makes a file known. A request that has brought one before gets that one, under its own id.
    pub(crate) async fn add_file(
        &mut self,
        file: FileRecord,
        once: Option<&Once>,
    ) -> Result<FileRecord, StoreError> {
        if let Some(id) = self.made_before(once).await?
            && let Some(known) = find(&mut self.connection, &id).await?
        {
            return Ok(known);
        }
        self.remember(once, &file.id).await?;
        let row = sqlx::query_scalar(
            "insert into files (id, project, bytes, created_at, filename, purpose, sha256, expires_at)
             values (?, ?, ?, ?, ?, ?, ?, ?) returning row",
        )
        .bind(&file.id)
        .bind(file.project.as_str())
        .bind(file.bytes as i64)
        .bind(file.created_at)
        .bind(&file.filename)
        .bind(&file.purpose)
        .bind(&file.sha256)
        .bind(file.expires_at)
        .fetch_one(&mut self.connection)
        .await?;
        Ok(FileRecord { row, ..file })
    }

    pub(crate) async fn delete_file(&mut self, id: &str) -> Result<bool, StoreError> {
        let job: Option<String> = sqlx::query_scalar(
            "select id from jobs
             where state in ('validating_files', 'queued', 'running', 'paused')
             and (training_file = ?1 or validation_file = ?1) limit 1",
        )
        .bind(id)
        .fetch_optional(&mut self.connection)
        .await?;
        if let Some(job) = job {
            return Err(StoreError::FileInUse {
                file: id.to_owned(),
                job,
            });
        }
        let deleted = sqlx::query("delete from files where id = ?")
            .bind(id)
            .execute(&mut self.connection)
            .await?;
        Ok(deleted.rows_affected() == 1)
    }

    /// Makes sure that a job's files still exist in its project, so that it never begins with one that has gone.
    pub(crate) async fn require_files(
        &mut self,
        project: &Project,
        spec: &JobSpec,
    ) -> Result<(), StoreError> {
        self.require_file(project, &spec.training_file).await?;
        match &spec.validation_file {
            Some(file) => self.require_file(project, file).await,
            None => Ok(()),
        }
    }

    async fn require_file(&mut self, project: &Project, id: &str) -> Result<(), StoreError> {
        let found = find(&mut self.connection, id).await?;
        match found {
            Some(file) if file.project == *project => Ok(()),
            _ => Err(StoreError::UnknownFile(id.to_owned())),
        }
    }
}
