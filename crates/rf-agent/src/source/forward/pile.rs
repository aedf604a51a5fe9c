//! Copies that wait to be made events, one behind the other in few pieces of memory.
//!
//! A connection's thread lays a copy here when it is complete, and frees what it was made in. So that thread's allocator is
//! handed back what it has given out at once, and stays warm. Were the copy itself handed over, another thread would free it,
//! much later: each request would have to be served from memory that no cache knows (13 µs of processor time a request, of
//! 55, on the machine of `docs/benchmarks.md`).

use std::collections::VecDeque;
use std::net::SocketAddr;

use http::{HeaderName, Method, StatusCode};

use super::recording::{Draft, HeaderList, Hold, Part};

/// Sizes of pieces: the first is small, so that few copies take little.
const FIRST_PIECE_BYTES: usize = 4 * 1024;
const PIECE_BYTES: usize = 64 * 1024;
/// A larger body is kept as it is: there are few of those, and copying it would take longer. An eighth of a piece, so that what
/// does not fit behind the others leaves little of it empty.
const OWN_BYTES: usize = 8 * 1024;
/// Copies for each of so many bytes of a piece: about what those without bodies take.
const BYTES_PER_COPY: usize = 512;

/// Copies in their order.
#[derive(Debug, Default)]
pub(super) struct Pile {
    pieces: VecDeque<Piece>,
    copies: usize,
}

#[derive(Debug)]
struct Piece {
    laid: VecDeque<Laid>,
    /// Target, headers and body of the request, then headers and body of the answer, of one copy after the other.
    bytes: Vec<u8>,
    /// Ends of the headers' names and values, within the headers of their side.
    ends: Vec<(u32, u32)>,
    /// What is before has been taken.
    taken: Taken,
}

#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    bytes: usize,
    ends: usize,
}

/// A copy, but for what lies in its piece.
#[derive(Debug)]
struct Laid {
    captured_at_us: u64,
    peer: SocketAddr,
    method: Method,
    target_bytes: usize,
    request: LaidSide,
    answer: Option<LaidAnswer>,
    total_us: u64,
    /// Given back with this.
    _hold: Hold,
}

#[derive(Debug)]
struct LaidSide {
    ends: usize,
    header_bytes: usize,
    body: LaidBody,
    seen: u64,
    is_complete: bool,
}

#[derive(Debug)]
enum LaidBody {
    InPiece(usize),
    Own(Vec<u8>),
}

#[derive(Debug)]
struct LaidAnswer {
    status: StatusCode,
    head_us: u64,
    is_generated: bool,
    side: LaidSide,
}

/// A copy as it is read.
#[derive(Debug)]
pub(super) struct Copied<'a> {
    /// Microseconds since 1970.
    pub(super) captured_at_us: u64,
    pub(super) peer: SocketAddr,
    pub(super) method: &'a Method,
    pub(super) target: &'a str,
    pub(super) request: Side<'a>,
    pub(super) answer: Option<Answer<'a>>,
    pub(super) total_us: u64,
}

/// One direction of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) headers: Headers<'a>,
    /// The beginning of the body.
    pub(super) body: &'a [u8],
    /// Bytes of the body that passed.
    pub(super) seen: u64,
    /// The body came to its end.
    pub(super) is_complete: bool,
}

/// The answer's direction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) status: StatusCode,
    pub(super) head_us: u64,
    /// Made here, since the upstream gave none.
    pub(super) is_generated: bool,
    pub(super) side: Side<'a>,
}

/// Headers one behind the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Headers<'a> {
    bytes: &'a [u8],
    /// Ends of name and value.
    ends: &'a [(u32, u32)],
}

impl Pile {
    pub(super) fn len(&self) -> usize {
        self.copies
    }

    pub(super) fn is_empty(&self) -> bool {
        self.copies == 0
    }

    /// Lays a copy behind the others.
    pub(super) fn lay(&mut self, draft: Draft) {
        let size = draft.target.len()
            + size_in_piece(&draft.request)
            + draft.answer.as_ref().map_or(0, |answer| size_in_piece(&answer.part));
        let piece = match self.pieces.pop_back() {
            Some(last) if last.has_room_for(size) => last,
            last => {
                let bytes = last
                    .as_ref()
                    .map_or(FIRST_PIECE_BYTES, |last| (last.bytes.capacity() * 2).min(PIECE_BYTES));
                self.pieces.extend(last);
                Piece::new(bytes.max(size))
            }
        };
        self.pieces.push_back(piece);
        if let Some(last) = self.pieces.back_mut() {
            last.lay(draft);
            self.copies += 1;
        }
    }

    /// Takes the oldest copy, as `read` sees it. Should `read` panic, the copy has been taken all the same.
    pub(super) fn take<T>(&mut self, read: impl FnOnce(&Copied<'_>) -> T) -> Option<T> {
        while self.pieces.front().is_some_and(|piece| piece.laid.is_empty()) {
            self.pieces.pop_front();
        }
        let piece = self.pieces.front_mut()?;
        self.copies -= 1;
        piece.take(read)
    }
}

impl Piece {
    fn new(bytes: usize) -> Self {
        Self {
            laid: VecDeque::with_capacity(bytes / BYTES_PER_COPY),
            bytes: Vec::with_capacity(bytes),
            ends: Vec::new(),
            taken: Taken::default(),
        }
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        self.bytes.capacity() - self.bytes.len() >= bytes
    }

    fn lay(&mut self, draft: Draft) {
        let Draft { captured_at_us, peer, method, target, request, answer, total_us, hold, .. } =
            draft;
        self.bytes.extend_from_slice(target.as_bytes());
        let request = self.lay_side(request);
        let answer = answer.map(|answer| LaidAnswer {
            status: answer.status,
            head_us: answer.head_us,
            is_generated: answer.is_generated,
            side: self.lay_side(answer.part),
        });
        let target_bytes = target.len();
        self.laid.push_back(Laid {
            captured_at_us,
            peer,
            method,
            target_bytes,
            request,
            answer,
            total_us,
            _hold: hold,
        });
    }

    fn lay_side(&mut self, part: Part) -> LaidSide {
        let Part { headers: HeaderList { bytes, ends }, body, seen, is_complete } = part;
        self.bytes.extend_from_slice(&bytes);
        self.ends.extend_from_slice(&ends);
        let body = if is_kept(&body) {
            LaidBody::Own(body)
        } else {
            self.bytes.extend_from_slice(&body);
            LaidBody::InPiece(body.len())
        };
        LaidSide { ends: ends.len(), header_bytes: bytes.len(), body, seen, is_complete }
    }

    fn take<T>(&mut self, read: impl FnOnce(&Copied<'_>) -> T) -> Option<T> {
        let laid = self.laid.pop_front()?;
        let mut rest = Rest {
            bytes: self.bytes.get(self.taken.bytes..)?,
            ends: self.ends.get(self.taken.ends..)?,
        };
        // What was laid as text is text.
        let target = std::str::from_utf8(rest.bytes(laid.target_bytes)).unwrap_or_default();
        let request = rest.side(&laid.request);
        let answer = laid.answer.as_ref().map(|answer| Answer {
            status: answer.status,
            head_us: answer.head_us,
            is_generated: answer.is_generated,
            side: rest.side(&answer.side),
        });
        let Laid { captured_at_us, peer, ref method, total_us, .. } = laid;
        let (bytes, ends) = (rest.bytes.len(), rest.ends.len());
        self.taken = Taken { bytes: self.bytes.len() - bytes, ends: self.ends.len() - ends };
        Some(read(&Copied { captured_at_us, peer, method, target, request, answer, total_us }))
    }
}

/// What of a piece has not been taken.
struct Rest<'a> {
    bytes: &'a [u8],
    ends: &'a [(u32, u32)],
}

impl<'a> Rest<'a> {
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        self.bytes.split_off(..count).unwrap_or_default()
    }

    fn side(&mut self, laid: &'a LaidSide) -> Side<'a> {
        let bytes = self.bytes(laid.header_bytes);
        let ends = self.ends.split_off(..laid.ends).unwrap_or_default();
        let body = match &laid.body {
            LaidBody::InPiece(count) => self.bytes(*count),
            LaidBody::Own(body) => body,
        };
        let headers = Headers { bytes, ends };
        Side { headers, body, seen: laid.seen, is_complete: laid.is_complete }
    }
}

impl<'a> Headers<'a> {
    pub(super) fn iter(self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let mut start = 0;
        self.ends.iter().filter_map(move |(name_end, end)| {
            let (name_end, end) = (*name_end as usize, *end as usize);
            let name = self.bytes.get(start..name_end)?;
            let value = self.bytes.get(name_end..end)?;
            start = end;
            Some((std::str::from_utf8(name).ok()?, value))
        })
    }

    /// All values of a header, joined by commas.
    pub(super) fn value(self, name: &HeaderName) -> Vec<u8> {
        let values =
            self.iter().filter(|(known, _)| *known == name.as_str()).map(|(_, value)| value);
        values.collect::<Vec<_>>().join(&b", "[..])
    }
}

/// Whether a body is kept as it is.
pub(super) fn is_kept(body: &[u8]) -> bool {
    body.len() > OWN_BYTES
}

/// Bytes that one side of a copy takes in a piece.
fn size_in_piece(part: &Part) -> usize {
    let body = if is_kept(&part.body) { 0 } else { part.body.len() };
    part.headers.bytes.len() + body
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;

    use http::header::{ACCEPT, CONTENT_TYPE};
    use http::{HeaderMap, HeaderValue};

    use super::super::recording::{AnswerPart, Memory};
    use super::*;

    /// The copy number `n`, whose sizes differ from those of its neighbours.
    fn draft(n: usize, memory: &Arc<Memory>) -> Draft {
        let mut headers = HeaderMap::new();
        for value in 0..n % 4 {
            headers.append(ACCEPT, HeaderValue::from(value));
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from(n));
        let part = |seen: usize, sizes: [usize; 5]| Part {
            headers: HeaderList::of(&headers, &[], &[]),
            body: vec![b'a'; sizes[n % sizes.len()]],
            seen: seen as u64,
            is_complete: n.is_multiple_of(2),
        };
        let answer = (!n.is_multiple_of(3)).then(|| AnswerPart {
            status: StatusCode::IM_A_TEAPOT,
            head_us: n as u64,
            is_generated: n.is_multiple_of(5),
            part: part(n + 1, [0, 300, OWN_BYTES, 7, OWN_BYTES + 1]),
        });
        Draft {
            captured_at_us: n as u64,
            target: format!("/{}", "t".repeat(n % 100)),
            request: part(n, [OWN_BYTES + 1, 0, 1, OWN_BYTES, 2000]),
            answer,
            total_us: n as u64 * 2,
            ..Draft::for_test(memory)
        }
    }

    fn lines<'a>(headers: impl Iterator<Item = (&'a str, &'a [u8])>) -> Vec<String> {
        headers.map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value))).collect()
    }

    #[track_caller]
    fn assert_side(side: Side<'_>, part: &Part) {
        let Part { headers: HeaderList { bytes, ends }, body, seen, is_complete } = part;
        assert_eq!(lines(side.headers.iter()), lines(Headers { bytes, ends }.iter()));
        assert!(side.body == body, "{} bytes, not {}", side.body.len(), body.len());
        assert_eq!((side.seen, side.is_complete), (*seen, *is_complete));
    }

    fn assert_copy(copied: &Copied<'_>, n: usize, memory: &Arc<Memory>) {
        let laid = draft(n, memory);
        assert_eq!(copied.captured_at_us, laid.captured_at_us);
        assert_eq!((copied.peer, copied.method), (laid.peer, &laid.method));
        assert_eq!((copied.target, copied.total_us), (&*laid.target, laid.total_us));
        assert_side(copied.request, &laid.request);
        assert_eq!(copied.answer.is_some(), laid.answer.is_some());
        for (read, written) in copied.answer.iter().zip(&laid.answer) {
            assert_eq!((read.status, read.head_us), (written.status, written.head_us));
            assert_eq!(read.is_generated, written.is_generated);
            assert_side(read.side, &written.part);
        }
    }

    #[test]
    fn copies_come_out_as_they_were_laid_whatever_their_sizes() {
        let memory = Memory::new(usize::MAX);
        let (mut pile, mut next) = (Pile::default(), 0);
        for n in 0..600 {
            pile.lay(draft(n, &memory));
            // Taken in between as well, also to the last one.
            if n % 50 > 30 || n == 200 {
                for _ in 0..if n == 200 { 200 } else { 2 } {
                    next += usize::from(
                        pile.take(|copied| assert_copy(copied, next, &memory)).is_some(),
                    );
                }
            }
            assert_eq!(pile.len(), n + 1 - next);
        }
        while pile.take(|copied| assert_copy(copied, next, &memory)).is_some() {
            next += 1;
        }
        assert_eq!((next, pile.is_empty()), (600, true));
    }

    #[test]
    fn a_copy_that_cannot_be_read_is_taken_and_those_behind_it_are_whole() {
        let memory = Memory::new(usize::MAX);
        let mut pile = Pile::default();
        (0..3).for_each(|n| pile.lay(draft(n, &memory)));
        pile.take(|copied| assert_copy(copied, 0, &memory)).unwrap();
        let read = AssertUnwindSafe(|| pile.take(|_| panic!("expected")));
        assert!(catch_unwind(read).is_err());
        assert_eq!(pile.len(), 1);
        pile.take(|copied| assert_copy(copied, 2, &memory)).unwrap();
        assert!(pile.is_empty());
    }

    #[test]
    fn the_memory_of_a_copy_is_given_back_when_it_is_taken() {
        let memory = Memory::new(10_000);
        let mut pile = Pile::default();
        let hold = |draft: Draft| {
            let mut draft = draft;
            assert!(draft.hold.grow(4000));
            draft
        };
        pile.lay(hold(draft(1, &memory)));
        pile.lay(hold(draft(2, &memory)));
        assert_eq!(memory.used(), 8000);
        pile.take(|_| assert_eq!(memory.used(), 8000, "it is still there"));
        assert_eq!(memory.used(), 4000);
        drop(pile);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn few_copies_take_little_and_many_lie_in_few_pieces() {
        let memory = Memory::new(usize::MAX);
        let small = || Draft { target: "/".repeat(100), ..Draft::for_test(&memory) };
        let mut pile = Pile::default();
        pile.lay(small());
        let capacities = |pile: &Pile| {
            pile.pieces.iter().map(|piece| piece.bytes.capacity()).collect::<Vec<_>>()
        };
        assert_eq!(capacities(&pile), [FIRST_PIECE_BYTES]);
        (0..2000).for_each(|_| pile.lay(small()));
        let capacities = capacities(&pile);
        assert_eq!((capacities.len(), capacities.last()), (7, Some(&PIECE_BYTES)));
    }
}
