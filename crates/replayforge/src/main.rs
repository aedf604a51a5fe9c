//! The `replayforge` program.

use std::process::ExitCode;

use clap::Parser;
use replayforge::cli::{Cli, translate_original};

fn main() -> ExitCode {
    replayforge::command::run(Cli::parse_from(translate_original(std::env::args_os()))).into()
}
