//! The room of a file system.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::percent;

/// The room of a file system, as `df` tells it: what is kept for root is neither used nor free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DiskRoom {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that are free for everybody.
    pub free: u64,
    /// Per cent in use.
    pub percent: u64,
}

impl DiskRoom {
    /// Of the file system that the path is on; `None` where it does not tell.
    pub(crate) fn at(path: &Path) -> Option<DiskRoom> {
        let disk = rustix::fs::statvfs(path).ok()?;
        let blocks = [disk.f_blocks, disk.f_bfree, disk.f_bavail];
        (disk.f_blocks > 0).then(|| DiskRoom::of(disk.f_frsize, blocks))
    }

    /// All blocks, those that are free, and those that are free for everybody.
    fn of(block_bytes: u64, [all, free, available]: [u64; 3]) -> DiskRoom {
        let used = all.saturating_sub(free);
        DiskRoom {
            total: all.saturating_mul(block_bytes),
            free: available.saturating_mul(block_bytes),
            percent: percent(used, used.saturating_add(available)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_as_full_as_df_says() {
        let check = |blocks, free: u64, percent| {
            let room = DiskRoom { total: 1000 * 4096, free: free * 4096, percent };
            assert_eq!(DiskRoom::of(4096, blocks), room);
        };
        // A twentieth is kept for root, as ext4 does.
        check([1000, 1000, 950], 950, 0);
        check([1000, 525, 475], 475, 50);
        check([1000, 50, 0], 0, 100);
    }
}
