//! Keys from outside the server: an administrator's command makes and revokes them in the data directory of a server that may be
//! running. SQLite keeps the two writers apart.

use std::path::Path;

use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use taper_core::Role;

use super::api_key::{ApiKey, to_hex};
use crate::{
    Scope, StoreError,
    data_dir::DataDir,
    database::{self, connect_options},
    ground::now,
};

/// The keys of a data directory.
#[derive(Debug)]
pub struct KeyRing {
    connection: SqliteConnection,
}

impl KeyRing {
    /// Opens the keys of a data directory; one that is not there yet is made.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when a server of an older version has it open; whatever makes the database unfit for use.
    pub async fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let data_dir = DataDir::create(data_dir)?;
        let options = connect_options(&data_dir.database()?);
        if !is_current(&options).await? {
            // Nobody else may be at work on a database that is being made or brought up to date.
            let lock = data_dir.lock()?;
            let opened = database::open(&data_dir, &options).await?;
            opened.connection.close().await?;
            drop(lock);
        }
        let connection = SqliteConnection::connect_with(&options).await?;
        Ok(Self { connection })
    }

    /// Makes a key, and tells its text, which nobody can tell again.
    pub async fn create(
        &mut self,
        role: Role,
        scope: Scope,
        name: &str,
    ) -> Result<(ApiKey, String), StoreError> {
        let (key, text) = ApiKey::generate(role, scope, name.to_owned())?;
        sqlx::query(
            "insert into keys (id, digest, role, project, name, created_at) values (?, ?, ?, ?, ?, ?)",
        )
        .bind(&key.id)
        .bind(to_hex(&key.digest.0))
        .bind(role.as_str())
        .bind(key.scope.project())
        .bind(name)
        .bind(key.created_at)
        .execute(&mut self.connection)
        .await?;
        Ok((key, text))
    }

    /// Takes a key out of force, with the sessions that were begun with it; false when there is none of that id in force.
    pub async fn revoke(&mut self, id: &str) -> Result<bool, StoreError> {
        let revoked =
            sqlx::query("update keys set revoked_at = ? where id = ? and revoked_at is null")
                .bind(now())
                .bind(id)
                .execute(&mut self.connection)
                .await?;
        Ok(revoked.rows_affected() == 1)
    }

    /// Gives the database back.
    pub async fn close(self) -> Result<(), StoreError> {
        Ok(self.connection.close().await?)
    }
}

/// All keys of a data directory, revoked ones included, oldest first; none where there is no database yet. Nothing is changed.
///
/// # Errors
/// [`StoreError::Corrupt`]
pub async fn known_keys(data_dir: &Path) -> Result<Vec<ApiKey>, StoreError> {
    let data_dir = DataDir::of(data_dir);
    let mut connection = match database::connect_to_read(&data_dir).await {
        Err(StoreError::NoDatabase(_)) => return Ok(Vec::new()),
        connection => connection?,
    };
    let keys = read_all(&mut connection).await;
    let keys = keys.map_err(|error| database::corrupt(&data_dir.database_path(), error))?;
    connection.close().await?;
    Ok(keys)
}

async fn read_all(connection: &mut SqliteConnection) -> Result<Vec<ApiKey>, sqlx::Error> {
    let table: Option<i64> =
        sqlx::query_scalar("select 1 from sqlite_schema where type = 'table' and name = 'keys'")
            .fetch_optional(&mut *connection)
            .await?;
    if table.is_none() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query("select * from keys order by created_at, id")
        .fetch_all(connection)
        .await?;
    rows.iter().map(ApiKey::read).collect()
}

/// Tells whether the database has the tables that this version writes to.
async fn is_current(options: &SqliteConnectOptions) -> Result<bool, StoreError> {
    let path = options.get_filename();
    let connected = SqliteConnection::connect_with(options).await;
    let mut connection = connected.map_err(|error| database::corrupt(path, error))?;
    let last = database::check_known(&mut connection).await?;
    connection.close().await?;
    Ok(last == Some(database::newest_known()))
}
