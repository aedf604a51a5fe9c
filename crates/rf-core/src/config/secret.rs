//! A text that must not be seen.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use subtle::ConstantTimeEq;

use super::document::HIDDEN;

/// A password or token: printed as `***`, compared in constant time, readable only where [`Secret::expose`] stands.
#[derive(Clone, Default)]
pub struct Secret(String);

impl Secret {
    /// Takes a text in.
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The text itself, for the one place that sends or checks it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text, as after a variable that was not set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a candidate from outside is this secret; its content does not show in the time that this takes.
    ///
    /// An empty secret is none: nothing matches it, so that a variable that was not set does not open a door.
    pub fn matches(&self, candidate: impl AsRef<[u8]>) -> bool {
        let same: bool = self.0.as_bytes().ct_eq(candidate.as_ref()).into();
        same && !self.is_empty()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        // Asked for a string alone, serde_json would refuse a number itself and quote it.
        deserializer.deserialize_any(SecretVisitor)
    }
}

struct SecretVisitor;

impl SecretVisitor {
    /// Says what is wrong without the value, which serde's own message would quote.
    fn refuse<E: de::Error>(&self) -> E {
        E::custom(format_args!("invalid type: {HIDDEN}, expected a string"))
    }
}

impl Visitor<'_> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }

    fn visit_string<E: de::Error>(self, text: String) -> Result<Secret, E> {
        Ok(Secret(text))
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Secret, E> {
        Err(self.refuse())
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
        Err(self.refuse())
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
        Err(self.refuse())
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
        Err(self.refuse())
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "writeOnly": true })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Secret;

    #[test]
    fn is_not_printed() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn an_empty_secret_matches_nothing() {
        for (secret, candidate, expected) in [
            ("hunter2", "hunter2", true),
            ("hunter2", "hunter3", false),
            ("hunter2", "hunter", false),
            ("hunter2", "", false),
            ("", "", false),
        ] {
            assert_eq!(
                Secret::new(secret).matches(candidate),
                expected,
                "{secret:?} {candidate:?}"
            );
        }
        assert_eq!(Secret::default(), Secret::new(""));
        assert_ne!(Secret::new("a"), Secret::new("b"));
    }

    #[test]
    fn a_value_of_another_type_is_not_quoted() {
        assert_eq!(serde_json::from_value::<Secret>(json!("x")).unwrap(), Secret::new("x"));
        for value in [json!(4711), json!(-4711), json!(47.11), json!(true)] {
            let error = serde_json::from_value::<Secret>(value.clone()).unwrap_err().to_string();
            assert_eq!(error, "invalid type: ***, expected a string", "{value}");
        }
    }
}
