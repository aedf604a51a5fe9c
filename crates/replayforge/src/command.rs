//! The commands, one file each.

mod check;
mod dead_letters;
mod demo;
mod notify;
mod role;
mod schema;
mod script;
mod status;
mod status_port;
mod tap;
mod trace;

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::{Cli, Command, Role};
use crate::running::Exit;

/// The program, as a shell knows it.
const PROGRAM: &str = "replayforge";

/// Does what was asked.
pub fn run(cli: Cli) -> Exit {
    match cli.command {
        Command::Proxy(args) => role::run(Role::Proxy, &args, None),
        Command::Player(args) => role::run(Role::Player, &args, None),
        Command::Relay(args) => role::run(Role::Relay, &args.role, args.port),
        Command::Demo(args) => demo::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Schema { role } => schema::run(role),
        Command::DeadLetters(args) => dead_letters::run(args.action),
        Command::ChildGuard(args) => {
            Exit::Child(rf_agent::child::guard::run(args.parent, &args.command))
        }
        Command::Notify { action } => notify::run(&action),
        Command::Status(args) => status::run(&args),
        Command::Top(args) => status::top(&args),
        Command::Tap(args) => tap::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::Script { action } => script::run(&action),
        Command::Completions { shell } => print(&completions(shell)),
    }
}

/// What completes the commands that a person may want: clap would name those that its help hides, too.
fn completions(shell: Shell) -> Vec<u8> {
    let all = Cli::command();
    let for_people = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    let mut command = clap::Command::new(PROGRAM)
        .version(env!("CARGO_PKG_VERSION"))
        .args(all.get_arguments().cloned())
        .subcommands(for_people);
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, PROGRAM, &mut script);
    script
}

/// Writes to standard output; a reader that has gone (`| head`) is no failure.
fn print(text: &[u8]) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Exit::Failed,
        _ => Exit::Ok,
    }
}

/// An error with its causes. What a text has said already its cause does not say again.
fn told(error: &anyhow::Error) -> String {
    let mut causes = error.chain().map(ToString::to_string);
    let first = causes.next().unwrap_or_default();
    causes.fold(
        first,
        |told, cause| {
            if told.contains(&cause) { told } else { format!("{told}: {cause}") }
        },
    )
}

/// Of a command that is done, or has failed.
fn ended(outcome: anyhow::Result<()>) -> Exit {
    match outcome {
        Ok(()) => Exit::Ok,
        Err(error) => fail(&error),
    }
}

/// Tells a person what has gone wrong.
fn fail(error: &anyhow::Error) -> Exit {
    complain(&told(error));
    Exit::Failed
}

/// The time of day in UTC, with milliseconds.
fn time_of_day(at_us: u64) -> String {
    let (seconds, ms) = (at_us / 1_000_000, at_us / 1000 % 1000);
    format!("{:02}:{:02}:{:02}.{ms:03}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60)
}

/// What to say of a store that is not there, or cannot be read.
fn no_store(path: &Path) -> String {
    let denied = |error: io::Error| error.kind() == io::ErrorKind::PermissionDenied;
    if File::open(path).is_err_and(denied) {
        return "the store cannot be opened (run this as the user that the agent runs as)"
            .to_owned();
    }
    let hint = match std::env::current_dir() {
        Ok(folder) if path.is_relative() => {
            format!(" Its dataDir begins in the working directory, {}", folder.display())
        }
        _ => String::new(),
    };
    format!("the store cannot be opened (has the agent ever run with this file?{hint})")
}

/// Writes a message for a person to standard error; there is nowhere to tell that it failed. It may quote what a script or
/// another program has said.
fn complain(text: &str) {
    let mut err = io::stderr().lock();
    let text = shown(text.trim_end().as_bytes(), err.is_terminal());
    drop(err.write_all(&text).and_then(|()| err.write_all(b"\n")));
}

/// A text as it is, so that it can be edited; for a terminal, which it must not steer, line by line without what could.
fn shown(text: &[u8], is_terminal: bool) -> Cow<'_, [u8]> {
    if !is_terminal {
        return Cow::Borrowed(text);
    }
    let text = String::from_utf8_lossy(text);
    let lines: Vec<String> = text.split('\n').map(status::plain).collect();
    Cow::Owned(lines.join("\n").into_bytes())
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context;
    use clap::ValueEnum;
    use clap_complete::Shell;
    use rf_queue::OpenError;

    use super::{completions, told};

    #[test]
    fn no_shell_offers_what_is_for_the_program_itself() {
        for shell in Shell::value_variants() {
            let script = String::from_utf8(completions(*shell)).expect("a text");
            for offered in ["dead-letters", "trace", "config", "version"] {
                assert!(script.contains(offered), "{shell}: no {offered}");
            }
            assert!(!script.contains(rf_agent::child::GUARD_COMMAND), "{shell}");
        }
    }

    #[test]
    fn nothing_is_said_twice() {
        let source = io::Error::from_raw_os_error(30);
        let opened: Result<(), _> = Err(OpenError::Io { path: "a/b".into(), source });
        let error = opened.context("the store cannot be opened").unwrap_err();
        let expected = "the store cannot be opened: a/b: Read-only file system (os error 30)";
        assert_eq!(told(&error), expected);
        assert_eq!(told(&anyhow::anyhow!("alone")), "alone");
    }
}
