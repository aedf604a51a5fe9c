//! Arguments of `script`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// What to do with a script.
#[derive(Debug, Subcommand)]
pub enum ScriptAction {
    /// Show what a script emits for each event in a file
    ///
    /// Prints a line `SINK<TAB>CONTENT` for each event that is emitted. What is dropped, dead or failed is printed to
    /// standard error with the line number of the input. Exit code 1 if the script failed for an event. Lines that the
    /// script logs are shown from level info on; `LOG_LEVEL=debug` shows more.
    Run(ScriptRunArgs),
    /// Run the tests beside scripts
    ///
    /// The tests of `nginx.lua` are in `nginx.test.json`, JSON with comments:
    ///
    /// {"tests": [{"name": "drops pings", "steps": [{"input": "ping", "dropped": "a ping"}]}]}
    ///
    /// A step has `input`, `tick` (time passes, and the timer is called), `batch` or `body`, and what is expected: `emits`,
    /// `dropped`, `dead`, `failed`; for a batch `messages`, `path`, `headers`; for a body `status`. The machine's clock and
    /// variables are hidden. Exit code 1 if a test fails or there is none, 78 if a test file is invalid.
    Test(ScriptTestArgs),
    /// Measure how many events per second a script can process, on one core and without input and output
    Bench(ScriptBenchArgs),
}

/// Where events for a script come from.
#[derive(Debug, Args)]
pub struct ScriptInputArgs {
    /// The script
    #[arg(value_name = "SCRIPT")]
    pub script: PathBuf,
    /// The file with the events, one per line; `-` means standard input. Empty lines are skipped
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// What a line is: the event itself, the body of a captured POST, or a line of a log file
    #[arg(long, value_enum, default_value_t)]
    pub event: EventForm,
    /// The whole file is one event
    #[arg(long)]
    pub whole: bool,
    /// The names that `emit` accepts, separated by commas; without this option, any name
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
    /// A script, a test file, or a folder that is searched with all its subfolders
    #[arg(value_name = "PATH", default_value = ".")]
    pub path: PathBuf,
    /// Write the actual results into the steps that fail; review the changes before you commit them
    ///
    /// Only these steps are rewritten, and comments within them are lost.
    #[arg(long)]
    pub update: bool,
}

/// Arguments of `script bench`.
#[derive(Debug, Args)]
pub struct ScriptBenchArgs {
    /// Script and events; they are read once and then processed repeatedly.
    #[command(flatten)]
    pub input: ScriptInputArgs,
    /// How long to measure
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Print one JSON object, for programs
    #[arg(long)]
    pub json: bool,
}
