use super::missing_names;

/// Names and lines, as `io.open:2`.
fn told(script: &str, unsafe_scripts: bool) -> String {
    let missing = missing_names(script.as_bytes(), unsafe_scripts);
    let told = missing.iter().map(|missing| format!("{}:{}", missing.name, missing.line));
    told.collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn check(script: &str, expected: &str) {
    assert_eq!(told(script, false), expected, "{script}");
}

#[test]
fn what_is_not_there_is_told_with_its_first_line() {
    check(
        "function Process(c, emit)\n  local f = io.open('x')\n  io.open('y') io.write(c)\nend",
        "io.open:2 io.write:3",
    );
    check("dofile('a.lua')\nlocal chunk = loadfile 'b'", "dofile:1 loadfile:2");
    check(
        "os.execute('x') os.remove(f) os.rename(a, b) x = os.tmpname()",
        "os.execute:1 os.remove:1 os.rename:1 os.tmpname:1",
    );
    check(
        "os.exit(1)\nos.setlocale('C')\nx = string.dump(f)\npackage.loadlib('a', 'b')",
        "os.exit:1 os.setlocale:2 string.dump:3 package.loadlib:4",
    );
    check("package.path = package.path .. ';lib/?.lua'", "package.path:1");
    check("for line in io.lines(name) do end", "io.lines:1");
    check("local io = io\nfunction f() return io.read() end", "io:1 io.read:2");
    check("local os, io = os, io", "io:1");
    check("local read = io.read", "io.read:1");
    check("emit(io == nil and 1 or 2, pcall(io.open, 'x'))", "");
    check("x = {io.stdout, run = os.execute}", "io.stdout:1 os.execute:1");
    check("x = '' .. io.read()", "io.read:1");
    check("if f() then io.write('x') end", "io.write:1");
    check("local write = io.write or print", "io.write:1");
    check("#! don't\nio.open('x')", "io.open:2");
}

#[test]
fn what_is_there_is_passed_over() {
    check(
        "os.time() os.date() os.getenv('X') string.format('%d', 1) package.loaded.x = 1 local s = os",
        "",
    );
    check("mytable.io.open('x') self:dofile() x.os.execute() a . io . b()", "");
    check("-- io.open\n--[[ os.execute\n io.read() ]] x = 1 --[==[ ]] dofile() ]==]", "");
    check(
        "x = 'io.open()' .. \"os.execute('\\\"io.open')\" .. [[ io.read() ]] .. [=[ ]] io.read() ]=]",
        "",
    );
    check("x = 'a\\\\' y = 'io.open'", "");
    check("x = 1e5 y = 0xep1 z = 1 ..2", "");
}

#[test]
fn what_the_script_has_made_is_its_own() {
    check("local io = {}\nio.open('x')", "");
    check("local io = require('myio') io.open('x')", "");
    check("local a, io <const> = 1, {} io.open('x')", "");
    check("local function dofile(x) end dofile('x')", "");
    check("function loadfile() end loadfile('x')", "");
    check("local function f(io) return io.open('x') end", "");
    check("local f = function(a, io, ...) return io.open('x') end", "");
    check("for io, os in pairs(x) do io.open() os.execute() end", "");
    check("io = {open = f} io.open('x')", "");
    check("function os.exit() end os.exit()", "");
    check("os.exit = function() end\nos.exit()", "");
    check("x = {io = 1, dofile = 2; os = 3} y = x.io", "");
    check("x = {f = function() end, io = 1} io.open('x')", "io.open:1");
    // Before it was made it was Lua's.
    check("io.write('x')\nlocal io = {}\nio.write('y')", "io.write:1");
}

#[test]
fn who_asks_first_knows() {
    check("if io then io.open('x') end", "");
    check("local f = io and io.open('x')", "");
    check("if not os.execute then return end os.execute('x')", "");
    check("if type(dofile) == 'function' then dofile('x') end", "");
    check("local io = io or {write = print} io.write('x')", "");
    check("if os.exit ~= nil then os.exit() end", "");
    check("local quit = os.exit or print", "");
    // One of them says nothing about the others.
    check("if os.execute then os.execute('x') end os.remove('y')", "os.remove:1");
    check("if io.open then io.open('x') end", "io.open:1");
}

#[test]
fn unsafe_scripts_lack_what_is_never_there() {
    let script = "io.open('x') os.execute('x') dofile('x')\nos.exit()";
    assert_eq!(told(script, true), "os.exit:2");
    let missing = missing_names(script.as_bytes(), false);
    let is_unsafe: Vec<bool> = missing.iter().map(|missing| missing.is_unsafe).collect();
    assert_eq!(is_unsafe, [true, true, true, false]);
}

#[test]
fn any_bytes_are_read() {
    for script in
        ["local", "function", "for", "x = [==[", "'", "--[[", "\u{fc}\\", "io.", "local io =", "("]
    {
        missing_names(script.as_bytes(), false);
    }
    missing_names(b"\xff\xfe io\0", false);
}

/// Each of them was followed to the end of the line, so that a file took minutes.
#[test]
fn one_long_line_of_many_names_is_read_in_time() {
    let begin = tokio::time::Instant::now();
    assert_eq!(told(&"os.exit = 1 ".repeat(300_000), false), "");
    assert!(begin.elapsed() < std::time::Duration::from_secs(20), "{:?}", begin.elapsed());
}

/// The lists say what a VM has.
#[test]
fn the_lists_are_true() {
    let has = |name: &str, unsafe_scripts: bool| {
        let mut options = crate::ScriptOptions::new("a.lua", vec!["out".to_owned()]);
        options.unsafe_scripts = unsafe_scripts;
        let script = format!("function Process(c, emit) emit('out', {name} ~= nil) end");
        let vm = crate::Vm::from_text(options.into(), <_>::default(), script.as_bytes()).unwrap();
        vm.process(b"").emits[0].content == "true"
    };
    for name in super::UNSAFE {
        assert_eq!((has(name, false), has(name, true)), (false, true), "{name}");
    }
    for name in super::NEVER {
        assert_eq!((has(name, false), has(name, true)), (false, false), "{name}");
    }
}
