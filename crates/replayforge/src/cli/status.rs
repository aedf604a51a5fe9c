//! Arguments of the commands that look at running programs: `status`, `top`, `tap` and `trace`.

use std::path::PathBuf;

use clap::Args;
use uuid::Uuid;

use super::values::{event_id, url};

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The relay's status port
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8090", value_parser = url)]
    pub relay: String,
    /// A file with its token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print one JSON object, the `report` of /statusz
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
    /// Seconds between updates
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub every: u64,
}

/// Arguments of `tap`.
#[derive(Debug, Args)]
pub struct TapArgs {
    /// The relay's API, as proxies and players call it
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081", value_parser = url)]
    pub relay: String,
    /// The bucket
    #[arg(long)]
    pub bucket: String,
    /// A file with the bucket's token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Show only events that contain this text
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// End after this many events
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Print one JSON object per line: when the event came in, and the event as a text
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// The event: its `eventId`, which targets get as `Idempotency-Key`
    #[arg(value_parser = event_id)]
    pub id: Uuid,
    /// The configuration file of a program; may be repeated
    #[arg(short, long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// A relay's status port; port 8090 of this machine if no program is named
    #[arg(long, value_name = "URL", value_parser = url)]
    pub relay: Vec<String>,
    /// A proxy's status port
    #[arg(long, value_name = "URL", value_parser = url)]
    pub proxy: Vec<String>,
    /// A player's status port
    #[arg(long, value_name = "URL", value_parser = url)]
    pub player: Vec<String>,
    /// A file with the token of the relays given with `--relay`; without it, the variable `RF_STATUS_TOKEN`
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print one JSON object: what each program knows
    #[arg(long)]
    pub json: bool,
}
