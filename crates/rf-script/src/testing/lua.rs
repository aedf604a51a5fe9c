//! Pieces of Lua that a test is set up with.

use serde_json::Value;

/// Hides the machine's variables: a test must go the same everywhere.
pub(super) fn environment(given: &[(String, String)]) -> String {
    let entry = |(name, value): &(String, String)| format!("[{}]={},", quoted(name), quoted(value));
    let entries: String = given.iter().map(entry).collect();
    format!("do local known={{{entries}}} os.getenv=function(name) return known[name] end end ")
}

/// A script whose `Process` remembers these values.
pub(super) fn setter(values: &[(String, Value)]) -> String {
    let set = |(key, value): &(String, Value)| {
        let value = match value {
            Value::Object(_) | Value::Array(_) => {
                format!("json_decode({})", quoted(&value.to_string()))
            }
            Value::String(text) => quoted(text),
            // Numbers and truth values are written alike in both languages.
            other => other.to_string(),
        };
        format!("kv_set({},{value}) ", quoted(key))
    };
    let sets: String = values.iter().map(set).collect();
    format!("function Process() {sets}end")
}

fn quoted(text: &str) -> String {
    let escape = |byte: u8| format!("\\{byte:03}");
    format!("\"{}\"", text.bytes().map(escape).collect::<String>())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::setter;

    fn check(value: Value, expected: &str) {
        let text = setter(&[("k".to_owned(), value)]);
        assert_eq!(text, format!("function Process() kv_set(\"\\107\",{expected}) end"));
    }

    #[test]
    fn values_are_written_as_lua() {
        check(json!("a\"\n\0é"), r#""\097\034\010\000\195\169""#);
        check(json!(-12), "-12");
        check(json!(0.5), "0.5");
        check(json!(9_007_199_254_740_993_i64), "9007199254740993");
        check(json!(true), "true");
        check(json!([1]), r#"json_decode("\091\049\093")"#);
    }
}
