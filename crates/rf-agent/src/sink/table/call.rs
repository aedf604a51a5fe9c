//! An event as these sinks read it: what shall happen to which table.

use rf_core::event::StoredCall;
use rf_queue::StoredEvent;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::failure::WriteError;
use super::identifier::Identifier;

/// What the original puts before a table's name in a path.
const PREFIX: &str = "/rpf-db/";

/// What shall happen, with what the body says of it.
#[derive(Debug)]
pub(crate) enum Verb<B> {
    /// POST and PUT.
    Put(B),
    /// DELETE.
    Delete(B),
    /// Any other method: it says nothing about a table.
    Nothing,
}

/// An event's identity: its id and a hash of its content, so that two events that a script made of one are two.
pub(crate) type EventKey = [u8; 24];

/// What a sink reads of a body, before a transaction is begun for it.
pub(crate) trait Body: Sized + Send + 'static {
    /// Of a POST or PUT.
    ///
    /// # Errors
    /// [`WriteError::Refused`], as for every one of these.
    fn to_put(table: &Identifier, body: &[u8]) -> Result<Self, WriteError>;

    /// Of a DELETE.
    ///
    /// # Errors
    /// As [`Self::to_put`].
    fn to_delete(table: &Identifier, body: &[u8]) -> Result<Self, WriteError>;
}

/// Its keys.
impl Body for Map<String, Value> {
    fn to_put(_table: &Identifier, body: &[u8]) -> Result<Self, WriteError> {
        rf_core::json::from_slice(body)
            .map_err(|error| WriteError::Refused(format!("the body is not a JSON object: {error}")))
    }

    fn to_delete(table: &Identifier, body: &[u8]) -> Result<Self, WriteError> {
        Self::to_put(table, body)
    }
}

/// An event, read.
#[derive(Debug)]
pub(crate) struct Call<B> {
    /// What shall happen.
    pub(crate) verb: Verb<B>,
    /// The table, named by the path.
    pub(crate) table: Identifier,
    /// `None` for content without an event id.
    pub(crate) key: Option<EventKey>,
}

impl<B: Body> Call<B> {
    /// Reads an event's content.
    ///
    /// # Errors
    /// [`WriteError::Refused`] for what names no table, or has a body that is none for it.
    pub(crate) fn read(event: &StoredEvent) -> Result<Self, WriteError> {
        let called = StoredCall::parse(&event.content)
            .map_err(|error| WriteError::Refused(error.to_string()))?;
        // A script may have put a query there.
        let path = called.path.split('?').next().unwrap_or_default();
        let name = path.strip_prefix(PREFIX).or_else(|| path.strip_prefix('/')).unwrap_or(path);
        let table = Identifier::table(name.strip_suffix('/').unwrap_or(name))
            .map_err(|error| WriteError::Refused(format!("path: {error}")))?;
        let verb = match called.method.as_str() {
            "POST" | "PUT" => Verb::Put(B::to_put(&table, &called.body)?),
            "DELETE" => Verb::Delete(B::to_delete(&table, &called.body)?),
            _ => Verb::Nothing,
        };
        let key = called.id.map(|id| {
            let mut key = [0; 24];
            key[..16].copy_from_slice(id.as_bytes());
            key[16..].copy_from_slice(&Sha256::digest(&event.content)[..8]);
            key
        });
        Ok(Self { verb, table, key })
    }

    /// Reads every event of a batch, before a transaction is begun for it: a bad event is found without a lock on the database.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub(crate) fn read_all(events: &[StoredEvent]) -> Result<Vec<Self>, WriteError> {
        events.iter().map(Self::read).collect()
    }
}

/// What a body says of a column: the value of the key with the column's name, else of the last one that becomes it. Null says
/// nothing.
pub(crate) fn value_of<'a>(body: &'a Map<String, Value>, column: &str) -> Option<&'a Value> {
    let is_column = |key: &str| Identifier::column(key).is_some_and(|name| name.as_str() == column);
    let other = || {
        let mut others = body.iter().rev().filter(|(_, value)| !value.is_null());
        others.find(|(key, _)| is_column(key)).map(|(_, value)| value)
    };
    body.get(column).filter(|value| !value.is_null()).or_else(other)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_text_that_was_cut_within_an_emoji_refuses_no_body() {
        let content = br#"{"method":"POST","path":"/notes","body":"{\"text\":\"cut \\ud83d\"}"}"#;
        let content = Bytes::from_static(content);
        let call = Call::read(&StoredEvent { id: 1, at_ms: 0, content, attempts: 0 }).unwrap();
        let Verb::Put(body) = call.verb else { panic!("{call:?}") };
        assert_eq!(Map::<String, Value>::get(&body, "text").unwrap(), "cut \u{fffd}");
    }
}
