//! Arguments of `dead-letters`.

use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Subcommand};

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
    /// All dead letters
    #[arg(long)]
    pub all: bool,
    /// All dead letters of this sink
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
        /// Only those of this sink
        #[arg(long, value_name = "SINK")]
        sink: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 100)]
        #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
        limit: usize,
        /// Only those with a higher number than this
        #[arg(long, default_value_t = 0)]
        after: u64,
        /// Print one JSON object per line, for programs
        #[arg(long)]
        json: bool,
    },
    /// Print one event as it is stored
    Show {
        /// Which store.
        #[command(flatten)]
        store: StoreArgs,
        /// Its number
        id: u64,
    },
    /// Put events back into their queue: within a second if the agent is running, otherwise when it starts
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
        /// The file with the new text; `-` means standard input
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
