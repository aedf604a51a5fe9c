//! `regex_match`, `regex_replace`: regular expressions in linear time.

mod cache;
mod replacement;

use std::cell::RefCell;
use std::rc::Rc;

use mlua::{IntoLua, Lua, Value};
use regex::bytes::{Captures, Regex};

use super::{Bytes, Call, define};
use crate::vm::Host;
use cache::{BadPattern, Cache};
use replacement::Replacement;

/// The first piece of a text that a pattern is tried on, and by how much each next one is longer.
const FIRST_TRIAL_BYTES: usize = 1024;
const TRIAL_GROWTH: usize = 8;
/// Of a pattern, so much is shown in an error.
const MAX_SHOWN_CHARS: usize = 200;

pub(super) fn install(lua: &Lua, host: &Host) -> mlua::Result<()> {
    let cache = Rc::new(RefCell::new(Cache::default()));
    let shared = Rc::clone(&cache);
    define(lua, host, "regex_match", move |call| regex_match(call, &cache))?;
    define(lua, host, "regex_replace", move |call| regex_replace(call, &shared))
}

/// A bad pattern is thrown, not returned: it is a mistake in the script, and `nil` would pass for "no match".
fn compiled(call: &Call<'_>, cache: &RefCell<Cache>, text: &[u8]) -> mlua::Result<Rc<Regex>> {
    let pattern = call.utf8(0, "pattern")?;
    let mut shown: String = pattern.chars().take(MAX_SHOWN_CHARS).collect();
    if shown.len() < pattern.len() {
        shown.push_str("..");
    }
    let known = cache.borrow_mut().get(&pattern);
    let compiled = known.map_err(|reason| match reason {
        BadPattern::Syntax(reason) => call.error(format!("pattern `{shown}`: {reason}")),
        BadPattern::Size(limit) => call.error(format!("pattern `{shown}`: {limit}")),
    })?;
    // Compiling may have taken its time.
    call.host.guard.check()?;
    if text.len() > compiled.max_text_bytes {
        return Err(call.error(format!(
            "pattern `{shown}`: compiled it is so large that a text may have {} bytes",
            compiled.max_text_bytes
        )));
    }
    try_pieces(call, &compiled.regex, text)?;
    Ok(compiled.regex)
}

/// A search cannot be interrupted, and a pattern such as `[01]*1[01]{1000}x` takes seconds for a megabyte. So it is tried on
/// growing pieces first: the time is over after a piece, not after the whole text, at the price of a seventh more work.
fn try_pieces(call: &Call<'_>, regex: &Regex, text: &[u8]) -> mlua::Result<()> {
    let mut bytes = FIRST_TRIAL_BYTES;
    while let Some(piece) = text.get(..bytes)
        && bytes < text.len()
    {
        regex.find(piece);
        call.host.guard.check()?;
        bytes *= TRIAL_GROWTH;
    }
    Ok(())
}

fn regex_match(call: &Call<'_>, cache: &RefCell<Cache>) -> mlua::Result<Value> {
    let text = call.text(1, "text")?;
    let text = text.as_bytes();
    let regex = compiled(call, cache, &text)?;
    let Some(captures) = regex.captures(&text) else {
        return Ok(Value::Nil);
    };
    call.host.guard.check()?;
    let table = call.lua.create_table_with_capacity(captures.len(), 1)?;
    for (index, name) in regex.capture_names().enumerate() {
        if let Some(group) = captures.get(index) {
            let value = call.lua.create_string(group.as_bytes())?;
            if let Some(name) = name {
                table.raw_set(name, &value)?;
            }
            table.raw_set(index, value)?;
        }
    }
    table.into_lua(call.lua)
}

fn regex_replace(call: &Call<'_>, cache: &RefCell<Cache>) -> mlua::Result<(Bytes, usize)> {
    let text = call.text(1, "text")?;
    let text = text.as_bytes();
    let regex = compiled(call, cache, &text)?;
    let replacement = call.text(2, "replacement")?;
    let replacement = replacement.as_bytes();
    let replacement =
        Replacement::parse(&replacement, &regex).map_err(|reason| call.error(reason))?;
    let limit = call.max_bytes();
    let mut replaced = Vec::new();
    let mut append = |piece: &[u8]| {
        if replaced.len() + piece.len() > limit {
            return Err(call.error(format!("the result has more than {limit} bytes")));
        }
        replaced.extend_from_slice(piece);
        Ok(())
    };
    let mut count = 0;
    let mut done = 0;
    for captures in regex.captures_iter(&text) {
        // Not `step`: one match may be the work of reading the whole text.
        call.host.guard.check()?;
        let (start, end) = whole(&captures);
        append(text.get(done..start).unwrap_or_default())?;
        replacement.expand(&captures, &mut append)?;
        done = end;
        count += 1;
    }
    append(text.get(done..).unwrap_or_default())?;
    Ok((Bytes(replaced), count))
}

fn whole(captures: &Captures<'_>) -> (usize, usize) {
    captures.get(0).map_or((0, 0), |whole| (whole.start(), whole.end()))
}

#[cfg(test)]
mod tests {
    use crate::functions::tests::{check, evaluate, evaluate_in, lua};

    #[test]
    fn a_match_has_its_groups_by_number_and_by_name() {
        check(
            r"local m = regex_match([[(\d+)-(?P<word>\w+)(x)?]], 'a 12-bc d')
            return m[0], m[1], m[2], m.word, m[3], #m",
            "12-bc 12 bc bc nil 2",
        );
        check("return regex_match('a', 'b')", "nil");
        check("return regex_match('', '')[0]", "");
        check(r"return regex_match('(?-u)\\xff', 'a\xff')[0] == '\xff'", "true");
        check("return regex_match('^.$', '\u{fc}')[0]", "\u{fc}");
        check("return regex_match('(?i)HELLO', 'say hello')[0]", "hello");
    }

    #[test]
    fn a_replacement_names_groups() {
        check("return regex_replace('a', 'banana', 'o')", "bonono 3");
        check(r"return regex_replace('(\\w+) (\\w+)', 'one two', '$2 $1')", "two one 1");
        check(r"return regex_replace('(?P<n>\\d)', 'a1b2', '<${n}>')", "a<1>b<2> 2");
        check("return regex_replace('a', 'aa', '$0$0')", "aaaa 2");
        check("return regex_replace('a', 'a', '$$1 $')", "$1 $ 1");
        check("return regex_replace('x*', 'ab', '-')", "-a-b- 3");
        check("return regex_replace('x', 'ab', '-')", "ab 0");
        check("return regex_replace('(x)|y', 'xy', '[$1]')", "[x][] 2");
    }

    #[test]
    fn a_bad_pattern_is_thrown() {
        for call in ["regex_match('a(b', 'a')", "regex_replace('a(b', 'a', '')"] {
            let said = evaluate(&format!("return {call}"));
            assert!(said.contains(": pattern `a(b`: "), "{said}");
            assert!(said.contains("unclosed group"), "{said}");
        }
        let said = evaluate(r"return regex_match('(a)\\1', 'a')");
        assert!(said.contains("backreferences are not supported"), "{said}");
        let said = evaluate(r"return regex_match('((a{100}){100}){100}', 'a')");
        assert!(said.contains("larger than"), "{said}");
    }

    #[test]
    fn a_bad_replacement_is_thrown() {
        check(
            "return regex_replace('(a)', 'a', '$2')",
            "error: test.lua:1: regex_replace: the replacement names the group `2`, which the pattern does not have",
        );
        check(
            "return regex_replace('(a)', 'a', '$1x')",
            "error: test.lua:1: regex_replace: the replacement names the group `1x`, which the pattern does not have",
        );
    }

    #[test]
    fn a_slow_pattern_is_stopped_after_a_piece_of_the_text() {
        let (lua, host) = lua(64 << 20);
        lua.globals().set("text", "01".repeat(4 << 20)).expect("a global");
        for call in ["regex_match(pattern, text)", "regex_replace(pattern, text, '')"] {
            // Whole, this would take a minute and more.
            host.guard.arm(std::time::Duration::from_millis(1));
            let script = format!("local pattern = '[01]*1[01]{{1000}}x' return {call}");
            let said = evaluate_in(&lua, &script);
            assert!(said.contains(crate::guard::OUT_OF_TIME), "{said}");
        }
    }

    #[test]
    fn a_result_has_a_bound() {
        let (lua, _host) = lua(100_000);
        assert_eq!(
            evaluate_in(&lua, "return regex_replace('', ('x'):rep(1000), ('y'):rep(1000))"),
            "error: test.lua:1: regex_replace: the result has more than 100000 bytes"
        );
        assert_eq!(
            evaluate_in(&lua, "return regex_replace('x+', ('x'):rep(1000), ('$0'):rep(1000))"),
            "error: test.lua:1: regex_replace: the result has more than 100000 bytes"
        );
    }
}
