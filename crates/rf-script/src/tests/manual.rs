//! The Lua in the manual does what stands there.
//!
//! A block with a hook is a whole script, and its hook is called. Of the others each line `EXPRESSION -- WHAT COMES OUT` must
//! come out so, with the lines around it run in their order. Several values have three blanks between them; instead of a value
//! there may stand `in the log: TEXT` or `ends the call`.

use std::fmt::Write as _;
use std::path::Path;

use bytes::Bytes;

use super::load;
use crate::End;

/// What the blocks speak of without saying where it is from.
const CONTENT: &str = r#"{"path":"/pay","status":502,"body":"{}","headers":{"Content-Type":["application/json"],"X-Forwarded-For":["10.0.0.1","10.0.0.2"]}}"#;
const SURROUNDINGS: &str = "os.getenv = function() return 'value' end local path = '/pay' local event = json_decode(content) ";
/// Asks for equality, where a UUID is equal to every other one.
const CHECKER: &str = r#"
local function check(place, expected, ...)
    local got = table.pack(...)
    for i = 1, got.n do got[i] = tostring(got[i]) end
    local got = table.concat(got, "   ", 1, got.n)
    local function shape(text) return (text:gsub("^%x+%-%x+%-(7)%x+%-%x+%-%x+$", "a version %1")) end
    if shape(got) ~= shape(expected) then
        lua_error(place .. ": expected " .. expected .. ", got " .. got, 0)
    end
end
"#;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Blocks of Lua, each with the number of its first line.
fn blocks(page: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut inside: Option<(usize, String)> = None;
    for (line, number) in page.lines().zip(1..) {
        match &mut inside {
            None if line == "```lua" => inside = Some((number + 1, String::new())),
            None => {}
            Some(_) if line == "```" => blocks.extend(inside.take()),
            Some((_, block)) => {
                block.push_str(line);
                block.push('\n');
            }
        }
    }
    assert!(inside.is_none(), "a block ends");
    blocks
}

#[test]
fn hooks_in_the_manual_run() {
    let mut called = [0, 0, 0];
    for name in ["reference/lua.md", "sinks/alert.md"] {
        for (line, block) in blocks(&page(name)) {
            let at = format!("{name}:{line}");
            // Any sink that the page names.
            let script = block.replace("\"main\"", "\"rest\"").replace("\"access\"", "\"rest\"");
            if block.contains("\nfunction Process(") || block.starts_with("function Process(") {
                let vm = load(&script);
                let outcome = vm.process(CONTENT.as_bytes());
                assert_eq!((outcome.end, outcome.emits.len()), (End::Done, 1), "{at}");
                called[0] += 1;
            } else if block.contains("function TransformBatch(") {
                let sent = [Bytes::from_static(b"a"), Bytes::from_static(b"b")];
                let sent = load(&script).transform_batch(&sent).expect(&at);
                assert_eq!((sent.messages.len(), sent.request.path.as_str()), (2, "/api/v2/logs"));
                called[1] += 1;
            } else if block.contains("function extractStatus(") {
                let vm = load(&script);
                assert_eq!(vm.extract_status(br#"{"code":502}"#).expect(&at), "HTTP 502");
                assert_eq!(vm.extract_status(br#"{"code":200}"#).expect(&at), "");
                called[2] += 1;
            }
        }
    }
    assert_eq!(called, [3, 1, 1], "blocks with Process, TransformBatch, extractStatus");
}

#[test]
fn the_examples_of_the_manual_say_what_comes_out() {
    let page = page("reference/lua.md");
    let mut checked = 0;
    for (line, block) in blocks(&page) {
        if block.contains("function Process(") || block.contains("function TransformBatch(") {
            continue;
        }
        let mut script = format!("{CHECKER} function Process(content, emit) {SURROUNDINGS}\n");
        for (index, text) in block.lines().enumerate() {
            checked += usize::from(add_line(&mut script, line + index, text));
        }
        script.push_str("\nend");
        let end = load(&script).process(CONTENT.as_bytes()).end;
        // The one about signatures ends so, for nobody has signed.
        let expected = End::Dropped("bad signature".to_owned());
        assert!(end == End::Done || end == expected, "docs/reference/lua.md:{line}: {end:?}");
    }
    assert_eq!(checked, 32, "lines that say what comes out");
}

/// Whether the line says what comes out of it.
fn add_line(script: &mut String, place: usize, line: &str) -> bool {
    let Some((code, comment)) = line.split_once(" -- ") else {
        script.push_str(line);
        script.push('\n');
        return false;
    };
    let (code, comment) = (code.trim(), comment.trim());
    let written = if comment == "ends the call" {
        writeln!(script, "check({place}, 'false', (pcall(function() {code} end)))")
    } else if comment.starts_with("in the log: ") {
        writeln!(script, "{code}")
    } else {
        let expected: Vec<&str> = comment.split("   ").map(str::trim).collect();
        let expected = expected.join("   ").replace('"', "");
        // Long brackets, since JSON has backslashes and single ones.
        let expected = if comment.starts_with('{') { comment.to_owned() } else { expected };
        let (before, value) = match code.strip_prefix("local ").and_then(|it| it.split_once(" = "))
        {
            Some((name, _)) => (code, name),
            None => ("", code),
        };
        writeln!(script, "{before} check({place}, [==[{expected}]==], {value})")
    };
    written.expect("a text takes everything");
    true
}
