//! Status codes of HTTP, one by one or by class.

use std::borrow::Cow;
use std::fmt;

use http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// A status code such as `429`, or a class such as `"5xx"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StatusPattern {
    from: u16,
    to: u16,
}

impl StatusPattern {
    /// Exactly this code.
    pub(crate) const fn one(code: u16) -> Self {
        Self { from: code, to: code }
    }

    /// Every code of a class: 5 for 500 to 599.
    pub(crate) const fn class(class: u16) -> Self {
        Self { from: class * 100, to: class * 100 + 99 }
    }

    /// Whether the status is meant.
    pub(crate) fn matches(self, status: StatusCode) -> bool {
        (self.from..=self.to).contains(&status.as_u16())
    }

    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().strip_suffix("xx") {
            Some(class) => {
                class.parse().ok().filter(|class| (1..=5).contains(class)).map(Self::class)
            }
            None => text.parse().ok().filter(|code| (100..=599).contains(code)).map(Self::one),
        }
    }
}

impl<'de> Deserialize<'de> for StatusPattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StatusVisitor)
    }
}

struct StatusVisitor;

impl Visitor<'_> for StatusVisitor {
    type Value = StatusPattern;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a status code from 100 to 599, or a class such as \"5xx\"")
    }

    fn visit_u64<E: Error>(self, code: u64) -> Result<StatusPattern, E> {
        self.visit_str(&code.to_string())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<StatusPattern, E> {
        StatusPattern::parse(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

impl JsonSchema for StatusPattern {
    fn schema_name() -> Cow<'static, str> {
        "StatusPattern".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["integer", "string"],
            "description": "a status code from 100 to 599, or a class such as \"5xx\"",
        })
    }
}
