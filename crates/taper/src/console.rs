use std::{
    fmt::Display,
    io::{Write, stderr, stdout},
};

/// Writes a line for the user to stdout. A reader that has gone away is no reason to stop serving.
pub(crate) fn say(line: impl Display) {
    let mut out = stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Writes a line about how things go on to stderr.
pub(crate) fn tell(line: impl Display) {
    let _ = writeln!(stderr().lock(), "{line}");
}
