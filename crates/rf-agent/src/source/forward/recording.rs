//! The copy of one exchange while it is being made.
//!
//! Request body and answer body each hold the [`Recording`]; when the last of them has gone, however it went (read to the
//! end, broken off, given up), the copy is handed over. So nothing has to be remembered at the many ways an exchange ends.

use std::iter;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderMap, HeaderName, Method, StatusCode};
use parking_lot::Mutex;
use rf_core::clock::unix_us;
use tokio::time::Instant;

use super::copies::Copies;
use crate::source::http::nominated;
use crate::stats::Loss;

/// What a copy takes besides headers and bodies.
const OVERHEAD_BYTES: usize = 1024;

/// Bytes that all copies of a source may take together.
#[derive(Debug)]
pub(super) struct Memory {
    max: usize,
    used: AtomicUsize,
}

impl Memory {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { max, used: AtomicUsize::new(0) })
    }

    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn is_used_up(&self) -> bool {
        self.used.load(Ordering::Relaxed).saturating_add(OVERHEAD_BYTES) > self.max
    }
}

/// A part of [`Memory`], given back when dropped.
#[derive(Debug)]
pub(super) struct Hold {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Hold {
    /// False when there is no more.
    pub(super) fn grow(&mut self, bytes: usize) -> bool {
        let before = self.memory.used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > self.memory.max {
            self.memory.used.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Headers in one piece of memory: a copy must not hold on to the buffer that a connection reads into. They are read where they
/// are laid ([`super::pile`]).
#[derive(Debug, Default)]
pub(super) struct HeaderList {
    pub(super) bytes: Vec<u8>,
    /// Ends of name and value.
    pub(super) ends: Vec<(u32, u32)>,
}

impl HeaderList {
    pub(super) fn of(headers: &HeaderMap, leave_out: &[HeaderName], named: &[HeaderName]) -> Self {
        let wanted =
            headers.iter().filter(|(name, _)| !leave_out.contains(name) && !named.contains(name));
        let mut list =
            Self { bytes: Vec::with_capacity(512), ends: Vec::with_capacity(headers.len()) };
        let end = |bytes: &Vec<u8>| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        for (name, value) in wanted {
            list.bytes.extend_from_slice(name.as_str().as_bytes());
            let name_end = end(&list.bytes);
            list.bytes.extend_from_slice(value.as_bytes());
            list.ends.push((name_end, end(&list.bytes)));
        }
        list
    }
}

/// One direction of an exchange.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) headers: HeaderList,
    /// The beginning of the body.
    pub(super) body: Vec<u8>,
    /// Bytes of the body that passed.
    pub(super) seen: u64,
    /// The body came to its end.
    pub(super) is_complete: bool,
}

/// The answer's side.
#[derive(Debug)]
pub(super) struct AnswerPart {
    pub(super) status: StatusCode,
    pub(super) head_us: u64,
    /// Made here, since the upstream gave none.
    pub(super) is_generated: bool,
    pub(super) part: Part,
}

/// A copy.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) captured_at_us: u64,
    pub(super) peer: SocketAddr,
    pub(super) method: Method,
    pub(super) target: String,
    pub(super) request: Part,
    pub(super) answer: Option<AnswerPart>,
    pub(super) total_us: u64,
    pub(super) hold: Hold,
    pub(super) started: Instant,
}

/// Which body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Request,
    Answer,
}

/// A copy being made. Invariant: when the draft has gone, its loss has been counted, or it has been handed over.
pub(super) struct Recording {
    draft: Mutex<Option<Draft>>,
    copies: Copies,
    max_body_bytes: usize,
}

/// The head of a request, as it came.
pub(super) struct Head<'a> {
    pub(super) peer: SocketAddr,
    pub(super) method: &'a Method,
    pub(super) target: &'a str,
    pub(super) headers: &'a HeaderMap,
}

impl Recording {
    /// Begins a copy; `None` when there is no room, which is counted.
    pub(super) fn begin(head: &Head<'_>, copies: &Copies) -> Option<Arc<Self>> {
        let settings = copies.settings();
        if copies.memory().is_used_up() {
            copies.lose(Loss::Memory);
            return None;
        }
        // Then nothing is spent on it, at the very moment when the traffic needs everything.
        if let Some(loss) = copies.refusal() {
            copies.lose(loss);
            return None;
        }
        let headers =
            HeaderList::of(head.headers, &settings.drop_headers, &nominated(head.headers));
        let mut hold = Hold { memory: Arc::clone(copies.memory()), bytes: 0 };
        if !hold.grow(OVERHEAD_BYTES + headers.bytes.len() + head.target.len()) {
            copies.lose(Loss::Memory);
            return None;
        }
        let draft = Draft {
            captured_at_us: unix_us(),
            peer: head.peer,
            method: head.method.clone(),
            target: head.target.to_owned(),
            request: Part { headers, ..Part::default() },
            answer: None,
            total_us: 0,
            hold,
            started: Instant::now(),
        };
        let max_body_bytes = settings.max_body_bytes.saturating_add(settings.margin());
        let draft = Mutex::new(Some(draft));
        Some(Arc::new(Self { draft, copies: copies.clone(), max_body_bytes }))
    }

    /// The head of the answer.
    pub(super) fn answer(&self, status: StatusCode, headers: &HeaderMap, is_generated: bool) {
        self.change(|draft| {
            let list = HeaderList::of(headers, &self.copies.settings().drop_headers, &[]);
            let is_room = draft.hold.grow(list.bytes.len());
            let part = Part { headers: list, ..Part::default() };
            draft.answer =
                Some(AnswerPart { status, head_us: draft.elapsed_us(), is_generated, part });
            is_room
        });
    }

    /// Bytes that pass.
    pub(super) fn data(&self, side: Side, data: &[u8]) {
        self.change(|draft| {
            let max = self.max_body_bytes;
            let Draft { request, answer, hold, .. } = draft;
            let part = match side {
                Side::Request => Some(request),
                Side::Answer => answer.as_mut().map(|answer| &mut answer.part),
            };
            let Some(part) = part else { return true };
            part.seen += data.len() as u64;
            let wanted = data.get(..max.saturating_sub(part.body.len())).unwrap_or(data);
            let is_room = wanted.is_empty() || hold.grow(wanted.len());
            if is_room {
                part.body.extend_from_slice(wanted);
            }
            is_room
        });
    }

    /// A body came to its end.
    pub(super) fn complete(&self, side: Side) {
        self.change(|draft| {
            match (side, &mut draft.answer) {
                (Side::Request, _) => draft.request.is_complete = true,
                (Side::Answer, Some(answer)) => answer.part.is_complete = true,
                (Side::Answer, None) => {}
            }
            true
        });
    }

    /// Changes the copy; when there is no room for the change, the copy is lost as a whole.
    fn change(&self, change: impl FnOnce(&mut Draft) -> bool) {
        let mut slot = self.draft.lock();
        let Some(draft) = slot.as_mut() else { return };
        if !change(draft) {
            *slot = None;
            drop(slot);
            self.copies.lose(Loss::Memory);
        }
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let slot = self.draft.get_mut();
        if let Some(mut draft) = slot.take() {
            draft.total_us = draft.elapsed_us();
            self.copies.offer(draft);
        }
    }
}

#[cfg(test)]
impl Draft {
    /// Of a `GET`, and nothing else.
    pub(super) fn for_test(memory: &Arc<Memory>) -> Self {
        Self {
            captured_at_us: 0,
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
            method: Method::GET,
            target: String::new(),
            request: Part::default(),
            answer: None,
            total_us: 0,
            hold: Hold { memory: Arc::clone(memory), bytes: 0 },
            started: Instant::now(),
        }
    }
}

impl Draft {
    /// Both directions, as far as there are any.
    pub(super) fn parts(&mut self) -> impl Iterator<Item = &mut Part> {
        iter::once(&mut self.request).chain(self.answer.as_mut().map(|answer| &mut answer.part))
    }

    fn elapsed_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}
