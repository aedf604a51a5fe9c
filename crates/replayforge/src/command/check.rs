//! `check`: everything that a start does before it touches a port or a database.

use super::{complain, print};
use crate::cli::CheckArgs;
use crate::config_file;
use crate::running::Exit;

pub(super) fn run(args: &CheckArgs) -> Exit {
    let outcome = config_file::read(&args.config, args.role);
    if outcome.checked.is_none() || !outcome.problems.is_ok() {
        complain(&outcome.problems.to_string());
        return Exit::Config;
    }
    print(format!("{}: ok\n", args.config.display()).as_bytes())
}
