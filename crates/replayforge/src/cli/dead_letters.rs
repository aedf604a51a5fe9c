//! Arguments of `dead-letters`.

use std::path::PathBuf;

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
