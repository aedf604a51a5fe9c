//! `url_encode`, `url_decode`, `parse_query`.

use std::collections::HashMap;

use mlua::{Lua, Table};

use super::encoding::hex_digit;
use super::{Bytes, Call, define};
use crate::vm::Host;

/// Pairs that a query may have.
const MAX_PAIRS: usize = 10_000;
const HEX_DIGITS: &[u8; 16] = b"0123456789ABCDEF";

/// What a plus stands for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Plus {
    Itself,
    /// As in a form, and in the query that it becomes.
    Blank,
}

pub(super) fn install(lua: &Lua, host: &Host) -> mlua::Result<()> {
    define(lua, host, "url_encode", |call| Ok(encode(&call.text(0, "text")?.as_bytes())))?;
    define(lua, host, "url_decode", |call| {
        let text = call.text(0, "text")?;
        let plus = match call.optional_utf8(1, "mode")?.as_deref() {
            None => Plus::Itself,
            Some("form") => Plus::Blank,
            Some(other) => {
                return Err(call.error(format!("mode `{other}` is unknown: expected \"form\"")));
            }
        };
        Ok(Bytes(decode(&text.as_bytes(), plus)))
    })?;
    define(lua, host, "parse_query", parse_query)
}

/// Keeps what RFC 3986 calls unreserved.
fn encode(text: &[u8]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            encoded.push(char::from(*byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(HEX_DIGITS[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX_DIGITS[usize::from(byte & 15)]));
        }
    }
    encoded
}

/// A percent sign without two hex digits behind it stays.
fn decode(text: &[u8], plus: Plus) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if let (b'%', [high, low, behind @ ..]) = (first, behind)
            && let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low))
        {
            decoded.push(high << 4 | low);
            rest = behind;
        } else if *first == b'+' && plus == Plus::Blank {
            decoded.push(b' ');
        } else {
            decoded.push(*first);
        }
    }
    decoded
}

fn parse_query(call: &Call<'_>) -> mlua::Result<Table> {
    let text = call.text(0, "query")?;
    let text = text.as_bytes();
    let text = text.strip_prefix(b"?").unwrap_or(&text);
    let mut values: HashMap<Vec<u8>, Vec<Vec<u8>>> = HashMap::new();
    // The order of first appearance, so that the table is built alike every time.
    let mut names = Vec::new();
    let pairs = text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
    for (index, pair) in pairs.enumerate() {
        call.host.guard.step()?;
        if index == MAX_PAIRS {
            return Err(call.error(format!("more than {MAX_PAIRS} pairs")));
        }
        let split = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
        let (name, value) = pair.split_at(split);
        let name = decode(name, Plus::Blank);
        let value = decode(value.get(1..).unwrap_or_default(), Plus::Blank);
        let known = values.entry(name.clone()).or_default();
        if known.is_empty() {
            names.push(name);
        }
        known.push(value);
    }
    let table = call.lua.create_table_with_capacity(0, names.len())?;
    for name in names {
        let mut values = values.remove(&name).unwrap_or_default();
        let name = Bytes(name);
        match values.pop() {
            Some(only) if values.is_empty() => table.raw_set(name, Bytes(only))?,
            last => {
                let values = values.into_iter().chain(last).map(Bytes);
                table.raw_set(name, call.lua.create_sequence_from(values)?)?;
            }
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use crate::functions::tests::check;

    #[test]
    fn only_unreserved_characters_stay() {
        check("return url_encode('AZaz09-._~')", "AZaz09-._~");
        check("return url_encode('a b/c?d=e&f+g%')", "a%20b%2Fc%3Fd%3De%26f%2Bg%25");
        check("return url_encode('\u{fc}\\0')", "%C3%BC%00");
    }

    #[test]
    fn percent_signs_are_decoded_where_they_mean_something() {
        check("return url_decode('a%20b%2fc%2F')", "a b/c/");
        check("return url_decode('100%')", "100%");
        check("return url_decode('%4')", "%4");
        check("return url_decode('%zz%41')", "%zzA");
        check("return url_decode('%%41')", "%A");
        check(r"return url_decode('%00%ff') == '\0\xff'", "true");
    }

    #[test]
    fn a_plus_is_a_blank_in_a_form_only() {
        check("return url_decode('a+b%2B')", "a+b+");
        check("return url_decode('a+b%2B', 'form')", "a b+");
        check(
            "return url_decode('a', 'x')",
            "error: test.lua:1: url_decode: mode `x` is unknown: expected \"form\"",
        );
    }

    #[test]
    fn a_query_is_a_table() {
        let show = |query: &str, expected: &str| {
            let script = format!(
                "local names, parts = {{}}, {{}}
                local query = parse_query('{query}')
                for name in pairs(query) do names[#names + 1] = name end
                table.sort(names)
                for _, name in ipairs(names) do
                    local value = query[name]
                    if type(value) == 'table' then value = '{{' .. table.concat(value, ',') .. '}}' end
                    parts[#parts + 1] = name .. '=' .. value
                end
                return table.concat(parts, ';')"
            );
            check(&script, expected);
        };
        show("", "");
        show("a=1&b=two+words&c=%26", "a=1;b=two words;c=&");
        show("?a=1", "a=1");
        show("a=1&b&a=2&a=", "a={1,2,};b=");
        show("&&a=b=c&", "a=b=c");
        show("=x", "=x");
    }

    #[test]
    fn a_query_has_a_bound() {
        check("return parse_query(('a&'):rep(10000)).a[10000]", "");
        check(
            "return parse_query(('a&'):rep(10001))",
            "error: test.lua:1: parse_query: more than 10000 pairs",
        );
    }
}
