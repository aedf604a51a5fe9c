//! Listeners and dialers: the only crate that opens a socket for HTTP.
//!
//! Must not know: events, queues, buckets, roles. It moves bytes of HTTP/1.1 within limits, and it does so for every
//! role alike, so that a limit is written and tested once.
//!
//! Reading order:
//! - [`address`]: what can be listened on, and what would be listened on twice; [`listen`]: a port becomes a listener, or
//!   an error that says what to do about it;
//! - [`serve`](mod@serve): a listener and a service become a bounded server that drains when it is told to stop;
//!   `stream` (private) holds the clocks that cut off slow clients, and `phase` (private) when they run; [`received`]: the
//!   body that a service gets;
//! - [`per_core`]: the same on a thread for each core, for a service that is called very often;
//! - [`own_host`]: names that a server on loopback answers to;
//! - [`body`]: the one way to read a body; [`memory`]: what all bodies of a server share;
//! - [`encoding`]: zstd and gzip, safe against bombs, and who accepts what;
//! - [`client`]: the one HTTP client, over [`tls`]; [`retry_after`](mod@retry_after): when a server wants to be asked again;
//!   [`mask`]: its answer is quoted, and its URL named, without what is secret; `impatient` (private): a peer that takes
//!   nothing more of a request;
//! - [`upstream`]: the client of a proxy, whose bodies are streamed, with tunnels for upgraded connections; [`interim`]:
//!   answers before the answer.
//!
//! A further kind of transport is a new file with an implementation of [`serve::Listener`] (its stream type is free)
//! and a connector for [`client::Client`].

pub mod address;
pub mod body;
pub mod client;
pub mod encoding;
mod impatient;
pub mod interim;
pub mod listen;
pub mod mask;
pub mod memory;
pub mod own_host;
pub mod per_core;
mod phase;
pub mod received;
pub mod retry_after;
pub mod serve;
mod stream;
pub mod tls;
pub mod upstream;
