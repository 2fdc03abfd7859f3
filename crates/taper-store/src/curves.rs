use std::collections::BTreeMap;

use sqlx::{QueryBuilder, Row, Sqlite};
use taper_core::Metrics;

use crate::{Job, Store, StoreError, job::JobKey, writer::Tx};

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
        job: &Job,
        query: &CurveQuery,
    ) -> Result<BTreeMap<String, Curve>, StoreError> {
        let last = query.to.map_or(i64::MAX, |to| to as i64);
        let mut sql =
            QueryBuilder::<Sqlite>::new("select name, step, value from metrics where job = ");
        sql.push_bind(job.row);
        sql.push(" and step >= ")
            .push_bind(query.from.unwrap_or(0) as i64);
        sql.push(" and step <= ").push_bind(last);
        if let Some(names) = &query.names {
            sql.push(" and name in (");
            let mut list = sql.separated(", ");
            for name in names {
                list.push_bind(name.clone());
            }
            list.push_unseparated(")");
        }
        sql.push(" order by name, step");
        let rows = sql.build().fetch_all(&mut *self.reader().await?).await?;
        let mut curves: BTreeMap<String, Curve> = BTreeMap::new();
        for row in rows {
            let curve = curves.entry(row.try_get("name")?).or_default();
            curve.push((row.try_get::<i64, _>("step")? as u64, row.try_get("value")?));
        }
        Ok(curves)
    }
}

impl Tx {
    /// Adds figures to the curves at their own `step`; figures without one are no curve.
    pub(crate) async fn extend_curves(
        &mut self,
        job: &JobKey,
        figures: &Metrics,
    ) -> Result<(), StoreError> {
        let Some(step) = figures.get("step") else {
            return Ok(());
        };
        for (name, value) in figures.iter() {
            if matches!(name, "step" | "total_steps") {
                continue;
            }
            sqlx::query(
                "insert or replace into metrics (job, name, step, value) values (?, ?, ?, ?)",
            )
            .bind(job.row)
            .bind(name)
            .bind(step as i64)
            .bind(value.is_finite().then_some(value))
            .execute(&mut self.connection)
            .await?;
        }
        Ok(())
    }

    /// Forgets what lies beyond a step, since it will be recomputed.
    pub(crate) async fn cut_curves(&mut self, job: &JobKey, step: u64) -> Result<(), StoreError> {
        sqlx::query("delete from metrics where job = ? and step > ?")
            .bind(job.row)
            .bind(step as i64)
            .execute(&mut self.connection)
            .await?;
        Ok(())
    }

    /// The last value of every curve.
    pub(crate) async fn last_figures(&mut self, job: &JobKey) -> Result<Metrics, StoreError> {
        // SQLite takes the other columns from the row that has the greatest step.
        let rows =
            sqlx::query("select name, value, max(step) from metrics where job = ? group by name")
                .bind(job.row)
                .fetch_all(&mut self.connection)
                .await?;
        let mut metrics = Metrics::new();
        for row in rows {
            let value: Option<f64> = row.try_get("value")?;
            metrics.set(row.try_get("name")?, value.unwrap_or(f64::NAN));
        }
        Ok(metrics)
    }
}
