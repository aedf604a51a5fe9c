//! Scripts that try to stall or to crash the process. Each must come back.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::options::ScriptOptions;
use crate::outcome::End;
use crate::vm::Vm;

/// Detects a hang; it is not a bound on the time.
const HANG: Duration = Duration::from_secs(20);

/// Bodies of `Process`.
const SCRIPTS: &[(&str, &str)] = &[
    ("loop", "while true do end"),
    ("loop in pcall", "while true do pcall(function() while true do end end) end"),
    ("nested pcall", "local function f() pcall(f) pcall(f) end f()"),
    (
        "loop in xpcall handler",
        "while true do xpcall(lua_error, function() while true do end end) end",
    ),
    ("error in error handler", "xpcall(lua_error, function() lua_error('again') end)"),
    ("handler calls itself", "local function h() return xpcall(h, h) end h()"),
    (
        "loop in coroutine",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
    ),
    (
        "loop in wrapped coroutine",
        "while true do pcall(coroutine.wrap(function() while true do end end)) end",
    ),
    ("coroutine in coroutine", "local function f() return coroutine.wrap(f)() end f()"),
    (
        "many coroutines",
        "local t = {} while true do t[#t + 1] = coroutine.create(print) coroutine.resume(t[#t]) end",
    ),
    ("yield outside", "coroutine.yield()"),
    ("yield out of gsub", "coroutine.wrap(function() ('a'):gsub('a', coroutine.yield) end)()"),
    (
        "close of coroutine",
        "local co = coroutine.wrap(function() local x <close> = nil coroutine.yield() end) co() coroutine.close(coroutine.create(co))",
    ),
    ("deep recursion", "local function f() return 1 + f() end f()"),
    ("tail recursion", "local function f() return f() end f()"),
    (
        "deep recursion in pcall",
        "local function f() local ok, e = pcall(f) return lua_error(e) end f()",
    ),
    ("gsub in gsub", "local function f(x) return ('a'):gsub('a', f) end f()"),
    (
        "gsub, pcall, sort",
        "local function f() pcall(string.gsub, 'a', 'a', function() table.sort({1, 2, 3}, f) end) end f()",
    ),
    ("pattern bomb find", "('a'):rep(100000):find('.-.-.-.-b')"),
    ("pattern bomb in pcall", "while true do pcall(string.find, ('a'):rep(1000), '.-.-.-.-b') end"),
    ("pattern bomb gsub", "('a'):rep(100000):gsub(('a*'):rep(30) .. 'b', '')"),
    ("pattern bomb gmatch", "for x in ('a'):rep(100000):gmatch('.-.-.-b') do end"),
    ("deep pattern", "('a'):rep(1000):find(('('):rep(31) .. ('a?'):rep(1000))"),
    ("balance bomb", "while true do ('('):rep(1000000):find('%b()') end"),
    ("short matches", "local s = ('a'):rep(4000) while true do s:find('.-b') end"),
    ("gsub bomb", "local s = 'aaaaaaaaaa' while true do s = s:gsub('a', 'aaaaaaaaaa') end"),
    ("rep of nothing", "(''):rep(1e15)"),
    ("rep bomb", "('x'):rep(1e12)"),
    ("rep loop", "while true do local x = ('x'):rep(3000000) end"),
    ("doubling", "local s = 'x' while true do s = s .. s end"),
    ("long concatenation", "local s = ('x'):rep(1000000) while true do local x = s .. s end"),
    (
        "long comparison",
        "local a = ('x'):rep(2000000) local b = a .. 'y' a = a .. 'z' while true do local x = a < b end",
    ),
    (
        "long equality",
        "local a = ('x'):rep(2000000) local b = a .. 'y' a = a .. 'z' while true do local x = a == b end",
    ),
    ("long coercion", "local a = ('1'):rep(2000000) while true do local x = a + 1 end"),
    (
        "reverse loop",
        "local a = ('x'):rep(2000000) while true do a = a:reverse():upper():lower() end",
    ),
    ("sub loop", "local a = ('x'):rep(2000000) while true do local b = a:sub(2) end"),
    (
        "format loop",
        "local a = ('x'):rep(1000000) while true do local b = ('%s%s'):format(a, a) end",
    ),
    ("wide format", "('%99999d'):format(1)"),
    ("many formats", "local i = 0 while true do i = i + 1 string.format('%d' .. i, 1.5) end"),
    ("table bomb", "local t = {} while true do t[#t + 1] = {} end"),
    (
        "sort of long strings",
        "local a = ('x'):rep(1000000) local t = {} for i = 1, 5000 do t[i] = a end while true do table.sort(t) end",
    ),
    (
        "sort by a C function",
        "local t = {} for i = 1, 100000 do t[i] = i end while true do pcall(table.sort, t, rawequal) end",
    ),
    (
        "sort with a wrong order",
        "local t = {} for i = 1, 10000 do t[i] = i end while true do pcall(table.sort, t, function() return true end) end",
    ),
    ("huge unpack", "table.unpack({}, 1, 1e7)"),
    ("unpack of everything", "table.unpack({}, math.mininteger, math.maxinteger)"),
    (
        "unpack loop",
        "local function f() while true do pcall(table.unpack, {}, 1, 900000) end end f()",
    ),
    ("huge move", "while true do table.move({}, 1, 1e7, 2) end"),
    (
        "huge concat",
        "table.concat(setmetatable({}, {__index = function() return '' end}), '', 1, 1e7)",
    ),
    (
        "length without end",
        "table.insert(setmetatable({}, {__len = function() return 1e15 end}), 1, 1)",
    ),
    (
        "concat by length",
        "table.concat(setmetatable({}, {__len = function() return 1e15 end, __index = string}))",
    ),
    (
        "late length",
        "local m = {} local t = setmetatable({}, m) m.__len = function() return 1e15 end table.sort(t)",
    ),
    (
        "hidden metatable",
        "local t = setmetatable({}, {__len = function() return 1e15 end, __metatable = false}) table.remove(t, 1)",
    ),
    (
        "insert in front",
        "local t = {} for i = 1, 100000 do t[i] = i end while true do table.insert(t, 1, 1) table.remove(t, 1) end",
    ),
    (
        "index chain",
        "local t = {} for i = 1, 5000 do t = setmetatable({}, {__index = t}) end while true do local x = t.a end",
    ),
    ("index loop", "local t = {} setmetatable(t, {__index = t}) local x = t.a"),
    (
        "metamethod recursion",
        "local t t = setmetatable({}, {__index = function(t, k) return t[k] end}) local x = t.a",
    ),
    (
        "concat metamethods",
        "local m = {} m.__concat = function(a, b) return a .. b end local t = setmetatable({}, m) local x = t .. t",
    ),
    (
        "tostring recursion",
        "local m = {} m.__tostring = function(t) return tostring(t) end print(setmetatable({}, m))",
    ),
    ("finalizer", "setmetatable({}, {__gc = function() while true do end end}) collectgarbage()"),
    (
        "late finalizer",
        "local m = {} local t = setmetatable({}, m) m.__gc = function() while true do end end t = nil while true do t = {} end",
    ),
    (
        "close",
        "local m = {} local t = setmetatable({}, m) m.__close = function() while true do end end local x <close> = t lua_error('x')",
    ),
    (
        "closes on a deep stack",
        "local m = {} local t = setmetatable({}, m) m.__close = function() while true do end end local function f() local x <close> = t f() end f()",
    ),
    (
        "closing iterator",
        "local m = {} local t = setmetatable({}, m) m.__close = function() while true do end end for i in next, {1}, nil, t do while true do end end",
    ),
    (
        "close in a wrapped coroutine",
        "local m = {} local t = setmetatable({}, m) m.__close = function() while true do end end coroutine.wrap(function() local x <close> = t while true do end end)()",
    ),
    (
        "close by a closer",
        "local m = {} local t = setmetatable({}, m) local co m.__close = function() while true do coroutine.close(co) end end co = coroutine.create(function() local x <close> = t while true do end end) local y <close> = t coroutine.resume(co)",
    ),
    (
        "close after the hook",
        "local m = {} local t = setmetatable({}, m) m.__close = function() while true do end end local x <close> = t while true do end",
    ),
    (
        "close in pcall",
        "local m = {} local t = setmetatable({}, m) m.__close = function() while true do end end while true do pcall(function() local x <close> = t while true do end end) end",
    ),
    ("reader without end", "load(function() return 'x = 1 ' end)"),
    ("C reader", "load(os.time)"),
    ("long chunk", "while true do load(('a = 1 '):rep(100000)) end"),
    ("deep chunk", "load(('('):rep(100000))"),
    ("deep blocks", "load(('do '):rep(100000))"),
    ("deep tables", "load('return ' .. ('{'):rep(100000))"),
    ("unary chain", "load('return ' .. ('-'):rep(100000) .. '1')"),
    ("concat chain", "load('local a = 1 return ' .. ('a..'):rep(100000) .. 'a')"),
    ("binary chunk", "load('\\27Lua\\84\\0\\25\\147\\r\\n\\26\\n' .. ('\\255'):rep(1000))"),
    (
        "error object",
        "lua_error(setmetatable({}, {__tostring = function() while true do end end}))",
    ),
    ("error without value", "lua_error()"),
    ("emit of a bomb", "local t = {} t[1] = t emit('out', t)"),
    (
        "pairs metamethod",
        "for k in pairs(setmetatable({}, {__pairs = function() return function() return 1 end end})) do end",
    ),
    (
        "empty table scan",
        "local t = {} for i = 1, 100000 do t['k' .. i] = 1 end for i = 1, 100000 do t['k' .. i] = nil end while true do local x = next(t) end",
    ),
    ("bytes", "local a = ('x'):rep(500000) while true do pcall(string.byte, a, 1, -1) end"),
    ("pack", "while true do string.pack('c3000000', 'x') end"),
    ("utf8", "local a = ('x'):rep(3000000) while true do utf8.len(a) utf8.offset(a, -1) end"),
    ("select", "local function f(...) return select('#', ...) + f(1, ...) end f()"),
    ("date", "while true do os.date(('%c'):rep(1000)) end"),
    ("bad date", "os.date('%E%O%Q')"),
    ("collect", "while true do collectgarbage() collectgarbage('step') end"),
    ("globals torn down", "for k in pairs(_G) do _G[k] = nil end while true do end"),
    ("string table torn down", "for k in pairs(string) do string[k] = nil end ('x'):rep(3)"),
    (
        "memory held at the end",
        "keep = {} while true do keep[#keep + 1] = ('x'):rep(1000) .. #keep end",
    ),
    (
        "memory in pcall",
        "keep = {} while true do pcall(function() while true do keep[#keep + 1] = {} end end) end",
    ),
    (
        "errors out of memory",
        "keep = {} pcall(function() while true do keep[#keep + 1] = {} end end) while true do pcall(emit, 'nowhere', 1) end",
    ),
    (
        "find out of memory",
        "keep = {} pcall(function() while true do keep[#keep + 1] = {} end end) while true do ('abc'):gsub('(.)', function(c) return c .. c end) end",
    ),
    ("many emits", "while true do emit('out', 'x') end"),
    ("many emits in pcall", "while true do pcall(emit, 'out', 'x') end"),
    ("log flood", "while true do print('x') end"),
];

fn run(body: &str) -> Option<End> {
    let mut options = ScriptOptions::new("hostile.lua", vec!["out".to_owned()]);
    options.limits.memory_bytes = 8 * 1024 * 1024;
    options.limits.call_time = Duration::from_millis(50);
    let text = format!("function Process(content, emit) {body} end");
    let vm =
        Vm::from_text(options.into(), std::collections::BTreeMap::new(), text.as_bytes()).unwrap();
    Some(vm.process(b"event").end)
}

#[test]
fn every_script_comes_back() {
    let mut failures = Vec::new();
    for (name, body) in SCRIPTS {
        let begin = tokio::time::Instant::now();
        let (sender, receiver) = channel();
        let thread = std::thread::spawn(move || sender.send(run(body)).unwrap());
        match receiver.recv_timeout(HANG) {
            Ok(end) => println!("{name}: {:?}: {:.200}", begin.elapsed(), format!("{end:?}")),
            Err(RecvTimeoutError::Timeout) => failures.push(format!("{name} hangs")),
            Err(RecvTimeoutError::Disconnected) => failures.push(format!("{name} panicked")),
        }
        if failures.is_empty() {
            thread.join().unwrap();
        }
        assert_eq!(run("emit('out', content)"), Some(End::Done), "after {name}");
    }
    assert!(failures.is_empty(), "{failures:?}");
}
