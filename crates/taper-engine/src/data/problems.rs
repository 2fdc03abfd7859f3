use taper_core::{ErrorCode, FieldError};

/// Which of a job's files something was found in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Training,
    Validation,
}

impl Part {
    /// An error on the field of the job that names the file.
    pub(crate) fn refuse(self, message: impl Into<String>) -> FieldError {
        let (param, code) = match self {
            Self::Training => ("training_file", ErrorCode::InvalidTrainingFile),
            Self::Validation => ("validation_file", ErrorCode::InvalidValidationFile),
        };
        FieldError::new(param, code, message)
    }
}

const SHOWN: usize = 5;

/// What is wrong with single lines of a file: the first few in words, the rest by number only, since a file may be nothing else.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    first: Vec<String>,
    count: usize,
}

impl Problems {
    pub(crate) fn add(&mut self, line: u64, problem: &str) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(format!("line {line}: {problem}"));
        }
    }

    /// How many lines are wrong.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// All of it in one sentence; `None` without problems.
    pub(crate) fn message(&self) -> Option<String> {
        let mut message = self.first.join("; ");
        if self.count > SHOWN {
            message.push_str(&format!("; and {} more bad lines", self.count - SHOWN));
        }
        (self.count > 0).then_some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_told_and_the_rest_counted() {
        let mut problems = Problems::default();
        assert_eq!(problems.message(), None);
        (1..=7).for_each(|line| problems.add(line, "is bad"));
        let message = problems.message().unwrap();
        assert!(message.starts_with("line 1: is bad; line 2: "), "{message}");
        assert!(
            message.ends_with("line 5: is bad; and 2 more bad lines"),
            "{message}"
        );
    }
}
