//! Ports that can be written into a file, and are free again when a program is killed and started anew.
//!
//! They lie below those that the kernel gives to outgoing connections. A lock for each keeps tests that run at the same
//! time, in other processes, from choosing the same.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;

use parking_lot::Mutex;

/// Held until this process ends.
static TAKEN: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port of this process alone.
pub(crate) fn free_port() -> u16 {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("ports");
    fs::create_dir_all(&folder).unwrap();
    let take = |port: u16| {
        let path = folder.join(port.to_string());
        let file = File::options().create(true).truncate(false).write(true).open(path).ok()?;
        file.try_lock().ok()?;
        TcpListener::bind(("127.0.0.1", port)).ok()?;
        TAKEN.lock().push(file);
        Some(port)
    };
    let ports = std::iter::repeat_with(|| fastrand::u16(12_000..14_000)).take(10_000);
    ports.into_iter().find_map(take).expect("one of two thousand ports is free")
}

/// Ports of one stack.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    pub(crate) proxy: u16,
    pub(crate) relay: u16,
    pub(crate) status: u16,
    pub(crate) target: u16,
}

impl Ports {
    pub(crate) fn free() -> Ports {
        Ports { proxy: free_port(), relay: free_port(), status: free_port(), target: free_port() }
    }
}
