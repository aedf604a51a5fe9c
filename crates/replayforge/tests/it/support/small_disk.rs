//! A disk that can be filled.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

/// A file system of a few MiB in memory.
pub(crate) struct SmallDisk {
    pub(crate) path: PathBuf,
}

impl SmallDisk {
    pub(crate) fn mount(path: PathBuf) -> SmallDisk {
        fs::create_dir_all(&path).unwrap();
        mount("tmpfs", &path, "tmpfs", MountFlags::empty(), Some(c"size=6m")).unwrap_or_else(
            |error| panic!("this test mounts a small tmpfs and has to run as root: {error}"),
        );
        SmallDisk { path }
    }

    pub(crate) fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }

    /// Writes until nothing more goes in, but for `left` bytes.
    pub(crate) fn fill(&self, left: usize) {
        let mut file = File::create(self.filler()).unwrap();
        let block = [0xAA_u8; 4096];
        while file.write_all(&block).is_ok() {}
        let size = file.metadata().unwrap().len();
        file.set_len(size.saturating_sub(left as u64)).unwrap();
    }

    pub(crate) fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    /// From now on it can only be read. Nobody may have a file of it open for writing.
    pub(crate) fn protect(&self) {
        mount_remount(&self.path, MountFlags::RDONLY, c"").unwrap();
    }

    /// It can be written again.
    pub(crate) fn unprotect(&self) {
        mount_remount(&self.path, MountFlags::empty(), c"").unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = unmount(&self.path, UnmountFlags::DETACH);
        assert!(unmounted.is_ok() || std::thread::panicking(), "{unmounted:?}");
    }
}
