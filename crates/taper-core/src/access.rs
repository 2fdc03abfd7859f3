//! Who may do what: the roles of keys, and the projects whose things they see.

use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

/// What a key may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything, the server's own figures included.
    Admin,
    /// To make, change and delete things of its project.
    Submit,
    /// To look at things of its project.
    Read,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Admin, Self::Submit, Self::Read];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Submit => "submit",
            Self::Read => "read",
        }
    }

    /// Finds the role of a name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The name of a project: things of one are not seen from another. It stands in the names of tuned models.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Project(String);

/// Why a text is no name of a project.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a project's name has 1 to {most} letters, digits, '-', '_' or '.', and begins with a letter or a digit",
    most = Project::CHARS
)]
pub struct NoProject;

impl Project {
    /// The most characters of a name.
    pub const CHARS: usize = 64;

    /// Takes a text as a name.
    ///
    /// # Errors
    /// [`NoProject`]
    pub fn parse(text: &str) -> Result<Self, NoProject> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let begins_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if begins_well && text.len() <= Self::CHARS && text.chars().all(legal) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NoProject)
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The project of whoever does not name one.
impl Default for Project {
    fn default() -> Self {
        Self("default".to_owned())
    }
}

impl fmt::Display for Project {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_taken_for_something_else_are_none() {
        let long = "p".repeat(Project::CHARS);
        for name in ["default", "team-a", "A.b_c", "7", &long] {
            assert_eq!(Project::parse(name).unwrap().as_str(), name);
        }
        let longer = "p".repeat(Project::CHARS + 1);
        for name in [
            "", "-a", ".", "..", "a:b", "a/b", "a b", "é", "a\n", &longer,
        ] {
            assert_eq!(Project::parse(name), Err(NoProject), "{name}");
        }
    }

    #[test]
    fn roles_have_names() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        assert_eq!(Role::parse("Admin"), None);
    }
}
