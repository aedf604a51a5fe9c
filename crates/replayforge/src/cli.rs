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
/// Every program acknowledges an event only once it is on disk. Start with `replayforge demo`.
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
    /// A request is answered `200 Request received` once it is on this machine's disk. While the relay is away, requests
    /// wait there, within the configured size.
    Proxy(RoleArgs),
    /// Run a relay: keeps events in buckets until players fetch them
    ///
    /// Listens for proxies and players on `port` (8081); the status page is on `portStatusZ`, on this machine only.
    Relay(RelayArgs),
    /// Run a player: pulls buckets from a relay and replays the requests
    ///
    /// Makes only outgoing connections, so it can be behind a firewall. A request is sent again until the target has
    /// answered; each repeat carries the same `Idempotency-Key`.
    Player(RoleArgs),
    /// Try everything at once: relay, proxy, player and a small target in this process
    ///
    /// Prints a curl line to try, then a line for each request with the times of its steps. Needs no file and leaves
    /// nothing behind, unless a folder is given. Ends with Ctrl-C.
    Demo(DemoArgs),
    /// Check a configuration file without starting anything
    ///
    /// Prints every problem with file, line, column and key. Warnings, such as unknown keys, count as errors here.
    /// Exit code 78 if there is a problem.
    Check(CheckArgs),
    /// Print the JSON Schema of a role's configuration file, for editors
    Schema {
        /// The role.
        role: Role,
    },
    /// List, edit, retry and purge events that could not be delivered
    ///
    /// Works on the store of a proxy or player, even while it is running.
    DeadLetters(DeadLettersArgs),
    /// Test the services that a player or a relay notifies
    Notify {
        /// What to do.
        #[command(subcommand)]
        action: NotifyAction,
    },
    /// Show what a relay sees: what is wrong, every bucket, every proxy and player
    ///
    /// Asks the relay's status port. If that requires a token (`statusAuth`), it is read from the variable
    /// `RF_STATUS_TOKEN` or from a file. Exit code 1 if the relay does not answer.
    Status(StatusArgs),
    /// Show what a relay sees, like `status`, refreshed every few seconds until Ctrl-C
    Top(TopArgs),
    /// Show the events of a bucket as they come in, without taking them
    ///
    /// Prints one event per line. The bucket's token is read from the variable `RF_BUCKET_TOKEN` or from a file. If the
    /// relay is away, it is asked again; events that come in meanwhile are not shown. Ends with Ctrl-C.
    Tap(TapArgs),
    /// Show one event's way, step by step, through proxy, relay and player
    ///
    /// Asks the status ports of the programs that are named, and of those whose files are given. If a proxy or player does
    /// not answer and its file is given, its store is searched instead, for waiting events and dead letters. Programs
    /// remember only the newest steps (`traceSteps`), and none from before their start. Exit code 1 if no program knows the
    /// event.
    Trace(TraceArgs),
    /// Try, test and measure Lua scripts without starting anything
    ///
    /// `run` shows what a script emits for a file of events, `test` runs the tests beside scripts, `bench` measures how many
    /// events per second a script can process.
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
    /// How long a stop may take before whatever has not ended is cut off, such as `30s`
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = interval)]
    pub grace: Duration,
    /// The log level; overrides the environment and the file. Without a level: debug
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
    /// The port for proxies and players; overrides the file; 0 takes any free port and logs it
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
    /// The role that the file is for; by default derived from its keys
    #[arg(long)]
    pub role: Option<Role>,
}

/// What to do with notifications.
#[derive(Debug, Subcommand)]
pub enum NotifyAction {
    /// Send one notification to every service in a player's or a relay's file, and print the answers
    ///
    /// Starts nothing and touches no queue. Exit code 1 if a service did not accept it.
    Test(NotifyTestArgs),
}

/// Arguments of `notify test`.
#[derive(Debug, Args)]
pub struct NotifyTestArgs {
    /// The configuration file of the player, or of the relay
    #[arg(short, long, value_name = "FILE")]
    pub config: PathBuf,
    /// Only this sink; `alerts` means the services of a relay
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
