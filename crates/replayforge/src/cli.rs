//! What can be asked of the program. The texts teach: they are the first thing that a user reads.

mod original;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use uuid::Uuid;

use self::values::{interval, url};

pub use self::original::translate_original;

/// Moves requests between servers without a broker: a proxy captures them, a relay keeps them, a player replays them.
///
/// Every program answers for what it has taken only once it is on disk. Start with `replayforge demo`.
#[derive(Debug, Parser)]
#[command(name = "replayforge", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a proxy: captures requests on this server and ships them to a relay
    ///
    /// A request is answered `200 Request received` once it is on this machine's disk; when the relay is away it waits
    /// there, within the configured bytes.
    Proxy(RoleArgs),
    /// Run a relay: keeps events in buckets until players fetch them
    ///
    /// Listens for proxies and players on `port` (8081); the status page is on `portStatusZ`, on this machine only.
    Relay(RelayArgs),
    /// Run a player: pulls buckets from a relay and replays the requests
    ///
    /// Dials out only, so it can stand behind a firewall. A request is sent again until the target has answered; each
    /// repeat carries the same `Idempotency-Key`.
    Player(RoleArgs),
    /// Try everything at once: relay, proxy, player and a small target in this process
    ///
    /// Prints a curl line to try, then a line for each request with its way and times. Needs no file and leaves nothing
    /// behind, unless a folder is given. Ends with Ctrl-C.
    Demo(DemoArgs),
    /// Check a configuration file without starting anything
    ///
    /// Prints every problem with file, line, column and key. Warnings, such as unknown keys, count as errors here.
    /// Exit code 78 when there is a problem.
    Check(CheckArgs),
    /// Print the JSON Schema of a role's configuration file, for editors
    Schema {
        /// Whose file.
        role: Role,
    },
    /// Look at, mend and retry events that could not be delivered
    ///
    /// Works on the store of a proxy or player, also while it runs.
    DeadLetters(DeadLettersArgs),
    /// Try out the services that notifications go to, a player's or a relay's
    Notify {
        /// What to do.
        #[command(subcommand)]
        action: NotifyAction,
    },
    /// Show what a relay sees: what is wrong, every bucket, every proxy and player
    ///
    /// Asks the relay's status port. Where that asks for a token (`statusAuth`), it is read from the variable
    /// `RF_STATUS_TOKEN` or from a file. Exit code 1 when the relay does not answer.
    Status(StatusArgs),
    /// Show what a relay sees as `status` does, drawn anew every few seconds until Ctrl-C
    Top(TopArgs),
    /// Show the events of a bucket as they come in, without taking them
    ///
    /// Prints one event a line. The bucket's token is read from the variable `RF_BUCKET_TOKEN` or from a file. When the relay
    /// is away it is asked again; what came in meanwhile is not shown. Ends with Ctrl-C.
    Tap(TapArgs),
    /// Tell one event's way, step by step, through proxy, relay and player
    ///
    /// Asks the status ports of the programs that are named. Where a file is given, its program is asked; a proxy or player
    /// that does not answer has its store looked through instead, for what waits and what is dead. Programs remember the
    /// newest steps only (`traceSteps`), and none from before their start. Exit code 1 when no program knows the event.
    Trace(TraceArgs),
    /// Try, test and measure Lua scripts without starting anything
    ///
    /// `run` shows what a script emits for a file of events, `test` runs the tests beside scripts, `bench` tells how many
    /// events a second a script can do.
    Script {
        /// What to do with a script.
        #[command(subcommand)]
        action: ScriptAction,
    },
    /// What a role starts in place of a program of the user's: sees to its end
    #[command(name = rf_agent::child::GUARD_COMMAND, hide = true)]
    ChildGuard(ChildGuardArgs),
    /// Print a completion script for a shell
    Completions {
        /// Which shell.
        shell: Shell,
    },
}

/// One of the three programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Captures and ships.
    Proxy,
    /// Keeps.
    Relay,
    /// Pulls and replays.
    Player,
}

/// Arguments of a role.
#[derive(Debug, Args)]
pub struct RoleArgs {
    /// The configuration file: JSON, or JSON5 with comments
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// How long a stop may take before what hangs is cut, such as `30s`
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = interval)]
    pub grace: Duration,
    /// The log level; wins over the environment and the file. Without a level: debug
    #[arg(short, long, value_name = "LEVEL", num_args = 0..=1, default_missing_value = "debug")]
    #[arg(value_parser = ["trace", "debug", "info", "warn", "error"], ignore_case = true)]
    pub verbosity: Option<String>,
}

/// Arguments of the relay.
#[derive(Debug, Args)]
pub struct RelayArgs {
    /// What every role takes.
    #[command(flatten)]
    pub role: RoleArgs,
    /// The port for proxies and players; wins over the file
    #[arg(short, long)]
    pub port: Option<u16>,
}

/// Arguments of the demo.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Keep the files in this folder instead of a temporary one
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The file
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// Whose file it is; otherwise told by its keys
    #[arg(long)]
    pub role: Option<Role>,
}

/// Arguments of `dead-letters`.
#[derive(Debug, Args)]
pub struct DeadLettersArgs {
    /// What to do with them.
    #[command(subcommand)]
    pub action: DeadLettersAction,
}

/// Which store.
#[derive(Debug, Args)]
pub struct StoreArgs {
    /// The configuration file of the proxy or player
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Which letters.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct WhichArgs {
    /// Their numbers, as `list` shows them
    #[arg(value_name = "ID")]
    pub ids: Vec<u64>,
    /// Every letter
    #[arg(long)]
    pub all: bool,
    /// Every letter of this sink
    #[arg(long, value_name = "SINK")]
    pub sink: Option<String>,
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub enum DeadLettersAction {
    /// List them, oldest first: number, sink, time, attempts, reason
    List {
        /// Which store.
        #[command(flatten)]
        store: StoreArgs,
        /// Only of this sink
        #[arg(long, value_name = "SINK")]
        sink: Option<String>,
        /// At the most so many
        #[arg(long, default_value_t = 100)]
        limit: usize,
        /// Only those with a higher number
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// One JSON object a line, for programs
        #[arg(long)]
        json: bool,
    },
    /// Print one event as it lies there
    Show {
        /// Which store.
        #[command(flatten)]
        store: StoreArgs,
        /// Its number
        id: u64,
    },
    /// Put events back into their queue; a running agent does so within a second, another one when it starts
    Retry {
        /// Which store.
        #[command(flatten)]
        store: StoreArgs,
        /// Which letters.
        #[command(flatten)]
        which: WhichArgs,
    },
    /// Replace the text of one event
    Edit {
        /// Which store.
        #[command(flatten)]
        store: StoreArgs,
        /// Its number
        id: u64,
        /// The file with the new text; `-` reads standard input
        #[arg(long, value_name = "FILE", default_value = "-")]
        file: PathBuf,
    },
    /// Remove events for good
    Purge {
        /// Which store.
        #[command(flatten)]
        store: StoreArgs,
        /// Which letters.
        #[command(flatten)]
        which: WhichArgs,
    },
}

/// What to do with notifications.
#[derive(Debug, Subcommand)]
pub enum NotifyAction {
    /// Send one notification to every service of a player's or a relay's file, and say what came back
    ///
    /// Starts nothing and touches no queue. Exit code 1 when a service did not take it.
    Test(NotifyTestArgs),
}

/// Arguments of `notify test`.
#[derive(Debug, Args)]
pub struct NotifyTestArgs {
    /// The configuration file of the player, or of the relay
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// Only this sink; `alerts` are the services of a relay
    #[arg(value_name = "SINK")]
    pub sink: Option<String>,
}

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

/// Arguments of the guard of a child.
#[derive(Debug, Args)]
pub struct ChildGuardArgs {
    /// The process that it is guarded for
    #[arg(long)]
    pub parent: i32,
    /// Program and arguments
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The relay's status port
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8090", value_parser = url)]
    pub relay: String,
    /// A file with its token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// As one JSON object, the `report` of /statusz
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// The relay's status port
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8090", value_parser = url)]
    pub relay: String,
    /// A file with its token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Seconds from one look to the next
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub every: u64,
}

/// Arguments of `tap`.
#[derive(Debug, Args)]
pub struct TapArgs {
    /// The relay, as proxies and players call it
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081", value_parser = url)]
    pub relay: String,
    /// The bucket
    #[arg(long)]
    pub bucket: String,
    /// A file with the bucket's token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Only events that contain this text
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// End after so many
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// One JSON object a line: when it came in, and the event as a text
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// The event: its `eventId`, which targets get as `Idempotency-Key`
    pub id: Uuid,
    /// The configuration file of a program; may be given several times
    #[arg(short, long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// A relay's status port; port 8090 of this machine when no program is named
    #[arg(long, value_name = "URL", value_parser = url)]
    pub relay: Vec<String>,
    /// A proxy's status port
    #[arg(long, value_name = "URL", value_parser = url)]
    pub proxy: Vec<String>,
    /// A player's status port
    #[arg(long, value_name = "URL", value_parser = url)]
    pub player: Vec<String>,
    /// A file with the token of the relays of `--relay`; without it, the variable `RF_STATUS_TOKEN`
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// As one JSON object: what each program knows
    #[arg(long)]
    pub json: bool,
}
