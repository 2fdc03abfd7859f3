use std::path::PathBuf;

use crate::{retention::Retention, watchdog::Patience};

/// Where models lie, and what jobs may take.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    pub models_dir: PathBuf,
    /// Bytes of memory that jobs may take together; `None` = no limit.
    pub memory_limit: Option<u64>,
    pub patience: Patience,
    pub retention: Retention,
}
