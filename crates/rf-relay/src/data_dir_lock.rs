//! The data folder, which one relay has at a time: two would share neither buckets nor statistics.
//!
//! Promises: the folder is there, and no second relay's for as long as the lock lives; a kill gives it up. A disk that
//! takes no further file keeps no relay from starting: each bucket has a lock of its own, too.

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::Context;

/// No bucket can have this name: a dot is at its start.
const LOCK_NAME: &str = ".relay.lock";

/// The folder is this relay's. Dropped, it is free again.
#[derive(Debug)]
pub(crate) struct DataDirLock {
    _lock: Option<File>,
}

impl DataDirLock {
    /// Makes the folder if there is none. Blocks.
    ///
    /// # Errors
    /// When the folder cannot be had, or another relay has it.
    pub(crate) fn take(folder: &Path) -> anyhow::Result<Self> {
        let shown = folder.display();
        std::fs::create_dir_all(folder).with_context(|| format!("dataDir {shown}"))?;
        match lock(&folder.join(LOCK_NAME)) {
            Ok(file) => Ok(Self { _lock: Some(file) }),
            Err(TryLockError::WouldBlock) => anyhow::bail!(
                "dataDir {shown} is in use by another relay: stop that one, or give this one a folder of its own"
            ),
            Err(TryLockError::Error(error)) => {
                tracing::warn!(path = %shown, %error, "the data folder cannot be locked: make sure that no other relay uses it");
                Ok(Self { _lock: None })
            }
        }
    }
}

fn lock(path: &Path) -> Result<File, TryLockError> {
    let opened = File::options().create(true).truncate(false).write(true).open(path);
    let file = opened.map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_folder_is_one_relay_s_at_a_time() {
        let above = TempDir::new().unwrap();
        let folder = above.path().join("relay");
        let first = DataDirLock::take(&folder).unwrap();
        let second = DataDirLock::take(&folder).unwrap_err().to_string();
        assert!(second.contains("relay is in use by another relay"), "{second}");
        drop(first);
        DataDirLock::take(&folder).unwrap();
    }

    #[test]
    fn a_lock_that_cannot_be_made_keeps_nobody_out() {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join(LOCK_NAME)).unwrap();
        assert!(DataDirLock::take(folder.path()).unwrap()._lock.is_none());
    }
}
