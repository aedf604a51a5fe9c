//! `bare-lua`: the least that a script costs; what `replayforge script bench` is measured against.
//!
//! One Lua state, the same script, functions without limits, guards or order of keys: JSON goes straight between text and
//! Lua values by way of serde, `grok_parse` knows one pattern, written by hand and compiled once, and `emit` counts.

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use mlua::{Function, Lua, LuaString, Table, Value};
use regex::bytes::Regex;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, SerializeMap, SerializeSeq, Serializer};
use tokio::time::Instant;

use crate::out;

/// Events between two looks at the clock.
const EVENTS_BETWEEN_LOOKS: usize = 64;
/// The combined log format.
const COMBINED: &str = r#"\A(?P<clientip>\S+) (?P<ident>\S+) (?P<auth>\S+) \[(?P<timestamp>[^\]]+)\] "(?:(?P<verb>\S+) (?P<request>\S+)(?: HTTP/(?P<httpversion>[0-9.]+))?|(?P<rawrequest>[^"]*))" (?P<response>\d+) (?:(?P<bytes>\d+)|-) (?P<referrer>"(?:[^"\\]|\\.)*") (?P<agent>"(?:[^"\\]|\\.)*")"#;

/// Runs a script over events in a bare Lua state.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The script; it has `Process`
    #[arg(long)]
    script: PathBuf,
    /// Events, one a line
    #[arg(long)]
    input: PathBuf,
    /// How long
    #[arg(long, default_value_t = 2)]
    seconds: u64,
}

/// Measures and prints events/s.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let events = std::fs::read(&args.input).with_context(|| args.input.display().to_string())?;
    let events: Vec<&[u8]> =
        events.split(|byte| *byte == b'\n').filter(|event| !event.is_empty()).collect();
    let script = std::fs::read(&args.script).with_context(|| args.script.display().to_string())?;
    let measured = measure(&script, &events, Duration::from_secs(args.seconds));
    let per_second = measured.map_err(|error| anyhow::anyhow!("{error}"))?;
    out::figures(&serde_json::json!({ "per_second": out::rounded(per_second) }))
}

fn measure(script: &[u8], events: &[&[u8]], limit: Duration) -> mlua::Result<f64> {
    let lua = Lua::new();
    let emitted = Rc::new(Cell::new(0_u64));
    let emit = install(&lua, &emitted)?;
    lua.load(script).exec()?;
    let process: Function = lua.globals().get("Process")?;
    let start = Instant::now();
    let mut turns = events.iter().cycle();
    let mut count = 0_u64;
    while start.elapsed() < limit {
        for event in turns.by_ref().take(EVENTS_BETWEEN_LOOKS) {
            process.call::<()>((lua.create_string(event)?, &emit))?;
            count += 1;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    if emitted.get() != count {
        let text = format!("{} of {count} events emitted", emitted.get());
        return Err(mlua::Error::RuntimeError(text));
    }
    Ok(count as f64 / seconds)
}

fn install(lua: &Lua, emitted: &Rc<Cell<u64>>) -> mlua::Result<Function> {
    let globals = lua.globals();
    let counter = Rc::clone(emitted);
    let emit = lua.create_function(move |_, (_sink, content): (LuaString, LuaString)| {
        // Kept for as long as a commit would keep it.
        let content = content.as_bytes().to_vec();
        counter.set(counter.get() + u64::from(!content.is_empty()));
        Ok(())
    })?;
    let decode = |lua: &Lua, text: LuaString| {
        let bytes = text.as_bytes();
        let mut json = serde_json::Deserializer::from_slice(&bytes);
        Decode(lua).deserialize(&mut json).map_err(mlua::Error::external)
    };
    globals.set("json_decode", lua.create_function(decode)?)?;
    let encode = |lua: &Lua, value: Value| {
        let text = serde_json::to_vec(&Encode(&value)).map_err(mlua::Error::external)?;
        lua.create_string(text)
    };
    globals.set("json_encode", lua.create_function(encode)?)?;
    let combined = Regex::new(COMBINED).map_err(mlua::Error::external)?;
    let names: Vec<String> = combined.capture_names().flatten().map(str::to_owned).collect();
    let parse = move |lua: &Lua, (_pattern, text): (LuaString, LuaString)| {
        let text = text.as_bytes();
        let table = lua.create_table()?;
        if let Some(captures) = combined.captures(&text) {
            for name in &names {
                let value = captures.name(name).map_or(&b""[..], |capture| capture.as_bytes());
                table.raw_set(name.as_str(), lua.create_string(value)?)?;
            }
        }
        Ok(table)
    };
    globals.set("grok_parse", lua.create_function(parse)?)?;
    Ok(emit)
}

/// JSON text to a Lua value.
struct Decode<'a>(&'a Lua);

impl<'de> DeserializeSeed<'de> for Decode<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Decode<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Number(value as f64), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Number(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Value, E> {
        self.0.create_string(text).map(Value::String).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let table = self.0.create_table().map_err(serde::de::Error::custom)?;
        while let Some(item) = list.next_element_seed(Decode(self.0))? {
            table.raw_push(item).map_err(serde::de::Error::custom)?;
        }
        Ok(Value::Table(table))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let table = self.0.create_table().map_err(serde::de::Error::custom)?;
        while let Some(key) = map.next_key_seed(Text)? {
            let value = map.next_value_seed(Decode(self.0))?;
            table.raw_set(&*key, value).map_err(serde::de::Error::custom)?;
        }
        Ok(Value::Table(table))
    }
}

/// A key, borrowed where it can be.
struct Text;

impl<'de> DeserializeSeed<'de> for Text {
    type Value = std::borrow::Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        std::borrow::Cow::deserialize(deserializer)
    }
}

/// A Lua value to JSON text.
struct Encode<'a>(&'a Value);

impl Serialize for Encode<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Boolean(value) => serializer.serialize_bool(*value),
            Value::Integer(value) => serializer.serialize_i64(*value),
            Value::Number(value) => serializer.serialize_f64(*value),
            Value::String(text) => {
                serializer.serialize_str(&text.to_str().map_err(S::Error::custom)?)
            }
            Value::Table(table) => encode_table(table, serializer),
            _ => serializer.serialize_unit(),
        }
    }
}

fn encode_table<S: Serializer>(table: &Table, serializer: S) -> Result<S::Ok, S::Error> {
    let length = table.raw_len();
    if length > 0 {
        let mut list = serializer.serialize_seq(Some(length))?;
        for item in table.sequence_values::<Value>() {
            list.serialize_element(&Encode(&item.map_err(S::Error::custom)?))?;
        }
        return list.end();
    }
    let mut map = serializer.serialize_map(None)?;
    for pair in table.pairs::<LuaString, Value>() {
        let (key, value) = pair.map_err(S::Error::custom)?;
        map.serialize_entry(&*key.to_str().map_err(S::Error::custom)?, &Encode(&value))?;
    }
    map.end()
}
