//! What a run has logged.

use serde::{Deserialize, Serialize};
use taper_core::{Metrics, Sample};

/// Figures, or texts that the model has written, with the time at which they were logged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Logged {
    pub(crate) unix_seconds: f64,
    pub(crate) metrics: Metrics,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) samples: Vec<Sample>,
}
