//! Ids of the copies that a script makes of one event.
//!
//! Sinks take two events with one id for one event that came twice: a database counts it once, a target may answer the second
//! request with `Idempotency-Key` from the first. What a script emits more often than it was given is meant, though. So the
//! second and later copies for one sink get ids of their own. They are derived from the event's id and the number of the copy:
//! when the same event comes through the script once more, its copies have the same ids again.

use std::collections::HashMap;

use bytes::Bytes;
use rf_core::event::{event_id, event_id_place};
use rf_script::Emit;
use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

/// What one call of a script has given each sink so far.
#[derive(Debug, Default)]
pub(super) struct Copies {
    /// By sink and id.
    made: HashMap<(usize, Uuid), u64>,
    /// How often an id came in: so often it may leave as it is, and once where it did not come in.
    given: HashMap<Uuid, u64>,
}

impl Copies {
    /// For a call that is given these contents. The same event may be among them twice, where a sender has repeated it.
    pub(super) fn of<'a>(given: impl IntoIterator<Item = &'a Bytes>) -> Self {
        let mut copies = Self::default();
        for id in given.into_iter().filter_map(|content| event_id(content)) {
            *copies.given.entry(id).or_default() += 1;
        }
        copies
    }

    /// Gives `content`, which the call gives this sink, an id of its own if it is a further copy of an event; that id.
    pub(super) fn tell_apart(&mut self, sink: usize, content: &mut Bytes) -> Option<Uuid> {
        let (id, place) = event_id_place(content)?;
        let made = self.made.entry((sink, id)).or_default();
        let copy = *made;
        *made += 1;
        if copy < self.given.get(&id).copied().unwrap_or(1) {
            return None;
        }
        let own = id_of_copy(id, copy);
        let mut changed = content.to_vec();
        own.hyphenated().encode_lower(&mut changed[place]);
        *content = Bytes::from(changed);
        Some(own)
    }
}

/// Has the copies among what one event, or a timer, became told apart; the ids that copies were given.
pub(super) fn tell_apart(emits: &mut [Emit]) -> Vec<Uuid> {
    if emits.len() < 2 {
        return Vec::new();
    }
    let mut copies = Copies::default();
    emits.iter_mut().filter_map(|emit| copies.tell_apart(emit.sink, &mut emit.content)).collect()
}

/// A `UUIDv8` (RFC 9562, section 5.8) that begins with the time of the event's own id, so that ids stay in the order of time.
fn id_of_copy(id: Uuid, copy: u64) -> Uuid {
    let mut hash = Sha256::new();
    hash.update(id.as_bytes());
    hash.update(copy.to_be_bytes());
    let mut bytes = *id.as_bytes();
    bytes[6..].copy_from_slice(&hash.finalize()[..10]);
    Builder::from_custom_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(0x0198_c0de_0000_7000_8000_0000_0000_0001);

    fn event(id: Uuid, body: &str) -> Bytes {
        format!(r#"{{"body":"{body}","eventId":"{id}"}}"#).into()
    }

    fn emits(of: &[(usize, Bytes)]) -> Vec<Emit> {
        of.iter().map(|(sink, content)| Emit { sink: *sink, content: content.clone() }).collect()
    }

    #[test]
    fn further_copies_for_a_sink_get_ids_of_their_own_and_the_same_ones_each_time() {
        let given =
            [(0, event(ID, "a")), (1, event(ID, "a")), (0, event(ID, "a")), (0, event(ID, "b"))];
        let mut emitted = emits(&given);
        let own = tell_apart(&mut emitted);
        let ids: Vec<Uuid> = emitted.iter().filter_map(|emit| event_id(&emit.content)).collect();
        assert_eq!(own.len(), 2);
        assert_eq!(ids, [ID, ID, own[0], own[1]]);
        assert!(own[0] != ID && own[1] != ID && own[0] != own[1]);
        assert_eq!(emitted[3].content, event(own[1], "b"), "only the id has changed");
        assert_eq!(own[0].as_bytes()[..6], ID.as_bytes()[..6], "its time is kept");
        assert_eq!(tell_apart(&mut emits(&given)), own);
    }

    #[test]
    fn what_has_no_id_and_what_came_twice_stays_as_it_is() {
        let plain = Bytes::from_static(b"a line");
        let mut emitted = emits(&[(0, plain.clone()), (0, plain.clone())]);
        assert!(tell_apart(&mut emitted).is_empty());
        assert_eq!(emitted[1].content, plain);

        let mut copies = Copies::of(&[event(ID, "a"), event(ID, "a")]);
        let own: Vec<bool> =
            (0..3).map(|_copy| copies.tell_apart(0, &mut event(ID, "a")).is_some()).collect();
        assert_eq!(own, [false, false, true]);
    }
}
