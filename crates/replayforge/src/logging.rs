//! Logging set-up: what is shown, how a line looks, and how a flood of lines is held back.
//!
//! Promises:
//!
//! - one line an event on stderr: time (UTC), level, message, then the fields, those of the spans
//!   around it first; as text, or as JSON with `LOG_FORMAT=json`. Whatever a message or a field
//!   holds, it cannot start a new line or steer a terminal, and it is cut at 8 KiB;
//! - an identical message is shown twice, announced as muted the second time, and then dropped for
//!   3 minutes; afterwards it says how often it was muted. Identical are level, target, message and
//!   fields, where numbers do not count: "queue is full" with another count is still the same. Only
//!   at the levels debug and trace do numbers count, since who asks for these wants every batch;
//! - a line that tells of a change of state (its field `state` is `down` or `up`; it is not shown) is not muted, unless the
//!   same changes more than 20 times in 3 minutes. After `up`, how often the trouble was muted is told no more;
//! - lines are bounded in rate; what was suppressed is counted and announced;
//! - no line ever costs a panic: a closed stderr loses lines, which are counted as suppressed too.
//!
//! What was shown of a source or sink is kept for status pages ([`RecentLogs`]), and warnings and errors are counted.
//!
//! Writing is synchronous: a reader of stderr that stands still holds up whoever logs.
//!
//! Reading order: [`settings`] (what the user may choose), `layer` (an event's way), `gate` (who
//! may pass), `fields` and `render` (how it looks), `level` (signals change it).

use std::io::{self, IsTerminal};
use std::sync::Arc;

use rf_core::recent_logs::RecentLogs;
use tracing::subscriber::{SetGlobalDefaultError, set_global_default};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;

use self::layer::LogLayer;
pub use self::level::LevelSwitch;
use self::render::Look;
use self::settings::{Colours, Format, Settings};

mod fields;
mod gate;
mod layer;
mod level;
mod render;
pub mod settings;

/// What a process has of its log.
pub struct Logging {
    /// The newest lines of sources and sinks, which grow as the process logs.
    pub recent: Arc<RecentLogs>,
    /// Changes the level.
    pub level: LevelSwitch,
}

/// Makes the process log to stderr as `settings` say, then logs what was wrong with them.
///
/// # Errors
/// When the process logs already.
pub fn init(settings: &Settings) -> Result<Logging, SetGlobalDefaultError> {
    let stderr = io::stderr();
    let look = match (settings.format, settings.colours) {
        (Format::Json, _) => Look::Json,
        (Format::Text, Colours::Auto) if stderr.is_terminal() => Look::ColouredText,
        (Format::Text, _) => Look::Text,
    };
    let recent = Arc::new(RecentLogs::default());
    let layer = LogLayer::new(look, Box::new(stderr)).keeping(Arc::clone(&recent));
    let (filter, handle) = reload::Layer::new(LevelFilter::from_level(settings.level));
    set_global_default(Registry::default().with(filter).with(layer))?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    Ok(Logging { recent, level: LevelSwitch::new(settings.level, handle) })
}
