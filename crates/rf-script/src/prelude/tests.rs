use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mlua::Lua;

use crate::clock::FakeClock;
use crate::effects::Effects;
use crate::error::describe;
use crate::guard::{Guard, OUT_OF_TIME};
use crate::options::ScriptOptions;
use crate::outcome::End;
use crate::vm::{Host, Vm};

/// Runs a script whose `Process` emits what the expressions are, joined by spaces.
#[expect(clippy::panic_in_result_fn, reason = "the error is what the script failed with")]
fn run(expressions: &str) -> Result<String, String> {
    let mut options = ScriptOptions::new("s.lua", vec!["out".to_owned()]);
    // 2026-01-02 03:04:05 UTC
    options.clock = Arc::new(FakeClock::new(1_767_323_045_999_999));
    let text = format!(
        "function Process(content, emit)\nlocal t = table.pack({expressions})\n\
         for i = 1, t.n do t[i] = tostring(t[i]) end\nemit('out', table.concat(t, ' '))\nend"
    );
    let vm = Vm::from_text(Arc::new(options), BTreeMap::new(), text.as_bytes()).unwrap();
    let outcome = vm.process(b"");
    match outcome.end {
        End::Done => Ok(String::from_utf8_lossy(&outcome.emits[0].content).into_owned()),
        End::Failed(reason) => Err(reason),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn check(expressions: &str, expected: &str) {
    assert_eq!(run(expressions).as_deref(), Ok(expected), "{expressions}");
}

#[track_caller]
fn check_error(expressions: &str, expected: &str) {
    assert_eq!(run(expressions), Err(expected.to_owned()), "{expressions}");
}

#[test]
fn integral_numbers_have_no_fraction() {
    check("'' .. 4/2 == '2'", "true");
    check("'' .. 4/2, tostring(2.0), -(0.0 + 3)", "2 2 -3");
    check("tostring(2^53)", "9.007199254741e+15");
    check("string.format('%s', 10/2)", "5");
    check("table.concat({1.0, 2, 2.5}, ',')", "1,2,2.5");
    check("9007199254740993, 7 // 2, 1e15, 10 / 4", "9007199254740993 3 1e+15 2.5");
    check("tonumber('10.0'), tonumber('0x10'), tonumber('z')", "10 16 nil");
}

#[test]
fn a_metatable_says_what_ipairs_goes_through() {
    let sum = |table: &str| {
        format!(
            "(function() local sum = 0 for _, v in ipairs({table}) do sum = sum + v end return sum end)()"
        )
    };
    check(&sum("{1, 2, nil, 3}"), "3");
    check(&sum("setmetatable({1, 2}, {})"), "3");
    check(&sum("setmetatable({}, {__index = {4, 5}})"), "9");
    check(&sum("setmetatable({1, 2}, {__metatable = false})"), "3");
    let own = "{__ipairs = function(t) return next, {10, 20}, nil, 'cut' end}";
    check(&sum(&format!("setmetatable({{}}, {own})")), "30");
    check(&format!("select('#', ipairs(setmetatable({{}}, {own})))"), "3");
}

#[test]
fn characters_of_a_text() {
    let sum = |codes: &str| {
        format!(
            "(function() local n = 0 for at, c in {codes} do n = n + at * c end return n end)()"
        )
    };
    check(&sum("utf8.codes('aé€')"), &(97 + 2 * 233 + 4 * 8364).to_string());
    check(&sum("utf8.codes('')"), "0");
    check(&sum("utf8.codes('\\xf7\\xbf\\xbf\\xbf', true)"), &0x1f_ffff.to_string());
    check_error(&sum("utf8.codes('a\\xff')"), "s.lua:2: invalid UTF-8 code");
    check_error(
        &sum("utf8.codes({})"),
        "s.lua:2: bad argument #1 to 'codes' (string expected, got table)",
    );
}

/// The build changes Lua's own conversion: see `lua/string.h`.
#[test]
fn a_long_text_is_no_number() {
    check("math.abs('-7'), ('abc'):sub('2'), ('x'):rep('3')", "7 bc xxx");
    check_error(
        "math.abs(('1'):rep(20000))",
        "s.lua:2: bad argument #1 to 'abs' (number expected, got string)",
    );
    check_error(
        "select(('1'):rep(20000), 'a')",
        "s.lua:2: bad argument #1 to 'select' (number expected, got string)",
    );
}

#[test]
fn chunks_are_loaded_in_pieces_like_as_a_whole() {
    let long = "('--' .. ('x'):rep(5000) .. '\\nreturn ' .. ('1 + '):rep(1000) .. '1')";
    check(&format!("load({long})()"), "1001");
    check("load('return ...')(7), load(function() return nil end)()", "7");
    check("load('return x', 'named', 't', {x = 3})()", "3");
    check("load('x =')", "nil [string \"x =\"]:1: unexpected symbol near <eof>");
    check("load('x =', '@own.lua')", "nil own.lua:1: unexpected symbol near <eof>");
}

/// A state in which no instruction is counted, and whose time is over: so only what asks for the time by itself ends.
#[track_caller]
fn check_asks_for_the_time(prepared: &str, call: &str) {
    let options = Arc::new(ScriptOptions::new("s.lua", Vec::new()));
    let effects = Rc::new(RefCell::new(Effects::new(BTreeMap::new())));
    let host = Host { guard: Guard::default(), options, effects };
    let lua = Lua::new();
    crate::json::install(&lua, &host).unwrap();
    crate::strings::install(&lua, &host).unwrap();
    crate::functions::install(&lua, &host).unwrap();
    crate::modules::install(&lua, &host).unwrap();
    crate::effects::install(&lua, &host).unwrap();
    super::install(&lua, &host).unwrap();
    lua.load(prepared).exec().unwrap();
    host.guard.arm(Duration::ZERO);
    let ended = lua.load(call).exec().map_err(|error| describe(&error));
    assert!(ended.is_err_and(|reason| reason.contains(OUT_OF_TIME)), "{call}");
}

#[test]
fn what_may_take_long_between_two_looks_of_the_hook_asks_for_the_time() {
    check_asks_for_the_time("co = coroutine.create(function() end)", "coroutine.resume(co)");
    check_asks_for_the_time("co = coroutine.wrap(function() end)", "co()");
    check_asks_for_the_time(
        "text = 'a' .. ('\\x80'):rep(20000) step = utf8.codes('a')",
        "step(text, 1)",
    );
}

#[test]
fn formats() {
    check("('%d'):format(3.7), ('%d'):format(-3.7), ('%5.1f|%i'):format(2, 2.5)", "3 -3   2.0|2");
    check("('%x %o %c %u'):format(255.5, 8.2, 65.9, 7)", "ff 10 A 7");
    check("('%d%% %s %d'):format(1.5, 2.5, '3.9')", "1% 2.5 3");
    check("('%q'):format('a\\n'), ('%s'):format(nil)", "\"a\\\n\" nil");
    check_error(
        "('%d'):format('x')",
        "s.lua:2: bad argument #2 to 'format' (number expected, got string)",
    );
    check_error("('%d'):format()", "s.lua:2: bad argument #2 to 'format' (no value)");
    check_error("('%y'):format(1)", "s.lua:2: invalid conversion '%y' to 'format'");
}

/// The build changes Lua's own conversion: see `lua/string.h`.
#[test]
fn fractions_are_cut_off_where_an_integer_is_expected() {
    check("('abcdef'):sub(1, 7 / 2), ('abcdef'):sub(-2.7), ('abcdef'):sub('-2.7')", "abc ef ef");
    check("('abc'):byte(1.9), string.char(65.9), ('abcabc'):find('a', 1.9)", "97 A 1 1");
    check("os.date('!%Y-%m-%d', 1767323045678 / 1000)", "2026-01-02");
    check(
        "os.time{year = 2026.5, month = 1, day = 3} - os.time{year = 2026, month = 1, day = 2}",
        "86400",
    );
    check("table.concat({1, 2, 3}, ',', 1.9, 2.9), table.remove({1, 2, 3}, 1.5)", "1,2 1");
    check("unpack({1, 2, 3}, 1.7, 5 / 2)", "1 2");
    check("(function() local t = {1, 2} table.insert(t, 1.5, 9) return unpack(t) end)()", "9 1 2");
    check("select(3 / 2, 'a', 'b')", "a b");
    check(
        "(function() local t = {} t[1.5] = 'a' t[2.0] = 'b' return t[1.5], t[2], t[1] end)()",
        "a b nil",
    );
    check(
        "math.tointeger(1.5), math.tointeger(2^70), math.tointeger('8'), math.tointeger(3.0)",
        "nil nil 8 3",
    );
    check_error(
        "('abc'):sub(1, 1e300)",
        "s.lua:2: bad argument #3 to 'sub' (number has no integer representation)",
    );
}

#[test]
fn a_remainder_of_nothing_is_not_a_number() {
    let is_nan = "(function(x) return x ~= x end)";
    check(&format!("{is_nan}(5 % 0)"), "true");
    let parts = "(function(a, b) local c = a % b return c ~= c, a % 3, -a % 3, a % -3 end)(5, 0)";
    check(parts, "true 2 1 -1");
    check(&format!("{is_nan}('5' % 0), {is_nan}(5 % '0'), '7' % 4"), "true true 3");
    check(
        &format!("{is_nan}(math.fmod(5, 0)), {is_nan}(math.mod(5, 0)), math.fmod(-7, 3)"),
        "true true -1",
    );
    check(
        "(function() local n = 0 for i = 1, 3 do if i % n == 0 then n = 9 end end return n end)()",
        "0",
    );
    check_error("({}) % 0", "s.lua:2: attempt to perform arithmetic on a table value");
}

#[test]
fn names_of_older_luas() {
    check("unpack({1, 2, 3})", "1 2 3");
    check("loadstring('return 1 + 1')(), select('#', loadstring('x x'))", "2 2");
    check(
        "table.getn({1, 2}), table.maxn({1, [7] = 2}), math.pow(2, 3), math.log10(1000)",
        "2 7 8 3",
    );
    check("math.ldexp(0.5, 4), math.frexp(8)", "8 0.5 4");
    check(
        "math.frexp(-0.3), select(2, math.frexp(2^-1074)), math.ldexp(1, -1074) == 2^-1074",
        "-0.6 -1073 true",
    );
    check("math.frexp(1.7976931348623157e308)", "1 1024");
    check("math.mod(7, 3), math.sinh(0), math.cosh(0), math.tanh(100)", "1 0 1 1");
    check("string.rep('a', 2.0), string.rep('a', 2.7), ('ab'):rep(2, '-')", "aa aa ab-ab");
    check(
        "math.random(1.5) == 1, pcall(math.random, 2, 1)",
        "true false bad argument #1 to 'random' (interval is empty)",
    );
    check(
        "module, setfenv, os.exit, os.execute, io, dofile, string.dump",
        "nil nil nil nil nil nil nil",
    );
    check("type(os.getenv), type(os.clock()), os.difftime(3, 1)", "function number 2");
}

#[test]
fn bits() {
    check(
        "bit32.band(0xFF, 0x0F), bit32.bor(1, 2, 4), bit32.bxor(5, 1), bit32.band()",
        "15 7 4 4294967295",
    );
    check("bit32.bnot(0), bit32.btest(1, 2), bit32.bnot(-1)", "4294967295 false 0");
    check("bit32.lshift(1, 31), bit32.lshift(1, 32), bit32.lshift(-1, -28)", "2147483648 0 15");
    check(
        "bit32.rshift(-1, 28), bit32.arshift(-16, 2), bit32.arshift(-1, 40)",
        "15 4294967292 4294967295",
    );
    check(
        "bit32.lrotate(0x80000001, 1), bit32.rrotate(1, 1), bit32.lrotate(5, 0)",
        "3 2147483648 5",
    );
    check(
        "bit32.extract(0xABCD, 4, 8), bit32.replace(0, 0xFF, 4, 4), bit32.extract(1, 0)",
        "188 240 1",
    );
    check_error("bit32.extract(1, 31, 2)", "s.lua:2: trying to access non-existent bits");
}

#[test]
fn time_is_the_hosts() {
    check("os.time()", "1767323045");
    check("os.date('!%Y-%m-%d %H:%M:%S')", "2026-01-02 03:04:05");
    check("os.date('!%Y', 0), os.date('!*t').year", "1970 2026");
    check("type(os.time{year=2026, month=1, day=1})", "number");
}

#[test]
fn errors_are_texts() {
    check("pcall(lua_error, 'x')", "false x");
    check(
        "pcall(emit, 'nowhere', '')",
        "false s.lua:2: emit: no sink has the name `nowhere`; known: out",
    );
    check("pcall(function() lua_error({}) end) == false", "true");
    check(
        "xpcall(function() emit('nowhere', '') end, function(e) return type(e) end)",
        "false string",
    );
    check("coroutine.resume(coroutine.create(function() raise('x', 0) end))", "false x");
    check("pcall(string.rep)", "false bad argument #1 to 'rep' (string expected, got nil)");
    check_error("('x'):sub({})", "s.lua:2: bad argument #2 to 'sub' (number expected, got table)");
}

#[test]
fn varargs_and_yields_cross_pcall() {
    check("pcall(function(...) return select('#', ...), ... end, nil, 2, nil)", "true 3 nil 2 nil");
    let script = "(function() local co = coroutine.wrap(function(a) local ok, b = pcall(function() return \
         coroutine.yield(a + 1) end) return ok, b end) local first = co(1) return first, co('again') end)()";
    check(script, "2 true again");
}

#[test]
fn fences() {
    check_error(
        "setmetatable({}, {__gc = print})",
        "s.lua:2: setmetatable: `__gc` is not supported",
    );
    check_error(
        "table.insert(setmetatable({}, {__len = print}), 1)",
        "s.lua:2: insert: a table with `__len` is not supported",
    );
    check_error("table.unpack({}, 1, 1e8)", "s.lua:2: unpack: at most 10000000 elements at once");
    check_error(
        "('x'):rep(1e10)",
        "s.lua:2: rep: the result would have more bytes than the memory limit",
    );
    check("('').rep('', 1e18) == ''", "true");
    check("load('\\27Lua')", "nil attempt to load a binary chunk (mode is 't')");
    check("collectgarbage('count') > 0, collectgarbage(), collectgarbage('stop')", "true 0 0");
}

#[test]
fn tables_as_always() {
    check("table.concat({1, 2, 3}, '-', 2, 3), table.concat({})", "2-3 ");
    check("table.unpack({1, 2, 3}, 2), select('#', table.unpack({}, 1, 3))", "2 3");
    check(
        "(function() local t = {3, 1, 2} table.sort(t) table.insert(t, 1, 0) table.insert(t, 9) return table.remove(t, 1), unpack(t) end)()",
        "0 1 2 3 9",
    );
    check(
        "(function() local t = {} for i = 1, 500 do t[i] = 501 - i end table.sort(t) local ok = true for i = 1, 500 do ok = ok and t[i] == i end return ok end)()",
        "true",
    );
    check("unpack(table.move({1, 2, 3}, 1, 3, 2))", "1 1 2 3");
    check(
        "(function() local t = setmetatable({}, {__name = 'j'}) table.insert(t, 'a') table.insert(t, 'b') return table.concat(t) end)()",
        "ab",
    );
    check_error(
        "table.concat({{}})",
        "s.lua:2: invalid value (table) at index 1 in table for 'concat'",
    );
}
