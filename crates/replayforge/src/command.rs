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

use std::io::{self, Write};

use clap::CommandFactory;

use crate::cli::{Cli, Command, Role};
use crate::running::Exit;

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
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "replayforge", &mut script);
            print(&script)
        }
    }
}

/// Writes to standard output; a reader that has gone (`| head`) is no failure.
fn print(text: &[u8]) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Exit::Failed,
        _ => Exit::Ok,
    }
}

/// Writes a message for a person to standard error; there is nowhere to tell that it failed.
fn complain(text: &str) {
    let mut err = io::stderr().lock();
    drop(writeln!(err, "{}", text.trim_end()));
}
