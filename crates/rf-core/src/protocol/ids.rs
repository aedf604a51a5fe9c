//! The bodies that name events or a lease: `/acknowledge-batch`, `/release-batch`, `/extend-lease`.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize as DeriveDeserialize, Serialize};

use super::WireError;

/// The body of `POST /extend-lease`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveDeserialize, Serialize)]
pub struct ExtendLease {
    /// The token of the lease, as the header [`super::RF_LEASE`] gave it.
    pub lease: String,
    /// How long it shall last from now on.
    pub seconds: u64,
}

/// The body that names `ids`: as strings, as the original wants them.
#[must_use]
pub fn encode_ids(ids: &[u64]) -> Vec<u8> {
    let body = Body { ids: ids.iter().copied().map(Id).collect() };
    serde_json::to_vec(&body).expect("writing numbers into memory cannot fail")
}

/// The ids of a body, at most `max_ids`; strings and numbers.
///
/// # Errors
/// See [`WireError`].
pub fn parse_ids(body: &[u8], max_ids: usize) -> Result<Vec<u64>, WireError> {
    let body: Body = serde_json::from_slice(body)?;
    if body.ids.len() > max_ids {
        return Err(WireError::TooMany { limit: max_ids });
    }
    Ok(body.ids.into_iter().map(|Id(id)| id).collect())
}

#[derive(Serialize)]
struct Body {
    ids: Vec<Id>,
}

impl<'de> Deserialize<'de> for Body {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Body, D::Error> {
        deserializer.deserialize_map(BodyVisitor)
    }
}

/// As the original's decoder: a key in any case, of several the last one, and null for an empty list.
struct BodyVisitor;

impl<'de> Visitor<'de> for BodyVisitor {
    type Value = Body;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a list `ids`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Body, A::Error> {
        let mut ids = None;
        while let Some(key) = map.next_key::<String>()? {
            if key.eq_ignore_ascii_case("ids") {
                ids = Some(map.next_value::<Option<Vec<Id>>>()?.unwrap_or_default());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        ids.map(|ids| Body { ids }).ok_or_else(|| A::Error::missing_field("ids"))
    }
}

struct Id(u64);

impl Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
        deserializer.deserialize_any(IdVisitor)
    }
}

struct IdVisitor;

impl Visitor<'_> for IdVisitor {
    type Value = Id;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an id, as a string or a number")
    }

    fn visit_u64<E: Error>(self, id: u64) -> Result<Id, E> {
        Ok(Id(id))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Id, E> {
        // The text is not quoted back: it may be anything.
        text.parse()
            .map(Id)
            .map_err(|_not_a_number| E::custom("expected an id, as a string or a number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: Result<&[u64], &str>) {
        let parsed = parse_ids(body.as_bytes(), 3).map_err(|error| error.to_string());
        assert_eq!(parsed, expected.map(<[_]>::to_vec).map_err(str::to_owned));
    }

    #[test]
    fn ids_are_strings_or_numbers() {
        check(r#"{"ids": ["12","13"]}"#, Ok(&[12, 13]));
        check(r#"{"ids": [12, "13"], "other": 1}"#, Ok(&[12, 13]));
        check(r#"{"ids": []}"#, Ok(&[]));
        check(r#"{"ids": null}"#, Ok(&[]));
        check(r#"{"IDs": ["12"]}"#, Ok(&[12]));
        check(r#"{"ids": [1], "Ids": [2]}"#, Ok(&[2]));
        check(
            "[[1]]",
            Err("invalid type: sequence, expected an object with a list `ids` at line 1 column 0"),
        );
        check(
            r#"{"ids": ["x"]}"#,
            Err("expected an id, as a string or a number at line 1 column 12"),
        );
        check(
            r#"{"ids": [-1]}"#,
            Err(
                "invalid type: integer `-1`, expected an id, as a string or a number at line 1 column 11",
            ),
        );
        check("{}", Err("missing field `ids` at line 1 column 2"));
        check(r#"{"ids": [1,2,3,4]}"#, Err("more than 3 entries"));
    }

    #[test]
    fn ids_are_written_as_strings() {
        assert_eq!(encode_ids(&[12, 13]), br#"{"ids":["12","13"]}"#);
        assert_eq!(parse_ids(&encode_ids(&[u64::MAX]), 1).unwrap(), [u64::MAX]);
    }
}
