//! `script`: try, test and measure Lua scripts.

mod bench;
mod events;
mod run;
mod test;

use rf_script::{ScriptOptions, Session};

use super::{complain, fail, print};
use crate::cli::{ScriptAction, ScriptInputArgs};
use crate::config_file;
use crate::logging;
use crate::logging::settings::{LEVEL_VARIABLES, Settings};
use crate::running::Exit;

pub(super) fn run(action: &ScriptAction) -> Exit {
    // What a script logs is a part of trying it; in tests and measurements it is noise.
    let level = if matches!(action, ScriptAction::Run(_)) { "info" } else { "error" };
    let environment = |name: &str| {
        config_file::environment(name)
            .or_else(|| LEVEL_VARIABLES.contains(&name).then(|| level.to_owned()))
    };
    if let Err(error) = logging::init(&Settings::read(environment, LEVEL_VARIABLES, None)) {
        complain(&format!("logging cannot be set up: {error}"));
        return Exit::Failed;
    }
    let ended = match action {
        ScriptAction::Run(args) => run::run(&args.input),
        ScriptAction::Test(args) => test::run(args),
        ScriptAction::Bench(args) => bench::run(args),
    };
    ended.unwrap_or_else(|error| fail(&error))
}

/// A script that takes events, as `run` and `bench` need it.
fn load(args: &ScriptInputArgs) -> anyhow::Result<Session> {
    let mut options = ScriptOptions::new(&args.script, args.sinks.clone());
    options.any_sink = args.sinks.is_empty();
    let session = Session::load(options)?;
    if !session.vm().has_process() {
        let script = args.script.display();
        let hint = if session.vm().has_transform_batch() {
            ": scripts of sinks are tried with `replayforge script test`"
        } else {
            ""
        };
        anyhow::bail!("{script}: the script has no function Process{hint}");
    }
    Ok(session)
}
