//! The `replayforge` program.

use std::process::ExitCode;

use clap::Parser;
use replayforge::cli::Cli;

fn main() -> ExitCode {
    replayforge::command::run(Cli::parse()).into()
}
