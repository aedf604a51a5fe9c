//! `header`, `uuid`.

use std::cell::RefCell;
use std::collections::BTreeMap;

use mlua::{IntoLua, Lua, Table, Value};
use serde::Deserialize;
use uuid::{ContextV7, Timestamp, Uuid};

use super::{Call, define};
use crate::vm::Host;

/// Of an event's text, the part that [`header`] wants.
#[derive(Deserialize)]
struct Event {
    /// An object; a list, as other programs write an empty one, has no headers.
    #[serde(default)]
    headers: serde_json::Value,
}

pub(super) fn install(lua: &Lua, host: &Host) -> mlua::Result<()> {
    define(lua, host, "header", header)?;
    // The context counts on within a millisecond, so that ids made in a row sort in that order.
    let context = RefCell::new(ContextV7::new());
    define(lua, host, "uuid", move |call| uuid(call, &context))
}

/// The first value, and all values.
fn header(call: &Call<'_>) -> mlua::Result<(Value, Table)> {
    let expected = "an event as a table or as JSON text";
    let event = call.value(0, "event", expected)?;
    let name = call.text(1, "name")?;
    let name = name.as_bytes();
    let values = match event {
        Value::Table(event) => in_table(call, event, &name)?,
        Value::String(_) => in_text(call, &name)?,
        _ => return Err(call.unexpected(0, "event", expected)),
    };
    let first = values.first().cloned().unwrap_or(Value::Nil);
    Ok((first, call.lua.create_sequence_from(values)?))
}

fn in_table(call: &Call<'_>, event: &Table, name: &[u8]) -> mlua::Result<Vec<Value>> {
    let Value::Table(headers) = event.raw_get::<Value>("headers")? else {
        return Ok(Vec::new());
    };
    // Spellings are sorted: a table's own order may differ from run to run.
    let mut spellings = BTreeMap::new();
    headers.for_each(|spelling: Value, value: Value| {
        call.host.guard.step()?;
        if let Value::String(spelling) = spelling
            && spelling.as_bytes().eq_ignore_ascii_case(name)
        {
            spellings.insert(spelling.as_bytes().to_vec(), value);
        }
        Ok(())
    })?;
    let mut values = Vec::new();
    for value in spellings.into_values() {
        match value {
            Value::Table(list) => {
                for value in list.sequence_values::<Value>() {
                    call.host.guard.step()?;
                    values.push(value?);
                }
            }
            single => values.push(single),
        }
    }
    Ok(values)
}

fn in_text(call: &Call<'_>, name: &[u8]) -> mlua::Result<Vec<Value>> {
    let text = call.text(0, "event")?;
    let text = text.as_bytes();
    // To serde a list would do, too: its elements by their places.
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err(call.error("the event is not a JSON object"));
    }
    let event: Event = rf_core::json::from_slice(&text).map_err(|error| {
        call.error(format!("the event is not a JSON object with `headers`: {error}"))
    })?;
    let serde_json::Value::Object(headers) = event.headers else { return Ok(Vec::new()) };
    let is_meant = |(spelling, _): &(String, _)| spelling.as_bytes().eq_ignore_ascii_case(name);
    let spellings: BTreeMap<_, _> = headers.into_iter().filter(is_meant).collect();
    let mut values = Vec::new();
    for value in spellings.into_values() {
        // As `json_decode` would have it: a null field is nothing, one in a list is a value.
        let list = match value {
            serde_json::Value::Array(list) => list,
            serde_json::Value::Null => Vec::new(),
            single => vec![single],
        };
        for value in list {
            values.push(match value {
                serde_json::Value::String(text) => text.into_lua(call.lua)?,
                serde_json::Value::Null => Value::NULL,
                other => other.to_string().into_lua(call.lua)?,
            });
        }
    }
    Ok(values)
}

fn uuid(call: &Call<'_>, context: &RefCell<ContextV7>) -> mlua::Result<String> {
    let id = match call.optional_utf8(0, "version")?.as_deref() {
        None | Some("v7") => {
            let now_us = call.host.options.clock.now_us();
            let seconds = u64::try_from(now_us.div_euclid(1_000_000)).unwrap_or_default();
            let micros = u32::try_from(now_us.rem_euclid(1_000_000)).unwrap_or_default();
            Uuid::new_v7(Timestamp::from_unix(&*context.borrow(), seconds, micros * 1000))
        }
        Some("v4") => Uuid::new_v4(),
        Some(other) => {
            return Err(
                call.error(format!("version `{other}` is unknown: expected \"v7\" or \"v4\""))
            );
        }
    };
    Ok(id.hyphenated().to_string())
}

#[cfg(test)]
mod tests {
    use crate::functions::tests::{check, evaluate};

    #[track_caller]
    fn check_both(headers_lua: &str, headers_json: &str, expected: &str) {
        for event in
            [format!("{{headers = {headers_lua}}}"), format!("'{{\"headers\":{headers_json}}}'")]
        {
            check(
                &format!(
                    "local first, all = header({event}, 'X-Test')
                    return first, #all, table.concat(all, ',')"
                ),
                expected,
            );
        }
    }

    #[test]
    fn a_header_is_found_in_any_spelling() {
        check_both("{['X-Test'] = {'a', 'b'}}", r#"{"X-Test":["a","b"]}"#, "a 2 a,b");
        check_both("{['x-tEST'] = {'a'}}", r#"{"x-tEST":["a"]}"#, "a 1 a");
        check_both("{['x-test'] = 'a'}", r#"{"x-test":"a"}"#, "a 1 a");
        check_both(
            "{['x-test'] = {'b'}, ['X-Test'] = {'a'}}",
            r#"{"x-test":["b"],"X-Test":["a"]}"#,
            "a 2 a,b",
        );
    }

    #[test]
    fn an_absent_header_is_nil_with_an_empty_list() {
        check_both("{}", "{}", "nil 0 ");
        check_both("{['X-Test'] = {}}", r#"{"X-Test":[]}"#, "nil 0 ");
        check_both("{['X-Test2'] = {'a'}}", r#"{"X-Test2":["a"]}"#, "nil 0 ");
        check_both("json_decode('{\"X-Test\":null}')", r#"{"X-Test":null}"#, "nil 0 ");
        check(
            r#"local event = '{"headers":{"a":[null]}}'
            return header(event, 'a') == json_null, header(json_decode(event), 'a') == json_null"#,
            "true true",
        );
        check("return (header({}, 'a'))", "nil");
        check("return (header('{}', 'a'))", "nil");
        check("return (header('{\"headers\":null}', 'a'))", "nil");
        check_both("json_decode('[]')", "[]", "nil 0 ");
    }

    #[test]
    fn what_is_no_event_is_refused() {
        check(
            "return header(1, 'a')",
            "error: test.lua:1: header: argument 1 (event) is of type integer: expected an event as a table or as JSON text",
        );
        check(
            "return header({})",
            "error: test.lua:1: header: argument 2 (name) is missing: expected a string",
        );
        let lists = ["[]", "[\"a\"]", " [{\"a\":\"1\"}]", "[{\"headers\":{\"a\":\"1\"}}]"];
        for event in ["no JSON", "", "1", "null", "{", "{\"headers\":"].into_iter().chain(lists) {
            let said = evaluate(&format!("return header('{event}', 'a')"));
            let expected = "error: test.lua:1: header: the event is not a JSON object";
            assert!(said.starts_with(expected), "{event}: {said}");
        }
    }

    #[test]
    fn an_id_tells_the_time_of_the_clock_and_ids_sort() {
        // 1_795_489_445_678 ms are 0x1a2_0b96_dd2e.
        let id = evaluate("return uuid()");
        let millis = format!("{:012x}", 1_795_489_445_678_u64);
        assert_eq!(id.replace('-', "").get(..12), Some(millis.as_str()), "{id}");
        assert_eq!(id.get(14..15), Some("7"), "{id}");
        check(
            "local last = uuid()
            for _ = 1, 1000 do
                local id = uuid()
                if id <= last then return last, id end
                last = id
            end
            return #last",
            "36",
        );
    }

    #[test]
    fn an_id_can_be_random() {
        check("local id = uuid('v4') return #id, id:sub(15, 15), id == uuid('v4')", "36 4 false");
        check(
            "return uuid('v1')",
            "error: test.lua:1: uuid: version `v1` is unknown: expected \"v7\" or \"v4\"",
        );
    }
}
