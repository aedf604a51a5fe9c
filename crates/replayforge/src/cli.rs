//! What can be asked of the program. The texts teach: they are the first thing that a user reads.

mod dead_letters;
mod original;
mod script;
mod status;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use self::values::interval;

pub use self::dead_letters::{DeadLettersAction, DeadLettersArgs, StoreArgs, WhichArgs};
pub use self::original::translate_original;
pub use self::script::{
    EventForm, ScriptAction, ScriptBenchArgs, ScriptInputArgs, ScriptRunArgs, ScriptTestArgs,
};
pub use self::status::{StatusArgs, TapArgs, TopArgs, TraceArgs};

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
