//! Scripts that try to stall or to crash the process. Each must come back, and the next one must work.
//!
//! The bodies lie in `tests/hostile/bodies.lua`, where the tests of the whole program find them, too.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use bytes::Bytes;

use crate::guard::OUT_OF_TIME;
use crate::options::ScriptOptions;
use crate::outcome::End;
use crate::vm::Vm;

/// Detects a hang, or what would take minutes; it is not a bound on the time.
const HANG: Duration = Duration::from_secs(20);

/// Tests that share the bodies.
const PARTS: usize = 4;

const BODIES: &str = include_str!("../../tests/hostile/bodies.lua");

/// Names and bodies of `Process`.
fn bodies() -> Vec<(&'static str, &'static str)> {
    let entries = BODIES.split("\n\n-- ").skip(1);
    entries.map(|entry| entry.split_once('\n').expect("a name, then a body")).collect()
}

/// Whole scripts, whose other hooks are as hostile.
const HOOKS: &[(&str, &str)] = &[
    ("top level", "while true do end"),
    ("top level in pcall", "while true do pcall(function() while true do end end) end"),
    ("init", "function init() while true do end end"),
    ("init that emits", "function init() emit('out', 'x') end"),
    ("init that remembers", "function init() for i = 1, 1e9 do kv_set('k' .. i, i) end end"),
    (
        "hook that is no function",
        "Process = setmetatable({}, {__call = function() while true do end end})",
    ),
    (
        "hook that is a number",
        "Process = 1 TimerHandler = {} TransformBatch = '' extractStatus = true",
    ),
    ("timer", "function TimerHandler(emit) while true do emit('out', 'x') end end"),
    ("batch without end", "function TransformBatch(m) while true do m[#m + 1] = m[1] end end"),
    ("batch that is no list", "function TransformBatch(m) return 1 end"),
    ("batch of odd things", "function TransformBatch(m) return {print, m} end"),
    ("batch that holds itself", "function TransformBatch(m) m[1] = m return m end"),
    (
        "batch by a C function",
        "function TransformBatch(m, r) return setmetatable({}, {__index = tostring}), r end",
    ),
    (
        "batch by metamethods",
        "function TransformBatch(m, r) return setmetatable({}, {__index = function() return 'x' end, __len = function() return 1e15 end}), r end",
    ),
    (
        "request by metamethods",
        "function TransformBatch(m, r) return m, setmetatable({}, {__index = function() while true do end end}) end",
    ),
    (
        "headers by metamethods",
        "function TransformBatch(m, r) r.headers = setmetatable({}, {__pairs = function() while true do end end}) return m, r end",
    ),
    (
        "headers of odd things",
        "function TransformBatch(m, r) r.headers[{}] = print r.path = {} return m, r end",
    ),
    (
        "headers without end",
        "function TransformBatch(m, r) for i = 1, 1e9 do r.headers['x' .. i] = ('y'):rep(1000) end return m, r end",
    ),
    ("status", "function extractStatus() while true do end end"),
    (
        "status by metamethods",
        "function extractStatus() return setmetatable({}, {__tostring = function() while true do end end}) end",
    ),
    ("huge status", "function extractStatus() return ('x'):rep(7000000) end"),
];

fn load(text: &str) -> Option<Vm> {
    load_within(text, Duration::from_millis(20))
}

fn load_within(text: &str, call_time: Duration) -> Option<Vm> {
    let mut options = ScriptOptions::new("hostile.lua", vec!["out".to_owned()]);
    options.limits.memory_bytes = 8 * 1024 * 1024;
    options.limits.call_time = call_time;
    Vm::from_text(Arc::new(options), BTreeMap::new(), text.as_bytes()).ok()
}

/// Where the VM may go on after the body, it must be able to.
fn process(body: &str) -> Option<End> {
    let fine = "if content == 'fine' then emit('out', content) return end";
    let vm = load(&format!("function Process(content, emit) {fine} {body}\nend"))?;
    let end = vm.process(b"event").end;
    if !vm.is_spent() {
        assert_eq!(vm.process(b"fine").end, End::Done, "behind {end:?}");
    }
    Some(end)
}

/// Calls whatever hook the script has; one that cannot be loaded has come back already.
fn call_hooks(script: &str) -> Option<End> {
    let vm = load(script)?;
    let messages = [Bytes::from_static(b"event")];
    drop(vm.transform_batch(&messages));
    drop(vm.extract_status(b"{}"));
    vm.timer();
    Some(vm.process(b"event").end)
}

/// Runs each on a thread of its own, for one that does not come back cannot be stopped.
fn check(scripts: &[(&'static str, &'static str)], run: fn(&str) -> Option<End>) {
    let mut failures = Vec::new();
    for &(name, script) in scripts {
        let begin = tokio::time::Instant::now();
        let (sender, receiver) = channel();
        let thread = std::thread::spawn(move || sender.send(run(script)).unwrap());
        match receiver.recv_timeout(HANG) {
            Ok(end) => println!("{name}: {:?}: {:.200}", begin.elapsed(), format!("{end:?}")),
            Err(RecvTimeoutError::Timeout) => failures.push(format!("{name} hangs")),
            Err(RecvTimeoutError::Disconnected) => failures.push(format!("{name} panicked")),
        }
        if failures.is_empty() {
            thread.join().unwrap();
        }
        assert_eq!(process("emit('out', content)"), Some(End::Done), "after {name}");
    }
    assert!(failures.is_empty(), "{failures:?}");
}

/// One part of the bodies: so the test runner spreads them over the cores, and none of its tests takes long.
fn check_part(part: usize) {
    let bodies = bodies();
    assert_eq!(bodies.len(), 197, "bodies");
    let parts: Vec<_> = bodies.chunks(bodies.len().div_ceil(PARTS)).collect();
    assert_eq!(parts.len(), PARTS);
    check(parts[part], process);
}

#[test]
fn every_body_of_the_first_part_comes_back() {
    check_part(0);
}

#[test]
fn every_body_of_the_second_part_comes_back() {
    check_part(1);
}

#[test]
fn every_body_of_the_third_part_comes_back() {
    check_part(2);
}

#[test]
fn every_body_of_the_fourth_part_comes_back() {
    check_part(3);
}

#[test]
fn every_hook_comes_back() {
    check(HOOKS, call_hooks);
}

/// The parser goes back over such a chain for each further part of it.
#[test]
fn a_long_chain_of_conditions_ends_with_the_time_of_its_call() {
    let mut options = ScriptOptions::new("hostile.lua", Vec::new());
    options.limits.call_time = Duration::from_millis(20);
    let script = "function Process() load('return ' .. ('a and '):rep(170000) .. 'a') end";
    let vm =
        Vm::from_text(Arc::new(options), BTreeMap::new(), script.as_bytes()).expect("a script");
    let begin = tokio::time::Instant::now();
    let end = format!("{:?}", vm.process(b"event").end);
    assert!(end.contains(OUT_OF_TIME), "{end}");
    assert!(begin.elapsed() < HANG, "{:?}", begin.elapsed());
}

#[test]
fn a_file_with_a_long_chain_of_conditions_is_refused_when_its_time_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("local a\nreturn {} a", "a and ".repeat(500_000));
    let (own, other) = (folder.path().join("own.lua"), folder.path().join("other.lua"));
    std::fs::write(&own, &long).unwrap();
    std::fs::write(folder.path().join("lib.lua"), &long).unwrap();
    std::fs::write(&other, "require('lib')").unwrap();
    for (path, file) in [(own, "own.lua"), (other, "lib.lua")] {
        let mut options = ScriptOptions::new(path, Vec::new());
        options.limits.call_time = Duration::from_millis(5);
        let begin = tokio::time::Instant::now();
        let loaded = Vm::load(Arc::new(options), BTreeMap::new());
        let reason = loaded.err().expect("too long").to_string();
        assert!(reason.starts_with(&format!("{file}: cannot be parsed: ")), "{reason}");
        assert!(reason.contains(OUT_OF_TIME), "{reason}");
        assert!(begin.elapsed() < HANG, "{:?}", begin.elapsed());
    }
}

/// Loops of different lengths with a call of a function of ours that is written in Lua and does not ask for the time each time.
/// The hook looks at every thousandth instruction: in a loop whose length divides a thousand always at the same place. The end of
/// the time must reach the script from each place of the function.
fn check_loops(call: &'static str) {
    let (sender, receiver) = channel();
    let thread = std::thread::spawn(move || {
        for (longer, before) in (0..25).flat_map(|l| (0..50).step_by(5).map(move |b| (l, b))) {
            let (rest, start) = ("x = 1 ".repeat(longer), "x = 1 ".repeat(before));
            let body = format!("local x {start} while true do {rest} {call} end");
            let script = format!("function Process(content, emit) {body} end");
            let vm = load_within(&script, Duration::from_millis(2)).expect("a script");
            let end = vm.process(b"event").end;
            sender.send(format!("{longer}, {before}, {call}: {end:?}")).unwrap();
        }
    });
    let mut last = "none".to_owned();
    for _ in 0..250 {
        last = receiver.recv_timeout(HANG).unwrap_or_else(|_| panic!("hangs behind {last}"));
        assert!(last.contains(OUT_OF_TIME), "{last}");
    }
    thread.join().unwrap();
}

#[test]
fn a_loop_ends_wherever_in_string_rep_the_hook_looks() {
    check_loops("('x'):rep(2)");
}

#[test]
fn a_loop_ends_wherever_in_string_format_the_hook_looks() {
    check_loops("string.format('%d', 7)");
}

#[test]
fn a_loop_ends_wherever_in_table_concat_the_hook_looks() {
    check_loops("table.concat({'a', 'b'})");
}

#[test]
fn a_loop_ends_wherever_in_pcall_the_hook_looks() {
    check_loops("pcall(type, 1)");
}

#[test]
fn a_loop_ends_wherever_in_xpcall_the_hook_looks() {
    check_loops("xpcall(error, type)");
}
