use std::time::Duration;

use mlua::{Function, Lua, MultiValue, Table, Value};
use proptest::prelude::{Just, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest};

use crate::error::describe;
use crate::guard::OUT_OF_TIME;
use crate::options::ScriptOptions;
use crate::outcome::End;
use crate::vm::Vm;

/// What a script sees of each function, as text, errors included.
const PROBE: &str = r##"
local find, match, gmatch, gsub = ...
local function shown(ok, ...)
  local texts = { tostring(ok) }
  for i = 1, select("#", ...) do texts[#texts + 1] = type((select(i, ...))) .. ":" .. tostring((select(i, ...))) end
  return table.concat(texts, "|")
end
local function all(s, p, init)
  local texts = {}
  for a, b, c in gmatch(s, p, init) do texts[#texts + 1] = shown(a, b, c) end
  return table.concat(texts, ";")
end
return function(s, p, init, replacement, max)
  return table.concat({
    shown(pcall(find, s, p, init)), shown(pcall(find, s, p, init, true)), shown(pcall(match, s, p, init)),
    shown(pcall(all, s, p, init)), shown(pcall(gsub, s, p, replacement)), shown(pcall(gsub, s, p, replacement, max)),
    shown(pcall(gsub, s, p, function(...) return shown(...) end)), shown(pcall(gsub, s, p, { a = "<A>", b = 1, [1] = "one" })),
    shown(pcall(gsub, s, p, function() return {} end)), shown(pcall(gsub, s, p, function() return false end)),
  }, "\n")
end
"##;

struct Pair {
    ours: (Lua, Function),
    model: (Lua, Function),
}

impl Pair {
    fn new() -> Self {
        Self { ours: probe(true), model: probe(false) }
    }

    fn check(&self, input: &(Vec<u8>, Vec<u8>, Option<i64>, Vec<u8>, i64)) -> (String, String) {
        (run(&self.ours, input), run(&self.model, input))
    }
}

fn probe(ours: bool) -> (Lua, Function) {
    let lua = Lua::new();
    if ours {
        let options = std::sync::Arc::new(ScriptOptions::new("s.lua", Vec::new()));
        let effects = std::rc::Rc::new(std::cell::RefCell::new(crate::effects::Effects::new(
            std::collections::BTreeMap::new(),
        )));
        let host = crate::vm::Host { guard: crate::guard::Guard::default(), options, effects };
        super::install(&lua, &host).unwrap();
        let text_of = lua.create_function(|lua, value: Value| match value {
            Value::Error(error) => Ok(Value::String(lua.create_string(describe(&error))?)),
            value => Ok(value),
        });
        lua.globals().set("text_of", text_of.unwrap()).unwrap();
        // An error of ours is a userdata, Lua's is a string: shown as the same.
        lua.load("local s = tostring; function tostring(v) return s(text_of(v)) end local t = type; function type(v) v = t(v) return (v == 'userdata' or v == 'error') and 'string' or v end")
            .exec()
            .unwrap();
    }
    let string: Table = lua.globals().get("string").unwrap();
    let get = |name: &str| string.get::<Function>(name).unwrap();
    let functions = (get("find"), get("match"), get("gmatch"), get("gsub"));
    let probe = lua.load(PROBE).set_name("=probe").call(functions).unwrap();
    (lua, probe)
}

fn run(
    (lua, probe): &(Lua, Function),
    (s, p, init, replacement, max): &(Vec<u8>, Vec<u8>, Option<i64>, Vec<u8>, i64),
) -> String {
    let string = |bytes: &[u8]| lua.create_string(bytes).unwrap();
    let shown: mlua::LuaString =
        probe.call((string(s), string(p), *init, string(replacement), *max)).unwrap();
    let mut text = String::new();
    for byte in &*shown.as_bytes() {
        text.extend(std::ascii::escape_default(*byte).map(char::from));
    }
    // The place that Lua puts before its messages.
    for line in 0..40 {
        text = text.replace(&format!("probe:{line}: "), "");
    }
    text.replace("\\n", "\n")
}

fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        8 => prop::sample::select(vec!["a", "b", "c", ".", "%a", "%d", "%s", "%S", "%w", "%x", "1", " ", "%%", "%.", "]", "\0"]),
        5 => prop::sample::select(vec!["*", "+", "-", "?"]),
        4 => prop::sample::select(vec!["(", ")", "()", "(a)", "(.-)", "(a*)", "(b-)"]),
        3 => prop::sample::select(vec!["[ab]", "[^a]", "[a-c]", "[%a1]", "[]]", "[^]]", "[a-]", "[%]", "[", "[a", "[^", "[c-a]", "[%w_%-]", "[+--]", "[%a-z]"]),
        2 => prop::sample::select(vec!["%b()", "%bab", "%b", "%ba", "%f[a]", "%f[%W]", "%f[^%w]", "%f", "%1", "%2", "%0", "%9", "%", "%z", "%Z", "%P", "%g", "%l", "%U", "%c"]),
        2 => prop::sample::select(vec!["^", "$"]),
    ];
    let pattern =
        prop::collection::vec(piece, 0..7).prop_map(|pieces| pieces.concat().into_bytes());
    (any::<bool>(), pattern).prop_map(|(anchored, mut pattern)| {
        if anchored && pattern.len() % 3 == 0 {
            pattern.insert(0, b'^');
        }
        pattern
    })
}

fn subject() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        8 => prop::sample::select(b"aabbc1 ()".to_vec()),
        2 => prop::sample::select(b"]-%.\n\0_^Z\xe9\x7f".to_vec()),
    ];
    prop::collection::vec(byte, 0..12)
}

fn replacement() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec!["x", "%0", "%1", "%2", "%%", "%", "%a", "", "é", "\0"]);
    prop::collection::vec(piece, 0..4).prop_map(|pieces| pieces.concat().into_bytes())
}

fn init() -> impl Strategy<Value = Option<i64>> {
    prop_oneof![
        3 => Just(None),
        6 => (-15_i64..15).prop_map(Some),
        1 => prop::sample::select(vec![Some(i64::MIN), Some(i64::MAX)]),
    ]
}

#[test]
fn what_lua_does() {
    let pair = Pair::new();
    let config = proptest::test_runner::Config {
        cases: 4000,
        failure_persistence: None,
        ..Default::default()
    };
    proptest!(config, |(s in subject(), p in pieces(), i in init(), r in replacement(), n in -1_i64..4)| {
        let (ours, model) = pair.check(&(s, p, i, r, n));
        prop_assert_eq!(ours, model);
    });
}

#[test]
fn limits_are_luas() {
    let pair = Pair::new();
    for (subject, pattern) in [
        ("a".repeat(40), "(a)".repeat(32)),
        ("a".repeat(40), "(a)".repeat(33)),
        ("a".repeat(300), "a?".repeat(150)),
        ("a".repeat(300), "a?".repeat(199)),
        ("a".repeat(300), "a?".repeat(200)),
        ("a".repeat(300), "a?".repeat(201)),
        (String::new(), "a*".repeat(500)),
        ("a".repeat(300), "a*".repeat(250)),
        ("aXb".repeat(9), "%u()".repeat(2)),
    ] {
        let input = (subject.into_bytes(), pattern.into_bytes(), None, b"<%0>".to_vec(), 2);
        let (ours, model) = pair.check(&input);
        assert_eq!(ours, model);
    }
}

#[track_caller]
fn check(expression: &str, expected: &str) {
    let (lua, _) = probe(true);
    let values: MultiValue = match lua.load(format!("return {expression}")).set_name("=s").eval() {
        Ok(values) => values,
        Err(error) => return assert_eq!(describe(&error), expected),
    };
    let texts: Vec<String> = values.iter().map(|value| value.to_string().unwrap()).collect();
    assert_eq!(texts.join(" "), expected);
}

#[test]
fn examples() {
    check("('key = value'):match('^(%w+)%s*=%s*(%w+)$')", "key value");
    check("('hello'):find('l')", "3 3");
    check("('a.b'):find('.', 2, true)", "2 2");
    check("('hello'):find('', 10)", "nil");
    check("('hello'):find('', 6)", "6 5");
    check("('THE (quick) fox'):find('%((%a+)%)')", "5 11 quick");
    check("('abc'):gsub('%w', '%0%0')", "aabbcc 3");
    check("('abc'):gsub('', '-')", "-a-b-c- 4");
    check("('$name is $age'):gsub('%$(%w+)', {name='Ann', age=5})", "Ann is 5 2");
    check("string.gsub(12345, '3', 'x')", "12x45 1");
    check("string.find(123, 2)", "2 2");
    check("('abca'):find('a', 2.9)", "4 4");
    check("('abca'):find('a', -1.9)", "4 4");
    check("('aaa'):gsub('a', 'b', '2.5')", "bba 2");
}

#[test]
fn refusals() {
    check("('a'):find({})", "s:1: bad argument #2 to 'find' (string expected, got table)");
    check("('a'):find('a', 'x')", "s:1: bad argument #3 to 'find' (number expected, got string)");
    check(
        "('a'):find('a', 1e300)",
        "s:1: bad argument #3 to 'find' (number has no integer representation)",
    );
    check(
        "('a'):gsub('a', true)",
        "s:1: bad argument #3 to 'gsub' (string/function/table expected, got boolean)",
    );
    check("('a'):gsub('a', '%')", "s:1: invalid use of '%' in replacement string");
    check("('a'):match('(a')", "s:1: unfinished capture");
}

#[test]
fn pattern_bombs_end() {
    for bomb in [
        "('a'):rep(100000):find('.-.-.-.-b')",
        "('a'):rep(100000):match(('a*'):rep(20) .. 'b')",
        "('('):rep(1000000):find('%b()')",
        "('a'):rep(1000000):gsub('[' .. ('b'):rep(100000) .. ']', 'x')",
        "('a'):rep(100000):gsub('.-b', 'x')",
        "(function() for w in ('a'):rep(100000):gmatch('.-b') do end end)()",
    ] {
        let mut options = ScriptOptions::new("s.lua", Vec::new());
        options.limits.call_time = Duration::from_millis(50);
        let text = format!("function Process() local x = {bomb} end");
        let vm = Vm::from_text(options.into(), std::collections::BTreeMap::new(), text.as_bytes())
            .unwrap();
        let End::Failed(reason) = vm.process(b"").end else { panic!("{bomb} ended well") };
        assert!(reason.contains(OUT_OF_TIME), "{bomb}: {reason}");
    }
}

#[test]
fn gsub_results_have_a_bound() {
    let mut options = ScriptOptions::new("s.lua", Vec::new());
    options.limits.memory_bytes = 8 * 1024 * 1024;
    // The bound is what is looked for here, not the time, on a busy machine.
    options.limits.call_time = Duration::from_secs(30);
    let text = b"function Process() local x = ('a'):rep(100000):gsub('a', ('b'):rep(100000)) end";
    let vm = Vm::from_text(options.into(), std::collections::BTreeMap::new(), text).unwrap();
    let End::Failed(reason) = vm.process(b"").end else { panic!("not refused") };
    assert_eq!(reason, "s.lua:1: gsub: the result has more than 8388608 bytes, the memory limit");
}
