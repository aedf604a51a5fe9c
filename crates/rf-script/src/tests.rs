//! Whole scripts: hooks, emits, verdicts, limits, modules, what failed calls leave behind.

mod manual;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::{End, LoadError, ScriptOptions, Session, Vm};

fn options() -> ScriptOptions {
    ScriptOptions::new("test.lua", vec!["errors".to_owned(), "rest".to_owned()])
}

fn load(script: &str) -> Vm {
    load_with(options(), script)
}

fn load_with(options: ScriptOptions, script: &str) -> Vm {
    let loaded = Vm::from_text(Arc::new(options), BTreeMap::new(), script.as_bytes());
    loaded.unwrap_or_else(|error| panic!("{script}: {error}"))
}

/// What is emitted, as `sink=content`, and how it ended.
fn run(vm: &Vm, input: &str) -> (Vec<String>, End) {
    let outcome = vm.process(input.as_bytes());
    let emits = outcome.emits.iter().map(|emit| {
        format!("{}={}", vm.sink_name(emit.sink), String::from_utf8_lossy(&emit.content))
    });
    (emits.collect(), outcome.end)
}

fn check(script: &str, input: &str, expected: &[&str]) {
    assert_eq!(
        run(&load(script), input),
        (expected.iter().map(|&e| e.into()).collect(), End::Done)
    );
}

fn check_fails(vm: &Vm, expected: &str) {
    let (emits, end) = run(vm, "x");
    assert_eq!(emits, <[String; 0]>::default());
    let End::Failed(reason) = end else { panic!("expected a failure: {end:?}") };
    assert!(reason.contains(expected), "{reason:?} has no {expected:?}");
}

#[test]
fn process_emits_text_tables_and_numbers_to_several_sinks() {
    check(
        "function Process(content, emit)
            emit('errors', content)
            emit('rest', {list = json_array(), 1})
            emit('rest', 4/2)
        end",
        "a line",
        &["errors=a line", r#"rest={"1":1,"list":[]}"#, "rest=2"],
    );
    check("function Process(c) emit('rest', c .. '!') end", "global", &["rest=global!"]);
    check("function Process() end", "nothing", &[]);
}

#[test]
fn state_and_init_last_from_event_to_event() {
    let vm =
        load("function init() n = 10 end function Process(c, emit) n = n + 1 emit('rest', n) end");
    assert_eq!(run(&vm, "").0, ["rest=11"]);
    assert_eq!(run(&vm, "").0, ["rest=12"]);
}

#[test]
fn the_timer_is_called_where_there_is_one() {
    let vm = load("function TimerHandler(emit) emit('errors', 'tick') end");
    assert!(vm.has_timer() && !vm.has_process() && !vm.has_transform_batch());
    assert_eq!(vm.timer().emits[0].content, "tick");
    assert!(!load("").has_timer());
    assert_eq!(load("").timer().end, End::Done);
}

#[test]
fn an_unknown_sink_is_an_error_with_the_known_ones() {
    let vm = load("function Process(c, emit)\n emit('erors', c) end");
    check_fails(&vm, "test.lua:2: emit: no sink has the name `erors`; known: errors, rest");
    let free = ScriptOptions { any_sink: true, ..options() };
    let vm = load_with(free, "function Process(c, emit) emit('any', c) emit('rest', c) end");
    assert_eq!(run(&vm, "x").0, ["any=x", "rest=x"]);
}

#[test]
fn verdicts_take_back_what_was_emitted() {
    let vm = load(
        "function Process(c, emit) emit('rest', c) if c == 'a' then drop('noise') else dead('bad ', 7) end end",
    );
    assert_eq!(run(&vm, "a"), (vec![], End::Dropped("noise".to_owned())));
    assert_eq!(run(&vm, "b"), (vec![], End::Dead("bad  7".to_owned())));
}

#[test]
fn a_script_error_has_its_line_and_takes_back_what_the_call_did() {
    let vm =
        load("function Process(c, emit)\n emit('rest', c) kv_set('k', c)\n local x = nil + 1 end");
    check_fails(&vm, "test.lua:3: attempt to perform arithmetic on a nil value");
    assert_eq!(vm.process(b"x").kv, []);
}

#[test]
fn what_a_script_remembers_is_told_and_given_to_the_next_vm() {
    let script = "function Process(c, emit) kv_set('n', (kv_get('n') or 0) + 1) emit('rest', kv_get('n')) end";
    let vm = load(script);
    vm.process(b"");
    let outcome = vm.process(b"");
    assert_eq!((outcome.kv.len(), outcome.kv[0].key.as_str()), (1, "n"));
    let kv = BTreeMap::from([("n".to_owned(), outcome.kv[0].value.clone().unwrap())]);
    let next = Vm::from_text(Arc::new(options()), kv, script.as_bytes()).unwrap();
    assert_eq!(run(&next, "").0, ["rest=3"]);
}

#[test]
fn limits_fail_the_call() {
    let limited = |change: fn(&mut ScriptOptions), script: &str| {
        let mut options = options();
        options.limits.call_time = Duration::from_millis(50);
        change(&mut options);
        load_with(options, &format!("function Process(c, emit) {script} end"))
    };
    check_fails(&limited(|_| (), "while true do end"), "longer than its limit");
    check_fails(
        &limited(|_| (), "pcall(function() while true do end end) emit('rest', c)"),
        "longer",
    );
    check_fails(
        &limited(|o| o.limits.emitted_events = 2, "for i = 1, 3 do emit('rest', c) end"),
        "more than 2 events",
    );
    check_fails(
        &limited(|o| o.limits.emitted_bytes = 9, "emit('rest', ('x'):rep(10))"),
        "more than 9 bytes",
    );
    let hungry = "local t = {} for i = 1, 1e7 do t[i] = ('x'):rep(1000) .. i end";
    check_fails(
        &limited(
            |o| {
                o.limits.memory_bytes = 4 << 20;
                o.limits.call_time = Duration::from_secs(20);
            },
            hungry,
        ),
        "not enough memory",
    );
}

/// Checks how the reason for which the script fails begins.
#[track_caller]
fn check_reason(change: fn(&mut ScriptOptions), script: &str, expected: &str) {
    let mut options = options();
    change(&mut options);
    let (_, end) = run(&load_with(options, script), "x");
    let End::Failed(reason) = end else { panic!("expected a failure: {script}: {end:?}") };
    assert!(reason.starts_with(expected), "{script}: {reason:?} does not begin with {expected:?}");
}

#[test]
fn a_limit_says_where_the_script_was() {
    let slow = |options: &mut ScriptOptions| options.limits.call_time = Duration::from_millis(20);
    let late = "the script took longer than its limit for one call (20 ms)";
    for (script, line) in [
        ("function Process()\n local n = 0\n while true do n = n + 1 end end", 3),
        ("function Process()\n pcall(function()\n while true do end end)\n end", 3),
        ("function Process()\n coroutine.wrap(function()\n while true do end end)()\n end", 3),
        // In a function of ours, for most of the time.
        ("function Process()\n while true do ('x'):rep(2) end end", 2),
        ("local s = ('a'):rep(3e4)\nfunction Process()\n s:find(('.-'):rep(20) .. 'b') end", 3),
    ] {
        check_reason(slow, script, &format!("test.lua:{line}: {late}"));
    }
    // Lua does not say where it was.
    let small = |options: &mut ScriptOptions| {
        options.limits.memory_bytes = 4 << 20;
        options.limits.call_time = Duration::from_secs(20);
    };
    let filling = "function Process() local t = {} for i = 1, 1e9 do t[i] = i end end";
    check_reason(small, filling, "test.lua: memory error: not enough memory");
}

#[test]
fn what_is_raised_and_is_no_text_is_told_by_its_type_and_place() {
    let no_text = "an error value that is no text was raised:";
    for (raise, expected) in [
        ("lua_error({code = 1})", format!("{no_text} table")),
        ("lua_error(print)", format!("{no_text} function")),
        ("lua_error(nil)", "nil".to_owned()),
        ("lua_error()", "nil".to_owned()),
        ("lua_error(true)", "true".to_owned()),
        ("lua_error(42)", "42".to_owned()),
        ("assert(false, '503')", "503".to_owned()),
    ] {
        let script = format!("function Process()\n {raise} end");
        check_reason(|_| (), &script, &format!("test.lua:2: {expected}"));
    }
    let script = |value: &str| format!("function Process() lua_error({value}, 0) end");
    check_reason(|_| (), &script("'table: none'"), "table: none");
    let own = "setmetatable({}, {__tostring = function() return 'own words' end})";
    check_reason(|_| (), &script(own), "own words");
}

/// Counts its calls, and fails at some.
const COUNTING: &str = "local count = 0
    local generator = coroutine.wrap(function() for n = 1, 1e9 do coroutine.yield(n) end end)
    local function deep(n) return 1 + deep(n) end
    local function fill() local t = {} for i = 1, 1e7 do t[i] = ('x'):rep(1000) .. i end end
    local kept = {}
    local function keep() for i = 1, 1e7 do kept[i] = ('x'):rep(100000) end end
    local bad = {
        nothing = function() local nothing = nil + 1 end,
        raised = function() lua_error({}) end,
        argument = function() ('x'):rep({}) end,
        sink = function() emit('nowhere', '') end,
        many = function() for i = 1, 100 do emit('rest', i) end end,
        deep = function() deep(1) end,
        coroutine = function() coroutine.wrap(function() lua_error('no') end)() end,
        native = function() ('aaa'):gsub('a', function() lua_error('no') end) end,
        loop = function() while true do end end,
        spin = function() coroutine.wrap(function() while true do end end)() end,
        sorting = function() table.sort({3, 2, 1}, function() while true do end end) end,
        memory = function() fill() end,
        again = function() local _, reason = pcall(fill) lua_error(reason, 0) end,
        reworded = function() if not pcall(keep) then lua_error('cannot parse') end end,
        valued = function() if not pcall(keep) then lua_error({}) end end,
        native_full = function() if not pcall(string.rep, 'x', 4000000) then lua_error('no') end end,
        resumed = function() if not coroutine.resume(coroutine.create(keep)) then lua_error('no') end end,
        handled = function() if not xpcall(keep, function() return 'no' end) then lua_error('no') end end,
    }
    function Process(c, emit)
        count = count + 1
        emit('rest', count .. c .. generator() .. (kv_get('last') or ''))
        kv_set('last', c)
        if bad[c] then bad[c]() end
    end";

/// What is emitted for `good`, then for `bad`, which must fail, and for `good` again.
fn around(bad: &str, change: fn(&mut ScriptOptions)) -> [String; 2] {
    let mut options = options();
    change(&mut options);
    let text = COUNTING.as_bytes().to_vec();
    let mut session = Session::new(Arc::new(options), BTreeMap::new(), text).unwrap();
    let good = |session: &mut Session| {
        let outcome = session.process(b"good").unwrap();
        assert_eq!(outcome.end, End::Done, "beside {bad}");
        String::from_utf8(outcome.emits[0].content.to_vec()).unwrap()
    };
    let before = good(&mut session);
    let outcome = session.process(bad.as_bytes()).unwrap();
    assert!(matches!(outcome.end, End::Failed(_)), "{bad}: {outcome:?}");
    assert!(outcome.emits.is_empty() && outcome.kv.is_empty(), "{bad}: {outcome:?}");
    [before, good(&mut session)]
}

#[test]
fn variables_outlive_an_error() {
    for bad in ["nothing", "raised", "argument", "sink", "many", "deep", "coroutine", "native"] {
        let [before, after] = around(bad, |options| {
            options.limits.emitted_events = 50;
            options.limits.call_time = Duration::from_secs(20);
            // More than a stack that is full takes.
            options.limits.memory_bytes = 256 << 20;
        });
        assert_eq!((before.as_str(), after.as_str()), ("1good1", "3good3good"), "{bad}");
    }
}

#[test]
fn a_limit_of_time_or_memory_makes_the_vm_anew() {
    for bad in ["loop", "spin", "sorting"] {
        let told = around(bad, |options| options.limits.call_time = Duration::from_millis(50));
        assert_eq!(told, ["1good1", "1good1good"], "{bad}");
    }
    for bad in ["memory", "again", "reworded", "valued", "native_full", "resumed", "handled"] {
        let told = around(bad, |options| {
            options.limits.memory_bytes = 4 << 20;
            options.limits.call_time = Duration::from_secs(20);
        });
        assert_eq!(told, ["1good1", "1good1good"], "{bad}");
    }
}

#[test]
fn a_full_vm_is_made_anew_when_its_script_gives_the_event_up() {
    let script = "local kept, count = {}, 0
    function Process(c, emit)
        count = count + 1
        local full = c ~= 'good' and not pcall(function()
            for i = 1, 1e7 do kept[i] = ('x'):rep(100000) end
        end)
        if full and c == 'dead' then dead('bad event') end
        if full and c == 'emptied' then kept = {} end
        emit('rest', count)
    end";
    for (bad, end, after) in
        [("dead", End::Dead("bad event".to_owned()), "1"), ("emptied", End::Done, "2")]
    {
        let mut options = options();
        options.limits.memory_bytes = 4 << 20;
        options.limits.call_time = Duration::from_secs(20);
        let text = script.as_bytes().to_vec();
        let mut session = Session::new(Arc::new(options), BTreeMap::new(), text).unwrap();
        assert_eq!(session.process(bad.as_bytes()).unwrap().end, end);
        assert_eq!(session.process(b"good").unwrap().emits[0].content, after, "{bad}");
    }
}

#[test]
fn a_script_that_cannot_be_loaded_says_where() {
    let error = |script: &str| {
        Vm::from_text(Arc::new(options()), BTreeMap::new(), script.as_bytes())
            .err()
            .unwrap()
            .to_string()
    };
    assert!(error("local x =\n= 3").starts_with("test.lua:2: "), "{}", error("local x =\n= 3"));
    assert!(error("function init()\n lua_error('no') end").contains("test.lua:2: no"));
    let told = error("init = 5");
    assert_eq!(
        told,
        "the global `init` is of type integer: expected a function, which would be called"
    );
    // The parser gets the text in pieces.
    let long = format!("local x = {{{}}}\n", "'some text',".repeat(1000));
    assert!(load(&format!("{long}function Process() end")).has_process());
    let told = error(&format!("{long}x ="));
    assert_eq!(told, "test.lua:2: unexpected symbol near <eof>");
    let missing = Vm::load(Arc::new(ScriptOptions::new("/nowhere/a.lua", vec![])), BTreeMap::new());
    let Err(LoadError::File { path, .. }) = missing else { panic!("loaded") };
    assert_eq!(path, "/nowhere/a.lua");
}

#[test]
fn what_stands_before_a_script_for_others_is_passed_over() {
    let rest = "\nfunction Process(c, emit) emit('rest', c)\nlua_error('no') end";
    for first in
        ["", "\u{feff}", "#!/usr/bin/env lua -- don't", "\u{feff}# a comment of the original"]
    {
        check_fails(&load(&format!("{first}{rest}")), "test.lua:3: no");
    }
    assert!(!load("#!/usr/bin/env lua").has_process());
}

#[test]
fn modules_lie_beside_the_script_and_have_no_paths_for_names() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    std::fs::create_dir(folder.path().join("lib")).unwrap();
    write("helpers.lua", "loads = (loads or 0) + 1 return {twice = function(x) return x .. x end}");
    write("lib/deep.lua", "#!/usr/bin/env lua\nreturn 'deep ' .. ...");
    write("main.lua", "local h = require('helpers') require('helpers')
        function Process(c, emit) emit('rest', h.twice(c) .. loads .. require('lib.deep') .. type(require('string'))) end");
    let vm = Vm::load(
        Arc::new(ScriptOptions::new(folder.path().join("main.lua"), options().sinks)),
        BTreeMap::new(),
    );
    assert_eq!(run(&vm.unwrap(), "ab").0, ["rest=abab1deep lib.deeptable"]);
    for name in ["../x", "a..b", "/etc/passwd", "missing"] {
        let vm = load(&format!("function Process() require('{name}') end"));
        check_fails(&vm, "require: module");
    }
}

#[test]
fn unsafe_scripts_have_files_and_programs() {
    let script = "function Process(c, emit)
        local file = require('io').open(c) emit('rest', file:read('*a'):upper()) file:close()
        os.remove(c) emit('rest', io.open(c) == nil)
        emit('rest', tostring(os.execute('exit 3') or 'failed'))
    end";
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.txt");
    std::fs::write(&path, "text").unwrap();
    let path = path.to_str().unwrap();
    let vm = load_with(ScriptOptions { unsafe_scripts: true, ..options() }, script);
    assert_eq!(run(&vm, path).0, ["rest=TEXT", "rest=true", "rest=failed"]);
    check_fails(&load(script), "test.lua:2: require: module `io`");
}

#[test]
fn a_batch_is_transformed_with_path_and_headers() {
    let vm = load(
        "function TransformBatch(messages, request)
        request.path = '/v2' request.headers['X-Key'] = 'k'
        local out = {} for i = #messages, 1, -1 do out[#out + 1] = {m = messages[i]} end
        return out, request end",
    );
    let transformed = vm.transform_batch(&[Bytes::from("a"), Bytes::from("b")]).unwrap();
    let (messages, request) = (transformed.messages, transformed.request);
    assert_eq!(messages, [r#"{"m":"b"}"#, r#"{"m":"a"}"#]);
    assert_eq!(
        (request.path.as_str(), &request.headers[..]),
        ("/v2", &[("X-Key".to_owned(), "k".to_owned())][..])
    );
    let error = load("function TransformBatch() return 5 end").transform_batch(&[]).unwrap_err();
    assert!(error.to_string().contains("expected a table of strings"), "{error}");
}

/// As by the original, which takes what there is in any order.
#[test]
fn what_stands_beside_a_list_is_sent_behind_it() {
    let transform = |returned: &str| {
        let script = format!("function TransformBatch(messages) return {returned} end");
        load(&script).transform_batch(&[Bytes::from("a")])
    };
    for (returned, expected) in [
        ("{'a', nil, 'c'}", "a c"),
        ("{[3] = 'c', [2] = 'b', [0] = 'z'}", "z b c"),
        ("{b = 'y', 'a', a = 'x', [1.5] = 'w'}", "a w x y"),
        ("{'a', false, true, 7, {n = 1}}", "a 7 {\"n\":1}"),
        ("table.pack('a', 'b')", "a b"),
        ("{}", ""),
        ("json_array()", ""),
    ] {
        let messages = transform(returned).unwrap().messages;
        let shown: Vec<_> = messages.iter().map(|it| String::from_utf8_lossy(it)).collect();
        assert_eq!(shown.join(" "), expected, "{returned}");
    }
    for refused in ["{print}", "'text'", "nil", "{[true] = 'a'}"] {
        assert!(transform(refused).is_err(), "{refused}");
    }
}

#[test]
fn what_cannot_steer_a_request_is_named() {
    for (change, expected) in [
        ("request.path = {}", "request.path is of type table: expected a text"),
        ("request.headers = 'x'", "request.headers is of type string: expected a table"),
        (
            "request.headers['X-N'] = {'a'}",
            "request.headers: the value of `X-N` is of type table: expected a text",
        ),
        (
            "request.headers[true] = 'x'",
            "request.headers: a name is of type boolean: expected a text",
        ),
    ] {
        let script = format!("function TransformBatch(m, request) {change} return m, request end");
        let error = load(&script).transform_batch(&[]).unwrap_err().to_string();
        assert_eq!(error, expected, "{change}");
    }
    let script = "function TransformBatch(m, request)
        request.path, request.headers['X-N'] = nil, 5 return m, request end";
    let request = load(script).transform_batch(&[]).unwrap().request;
    let headers = [("X-N".to_owned(), "5".to_owned())];
    assert_eq!((request.path.as_str(), &request.headers[..]), ("", &headers[..]));
}

#[test]
fn bytecode_is_refused() {
    let lua = mlua::Lua::new();
    let code = lua.load("function Process() end").into_function().unwrap().dump(true);
    let loaded = Vm::from_text(Arc::new(options()), BTreeMap::new(), &code);
    let Err(LoadError::Script(reason)) = loaded else { panic!("bytecode was taken") };
    assert!(reason.contains("binary"), "{reason}");
}
