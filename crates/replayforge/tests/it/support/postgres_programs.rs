//! The programs of a PostgreSQL server, run as somebody whom they accept. Also a part of the tests of `rf-agent`.

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The system's user that Debian's package makes: the server refuses to run as root.
const SYSTEM_USER: &str = "postgres";

/// Who the server runs as.
pub(crate) struct SystemUser {
    /// User and group, where this process is root and must become somebody else.
    other: Option<(u32, u32)>,
}

impl SystemUser {
    pub(crate) fn find() -> SystemUser {
        if !rustix::process::geteuid().is_root() {
            return SystemUser { other: None };
        }
        let id = |flag| {
            let done = Command::new("id").args([flag, SYSTEM_USER]).output().expect("id");
            String::from_utf8_lossy(&done.stdout).trim().parse().ok()
        };
        let other = id("-u").zip(id("-g"));
        assert!(other.is_some(), "there is no user {SYSTEM_USER}: see test.sh");
        SystemUser { other }
    }

    /// Gives a file or folder to it.
    pub(crate) fn own(&self, path: &Path) {
        if let Some((user, group)) = self.other {
            chown(path, Some(user), Some(group)).unwrap();
        }
    }

    /// One of the server's programs.
    pub(crate) fn run(&self, program: &str) -> Command {
        let program = programs().join(program);
        let Some((user, group)) = self.other else { return Command::new(program) };
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={user}"), format!("--regid={group}")]);
        command.arg("--clear-groups").arg(program);
        command
    }
}

/// Debian keeps each version's programs in a folder of its own, outside of the PATH.
fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest =
        versions.map(|entry| entry.path().join("bin")).filter(|bin| bin.join("initdb").exists());
    let number = |bin: &PathBuf| {
        let version = bin.parent()?.file_name()?.to_str()?;
        version.parse::<u32>().ok()
    };
    newest.max_by_key(number).unwrap_or_default()
}
