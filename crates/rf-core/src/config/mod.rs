//! How a user's file becomes a checked value.
//!
//! Promises: every problem of a file is found in one go and told with file, line, column, key path, what was
//! expected and the nearest known name; the text of a secret, and of anything that came from the environment or
//! from a file, is in none of them; the same text gives the same result, for the environment is an argument.
//!
//! The way of a file: [`load`] reads it (bounded), parses JSON or JSON5 into a [`Document`] that knows where each
//! value stands, and puts in `$NAME`, `${NAME:-default}` and `$file:/path`. [`Node::decode`] then holds a part of it
//! against the JSON Schema of a type, the same that `replayforge schema` prints, and only hands to serde what fits.
//! What a schema cannot say, the caller reports itself with [`Problems::error`] at a [`Node`].
//!
//! A struct that is decoded derives `Deserialize` and `JsonSchema`. Beside what these say, the schema may carry
//! `x-aliases` on a property (other names that are taken for it, as serde's `alias` leaves no trace in a schema):
//! `#[serde(alias = "tls")] #[schemars(extend("x-aliases" = ["tls"]))]`. `"x-zero-is-unset" = true` says that an empty text
//! and a zero mean the default, as for every key whose zero the original's decoder could not tell from a missing key;
//! `"x-any-case" = true` that one of the allowed texts may be written in any case.
//!
//! Reading order: `problem`, `document`, `parse` (with `position` and `expand`), `decode` (with `check`, `shape`
//! and `nearest`), then the units: `interval`, `byte_size` (with `decimal`), `secret`; `sense` for what no type says.

mod byte_size;
mod check;
mod decimal;
mod decode;
mod document;
mod expand;
mod interval;
mod nearest;
mod parse;
mod position;
mod problem;
mod secret;
mod sense;
mod shape;
#[cfg(test)]
mod tests;

pub use byte_size::{ByteSize, InvalidByteSize};
pub use decode::schema_of;
pub use document::{Document, Node};
pub use interval::{Interval, InvalidInterval};
pub use nearest::{did_you_mean, nearest};
pub use parse::{MAX_DEPTH, MAX_FILE_BYTES, load, parse};
pub use problem::{MAX_KEPT, Problem, Problems, Severity};
pub use secret::Secret;
pub use sense::{at_most, check_folder};
