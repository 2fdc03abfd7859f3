//! System calls that fail, or at which the process dies, by `strace`.

use std::process::Stdio;

use tokio::process::Command;

/// What happens at a system call instead of it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// The process dies as by `kill -9`.
    Death,
    /// The call fails with this error.
    Error(&'static str),
    /// The call takes so many seconds.
    Delay(u32),
}

/// The words in front of a command under which each thread's `nth` call (or every call from it on, with `onwards`) goes wrong.
pub(crate) fn wrapper(call: &str, fault: Fault, nth: u32, onwards: bool) -> Vec<String> {
    let what = match fault {
        Fault::Death => "signal=KILL".to_owned(),
        Fault::Error(name) => format!("error={name}"),
        Fault::Delay(seconds) => format!("delay_enter={seconds}s"),
    };
    let when = if onwards { "+" } else { "" };
    // -D: the process stays a child of this one. --seccomp-bpf: other calls keep their speed, but no signal gets through.
    let words: &[&str] = match fault {
        Fault::Death => &["strace", "-f", "-D", "-qq", "-o", "/dev/null", "-e"],
        Fault::Error(_) | Fault::Delay(_) => &[
            "strace",
            "-f",
            "-D",
            "-qq",
            "--seccomp-bpf",
            "-o",
            "/dev/null",
            "-e",
        ],
    };
    let filters = [
        format!("trace={call}"),
        "-e".to_owned(),
        format!("inject={call}:{what}:when={nth}{when}"),
    ];
    words
        .iter()
        .map(|word| (*word).to_owned())
        .chain(filters)
        .collect()
}

/// Why calls cannot be made to fail here, if they cannot.
pub(crate) async fn missing() -> Option<String> {
    let mut command = Command::new("strace");
    command.args([
        "-f",
        "-D",
        "-qq",
        "--seccomp-bpf",
        "-o",
        "/dev/null",
        "true",
    ]);
    let status = command.stderr(Stdio::null()).status().await;
    match status {
        Ok(status) if status.success() => None,
        _ => Some("strace is missing or may not trace here".to_owned()),
    }
}
