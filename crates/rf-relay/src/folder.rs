//! The data folder, which one relay has at a time: two would share neither buckets nor statistics.
//!
//! Promises: the folder is there, and no second relay's for as long as the claim lives; a kill gives it up. A disk that
//! takes no further file keeps no relay from starting: each bucket has a lock of its own, too.

use std::fs::{File, TryLockError};
use std::path::Path;

use anyhow::Context;

/// No bucket can have this name: a dot is at its start.
const LOCK_NAME: &str = ".relay.lock";

/// The folder is this relay's. Dropped, it is free again.
#[derive(Debug)]
pub(crate) struct Claim {
    _lock: Option<File>,
}

impl Claim {
    /// Makes the folder if there is none. Blocks.
    ///
    /// # Errors
    /// When the folder cannot be had, or another relay has it.
    pub(crate) fn take(folder: &Path) -> anyhow::Result<Claim> {
        let shown = folder.display();
        std::fs::create_dir_all(folder).with_context(|| format!("dataDir {shown}"))?;
        match lock(&folder.join(LOCK_NAME)) {
            Ok(file) => Ok(Claim { _lock: Some(file) }),
            Err(TryLockError::WouldBlock) => anyhow::bail!(
                "dataDir {shown} is in use by another relay: stop that one, or give this one a folder of its own"
            ),
            Err(TryLockError::Error(error)) => {
                tracing::warn!(path = %shown, %error, "the data folder cannot be locked, see that no second relay uses it");
                Ok(Claim { _lock: None })
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
        let first = Claim::take(&folder).unwrap();
        let second = Claim::take(&folder).unwrap_err().to_string();
        assert!(second.contains("relay is in use by another relay"), "{second}");
        drop(first);
        Claim::take(&folder).unwrap();
    }

    #[test]
    fn a_lock_that_cannot_be_made_keeps_nobody_out() {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join(LOCK_NAME)).unwrap();
        assert!(Claim::take(folder.path()).unwrap()._lock.is_none());
    }
}
