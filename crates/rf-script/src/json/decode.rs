//! Text to Lua.

use std::borrow::Cow;
use std::fmt;

use mlua::{Lua, Value};
use rf_core::json::mended;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::large::Large;
use super::shapes::{ROOT, Shapes};

/// Integral floats up to here are integers without loss.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// The value of a text; what is wrong with it comes as an error.
pub(crate) fn decode(lua: &Lua, text: &[u8]) -> mlua::Result<Value> {
    read(lua, text)?.map_err(mlua::Error::RuntimeError)
}

/// The value of a text, or what is wrong with it and where; more than 128 levels are refused by `serde_json`. Bytes that are
/// not UTF-8, and halves of surrogate pairs, are replaced by U+FFFD.
///
/// # Errors
/// Of the VM: its memory or time has run out.
pub(super) fn read(lua: &Lua, text: &[u8]) -> mlua::Result<Result<Value, String>> {
    let text = String::from_utf8_lossy(text);
    let read = parse(lua, &text)?;
    if read.is_err()
        && let Some(mended) = mended(text.as_bytes())
    {
        return parse(lua, &String::from_utf8_lossy(&mended));
    }
    Ok(read)
}

fn parse(lua: &Lua, text: &str) -> mlua::Result<Result<Value, String>> {
    let mut shapes = Shapes::of_mut(lua)?;
    let mut decoder = Decoder { lua, shapes: &mut shapes, failed: None };
    let mut json = serde_json::Deserializer::from_str(text);
    let read = Seed { decoder: &mut decoder }.deserialize(&mut json);
    let read = read.and_then(|value| json.end().map(|()| value));
    match decoder.failed.take() {
        Some(error) => Err(error),
        None => Ok(read.map(or_nil).map_err(|error| error.to_string())),
    }
}

/// A `null` is nothing, but in an array, where it would be a hole.
fn or_nil(value: Value) -> Value {
    if is_null(&value) { Value::Nil } else { value }
}

/// Nothing else is decoded as a light userdata.
fn is_null(value: &Value) -> bool {
    matches!(value, Value::LightUserData(_))
}

struct Decoder<'a> {
    lua: &'a Lua,
    shapes: &'a mut Shapes,
    /// An error of the VM, which serde's error cannot carry.
    failed: Option<mlua::Error>,
}

impl Decoder<'_> {
    fn check<T, E: Error>(&mut self, result: mlua::Result<T>) -> Result<T, E> {
        result.map_err(|error| {
            self.failed = Some(error);
            E::custom("the VM refused")
        })
    }
}

struct Seed<'s, 'a> {
    decoder: &'s mut Decoder<'a>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Seed<'_, 'a> {
    fn again(&mut self) -> Seed<'_, 'a> {
        Seed { decoder: self.decoder }
    }
}

impl<'de> Visitor<'de> for Seed<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::NULL)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Boolean(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        match i64::try_from(value) {
            Ok(value) => Ok(Value::Integer(value)),
            Err(_above) => {
                let made = self.decoder.lua.create_userdata(Large(value));
                self.decoder.check(made).map(Value::UserData)
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "checked to be integral and below 2^53")]
    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        let exact = value.fract() == 0.0 && value.abs() <= MAX_EXACT;
        let negative_zero = value == 0.0 && value.is_sign_negative();
        Ok(if exact && !negative_zero {
            Value::Integer(value as i64)
        } else {
            Value::Number(value)
        })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        let made = self.decoder.lua.create_string(text);
        self.decoder.check(made).map(Value::String)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Value, A::Error> {
        let table = self.decoder.lua.create_table();
        let table = self.decoder.check(table)?;
        let mut index = 0i64;
        while let Some(item) = items.next_element_seed(self.again())? {
            index += 1;
            let set = self.decoder.shapes.guard.step().and_then(|()| table.raw_set(index, item));
            self.decoder.check(set)?;
        }
        let marked = table.set_metatable(Some(self.decoder.shapes.array_mark().clone()));
        self.decoder.check(marked)?;
        Ok(Value::Table(table))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Value, A::Error> {
        let table = self.decoder.lua.create_table();
        let table = self.decoder.check(table)?;
        let mut place = Some(ROOT);
        let mut nulls: Vec<Cow<'de, str>> = Vec::new();
        while let Some(key) = entries.next_key_seed(KeySeed)? {
            let step = self.decoder.shapes.guard.step();
            self.decoder.check(step)?;
            let next =
                place.map_or(Ok(None), |at| self.decoder.shapes.follow(self.decoder.lua, at, &key));
            place = self.decoder.check(next)?;
            let value = entries.next_value_seed(self.again())?;
            let null = is_null(&value);
            // Set all the same: the key may have come before.
            let value = if null { Value::Nil } else { value };
            let known = place.and_then(|at| self.decoder.shapes.key(at));
            let set = match known {
                Some(known) => table.raw_set(known, value),
                None => table.raw_set(&*key, value),
            };
            self.decoder.check(set)?;
            if null {
                nulls.push(key);
            }
        }
        if place == Some(ROOT) {
            // Without a mark, so that it is an array if the script makes it one.
            return Ok(Value::Table(table));
        }
        let mark = self.decoder.shapes.mark_for(self.decoder.lua, place, &nulls);
        let marked = mark.and_then(|mark| table.set_metatable(Some(mark)));
        self.decoder.check(marked)?;
        Ok(Value::Table(table))
    }
}

/// A key, borrowed where the text has no escape.
struct KeySeed;

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for KeySeed {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(key.into())
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(key.to_owned().into())
    }
}
