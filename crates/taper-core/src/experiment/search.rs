//! `grid` and `random`: which settings vary, and over which values.

use std::{borrow::Cow, collections::BTreeMap};

use serde_json::{Map, Value};

use super::random::Random;
use crate::{
    Training, Tuning,
    error::{ErrorCode, FieldError},
    fields::{Fields, shown},
};

/// Values of one path, and samples: more would be more runs than there may be.
const MOST_VALUES: usize = 1000;
/// Digits of a sampled number after its first one: people read them, and nothing depends on more.
const DIGITS: usize = 2;

/// A setting that varies: a part of the body, and a field in it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Path {
    pub(super) section: Section,
    pub(super) field: String,
}

/// The parts of the body whose fields may vary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Section {
    Tuning,
    Training,
}

impl Section {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Tuning => "tuning",
            Self::Training => "training",
        }
    }
}

/// Settings that another field of the body varies, or that must not vary.
const RESERVED: [(&str, &str); 4] = [
    (
        "tuning.type",
        "cannot be varied here; list the methods in 'methods'",
    ),
    (
        "tuning.task_type",
        "cannot be varied: the configurations would not do the same task",
    ),
    (
        "training.seed",
        "cannot be varied here; list the seeds in 'seeds'",
    ),
    (
        "training.eval_split",
        "cannot be varied: the configurations would not be measured on the same rows",
    ),
];

impl Path {
    /// Reads `tuning.FIELD` or `training.FIELD`; the error goes on after the path's name.
    fn parse(text: &str) -> Result<Self, String> {
        if let Some((_, reason)) = RESERVED.iter().find(|(path, _)| *path == text) {
            return Err((*reason).to_owned());
        }
        let (section, field) = match text.split_once('.') {
            Some(("tuning", field)) => (Section::Tuning, field),
            Some(("training", field)) => (Section::Training, field),
            _ => {
                let wanted = "is no path that can be varied; paths begin with 'tuning.' or 'training.', for instance 'training.learning_rate'";
                return Err(wanted.to_owned());
            }
        };
        Ok(Self {
            section,
            field: field.to_owned(),
        })
    }

    pub(super) fn name(&self) -> String {
        format!("{}.{}", self.section.as_str(), self.field)
    }

    /// What is wrong with a value at this path, given the method it is for. `null` asks whether there is such a field.
    pub(super) fn findings(&self, method: &Value, value: Value) -> Vec<FieldError> {
        let mut findings = Vec::new();
        let mut object = Map::new();
        match self.section {
            Section::Tuning => {
                object.insert("type".to_owned(), method.clone());
                object.insert(self.field.clone(), value);
                Tuning::parse("tuning", &object, &mut findings);
            }
            Section::Training => {
                object.insert(self.field.clone(), value);
                Training::default().parse(&object, &mut findings);
            }
        }
        let name = self.name();
        findings.retain(|finding| finding.param == name);
        findings
    }

    /// Tells whether a method has this field.
    pub(super) fn applies_to(&self, method: &Value) -> bool {
        let findings = self.findings(method, Value::Null);
        findings
            .iter()
            .all(|it| it.code != ErrorCode::UnknownParameter)
    }
}

/// Every path with its values, in the order of the body: the first one varies slowest.
pub(super) type Grid = Vec<(Path, Vec<Value>)>;

/// Reads `grid`.
pub(super) fn grid(fields: &mut Fields<'_>) -> Grid {
    let mut grid = Grid::new();
    for (text, values) in fields.object("grid").into_iter().flatten() {
        let name = format!("grid.{text}");
        match (Path::parse(text), list_of_values(values)) {
            (Err(message), _) | (_, Err(message)) => fields.reject(&name, message),
            (Ok(path), Ok(values)) => grid.push((path, values)),
        }
    }
    grid
}

fn list_of_values(values: &Value) -> Result<Vec<Value>, String> {
    let list = values
        .as_array()
        .filter(|list| (1..=MOST_VALUES).contains(&list.len()));
    let list = list.ok_or_else(|| {
        format!(
            "must be a list of 1 to {MOST_VALUES} values, not {}",
            shown(values)
        )
    })?;
    match (1..list.len()).find(|i| list[..*i].contains(&list[*i])) {
        Some(twice) => Err(format!("lists {} twice", shown(&list[twice]))),
        None => Ok(list.clone()),
    }
}

/// Values drawn at random.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Draws {
    /// How often all paths are drawn.
    pub(super) n: usize,
    seed: u64,
    ranges: BTreeMap<Path, Range>,
}

/// What one value is drawn from.
#[derive(Debug, Clone, PartialEq)]
enum Range {
    Linear(f64, f64),
    Log(f64, f64),
    Choice(Vec<Value>),
}

/// Reads `random`.
pub(super) fn random(fields: &mut Fields<'_>) -> Option<Draws> {
    let object = fields.object("random")?;
    let mut own = Fields::new("random", object);
    let n = own.integer("n", 1..=MOST_VALUES as i64);
    own.require("n", n.is_some());
    let seed = own.integer("seed", 0..=i64::from(i32::MAX));
    let mut ranges = BTreeMap::new();
    for (text, range) in object {
        if text == "n" || text == "seed" {
            continue;
        }
        match (Path::parse(text), Range::parse(range)) {
            (Err(message), _) | (_, Err(message)) => own.reject(text, message),
            (Ok(path), Ok(range)) => drop(ranges.insert(path, range)),
        }
    }
    if ranges.is_empty() && own.errors.is_empty() {
        own.reject("n", "says how often to draw, but nothing is drawn; add a range, for instance {\"training.learning_rate\": {\"log\": [1e-5, 1e-3]}}");
    }
    fields.errors.append(&mut own.errors);
    Some(Draws {
        n: n.unwrap_or(1) as usize,
        seed: seed.map_or(42, |seed| seed as u64),
        ranges,
    })
}

impl Range {
    fn parse(value: &Value) -> Result<Self, String> {
        let wanted = || {
            format!(
                "must be {{\"linear\": [LOW, HIGH]}}, {{\"log\": [LOW, HIGH]}} with LOW above 0, or {{\"choice\": [VALUE, …]}}, not {}",
                shown(value)
            )
        };
        let object = value.as_object().filter(|object| object.len() == 1);
        let (kind, inner) = object
            .and_then(|object| object.iter().next())
            .ok_or_else(wanted)?;
        if kind == "choice" {
            return Ok(Self::Choice(list_of_values(inner)?));
        }
        let bounds = inner.as_array().filter(|list| list.len() == 2);
        let bound = |i: usize| bounds?[i].as_f64().filter(|x| x.is_finite());
        match (kind.as_str(), bound(0), bound(1)) {
            ("linear", Some(low), Some(high)) if low < high => Ok(Self::Linear(low, high)),
            ("log", Some(low), Some(high)) if 0.0 < low && low < high => Ok(Self::Log(low, high)),
            _ => Err(wanted()),
        }
    }

    fn draw(&self, random: &mut Random) -> Cow<'_, Value> {
        let unit = random.unit();
        let (number, low, high) = match self {
            Self::Linear(low, high) => (low + unit * (high - low), low, high),
            Self::Log(low, high) => (low * (high / low).powf(unit), low, high),
            Self::Choice(values) => {
                return Cow::Borrowed(&values[(unit * values.len() as f64) as usize]);
            }
        };
        Cow::Owned(Value::from(rounded(number).clamp(*low, *high)))
    }
}

/// A number cut to some digits, through text, so that it is the nearest one to its decimal form.
fn rounded(x: f64) -> f64 {
    format!("{x:.DIGITS$e}").parse().unwrap_or(x)
}

impl Draws {
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.ranges.keys()
    }

    /// All samples, each a value per path; a method takes those of the paths that it has.
    pub(super) fn samples(&self) -> Vec<BTreeMap<&Path, Cow<'_, Value>>> {
        let mut random = Random::new(self.seed);
        (0..self.n)
            .map(|_| {
                let ranges = self.ranges.iter();
                ranges
                    .map(|(path, range)| (path, range.draw(&mut random)))
                    .collect()
            })
            .collect()
    }
}

/// A drawn number as a field takes it: one that takes whole numbers alone gets the nearest.
pub(super) fn fitted<'a>(path: &Path, method: &Value, value: Cow<'a, Value>) -> Cow<'a, Value> {
    let Some(number) = value.as_f64() else {
        return value;
    };
    let whole = Value::from(number.round() as i64);
    let is_refused = |value: &Value| !path.findings(method, value.clone()).is_empty();
    if is_refused(&value) && !is_refused(&whole) {
        Cow::Owned(whole)
    } else {
        value
    }
}
