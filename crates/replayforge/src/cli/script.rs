//! Arguments of `script`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// What to do with a script.
#[derive(Debug, Subcommand)]
pub enum ScriptAction {
    /// Show what a script emits for each event of a file
    ///
    /// Prints a line `SINK<TAB>CONTENT` for each event that is emitted. What is dropped, dead or failed is told on standard
    /// error with the number of the input's line. Exit code 1 when the script failed for an event. Lines that the script
    /// logs are shown from level info on; `LOG_LEVEL=debug` shows more.
    Run(ScriptRunArgs),
    /// Run the tests beside scripts
    ///
    /// The tests of `nginx.lua` are in `nginx.test.json`, JSON with comments:
    ///
    /// {"tests": [{"name": "drops pings", "steps": [{"input": "ping", "dropped": "a ping"}]}]}
    ///
    /// A step has `input`, `tick` (time goes on, the timer is called) or `batch`, and what is expected: `emits`, `dropped`,
    /// `dead`, `failed`; of a batch `messages`, `path`, `headers`. The machine's clock and variables are hidden. Exit code
    /// 1 when a test fails or there is none, 78 when a test file is broken.
    #[command(verbatim_doc_comment)]
    Test(ScriptTestArgs),
    /// Measure how many events a second a script can do, on one core and without input and output
    Bench(ScriptBenchArgs),
}

/// Where events for a script come from.
#[derive(Debug, Args)]
pub struct ScriptInputArgs {
    /// The script
    #[arg(value_name = "SCRIPT")]
    pub script: PathBuf,
    /// The file with the events, one a line; `-` reads standard input. Empty lines are passed over
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// What a line is: the event itself, the body of a captured POST, or a line of a log file
    #[arg(long, value_enum, default_value_t)]
    pub event: EventForm,
    /// The whole file is one event
    #[arg(long)]
    pub whole: bool,
    /// The names that `emit` takes, separated by commas; any name without this
    #[arg(long, value_name = "SINKS", value_delimiter = ',')]
    pub sinks: Vec<String>,
}

/// What a line of input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum EventForm {
    /// The event itself.
    #[default]
    Raw,
    /// The body of a captured `POST /`.
    Http,
    /// A line as the `logfile` source sends it.
    Logline,
}

/// Arguments of `script run`.
#[derive(Debug, Args)]
pub struct ScriptRunArgs {
    /// Script and events.
    #[command(flatten)]
    pub input: ScriptInputArgs,
}

/// Arguments of `script test`.
#[derive(Debug, Args)]
pub struct ScriptTestArgs {
    /// A script, a test file, or a folder that is searched with all folders in it
    #[arg(value_name = "PATH", default_value = ".")]
    pub path: PathBuf,
    /// Write what really happens into the steps that fail; look at the difference before you commit it
    ///
    /// Only these steps are rewritten. Comments within them are lost.
    #[arg(long)]
    pub update: bool,
}

/// Arguments of `script bench`.
#[derive(Debug, Args)]
pub struct ScriptBenchArgs {
    /// Script and events; they are read once and then gone through again and again.
    #[command(flatten)]
    pub input: ScriptInputArgs,
    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// One JSON object, for programs
    #[arg(long)]
    pub json: bool,
}
