//! Interim answers (1xx) that a service sends before its answer, which hyper's server cannot but for `100 Continue`.
//!
//! The stream of a connection writes them where nothing else is on its way; see `Timed`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;

/// Interim answers of one request are written up to here; more are left out, as anybody on the way may do.
const MAX_BYTES: usize = 64 * 1024;

/// Takes interim answers of the request in whose extensions it lies.
///
#[derive(Clone, Debug, Default)]
pub struct Interim(Arc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    /// Spares the lock where there is nothing, which is nearly always.
    is_any: AtomicBool,
    bytes: Mutex<Vec<u8>>,
    connection: AtomicWaker,
}

impl Interim {
    /// Has the connection polled when there is an interim answer: called by the service each time that it is polled.
    pub fn register(&self, connection: &Waker) {
        self.0.connection.register(connection);
    }

    /// Has an interim answer written. Headers about one connection must be left out by the caller.
    pub fn push(&self, status: StatusCode, headers: &HeaderMap) {
        let mut bytes = self.0.bytes.lock();
        let before = bytes.len();
        let reason = status.canonical_reason().unwrap_or_default();
        bytes.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).as_bytes());
        for (name, value) in headers {
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                bytes.extend_from_slice(part);
            }
        }
        bytes.extend_from_slice(b"\r\n");
        if bytes.len() > MAX_BYTES {
            bytes.truncate(before);
        }
        self.0.is_any.store(!bytes.is_empty(), Ordering::Release);
        drop(bytes);
        self.0.connection.wake();
    }

    /// What waits.
    pub(crate) fn take(&self) -> Option<Bytes> {
        if !self.0.is_any.swap(false, Ordering::AcqRel) {
            return None;
        }
        let mut bytes = self.0.bytes.lock();
        Some(std::mem::take(&mut *bytes).into())
    }
}
