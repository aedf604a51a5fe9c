//! Names of tables and columns: the one door through which text becomes an SQL identifier.

use std::fmt;
use std::hash::{Hash, Hasher};

/// Longest name of a table or column, in characters.
const MAX_CHARS: usize = 128;
/// Names that belong to the sinks themselves, in any case.
const OURS: &str = "_rpf_";
/// Names that belong to SQLite, in any case.
const SQLITE: &str = "sqlite_";

/// A name that can stand in SQL. `Display` writes it quoted.
///
/// Invariant: letters, digits, `_` and `-` only, at least one and at most [`MAX_CHARS`]; so the quoted form is closed by
/// its own quotes alone.
///
/// Two are equal when SQLite takes them for the same name: the case of ASCII letters does not matter, that of others does.
#[derive(Debug, Clone)]
pub(crate) struct Identifier(String);

/// A text that names no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{shown}` cannot name a table: expected 1 to {MAX_CHARS} letters, digits, `_` or `-`, not beginning with `{OURS}` or `{SQLITE}`"
)]
pub(crate) struct InvalidName {
    shown: String,
}

impl Identifier {
    /// The name of a user's table.
    ///
    /// # Errors
    /// [`InvalidName`] for what no table may be called.
    pub(crate) fn table(text: &str) -> Result<Self, InvalidName> {
        match Self::existing(text) {
            Some(name) if !is_internal(text) => Ok(name),
            _ => Err(InvalidName { shown: text.chars().take(60).collect() }),
        }
    }

    /// The column for the key of a JSON object: other characters dropped, camelCase as `snake_case`, lower case. `None` when
    /// nothing is left of it, or too much.
    pub(crate) fn column(key: &str) -> Option<Self> {
        let mut kept = key.chars().filter(|c| is_allowed(*c)).peekable();
        let mut name = String::with_capacity(key.len() + 4);
        let mut before: Option<char> = None;
        while let Some(c) = kept.next() {
            let next_is_lower = kept.peek().is_some_and(|next| next.is_lowercase());
            let begins_word = before.is_some_and(|before| {
                before.is_lowercase()
                    || before.is_numeric()
                    || (before.is_uppercase() && next_is_lower)
            });
            if c.is_uppercase() && begins_word {
                name.push('_');
            }
            if c.is_ascii() {
                name.push(c.to_ascii_lowercase());
            } else {
                name.extend(c.to_lowercase().filter(|c| is_allowed(*c)));
            }
            before = Some(c);
        }
        Self::checked(name)
    }

    /// A name as it stands in a database; `None` for one that ours and the original's programs never give.
    pub(crate) fn existing(text: &str) -> Option<Self> {
        Self::checked(text.to_owned())
    }

    fn checked(name: String) -> Option<Self> {
        // A name of so many bytes has no more characters, which saves counting them.
        let is_short = name.len() <= MAX_CHARS || name.chars().nth(MAX_CHARS).is_none();
        let is_valid = !name.is_empty() && is_short && name.chars().all(is_allowed);
        is_valid.then_some(Self(name))
    }

    /// A name of this program's own.
    pub(crate) fn own(name: &str) -> Self {
        Self::existing(name).expect("our own names are valid")
    }

    /// The view of this table that has the newest row of each series. It may be longer than other names.
    pub(crate) fn view_of_latest(&self) -> Self {
        Self(format!("v_{}_latest", self.0))
    }

    /// Without quotes: for messages, JSON and bound parameters.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether SQLite takes both for the same name.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.0.eq_ignore_ascii_case(text)
    }

    /// The same text for every spelling of the name.
    pub(crate) fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl PartialEq for Identifier {
    fn eq(&self, other: &Self) -> bool {
        self.is(&other.0)
    }
}

impl Eq for Identifier {}

impl Hash for Identifier {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.0.bytes() {
            state.write_u8(byte.to_ascii_lowercase());
        }
        // No name holds it, so that one name behind the other is never taken for two others.
        state.write_u8(0);
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// The name of an index. `Display` writes it quoted.
///
/// To SQLite a table and an index of one name are one too many. So these begin as no table of an event does, and a full stop,
/// which no [`Identifier`] has, stands between the names that they are made of: no two are alike unless table and columns are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexName(String);

impl IndexName {
    /// For an index on these columns of a table; `copy` makes another one where the first, 0, is taken.
    pub(crate) fn of(table: &Identifier, columns: &[&Identifier], copy: usize) -> Self {
        let columns: Vec<&str> = columns.iter().map(|column| column.as_str()).collect();
        let mut name = format!("{OURS}idx.{}.{}", table.as_str(), columns.join("."));
        if copy > 0 {
            name = format!("{name}~{copy}");
        }
        Self(name)
    }

    /// As the original and earlier versions had it; there it could be that of a table, too, or of another table's index.
    pub(crate) fn former(table: &Identifier, column: &Identifier) -> Self {
        Self(format!("idx_{}_{}", table.as_str(), column.as_str()))
    }

    /// Without quotes: for bound parameters.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether SQLite takes both for the same name.
    pub(crate) fn is(&self, text: &str) -> bool {
        self.0.eq_ignore_ascii_case(text)
    }
}

impl fmt::Display for IndexName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0)
    }
}

/// Whether a table is the sinks' or SQLite's own: never shown, never written by an event.
pub(crate) fn is_internal(table: &str) -> bool {
    [OURS, SQLITE].iter().any(|prefix| {
        table.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    })
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-' || c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_columns() {
        let check = |key: &str, column: Option<&str>| {
            assert_eq!(Identifier::column(key).as_ref().map(Identifier::as_str), column, "{key}");
        };
        check("hostName", Some("host_name"));
        check("userID", Some("user_id"));
        check("HTTPServer", Some("http_server"));
        check("already_snake", Some("already_snake"));
        check("Value", Some("value"));
        check("a.b c\"; drop table x--", Some("abcdroptablex--"));
        check("user-id", Some("user-id"));
        check("größe", Some("größe"));
        check("日本", Some("日本"));
        check("p95Ms", Some("p95_ms"));
        check("\"'`[]", None);
        check("", None);
        check(&"x".repeat(129), None);
    }

    #[test]
    fn tables_have_names_that_are_allowed() {
        for name in ["orders", "ts_gauge_systemstats_60s", "a-b", "Größe"] {
            assert_eq!(Identifier::table(name).expect(name).as_str(), name);
        }
        for name in ["", "a/b", "a b", "x\"y", "sqlite_master", "_RPF_events", "a;b", "a.b"] {
            assert!(Identifier::table(name).is_err(), "{name}");
        }
    }

    #[test]
    fn names_are_equal_where_they_are_to_sqlite() {
        let conn = rusqlite::Connection::open_in_memory().unwrap();
        let names = ["Orders", "orders", "ORDERS", "Ünal", "ünal", "ÜNAL", "order_s", "straße"];
        let mut known = std::collections::HashSet::new();
        for name in names.map(Identifier::own) {
            let made = conn.execute(&format!("CREATE TABLE {name} (a)"), []).is_ok();
            assert_eq!(known.insert(name.clone()), made, "{name}");
        }
    }

    #[test]
    fn indexes_are_called_as_no_table_and_no_other_index() {
        let name = |table: &str, columns: &[&str], copy: usize| {
            let columns: Vec<Identifier> =
                columns.iter().map(|name| Identifier::own(name)).collect();
            let columns: Vec<&Identifier> = columns.iter().collect();
            IndexName::of(&Identifier::own(table), &columns, copy).as_str().to_owned()
        };
        let names = [
            name("m_x", &["y_id"], 0),
            name("m", &["x_y_id"], 0),
            name("m", &["x", "y_id"], 0),
            name("m", &["x", "y_id"], 1),
            name("m", &["x_y_id"], 1),
            name(&"x".repeat(128), &[&"y".repeat(127)], 0),
            name(&"x".repeat(128), &[&"y".repeat(128)], 0),
        ];
        let different: std::collections::HashSet<&String> = names.iter().collect();
        assert_eq!(different.len(), names.len(), "{names:?}");
        for name in names {
            assert!(Identifier::table(&name).is_err(), "{name}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_quoted_name_is_one_token(text in ".{0,200}") {
            let names = [Identifier::table(&text).ok(), Identifier::column(&text)];
            for name in names.into_iter().flatten() {
                let quoted = name.to_string();
                let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap();
                proptest::prop_assert!(!inner.is_empty() && !inner.contains(['"', '\0']));
            }
        }
    }
}
