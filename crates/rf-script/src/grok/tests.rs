//! `grok_parse` as a script sees it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mlua::{Function, Lua, MultiValue, Value};
use proptest::prelude::{ProptestConfig, any, prop, proptest};

use super::own::GrokPatterns;
use crate::options::ScriptOptions;
use crate::vm::Vm;

#[derive(Debug, PartialEq)]
pub(super) enum Parsed {
    /// Numbers as Lua prints them.
    Table(BTreeMap<String, String>),
    Bad(String),
}

/// `grok_parse` with these patterns beside the stock ones.
fn parser_with(own: GrokPatterns) -> (Lua, impl Fn(&[u8], &[u8]) -> Parsed) {
    let lua = Lua::new();
    let mut options = ScriptOptions::new("test.lua", Vec::new());
    options.grok_patterns = Arc::new(own);
    super::install(
        &lua,
        &crate::vm::Host {
            guard: crate::guard::Guard::default(),
            options: Arc::new(options),
            effects: std::rc::Rc::new(std::cell::RefCell::new(crate::effects::Effects::new(
                BTreeMap::new(),
            ))),
        },
    )
    .unwrap();
    let parse: Function = lua.globals().get("grok_parse").unwrap();
    let strings = lua.clone();
    let call = move |pattern: &[u8], text: &[u8]| {
        let pattern = strings.create_string(pattern).unwrap();
        let values: MultiValue =
            parse.call((pattern, strings.create_string(text).unwrap())).unwrap();
        match values.iter().collect::<Vec<_>>()[..] {
            [Value::Table(table), Value::Nil] => Parsed::Table(
                table
                    .pairs::<String, mlua::LuaString>()
                    .map(|pair| {
                        let (name, value) = pair.unwrap();
                        (name, value.to_string_lossy())
                    })
                    .collect(),
            ),
            [Value::Nil, Value::String(reason)] => Parsed::Bad(reason.to_string_lossy()),
            _ => panic!("{values:?}"),
        }
    };
    (lua, call)
}

/// `grok_parse` with the stock patterns.
pub(super) fn parser() -> impl Fn(&str, &str) -> Parsed {
    let (_, parse) = parser_with(GrokPatterns::default());
    move |pattern, text| parse(pattern.as_bytes(), text.as_bytes())
}

fn table(pairs: &[(&str, &str)]) -> Parsed {
    Parsed::Table(
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    )
}

fn check(pattern: &str, text: &str, expected: &[(&str, &str)]) {
    assert_eq!(parser()(pattern, text), table(expected), "{pattern} on {text}");
}

fn check_bad(pattern: &[u8], expected: &str) {
    let (_, parse) = parser_with(GrokPatterns::default());
    let parsed = parse(pattern, b"text");
    let Parsed::Bad(reason) = parsed else { panic!("{parsed:?}") };
    assert_eq!(reason, format!("grok_parse: {expected}"));
}

#[test]
fn only_named_captures_count() {
    check(
        "%{IP:client} %{WORD} %{INT:n}",
        "from 10.0.0.1 GET 7",
        &[("client", "10.0.0.1"), ("n", "7")],
    );
    check("%{IP} (x)", "10.0.0.1 x", &[]);
    check("(?<a>x)(?P<b>y)", "xy", &[("a", "x"), ("b", "y")]);
    check("%{IP:client}", "no address", &[]);
    check(
        "%{WORD:[a][b]} %{WORD:@c.d} %{WORD:e-f}",
        "x y z",
        &[("[a][b]", "x"), ("@c.d", "y"), ("e-f", "z")],
    );
}

#[test]
fn a_group_without_a_part_is_empty_and_a_repeated_name_has_the_last_text() {
    check("%{INT:a}|%{WORD:b}", "x", &[("a", ""), ("b", "x")]);
    check("(?:%{INT:a}|%{WORD:a})", "7", &[("a", "7")]);
    check("(?:%{INT:a}|%{WORD:a})", "x", &[("a", "x")]);
    check("%{INT:a} %{INT:a}", "1 2", &[("a", "2")]);
}

#[test]
fn captures_are_texts_unless_types_are_asked_for() {
    let script = r#"
        local pattern = "%{NUMBER:n:int} %{NUMBER:f:float}"
        for _, other in ipairs({false, 3, "typed", {}, {"typed"}, {typed = false}}) do
            local t = grok_parse(pattern, "12 1.50", other)
            assert(type(t.n) == "string" and t.n == "12", tostring(other))
            assert(type(t.f) == "string" and t.f == "1.50", tostring(other))
        end
        local t = grok_parse(pattern, "12 1.50")
        assert(t.n == "12" and t.f == "1.50" and t.n:rep(2) == "1212")
        -- The count is superfluous.
        t = grok_parse(pattern, ("x12 1.50"):gsub("x", ""))
        assert(t.n == "12")
    "#;
    parser_with(GrokPatterns::default()).0.load(script).exec().unwrap();
}

#[test]
fn typed_captures_are_numbers() {
    let script = r#"
        local parse = grok_parse
        local function grok_parse(pattern, text) return parse(pattern, text, {typed = true}) end
        local t = grok_parse("%{NOTSPACE:i:int} %{NOTSPACE:f:float} %{NOTSPACE:s:string}", "42 1.5 7")
        assert(math.type(t.i) == "integer" and t.i == 42)
        assert(math.type(t.f) == "float" and t.f == 1.5)
        assert(t.s == "7")
        t = grok_parse("%{NOTSPACE:i:int} %{NOTSPACE:f:float}", "99999999999999999999 inf")
        assert(t.i == "99999999999999999999" and t.f == "inf")
        t = grok_parse("x%{INT:i:int}?", "x")
        assert(t.i == "")
    "#;
    parser_with(GrokPatterns::default()).0.load(script).exec().unwrap();
}

#[test]
fn bad_patterns_say_why() {
    check_bad(b"%{IPP:a}", "unknown pattern `IPP`, the nearest known is `IP`");
    check_bad(b"%{IP:a", "a placeholder `%{` is not closed with `}`");
    check_bad(b"(a", "bad regex: unclosed group");
    check_bad(b"a)|(b", "bad regex: unopened group");
    check_bad(
        b"(?=a)",
        "bad regex: look-around, including look-ahead and look-behind, is not supported",
    );
    check_bad(b"\xff", "the pattern is not valid UTF-8");
    check_bad(&[b'a'; 70_000], "the pattern has 70000 bytes, a pattern may have 65536");
    check_bad(
        br"(?:\w{1000}){1000}",
        "the pattern is too large: compiled, it may have 10485760 bytes",
    );
}

#[test]
fn arguments_are_checked() {
    let (lua, _) = parser_with(GrokPatterns::default());
    let check = |call: &str, expected: &str| {
        let error = lua.load(call).exec().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    };
    check("grok_parse()", "grok_parse: a pattern was expected, got nil");
    check("grok_parse('x', {})", "grok_parse: a text was expected, got table");
    lua.load("assert(grok_parse('%{INT:n}', 12).n == '12')").exec().unwrap();
}

#[test]
fn text_that_is_no_utf8_is_matched_byte_by_byte() {
    let (lua, _) = parser_with(GrokPatterns::default());
    let script = r#"
        local t = grok_parse("a=%{DATA:a} b=%{GREEDYDATA:b}", "a=\xff\xfe b=\xc3(")
        assert(t.a == "\xff\xfe" and t.b == "\xc3(")
        t = grok_parse("%{DATA:a}é(?<b>[éü])", "xéü")
        assert(t.a == "x" and t.b == "ü")
        t = grok_parse("(?<a>\\p{L}+)", "7Größe8")
        assert(t.a == "Größe")
    "#;
    lua.load(script).exec().unwrap();
}

#[test]
fn more_patterns_than_the_cache_holds_all_work() {
    let parse = parser();
    for round in 0..2 {
        for index in 0..300 {
            let pattern = format!("x{index}=%{{INT:n}}");
            let parsed = parse(&pattern, &format!("x{index}={round}"));
            assert_eq!(parsed, table(&[("n", &round.to_string())]));
        }
    }
}

#[test]
fn a_hostile_line_is_no_trouble() {
    let options = ScriptOptions::new("test.lua", Vec::new());
    let script = br#"
        local line = string.rep("a", 100 * 1024)
        function Process()
            for _, pattern in ipairs { "%{COMBINEDAPACHELOG}", "%{SYSLOGLINE}", "%{HAPROXYHTTP}", "(a*)*b", "(a|aa)+$x" } do
                assert(next(grok_parse(pattern, line)) == nil)
            end
        end
    "#;
    let mut options = options;
    options.limits.call_time = Duration::from_secs(20);
    let vm = Vm::from_text(Arc::new(options), BTreeMap::new(), script).unwrap();
    let outcome = vm.process(b"");
    assert!(!matches!(outcome.end, crate::outcome::End::Failed(_)), "{:?}", outcome.end);
}

#[test]
fn a_finalizer_may_parse_with_the_pattern_under_way() {
    let script = r#"
        local function parse() return grok_parse("%{WORD:a} %{WORD:b}", "x y") end
        local ran = 0
        for i = 1, 2000 do
            setmetatable({}, { __gc = function() ran = ran + 1; assert(parse().b == "y") end })
            local t = parse()
            assert(t.a == "x" and t.b == "y")
        end
        assert(ran > 0)
    "#;
    parser_with(GrokPatterns::default()).0.load(script).exec().unwrap();
}

#[test]
fn own_patterns_come_from_a_map() {
    let own = GrokPatterns::from_map([
        ("ORDER", "order-%{ORDER_NUMBER:number}"),
        ("ORDER_NUMBER", "[0-9]{4}"),
        ("MONTH", "Brumaire"),
    ]);
    let (_, parse) = parser_with(own.unwrap());
    assert_eq!(
        parse(b"%{ORDER:order}", b"an order-1234"),
        table(&[("order", "order-1234"), ("number", "1234")])
    );
    let date = parse(b"%{HTTPDATE:d}", b"17/Brumaire/2015:10:05:03 +0000");
    assert_eq!(date, table(&[("d", "17/Brumaire/2015:10:05:03 +0000")]));
    let line = b"10.0.0.1 - - [10/Brumaire/2000:13:55:36 -0700] \"HEAD / HTTP/1.1\" 204 -";
    let Parsed::Table(line) = parse(b"%{COMMONAPACHELOG}", line) else { panic!() };
    assert_eq!(line["timestamp"], "10/Brumaire/2000:13:55:36 -0700");
}

#[test]
fn bad_own_patterns_are_named() {
    let check = |map: &[(&str, &str)], expected: &str| {
        let result = GrokPatterns::from_map(map.iter().copied());
        assert_eq!(result.unwrap_err(), expected);
    };
    check(&[("A", "%{B}"), ("B", "%{A}")], "grok pattern `A`: pattern `B` contains itself");
    check(
        &[("A", "%{INTT}")],
        "grok pattern `A`: unknown pattern `INTT`, the nearest known is `INT`",
    );
    check(&[("A", "(")], "grok pattern `A`: bad regex: unclosed group");
    check(&[("A", "")], "grok pattern `A`: a pattern has 1 to 16384 bytes");
    check(
        &[("A B", "x")],
        "grok pattern `A B`: the name of a pattern has 1 to 128 letters, digits, `_`, `-` or `.`",
    );
    let many = (0..=2000).map(|index| (format!("P{index}"), "x"));
    assert_eq!(
        GrokPatterns::from_map(many).unwrap_err(),
        "grok pattern `P2000`: more than 2000 patterns"
    );
    let doubling =
        (0..40).map(|index| (format!("P{index}"), format!("%{{P{0}}}%{{P{0}}}", index + 1)));
    let error = GrokPatterns::from_map(doubling.chain([("P40".to_owned(), "x".to_owned())]));
    assert!(error.unwrap_err().contains("expands to more than"));
}

#[test]
fn own_patterns_come_from_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("a", "# orders\n\nORDER order-%{NR:number}\n");
    write("b.grok", "\u{feff}NR\t [0-9]+\r\n");
    write(".hidden", "nonsense");
    let (_, parse) = parser_with(GrokPatterns::from_folder(folder.path()).unwrap());
    assert_eq!(parse(b"%{ORDER}", b"order-12"), table(&[("number", "12")]));
    let check = |text: &str, expected: &str| {
        write("c", text);
        let place = folder.path().join("c").display().to_string();
        let result = GrokPatterns::from_folder(folder.path()).unwrap_err();
        assert_eq!(result, format!("{place}{expected}"));
    };
    check("\nALONE", ":2: expected `NAME pattern`");
    check("# x\nBAD [", ":2: bad regex: unclosed character class");
    let first = folder.path().join("b.grok").display().to_string();
    check("NR x", &format!(":1: pattern `NR` is also at {first}:1"));
    let missing = folder.path().join("none");
    let error = GrokPatterns::from_folder(&missing).unwrap_err();
    assert!(error.starts_with(&missing.display().to_string()), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_pattern_and_no_text_make_it_panic(
        pattern in r"(\PC|%\{|[A-Z]{2,6}|:|\}|\(\?<|>|\[|\]|\\|[a-z0-9*+?|(){}^$.&~-]){0,24}",
        text in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let (_, parse) = parser_with(GrokPatterns::default());
        parse(pattern.as_bytes(), &text);
    }

    #[test]
    fn placeholders_in_any_order_compile(
        names in prop::collection::vec(prop::sample::select(super::stock::names().collect::<Vec<_>>()), 1..4),
        text in r"\PC{0,80}",
    ) {
        let pattern: String = names.iter().map(|name| format!("%{{{name}:x}} ")).collect();
        let (_, parse) = parser_with(GrokPatterns::default());
        let parsed = parse(pattern.as_bytes(), text.as_bytes());
        assert!(matches!(parsed, Parsed::Table(_)), "{parsed:?}");
    }
}
