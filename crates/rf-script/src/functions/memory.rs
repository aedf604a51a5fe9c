//! `kv_get`, `kv_set`: values that survive a restart.
//!
//! A value is stored as a byte for its type and the bytes of the value, so that it comes back as what it was.

use mlua::{Lua, Value};

use super::{Call, define};
use crate::json;
use crate::vm::Host;

const STRING: u8 = b's';
const INTEGER: u8 = b'i';
const FLOAT: u8 = b'f';
const BOOLEAN: u8 = b'b';
const TABLE: u8 = b't';

pub(super) fn install(lua: &Lua, host: &Host) -> mlua::Result<()> {
    define(lua, host, "kv_get", get)?;
    define(lua, host, "kv_set", set)
}

fn get(call: &Call<'_>) -> mlua::Result<Value> {
    let key = call.utf8(0, "key")?;
    // Copied, because making a Lua value may run the script's finalizers or fail.
    let stored = call.host.effects.borrow().kv_get(&key).map(<[u8]>::to_vec);
    let Some(stored) = stored else {
        return Ok(Value::Nil);
    };
    let value = decode(call.lua, &stored)?;
    value.ok_or_else(|| call.error(format!("the value of `{key}` is of an unknown kind")))
}

fn set(call: &Call<'_>) -> mlua::Result<()> {
    let key = call.utf8(0, "key")?;
    let value = call.value(1, "value", "a value, or nil to forget the key")?;
    let stored = match value {
        Value::Nil => None,
        value => Some(encode(call, value)?),
    };
    let mut effects = call.host.effects.borrow_mut();
    // The reason names the function.
    effects.kv_set(&key, stored.as_deref()).map_err(mlua::Error::RuntimeError)
}

fn encode(call: &Call<'_>, value: &Value) -> mlua::Result<Vec<u8>> {
    let tagged = |tag: u8, bytes: &[u8]| [&[tag], bytes].concat();
    Ok(match value {
        // Through `text`, whose bound keeps a large string from being copied.
        Value::String(_) => tagged(STRING, &call.text(1, "value")?.as_bytes()),
        Value::Integer(number) => tagged(INTEGER, &number.to_le_bytes()),
        Value::Number(number) => tagged(FLOAT, &number.to_le_bytes()),
        Value::Boolean(yes) => tagged(BOOLEAN, &[u8::from(*yes)]),
        Value::Table(_) => tagged(TABLE, &json::encode(call.lua, value)?),
        _ => {
            let expected = "a string, number, boolean, table or nil";
            return Err(call.unexpected(1, "value", expected));
        }
    })
}

fn decode(lua: &Lua, stored: &[u8]) -> mlua::Result<Option<Value>> {
    let Some((tag, bytes)) = stored.split_first() else {
        return Ok(None);
    };
    let value = match *tag {
        STRING => Value::String(lua.create_string(bytes)?),
        TABLE => json::decode(lua, bytes)?,
        INTEGER => match bytes.try_into() {
            Ok(bytes) => Value::Integer(i64::from_le_bytes(bytes)),
            Err(_) => return Ok(None),
        },
        FLOAT => match bytes.try_into() {
            Ok(bytes) => Value::Number(f64::from_le_bytes(bytes)),
            Err(_) => return Ok(None),
        },
        BOOLEAN => Value::Boolean(bytes == [1]),
        _ => return Ok(None),
    };
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use crate::functions::tests::{check, evaluate_in, lua};

    #[test]
    fn values_come_back_as_what_they_were() {
        for (value, expected) in [
            ("'text'", "string text"),
            ("'12'", "string 12"),
            ("''", "string "),
            ("12", "number 12"),
            ("math.mininteger", "number -9223372036854775808"),
            ("0.1", "number 0.1"),
            ("true", "boolean true"),
            ("false", "boolean false"),
        ] {
            check(&format!("kv_set('k', {value}) return type(kv_get('k')), kv_get('k')"), expected);
        }
        check(
            "kv_set('k', 1) kv_set('n', 1.0) return math.type(kv_get('k')), math.type(kv_get('n'))",
            "integer float",
        );
        check(r"kv_set('k', '\0\xff') return kv_get('k') == '\0\xff'", "true");
        check("kv_set('k', 1/0) return kv_get('k') == math.huge", "true");
    }

    #[test]
    fn a_table_comes_back_as_a_copy() {
        check(
            "local set = {a = 1, b = 'two'}
            kv_set('k', set)
            set.a = 2
            local one, other = kv_get('k'), kv_get('k')
            return one.a, one.b, one == other",
            "1 two false",
        );
        check(
            r#"kv_set('k', json_decode('{"z":null,"a":[null]}'))
            return kv_get('k').z, json_encode(kv_get('k'))"#,
            r#"nil {"z":null,"a":[null]}"#,
        );
    }

    #[test]
    fn a_value_is_stored_with_the_type_in_front() {
        let (lua, host) = lua(64 << 20);
        for (value, stored) in [
            ("'x'", &b"sx"[..]),
            ("1", b"i\x01\0\0\0\0\0\0\0"),
            ("1.0", b"f\0\0\0\0\0\0\xf0\x3f"),
            ("true", b"b\x01"),
            ("{a = 1}", b"t{\"a\":1}"),
        ] {
            assert_eq!(evaluate_in(&lua, &format!("kv_set('k', {value})")), "");
            assert_eq!(host.effects.borrow().kv_get("k"), Some(stored), "{value}");
        }
    }

    #[test]
    fn nil_forgets() {
        check("return kv_get('k')", "nil");
        check("kv_set('k', 1) kv_set('k', nil) return kv_get('k')", "nil");
        check("kv_set('never', nil) return kv_get('never')", "nil");
    }

    #[test]
    fn bounds_and_kinds_are_checked() {
        check("kv_set(('k'):rep(257), 1)", "error: test.lua:1: kv_set: a key may have 256 bytes");
        check("kv_set(('k'):rep(256), ('v'):rep(65535)) return #kv_get(('k'):rep(256))", "65535");
        check(
            "kv_set('k', ('v'):rep(65536))",
            "error: test.lua:1: kv_set: a value may have 65536 bytes",
        );
        check(
            "kv_set('k', print)",
            "error: test.lua:1: kv_set: argument 2 (value) is of type function: expected a string, number, boolean, table or nil",
        );
        check(
            "kv_set('k')",
            "error: test.lua:1: kv_set: argument 2 (value) is missing: expected a value, or nil to forget the key",
        );
        check(
            "for i = 1, 1001 do kv_set('k' .. i, i) end",
            "error: test.lua:1: kv_set: a script may remember 1000 keys",
        );
    }

    #[test]
    fn what_another_version_stored_is_named() {
        let (lua, host) = lua(64 << 20);
        for stored in [&b""[..], b"x", b"i12", b"f"] {
            host.effects.borrow_mut().kv_set("k", Some(stored)).expect("stored");
            assert_eq!(
                evaluate_in(&lua, "return kv_get('k')"),
                "error: test.lua:1: kv_get: the value of `k` is of an unknown kind"
            );
        }
    }
}
