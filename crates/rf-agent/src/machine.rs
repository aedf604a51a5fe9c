//! What the machine tells of itself, for the source `system-stats` and for node-info.

use std::path::Path;

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

/// The room of a file system, as `df` tells it: what is kept for root is neither used nor free.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct DiskRoom {
    pub(crate) total: u64,
    /// For everybody.
    pub(crate) free: u64,
    pub(crate) used_percent: f64,
}

impl DiskRoom {
    /// Of the file system that the path is on; `None` where nobody may look.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let disk = rustix::fs::statvfs(path).ok()?;
        Some(Self::of(disk.f_frsize, [disk.f_blocks, disk.f_bfree, disk.f_bavail]))
    }

    /// All blocks, those that are free, and those that are free for everybody.
    fn of(block_bytes: u64, [all, free, available]: [u64; 3]) -> Self {
        let bytes = |blocks: u64| blocks.saturating_mul(block_bytes);
        let used = all.saturating_sub(free);
        let used_percent = percent(used, used.saturating_add(available));
        Self { total: bytes(all), free: bytes(available), used_percent }
    }
}

/// Bytes of memory that this process has in use.
pub(crate) fn own_memory() -> ProcResult<u64> {
    Ok(Process::myself()?.stat()?.rss * procfs::page_size())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_as_full_as_df_says() {
        let check = |blocks, expected| assert_eq!(DiskRoom::of(4096, blocks), expected);
        // A twentieth is kept for root, as ext4 does.
        let room = |free: u64, used_percent| DiskRoom {
            total: 1000 * 4096,
            free: free * 4096,
            used_percent,
        };
        check([1000, 1000, 950], room(950, 0.0));
        check([1000, 525, 475], room(475, 50.0));
        check([1000, 50, 0], room(0, 100.0));
        check([0, 0, 0], DiskRoom { total: 0, free: 0, used_percent: 0.0 });
    }
}
