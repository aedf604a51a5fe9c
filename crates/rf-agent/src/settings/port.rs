//! A port of a file: a number, or a text with a number, as the original has it.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserializer;
use serde::de::{Deserialize, Error, Unexpected, Visitor};

/// A port of a listener of a sink's own, or of a database that a source asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Port(pub(crate) u16);

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PortVisitor)
    }
}

struct PortVisitor;

impl Visitor<'_> for PortVisitor {
    type Value = Port;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port such as \"8090\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Port, E> {
        let invalid = |_| E::invalid_value(Unexpected::Str(text), &self);
        text.trim().parse().map(Port).map_err(invalid)
    }

    fn visit_u64<E: Error>(self, port: u64) -> Result<Port, E> {
        let invalid = |_| E::invalid_value(Unexpected::Unsigned(port), &self);
        u16::try_from(port).map(Port).map_err(invalid)
    }
}

impl JsonSchema for Port {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Port".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "description": "a port such as \"8090\"" })
    }
}
