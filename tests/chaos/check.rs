//! What a check is, and how it tells of itself.

use std::{
    fmt,
    io::{IsTerminal, Write},
    pin::Pin,
    str::FromStr,
};

use anyhow::Result;

/// How much is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Size {
    /// A few minutes for all checks.
    Reduced,
    /// Everything, or a part of the seeds and points.
    Full(Part),
}

impl Size {
    pub(crate) fn is_full(self) -> bool {
        matches!(self, Self::Full(_))
    }
}

/// One of several parts of equal size, so that long checks can be run in turns or on several machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    /// From 0.
    number: usize,
    of: usize,
}

impl Part {
    pub(crate) const WHOLE: Self = Self { number: 0, of: 1 };

    /// The things that belong to this part.
    pub(crate) fn take<T>(self, all: impl IntoIterator<Item = T>) -> Vec<T> {
        all.into_iter().skip(self.number).step_by(self.of).collect()
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let numbers = text.split_once('/');
        let numbers =
            numbers.and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match numbers {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self {
                number: number - 1,
                of,
            }),
            _ => Err(format!(
                "'{text}' is no part; write 1/4 for the first of four"
            )),
        }
    }
}

/// A check that has held.
#[derive(Debug)]
pub(crate) enum Passed {
    /// With figures of what was done.
    With(String),
    /// This machine cannot make the fault.
    Skipped(String),
}

impl Passed {
    pub(crate) fn new(figures: impl Into<String>) -> Self {
        Self::With(figures.into())
    }
}

pub(crate) type Running = Pin<Box<dyn Future<Output = Result<Passed>>>>;

/// A line of the table.
pub(crate) struct Check {
    /// Rows of the fault table in RELIABILITY.md.
    pub(crate) faults: &'static str,
    pub(crate) name: &'static str,
    pub(crate) run: fn(Size) -> Running,
}

/// Says something to whoever runs the checks.
pub(crate) fn say(line: impl fmt::Display) {
    // Without anybody to read it the exit code still tells.
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// How many of many things are done.
pub(crate) struct Progress {
    what: &'static str,
    done: u64,
    all: u64,
}

impl Progress {
    pub(crate) fn new(what: &'static str, all: u64) -> Self {
        Self { what, done: 0, all }
    }

    pub(crate) fn step(&mut self) {
        self.done += 1;
        let mut out = std::io::stderr();
        if out.is_terminal() {
            let _ = write!(out, "\r  {}/{} {} ", self.done, self.all, self.what);
        } else if self.done.is_multiple_of(20) {
            let _ = writeln!(out, "  {}/{} {}", self.done, self.all, self.what);
        }
        if self.done == self.all && out.is_terminal() {
            let _ = writeln!(out);
        }
    }
}
