use sqlx::{QueryBuilder, Row, Sqlite, sqlite::SqliteRow};
use taper_core::Project;

/// Whose things a request may see. Whatever looks something up for a request asks for one; what belongs to a job is read with the
/// [`crate::Job`] in hand, which only a scope gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everybody's: those of the server itself, and of keys for all projects.
    All,
    /// Those of one project.
    Project(Project),
}

impl Scope {
    /// The project of what is made within the scope.
    pub fn home(&self) -> Project {
        match self {
            Self::All => Project::default(),
            Self::Project(project) => project.clone(),
        }
    }

    pub fn holds(&self, project: &Project) -> bool {
        match self {
            Self::All => true,
            Self::Project(own) => own == project,
        }
    }

    /// The one project, for conditions like `?1 is null or project = ?1`.
    pub(crate) fn project(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::Project(project) => Some(project.as_str()),
        }
    }

    /// Adds the condition to a query; without one where there is none, so that an index serves.
    pub(crate) fn narrow(&self, query: &mut QueryBuilder<Sqlite>, column: &str) {
        if let Self::Project(project) = self {
            query.push(format!(" and {column} = "));
            query.push_bind(project.to_string());
        }
    }
}

impl From<&Project> for Scope {
    fn from(project: &Project) -> Self {
        Self::Project(project.clone())
    }
}

/// The project that a row is of.
pub(crate) fn project_of(row: &SqliteRow) -> Result<Project, sqlx::Error> {
    let name: String = row.try_get("project")?;
    Project::parse(&name).map_err(|error| sqlx::Error::ColumnDecode {
        index: "project".to_owned(),
        source: Box::new(error),
    })
}
