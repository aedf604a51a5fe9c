//! Round trips, kinds, order, hostile input.

use std::sync::Arc;

use mlua::{Lua, Value};
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop, prop_oneof, proptest};
use proptest::prop_assert_eq;

use super::{decode, encode, install};
use crate::effects::Effects;
use crate::guard::Guard;
use crate::options::ScriptOptions;
use crate::vm::Host;

fn lua() -> Lua {
    lua_with(Guard::default())
}

fn lua_with(guard: Guard) -> Lua {
    let lua = Lua::new();
    let options = Arc::new(ScriptOptions::new("test.lua", Vec::new()));
    let effects = Effects::new(std::collections::BTreeMap::new());
    let host = Host { guard, options, effects: std::rc::Rc::new(effects.into()) };
    install(&lua, &host).unwrap();
    lua
}

fn check_round_trip(text: &str, expected: &str) {
    let lua = lua();
    let value = decode(&lua, text.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(encode(&lua, &value).unwrap()).unwrap(), expected, "{text}");
}

fn check_script(script: &str, expected: &str) {
    let made: String =
        lua().load(script).eval().unwrap_or_else(|error| panic!("{script}: {error}"));
    assert_eq!(made, expected, "{script}");
}

fn check_refused(script: &str, expected: &str) {
    let error = lua().load(script).exec().unwrap_err().to_string();
    assert!(error.contains(expected), "{script}: {error}");
}

#[test]
fn the_clock_is_looked_at_after_each_long_text() {
    let guard = Guard::default();
    let lua = lua_with(guard.clone());
    lua.load("long = ('x'):rep(16384) text = json_encode(long)").exec().unwrap();
    guard.arm(std::time::Duration::ZERO);
    for script in ["json_encode(long)", "json_decode(text)", "json_decode('[' .. text)"] {
        let error = lua.load(script).exec().unwrap_err().to_string();
        assert!(error.contains(crate::guard::OUT_OF_TIME), "{script}: {error}");
    }
}

#[test]
fn kinds_order_and_numbers_survive() {
    for same in [
        "[]",
        "{}",
        "null",
        "true",
        "[[],{}]",
        r#"{"z":1,"a":2,"m":[]}"#,
        r#"[null,1,null]"#,
        r#"{"b":{"y":1,"x":2},"a":{"y":1,"x":2}}"#,
        r#""\u0000\"\\\n""#,
        r#"{"":1,"1":2,"01":3}"#,
        "9223372036854775807",
        "-9223372036854775808",
        "18446744073709551615",
        "0.1",
        "1e+300",
        r#"{"n":null}"#,
        "-0.0",
    ] {
        check_round_trip(same, if same == "-0.0" { "-0" } else { same });
    }
    check_round_trip(" [1.0, 2e3,\n1.5] ", "[1,2000,1.5]");
    check_round_trip(r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#);
    let long = "k".repeat(100);
    check_round_trip(
        &format!(r#"{{"z":1,"{long}":2,"a":3}}"#),
        &format!(r#"{{"z":1,"{long}":2,"a":3}}"#),
    );
}

#[test]
fn whole_floats_are_digits_as_far_as_go_writes_them() {
    for (number, expected) in [
        ("1e15", "1000000000000000"),
        ("1795745739 * 1e6", "1795745739000000"),
        ("1795745739 * 1e9", "1795745739000000000"),
        ("-1e18", "-1000000000000000000"),
        ("1e20", "100000000000000000000"),
        ("1e21", "1e+21"),
        ("1e15 + 0.5", "1000000000000000.5"),
    ] {
        check_script(&format!("return json_encode({number})"), expected);
    }
}

#[test]
fn a_script_changes_one_thing_and_the_rest_stays() {
    check_script(
        r#"local t = json_decode('{"z":1,"a":{"list":[]},"m":3}') t.m = nil t.new = 5 t.a.x = true t.b = "x" return json_encode(t)"#,
        r#"{"z":1,"a":{"list":[],"x":true},"b":"x","new":5}"#,
    );
    check_script(r#"local t = json_decode('[1,2]') t[#t+1] = 3 return json_encode(t)"#, "[1,2,3]");
    check_script(
        r#"local t = json_decode('[1]') t.x = 2 return json_encode(t)"#,
        r#"{"1":1,"x":2}"#,
    );
    check_script(r"return json_encode({})", "{}");
    check_script(r"return json_encode(json_array())", "[]");
    check_script(r"return json_encode(json_array({}))", "[]");
    check_script(r"return json_encode(json_object({5}))", r#"{"1":5}"#);
    check_script(r"return json_encode({1, 2, [4] = 4})", r#"{"1":1,"2":2,"4":4}"#);
    check_script(
        r"local t = {} for i = 5, 1, -1 do t[i] = i end return json_encode(t)",
        "[1,2,3,4,5]",
    );
    check_script(
        r"return json_encode({a = json_null, b = 4/2, c = 2^53})",
        r#"{"a":null,"b":2,"c":9007199254740992}"#,
    );
    check_script(r#"return json_encode("\xff\xfe!")"#, "\"\u{fffd}\u{fffd}!\"");
    check_script(
        r#"return tostring(json_decode('18446744073709551615')) .. "!""#,
        "18446744073709551615!",
    );
}

#[test]
fn a_null_field_is_nil_and_is_written_again_at_its_place() {
    for same in [
        r#"{"z":null,"a":1,"m":null}"#,
        r#"{"a":{"b":null},"c":[{"b":null},{"b":1}]}"#,
        r#"{"a":[null,1,null]}"#,
    ] {
        check_round_trip(same, same);
    }
    check_round_trip(r#"{"a":1,"b":2,"a":null}"#, r#"{"a":null,"b":2}"#);
    check_round_trip(r#"{"a":null,"b":2,"a":1}"#, r#"{"a":1,"b":2}"#);
    check_round_trip(r#"{"a":null,"b":2,"a":null}"#, r#"{"a":null,"b":2}"#);
    let decoded = r#"local t = json_decode('{"z":null,"a":1}') "#;
    let check_then =
        |script: &str, expected: &str| check_script(&format!("{decoded}{script}"), expected);
    check_then(
        "return type(t.z) .. (t.z or 'none') .. (t.z and t.z > 5 and 'large' or '')",
        "nilnone",
    );
    check_then("local keys = '' for key in pairs(t) do keys = keys .. key end return keys", "a");
    check_then("t.new = 2 return json_encode({t})", r#"[{"z":null,"a":1,"new":2}]"#);
    check_then("t.z = 'x' return json_encode(t)", r#"{"z":"x","a":1}"#);
    check_then("t.z = 'x' t.z = nil t.a = nil return json_encode(t)", r#"{"z":null}"#);
    check_then("t.a = json_null return json_encode(t)", r#"{"z":null,"a":null}"#);
    check_then("return json_encode(json_object(t))", r#"{"z":null,"a":1}"#);
    check_script(
        "local t = json_decode('[1,null,3]') return #t .. tostring(t[2] == json_null)",
        "3true",
    );
    check_script(
        "local v, wrong = json_decode('null') return tostring(v) .. tostring(wrong)",
        "nilnil",
    );
}

#[test]
fn a_field_can_be_left_out() {
    let decoded = r#"local t = json_decode('{"z":null,"a":1,"n":null}') "#;
    let check_then =
        |script: &str, expected: &str| check_script(&format!("{decoded}{script}"), expected);
    check_then("return json_encode(json_omit(t, 'z'))", r#"{"a":1,"n":null}"#);
    check_then("json_omit(t, 'z') json_omit(t, 'n') return json_encode(t)", r#"{"a":1}"#);
    check_then(
        "json_omit(t, 'a') json_omit(t, 'unknown') return json_encode(t)",
        r#"{"z":null,"n":null}"#,
    );
    check_then(
        "json_omit(t, 'z') t.z = 2 t.b = 3 return json_encode(t)",
        r#"{"z":2,"a":1,"n":null,"b":3}"#,
    );
    // Another one with the same nulls keeps them.
    check_then(
        "local u = json_decode(json_encode(t)) json_omit(u, 'z') return json_encode(t)",
        r#"{"z":null,"a":1,"n":null}"#,
    );
    check_script("return json_encode(json_omit({a = 1, b = 2}, 'a'))", r#"{"b":2}"#);
    check_script("return json_encode(json_omit({'a', 'b'}, 2))", r#"["a"]"#);
    check_script("return json_encode(json_omit({['1'] = 'a', [1] = 'b'}, '1'))", r#"["b"]"#);
    check_script("return json_encode(json_omit({[true] = 1, a = 2}, true))", r#"{"a":2}"#);
    check_refused("json_omit({}, nil)", "bad argument #2");
    check_refused("json_omit({})", "bad argument #2");
}

#[test]
fn what_a_script_writes_where_nulls_are_remembered_is_bounded() {
    // The shape of so long a key is not known, so that its table has a list of its own.
    let many = "local t = json_decode('{\"' .. ('k'):rep(300) .. '\":null}')
        local _, list = next(getmetatable(t))
        local long = ('x'):rep(1024 * 1024)
        for i = 1, 70 do list[i] = long end ";
    check_refused(&format!("{many} json_encode(t)"), "json_encode: the text is larger than");
    check_refused(&format!("{many} json_omit(t, 'a')"), "json_omit: the fields that were null");
}

#[test]
fn nulls_are_kept_however_they_change_from_object_to_object() {
    let lua = lua();
    let omit: mlua::Function = lua.globals().get("json_omit").unwrap();
    for round in 0_u32..600 {
        // More different ones of one shape than are remembered for it, and shapes that are not known.
        let field = |bit: u32| {
            let value = if (round >> bit) & 1 == 0 { "null".to_owned() } else { bit.to_string() };
            let key = if round % 5 == 0 { "k".repeat(300) } else { "k".to_owned() };
            format!(r#""{key}{bit}":{value}"#)
        };
        let text = format!("{{{}}}", (0..10).map(field).collect::<Vec<_>>().join(","));
        let value = decode(&lua, text.as_bytes()).unwrap();
        let encoded = |value: &Value| String::from_utf8(encode(&lua, value).unwrap()).unwrap();
        assert_eq!(encoded(&value), text);
        let mut left: serde_json::Map<_, _> = serde_json::from_str(&text).unwrap();
        let key = left.keys().nth(3).unwrap().clone();
        left.shift_remove(&key);
        let value: Value = omit.call((value, key)).unwrap();
        assert_eq!(encoded(&value), serde_json::Value::from(left).to_string());
    }
}

#[test]
fn real_webhooks_come_out_as_they_came_in() {
    let folder =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../replayforge/tests/fixtures/github-webhooks");
    let lua = lua();
    let mut nulls = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "json") {
            let text = std::fs::read_to_string(&path).unwrap();
            let expected = serde_json::from_str::<serde_json::Value>(&text).unwrap().to_string();
            nulls += expected.matches(":null").count();
            let value = decode(&lua, text.as_bytes()).unwrap();
            let written = String::from_utf8(encode(&lua, &value).unwrap()).unwrap();
            assert_eq!(written, expected, "{}", path.display());
        }
    }
    assert!(nulls >= 30, "{nulls} nulls");
}

#[test]
fn an_object_that_came_empty_is_what_the_script_makes_of_it() {
    check_script("local t = json_decode('{}') t[1] = 2 return json_encode(t)", "[2]");
    check_script(
        r#"local t = json_decode('{"a":{}}') t.a[1] = 2 return json_encode(t)"#,
        r#"{"a":[2]}"#,
    );
    check_script("local t = json_decode('{}') t.x = 2 return json_encode(t)", r#"{"x":2}"#);
    check_script(
        "local t = json_object(json_decode('{}')) t[1] = 2 return json_encode(t)",
        r#"{"1":2}"#,
    );
    check_script(
        "local t = json_decode('{\"x\":1}') t.x = nil t[1] = 2 return json_encode(t)",
        r#"{"1":2}"#,
    );
}

#[test]
fn bad_text_is_nil_and_a_reason_with_its_place() {
    check_script(
        r#"local v, e = json_decode('{"a":\n tru}') return tostring(v) .. " " .. e"#,
        "nil json_decode: the text cannot be read as JSON: expected ident at line 2 column 5",
    );
    check_script(
        r#"local v, e = json_decode('[1] x') return e"#,
        "json_decode: the text cannot be read as JSON: trailing characters at line 1 column 5",
    );
    let deep = "[".repeat(500);
    check_script(
        &format!("local v, e = json_decode('{deep}') return e"),
        "json_decode: the text cannot be read as JSON: recursion limit exceeded at line 1 column 128",
    );
    check_script(r#"return json_encode(json_decode('"\xff"'))"#, "\"\u{fffd}\"");
    check_script(r#"return json_encode(json_decode('["\\ud83d!"]'))"#, "[\"\u{fffd}!\"]");
}

#[test]
fn what_json_has_no_word_for_is_refused() {
    check_refused("json_encode(print)", "json_encode: a function cannot be written as JSON");
    check_refused("json_encode({[{}] = 1})", "json_encode: a table cannot be a key");
    check_refused("json_encode(0/0)", "no NaN");
    check_refused("local t = {} t.t = t json_encode(t)", "levels deep, or one within itself");
    check_refused("json_array(setmetatable({}, {}))", "a metatable of its own");
}

#[test]
fn more_shapes_than_are_kept_lose_nothing() {
    let lua = lua();
    for round in 0..3000 {
        let text = format!(r#"{{"k{round}":1,"b{}":{round},"a":[]}}"#, round % 7);
        let value = decode(&lua, text.as_bytes()).unwrap();
        let written: serde_json::Value =
            serde_json::from_slice(&encode(&lua, &value).unwrap()).unwrap();
        assert_eq!(written, serde_json::from_str::<serde_json::Value>(&text).unwrap());
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<u64>().prop_map(Into::into),
        (-1e9..1e9f64)
            .prop_filter("floats that stay floats", |x| x.fract() != 0.0)
            .prop_map(Into::into),
        any::<String>().prop_map(Into::into),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Into::into),
            prop::collection::vec((any::<String>(), inner), 0..8)
                .prop_map(|entries| { serde_json::Value::Object(entries.into_iter().collect()) }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn json_is_the_same_after_lua(value in json()) {
        let lua = lua();
        let text = value.to_string();
        let back = encode(&lua, &decode(&lua, text.as_bytes()).unwrap()).unwrap();
        // serde_json keeps the order of keys here, so that equal texts say that the order was kept.
        prop_assert_eq!(String::from_utf8(back).unwrap(), text);
    }

    #[test]
    fn no_bytes_are_too_strange(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let lua = lua();
        if let Ok(value) = decode(&lua, &text) {
            prop_assert_eq!(matches!(value, Value::Function(_)), false);
            encode(&lua, &value).unwrap();
        }
    }
}
