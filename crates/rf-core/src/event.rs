//! The event: one captured request as the JSON text that travels through queues, relay and scripts.
//!
//! The keys `ip`, `method`, `path`, `params`, `headers` and `body` are the original program's, with the same meaning, so
//! that its scripts and players read our events: `path` and `params` are decoded, header names are in their canonical
//! spelling (`Content-Type`), every value is a list. Because that loses bytes, further keys keep what is needed to
//! replay the request exactly:
//!
//! | key | when | meaning |
//! | --- | --- | --- |
//! | `bodyEncoding` | the body is not UTF-8 | `"base64"` |
//! | `target` | it cannot be rebuilt from `path` and `params` | path and query as they stood in the request line |
//! | `latin1Headers` | a value is not UTF-8 | names of headers whose text stands for one byte a character (ISO 8859-1) |
//! | `eventId` | always | UUIDv7, set once at the source; sent as `Idempotency-Key`. A script's further copies of an event get their own |
//! | `capturedAtUs` | always | microseconds since 1970, set once at the source |
//!
//! A request that was forwarded has more: see [`encode_exchange`].
//!
//! A script may change `path` or `params`: then `target` no longer matches them and is not used.

mod capture;
mod exchange;
mod id;
mod replay;
mod stored;
mod target;

pub use capture::{CapturedRequest, peer_address};
pub use exchange::{BodyNotes, CapturedAnswer, Timings, encode_exchange};
pub use id::{event_id, event_id_place};
pub use replay::{MalformedEvent, ReplayRequest};
pub use stored::StoredCall;
pub use target::{ParsedTarget, build_target};
