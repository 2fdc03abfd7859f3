use std::collections::BTreeMap;

use crate::{Store, StoreError};

/// Steps and values of one figure, in the order of the steps; `None` = not finite.
pub type Curve = Vec<(u64, Option<f64>)>;

/// Which curves to read.
#[derive(Debug, Clone, Default)]
pub struct CurveQuery {
    /// Absent = all.
    pub names: Option<Vec<String>>,
    /// First step.
    pub from: Option<u64>,
    /// Last step.
    pub to: Option<u64>,
}

impl Store {
    /// Reads a job's curves by name; a name without values is left out.
    pub async fn curves(
        &self,
        job: &str,
        query: &CurveQuery,
    ) -> Result<BTreeMap<String, Curve>, StoreError> {
        unimplemented!("{job} {query:?}")
    }
}
