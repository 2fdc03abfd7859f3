use std::{
    fmt::Display,
    io::{Write, stdout},
};

/// Writes a line for the user to stdout. A reader that has gone away is no reason to stop serving.
pub(crate) fn say(line: impl Display) {
    let mut out = stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
