use serde_json::{Map, Value};

use super::{
    Budget, Direction, Experiment, Objective, Strategy, TRAIN_LOSS,
    configurations::{Asked, Candidate, MOST_RUNS, Methods},
    describe::describe,
    search,
};
use crate::{
    FieldError, JobSpec, SpecError, TaskType,
    fields::{Fields, shown},
    training::METRICS,
};

/// The fields of the body that are the experiment's own; the others are those of a job.
const OWN: [&str; 7] = [
    "methods",
    "grid",
    "random",
    "seeds",
    "strategy",
    "budget",
    "objective",
];
const REDUCTIONS: std::ops::RangeInclusive<i64> = 2..=10;

/// The body of an experiment, checked by itself: what it compares, and the specification of each configuration.
#[derive(Debug, Clone)]
pub struct ExperimentRequest {
    candidates: Vec<Candidate>,
    seeds: Vec<u64>,
    strategy: Strategy,
    budget: Option<Budget>,
    metric: Option<&'static str>,
    direction: Option<Direction>,
}

impl ExperimentRequest {
    /// Reads the create body and tells all that is wrong with it by itself; ids, model folder and data are checked later.
    ///
    /// # Errors
    /// Every finding with the path of its field as the body has it, for instance `methods.0.r` or `grid.training.learning_rate`.
    pub fn parse(body: &Value) -> Result<Self, SpecError> {
        let Some(object) = body.as_object() else {
            let message = format!("the body must be a JSON object, not {}", shown(body));
            return Err(FieldError::invalid("", message).into());
        };
        let mut fields = Fields::new("", object);
        let methods = methods(&mut fields);
        let grid = search::grid(&mut fields);
        let random = search::random(&mut fields);
        let seeds = seeds(&mut fields);
        let strategy = strategy(&mut fields);
        let budget = budget(&mut fields);
        let (metric, direction) = objective(&mut fields);
        check_twice(&mut fields, object, seeds.is_some());
        let base = JobSpec::read(fields)?;
        let validated = base.validation_file.is_some() || base.training.eval_split.is_some();
        check_validation(strategy, metric, validated)?;
        let mut template = object.clone();
        template.retain(|name, _| !OWN.contains(&name.as_str()));
        let seeds = seeds.unwrap_or_else(|| vec![base.training.seed]);
        let asked = Asked {
            template,
            methods,
            grid,
            random,
            seeds: seeds.len() as u64,
        };
        let request = Self {
            candidates: asked.candidates()?,
            seeds,
            strategy,
            budget,
            metric,
            direction,
        };
        request.check_rungs(request.candidates.len())?;
        Ok(request)
    }

    /// The specification of every configuration, with the first seed.
    pub fn specs(&self) -> impl Iterator<Item = &JobSpec> {
        self.candidates.iter().map(|candidate| &candidate.spec)
    }

    /// Names what was found wrong with a configuration by the fields that the body has.
    pub fn localized(&self, configuration: usize, error: &SpecError) -> SpecError {
        self.candidates[configuration].origins.localized(error)
    }

    /// Puts the experiment together once every configuration has been looked at, and the jobs it consists of: the index of the
    /// configuration and the specification. `asked` has one per configuration, with every value in force; those that turn out to be
    /// the same, since one spells out what is another's default, become one.
    ///
    /// # Errors
    /// An objective by which the task is not measured, or fewer configurations than are divided by.
    pub fn settle(
        self,
        asked: Vec<JobSpec>,
    ) -> Result<(Experiment, Vec<(usize, JobSpec)>), SpecError> {
        let mut specs: Vec<JobSpec> = Vec::new();
        for mut spec in asked {
            spec.training.seed = self.seeds[0];
            if !specs.contains(&spec) {
                specs.push(spec);
            }
        }
        self.check_rungs(specs.len())?;
        let first = &specs[0];
        let validated = first.validation_file.is_some() || first.training.eval_split.is_some();
        let task = first.tuning.task_type.unwrap_or(TaskType::SeqCls);
        let experiment = Experiment {
            model: first.model.clone(),
            training_file: first.training_file.clone(),
            validation_file: first.validation_file.clone(),
            suffix: first.suffix.clone(),
            strategy: self.strategy,
            budget: self.budget,
            objective: Objective::resolve(self.metric, self.direction, task, validated)?,
            configurations: describe(&specs),
            seeds: self.seeds,
        };
        let jobs = specs.iter().enumerate().flat_map(|(configuration, spec)| {
            experiment.seeds.iter().map(move |seed| {
                let mut spec = spec.clone();
                spec.training.seed = *seed;
                (configuration, spec)
            })
        });
        let jobs = jobs.collect();
        Ok((experiment, jobs))
    }

    /// Successive halving with fewer configurations than it divides by would stop none.
    fn check_rungs(&self, configurations: usize) -> Result<(), SpecError> {
        match self.strategy {
            Strategy::Asha { reduction } if (configurations as u64) < reduction => {
                let message = format!(
                    "'strategy.reduction' is {reduction}, but there are only {configurations} configurations; lower it, or compare more"
                );
                Err(FieldError::invalid("strategy.reduction", message).into())
            }
            _ => Ok(()),
        }
    }
}

fn methods(fields: &mut Fields<'_>) -> Methods {
    match fields.value("methods") {
        None => Methods::Base,
        Some(Value::String(word)) if word == "all" => Methods::All,
        Some(Value::Array(list)) if !list.is_empty() && list.len() as u64 <= MOST_RUNS => {
            let mut tunings = Vec::new();
            for (index, element) in list.iter().enumerate() {
                match element.as_object() {
                    Some(object) => tunings.push(object.clone()),
                    None => fields.reject(
                        &format!("methods.{index}"),
                        format_args!("must be an object like 'tuning', not {}", shown(element)),
                    ),
                }
            }
            Methods::Listed(tunings)
        }
        Some(other) => {
            fields.reject(
                "methods",
                format_args!(
                    "must be \"all\" or a list of 1 to {MOST_RUNS} objects like 'tuning', not {}",
                    shown(other)
                ),
            );
            Methods::All
        }
    }
}

fn seeds(fields: &mut Fields<'_>) -> Option<Vec<u64>> {
    let value = fields.value("seeds")?;
    let seed = |seed: &Value| seed.as_u64().filter(|seed| *seed <= i32::MAX as u64);
    let list: Option<Vec<u64>> = value
        .as_array()
        .filter(|list| (1..=MOST_RUNS).contains(&(list.len() as u64)))
        .and_then(|list| list.iter().map(seed).collect());
    let Some(list) = list else {
        fields.reject(
            "seeds",
            format_args!(
                "must be a list of 1 to {MOST_RUNS} whole numbers from 0 to {}, not {}",
                i32::MAX,
                shown(value)
            ),
        );
        return None;
    };
    if let Some(twice) = (1..list.len()).find(|i| list[..*i].contains(&list[*i])) {
        fields.reject(
            "seeds",
            format_args!(
                "lists {} twice; the same seed gives the same run",
                list[twice]
            ),
        );
    }
    Some(list)
}

fn strategy(fields: &mut Fields<'_>) -> Strategy {
    const USUAL_REDUCTION: u64 = 3;
    let object = match fields.value("strategy") {
        Some(Value::Object(object)) => object.clone(),
        Some(Value::String(word)) => {
            Map::from_iter([("type".to_owned(), Value::from(word.as_str()))])
        }
        Some(other) => {
            let message = format_args!(
                "must be an object with 'type' \"all\" or \"asha\", not {}",
                shown(other)
            );
            fields.reject("strategy", message);
            return Strategy::All;
        }
        None => return Strategy::All,
    };
    let mut own = Fields::new("strategy", &object);
    let asha = own.choice("type", &[("all", false), ("asha", true)]);
    own.require("type", asha.is_some());
    let reduction = match asha {
        Some(true) => own.integer("reduction", REDUCTIONS),
        _ => None,
    };
    fields.errors.append(&mut own.finish());
    match asha {
        Some(true) => Strategy::Asha {
            reduction: reduction.map_or(USUAL_REDUCTION, |n| n as u64),
        },
        _ => Strategy::All,
    }
}

fn budget(fields: &mut Fields<'_>) -> Option<Budget> {
    let object = fields.object("budget")?;
    let mut own = Fields::new("budget", object);
    let steps = own.integer("max_steps", 1..=1_000_000_000);
    let tokens = own.integer("max_tokens", 1..=1_000_000_000_000_000);
    let minutes = own.number("max_minutes", "greater than 0 and at most 1000000", |x| {
        x > 0.0 && x <= 1e6
    });
    let budgets = [
        steps.map(|n| Budget::MaxSteps(n as u64)),
        tokens.map(|n| Budget::MaxTokens(n as u64)),
        minutes.map(Budget::MaxMinutes),
    ];
    let errors = own.finish();
    let mut given = budgets.into_iter().flatten();
    let budget = given.next();
    if errors.is_empty() && (budget.is_none() || given.next().is_some()) {
        fields.reject(
            "budget",
            "takes one of 'max_steps', 'max_tokens' and 'max_minutes'",
        );
    }
    fields.errors.extend(errors);
    budget
}

fn objective(fields: &mut Fields<'_>) -> (Option<&'static str>, Option<Direction>) {
    let Some(object) = fields.object("objective") else {
        return (None, None);
    };
    let mut own = Fields::new("objective", object);
    let metrics: Vec<_> = METRICS
        .into_iter()
        .chain([(TRAIN_LOSS, TRAIN_LOSS)])
        .collect();
    let metric = own.choice("metric", &metrics);
    let directions = [("max", Direction::Max), ("min", Direction::Min)];
    let direction = own.choice("direction", &directions);
    fields.errors.append(&mut own.finish());
    (metric, direction)
}

/// Some fields take the place of the base body's, and one of those that vary something must be there.
fn check_twice(fields: &mut Fields<'_>, object: &Map<String, Value>, seeds: bool) {
    let given = |object: &Map<String, Value>, name: &str| {
        object.get(name).is_some_and(|value| !value.is_null())
    };
    if !["methods", "grid", "random"]
        .iter()
        .any(|name| given(object, name))
    {
        fields.reject(
            "methods",
            "is missing, and so are 'grid' and 'random': there is nothing to compare; say for instance \"methods\": \"all\"",
        );
    }
    if given(object, "methods") && given(object, "tuning") {
        fields.reject("methods", "takes the place of 'tuning'; leave one out");
    }
    let training = object.get("training").and_then(Value::as_object);
    let own_seed = given(object, "seed") || training.is_some_and(|it| given(it, "seed"));
    if seeds && own_seed {
        fields.reject(
            "seeds",
            "takes the place of 'seed' and 'training.seed'; leave one out",
        );
    }
}

/// What decides between configurations must be measured.
fn check_validation(
    strategy: Strategy,
    metric: Option<&str>,
    validated: bool,
) -> Result<(), SpecError> {
    let add = "add 'validation_file' or 'training.eval_split'";
    let mut findings = Vec::new();
    if matches!(strategy, Strategy::Asha { .. }) && !validated {
        let message = format!(
            "'strategy.type' asha stops runs by what they reach on validation data, and there is none; {add}"
        );
        findings.push(FieldError::invalid("strategy.type", message));
    }
    if let Some(metric) = metric.filter(|metric| *metric != TRAIN_LOSS && !validated) {
        let message = format!("'objective.metric' {metric} needs validation data; {add}");
        findings.push(FieldError::invalid("objective.metric", message));
    }
    SpecError::check(findings)
}
