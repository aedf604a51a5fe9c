//! What the machine tells of itself, for the source `system-stats` and for node-info.

use procfs::process::Process;
use procfs::{CpuTime, CurrentSI, KernelStats, ProcResult};

/// Time of all processors since the start of the machine.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct CpuTicks {
    pub(crate) all: u64,
    pub(crate) idle: u64,
}

impl CpuTicks {
    /// Until now.
    pub(crate) fn now() -> ProcResult<Self> {
        Ok(Self::of(&KernelStats::current()?.total))
    }

    pub(crate) fn of(time: &CpuTime) -> Self {
        let idle = time.idle + time.iowait.unwrap_or_default();
        let other = [time.irq, time.softirq, time.steal].map(Option::unwrap_or_default);
        // Time of guests is part of the user's time.
        let busy = time.user + time.nice + time.system + other.iter().sum::<u64>();
        Self { all: idle + busy, idle }
    }

    /// The share that was not idle since another look; `None` where no time has passed.
    pub(crate) fn percent_since(self, before: Self) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|ticks| *ticks > 0)?;
        // The kernel's idle time may go back a little.
        let idle = self.idle.saturating_sub(before.idle).min(all);
        Some(percent(all - idle, all))
    }
}

/// A counter as a number.
#[expect(clippy::cast_precision_loss, reason = "a counter beyond 2^53 may lose its last digit")]
pub(crate) fn real(value: u64) -> f64 {
    value as f64
}

/// A part of the whole in percent; of nothing it is nothing.
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { real(part) / real(whole) * 100.0 }
}

/// Bytes of memory that this process has in use.
pub(crate) fn own_memory() -> ProcResult<u64> {
    Ok(Process::myself()?.stat()?.rss * procfs::page_size())
}
