//! From what is asked for to one specification per configuration.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::{Map, Value, json};

use super::search::{Draws, Grid, Path, Section, fitted};
use crate::{FieldError, JobSpec, Method, SpecError};

/// Runs of an experiment.
pub(super) const MOST_RUNS: u64 = 200;

/// Which methods are compared.
pub(super) enum Methods {
    /// That of the base body.
    Base,
    /// Each with its usual settings.
    All,
    Listed(Vec<Map<String, Value>>),
}

/// The methods of `"all"`: a fixed choice of the ways to tune, so that an old request means the same when there are more of them. Their
/// rates are those that a job of each method has unless told.
const ALL: [&str; 4] = ["full", "layerwise", "lora", "prompt_tuning"];

/// A configuration with the places that its settings come from.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub(super) spec: JobSpec,
    pub(super) origins: Origins,
}

/// From the path of a setting in a job's body to the one that the experiment's body has.
#[derive(Debug, Clone, Default)]
pub(super) struct Origins(BTreeMap<String, String>);

impl Origins {
    fn of(&self, param: &str) -> Option<String> {
        self.0.iter().rev().find_map(|(path, origin)| {
            let rest = param.strip_prefix(path.as_str())?;
            let whole = rest.is_empty() || rest.starts_with('.');
            whole.then(|| format!("{origin}{rest}"))
        })
    }

    /// Names every finding by the field that its setting comes from.
    pub(super) fn localized(&self, error: &SpecError) -> SpecError {
        error.map(|finding| {
            let Some(param) = self.of(&finding.param) else {
                return finding.clone();
            };
            let (old, new) = (format!("'{}", finding.param), format!("'{param}"));
            let message = finding.message.replace(&old, &new);
            FieldError::new(param, finding.code.clone(), message)
        })
    }
}

/// All that an experiment's body says of its configurations.
pub(super) struct Asked {
    /// The body of a job.
    pub(super) template: Map<String, Value>,
    pub(super) methods: Methods,
    pub(super) grid: Grid,
    pub(super) random: Option<Draws>,
    /// Their number.
    pub(super) seeds: u64,
}

/// A method, and where it stands in the body.
struct Base {
    /// Absent where the base body has none and none of its settings varies.
    tuning: Option<Map<String, Value>>,
    origin: Option<String>,
}

impl Base {
    fn method(&self) -> Value {
        let tuning = self.tuning.as_ref();
        let kind = tuning.and_then(|tuning| tuning.get("type"));
        kind.cloned()
            .unwrap_or_else(|| Method::default().name().into())
    }
}

/// A method with its default settings, as a body has it.
fn of_type(name: &str) -> Map<String, Value> {
    Map::from_iter([("type".to_owned(), json!(name))])
}

/// Paths of `grid` and `random` together.
const MOST_PATHS: usize = 50;

/// The settings of one configuration, each with `grid` or `random` in front of where it comes from.
type Settings<'a> = Vec<(&'a Path, Cow<'a, Value>, &'static str)>;

impl Asked {
    /// Every configuration, each different from all others.
    ///
    /// # Errors
    /// Every finding once, by the field that it comes from.
    pub(super) fn candidates(&self) -> Result<Vec<Candidate>, SpecError> {
        let bases = self.bases();
        self.check_paths(&bases)?;
        self.check_count(&bases)?;
        let mut candidates: Vec<Candidate> = Vec::new();
        let mut findings: Vec<FieldError> = Vec::new();
        for base in &bases {
            for settings in self.combinations(base) {
                match self.candidate(base, &settings) {
                    // Draws may meet the same values twice.
                    Ok(new) if candidates.iter().any(|old| old.spec == new.spec) => {}
                    Ok(new) => candidates.push(new),
                    Err(error) => {
                        let new = error.findings().iter();
                        let new: Vec<_> =
                            new.filter(|it| !findings.contains(it)).cloned().collect();
                        findings.extend(new);
                    }
                }
            }
        }
        SpecError::check(findings)?;
        Ok(candidates)
    }

    fn bases(&self) -> Vec<Base> {
        let own = self.template.get("tuning").and_then(Value::as_object);
        match &self.methods {
            Methods::Base => {
                let varies = self.paths().any(|path| path.section == Section::Tuning);
                let usual = || of_type(Method::default().name());
                let tuning = own.cloned().or_else(|| varies.then(usual));
                vec![Base {
                    tuning,
                    origin: None,
                }]
            }
            Methods::All => {
                let base = |name: &&str| Base {
                    tuning: Some(of_type(name)),
                    origin: Some("methods".to_owned()),
                };
                ALL.iter().map(base).collect()
            }
            Methods::Listed(tunings) => {
                let base = |(index, tuning): (usize, &Map<String, Value>)| Base {
                    tuning: Some(tuning.clone()),
                    origin: Some(format!("methods.{index}")),
                };
                tunings.iter().enumerate().map(base).collect()
            }
        }
    }

    fn drawn(&self) -> impl Iterator<Item = &Path> {
        self.random.iter().flat_map(Draws::paths)
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let grid = self.grid.iter().map(|(path, _)| path);
        grid.chain(self.drawn())
    }

    /// A path must be there for one of the methods, and have its values from one place.
    fn check_paths(&self, bases: &[Base]) -> Result<(), SpecError> {
        let paths = self.paths().count();
        if paths > MOST_PATHS {
            let param = match self.grid.len() > self.drawn().count() {
                true => "grid",
                false => "random",
            };
            let message = format!(
                "'{param}' varies too much: there are {paths} paths in 'grid' and 'random', and an experiment has at most {MOST_PATHS}"
            );
            return Err(FieldError::invalid(param, message).into());
        }
        let mut methods: Vec<Value> = Vec::new();
        for method in bases.iter().map(Base::method) {
            if !methods.contains(&method) {
                methods.push(method);
            }
        }
        let mut findings = Vec::new();
        let origins = self.grid.iter().map(|(path, _)| ("grid", path));
        let origins = origins.chain(self.drawn().map(|path| ("random", path)));
        for (origin, path) in origins {
            let section = path.section.as_str();
            let param = format!("{origin}.{}", path.name());
            if origin == "random" && self.grid.iter().any(|(other, _)| other == path) {
                let message = format!("'{param}' is in 'grid' as well; leave one out");
                findings.push(FieldError::invalid(param, message));
            } else if !methods.iter().any(|method| path.applies_to(method)) {
                let unknown = path.findings(&methods[0], Value::Null);
                let (old, new) = (format!("'{section}."), format!("'{origin}.{section}."));
                findings.extend(unknown.into_iter().map(|it| {
                    let message = it.message.replace(&old, &new);
                    FieldError::new(param.clone(), it.code.clone(), message)
                }));
            }
        }
        SpecError::check(findings)
    }

    /// Refuses more runs than there may be before any of them is made.
    fn check_count(&self, bases: &[Base]) -> Result<(), SpecError> {
        let per_base = bases.iter().map(|base| {
            let grid = self
                .applicable_grid(base)
                .map(|(_, values)| values.len() as u64);
            let draws = match self.applicable_draws(base) {
                true => self.random.as_ref().map_or(1, |draws| draws.n as u64),
                false => 1,
            };
            grid.fold(draws, u64::saturating_mul)
        });
        let configurations = per_base.fold(0, u64::saturating_add);
        let runs = configurations.saturating_mul(self.seeds);
        if runs <= MOST_RUNS {
            return Ok(());
        }
        let param = match (self.grid.is_empty(), &self.random) {
            (false, _) => "grid",
            (true, Some(_)) => "random.n",
            (true, None) => "seeds",
        };
        let message = format!(
            "'{param}' makes too many runs: {configurations} configurations with {} seeds each are {runs}, and an experiment has at most {MOST_RUNS}; give fewer values, or draw some with 'random'",
            self.seeds
        );
        Err(FieldError::invalid(param, message).into())
    }

    fn applicable_grid(&self, base: &Base) -> impl Iterator<Item = (&Path, &Vec<Value>)> {
        let method = base.method();
        let grid = self.grid.iter().map(|(path, values)| (path, values));
        grid.filter(move |(path, _)| path.applies_to(&method))
    }

    fn applicable_draws(&self, base: &Base) -> bool {
        let method = base.method();
        self.drawn().any(|path| path.applies_to(&method))
    }

    /// Every combination of the grid's values with every sample.
    fn combinations(&self, base: &Base) -> Vec<Settings<'_>> {
        let mut combinations: Vec<Settings<'_>> = vec![Vec::new()];
        for (path, values) in self.applicable_grid(base) {
            let mut longer = Vec::with_capacity(combinations.len() * values.len());
            for settings in &combinations {
                for value in values {
                    let mut settings = settings.clone();
                    settings.push((path, Cow::Borrowed(value), "grid"));
                    longer.push(settings);
                }
            }
            combinations = longer;
        }
        let Some(draws) = self.random.as_ref().filter(|_| self.applicable_draws(base)) else {
            return combinations;
        };
        let method = base.method();
        let samples: Vec<Settings<'_>> = draws
            .samples()
            .into_iter()
            .map(|sample| {
                let own = sample
                    .into_iter()
                    .filter(|(path, _)| path.applies_to(&method));
                own.map(|(path, value)| (path, fitted(path, &method, value), "random"))
                    .collect()
            })
            .collect();
        combinations
            .iter()
            .flat_map(|grid| {
                samples
                    .iter()
                    .map(|sample| [&grid[..], &sample[..]].concat())
            })
            .collect()
    }

    fn candidate(&self, base: &Base, settings: &Settings<'_>) -> Result<Candidate, SpecError> {
        let mut body = self.template.clone();
        let mut origins = Origins::default();
        if let Some(tuning) = &base.tuning {
            body.insert("tuning".to_owned(), Value::Object(tuning.clone()));
        }
        if let Some(origin) = &base.origin {
            origins.0.insert("tuning".to_owned(), origin.clone());
        }
        for (path, value, origin) in settings {
            let section = body
                .entry(path.section.as_str())
                .or_insert_with(|| json!({}));
            if section.is_null() {
                *section = json!({});
            }
            if let Some(section) = section.as_object_mut() {
                section.insert(path.field.clone(), value.as_ref().clone());
            }
            let name = path.name();
            origins.0.insert(name.clone(), format!("{origin}.{name}"));
        }
        let spec = JobSpec::parse(&Value::Object(body));
        let spec = spec.map_err(|error| origins.localized(&error))?;
        Ok(Candidate { spec, origins })
    }
}
