//! The level of a process that runs: a signal asks for more, another one for what was configured.

use parking_lot::Mutex;
use tracing::Level;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::reload::Handle;

/// From few lines to many.
const LEVELS: [Level; 5] = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];

/// Changes the level of the process that logs.
pub struct LevelSwitch {
    configured: Level,
    now: Mutex<Level>,
    filter: Handle<LevelFilter, Registry>,
}

impl LevelSwitch {
    pub(super) fn new(configured: Level, filter: Handle<LevelFilter, Registry>) -> Self {
        Self { configured, now: Mutex::new(configured), filter }
    }

    /// One level more; the last one stays.
    pub fn more(&self) {
        self.change(more_than);
    }

    /// As it was at the start.
    pub fn as_configured(&self) {
        self.change(|_| self.configured);
    }

    fn change(&self, to: impl FnOnce(Level) -> Level) {
        let mut now = self.now.lock();
        let level = to(*now);
        // Whoever asked wants to see that it was heard, whatever is shown before and after.
        if !self.show(level.max(Level::INFO)) {
            return;
        }
        *now = level;
        let name = level.as_str().to_lowercase();
        tracing::info!(level = name, "the log level was changed by a signal");
        self.show(level);
    }

    fn show(&self, level: Level) -> bool {
        let shown = self.filter.modify(|filter| *filter = LevelFilter::from_level(level));
        if let Err(error) = &shown {
            tracing::warn!(%error, "the log level cannot be changed");
        }
        shown.is_ok()
    }
}

fn more_than(level: Level) -> Level {
    let at = LEVELS.iter().position(|known| *known == level).unwrap_or_default();
    LEVELS.get(at + 1).copied().unwrap_or(Level::TRACE)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::more_than;

    #[test]
    fn each_level_leads_to_the_next_and_the_last_stays() {
        let mut level = Level::ERROR;
        let mut names = Vec::new();
        for _ in 0..6 {
            level = more_than(level);
            names.push(level.as_str());
        }
        assert_eq!(names, ["WARN", "INFO", "DEBUG", "TRACE", "TRACE", "TRACE"]);
    }
}
