//! What a string value may draw from outside: environment variables and the content of a file.

use std::fs::{self, File};
use std::io::{self, Read};

/// A file that a `$file:` value names may be this long.
const MAX_SECRET_FILE_BYTES: usize = 64 * 1024;

/// No value may grow beyond this by its variables.
const MAX_EXPANDED_BYTES: usize = 1024 * 1024;

/// A value that starts with this is replaced by the content of the file that it names.
const FILE_PREFIX: &str = "$file:";

/// The process's environment, or what a test puts in its place.
pub(super) type Environment<'e> = dyn Fn(&str) -> Option<String> + 'e;

/// A string value after expansion.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Expansion {
    pub(super) text: String,
    /// Whether a variable or a file went into the text.
    pub(super) substituted: bool,
    /// The variables that are not set and have no default; they became nothing.
    pub(super) missing: Vec<String>,
    /// Whether there is a `${` that names no variable; it stands as it is.
    pub(super) is_odd: bool,
}

/// Expands a whole value: `$file:PATH`, where the path may hold variables, or a text with variables.
pub(super) fn expand(value: &str, env: &Environment<'_>) -> Result<Expansion, String> {
    let Some(written) = value.strip_prefix(FILE_PREFIX) else {
        return expand_variables(value, env);
    };
    let path = expand_variables(written, env)?;
    match read_secret(&path.text) {
        Ok(text) => Ok(Expansion { text, substituted: true, ..path }),
        // As the user wrote it: the text of a variable is not for the log.
        Err(reason) => {
            let unset = |name: &String| format!("; the environment variable {name} is not set");
            let unset: String = path.missing.iter().map(unset).collect();
            Err(format!("cannot read {written}: {reason}{unset}"))
        }
    }
}

fn expand_variables(text: &str, env: &Environment<'_>) -> Result<Expansion, String> {
    let mut done = Expansion::default();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        if let Some(before) = before.strip_suffix('\\') {
            done.text.push_str(before);
            done.text.push('$');
            rest = after;
            continue;
        }
        done.text.push_str(before);
        rest = if let Some(inner) = after.strip_prefix('{') {
            if let Some((name, default, tail)) = braced(inner)? {
                done.substitute(name, default, env);
                tail
            } else {
                // As in the original, which knows nothing but names.
                done.is_odd = true;
                done.text.push('$');
                after
            }
        } else {
            let end = after.find(|c| !is_name_char(c)).unwrap_or(after.len());
            let (name, tail) = after.split_at(end);
            if is_name(name) {
                done.substitute(name, None, env);
                tail
            } else {
                done.text.push('$');
                after
            }
        };
        if done.text.len() > MAX_EXPANDED_BYTES {
            return Err(format!(
                "is larger than {MAX_EXPANDED_BYTES} bytes with its variables replaced"
            ));
        }
    }
    done.text.push_str(rest);
    Ok(done)
}

/// A name in braces, perhaps with a default, and what follows it.
type Braced<'t> = (&'t str, Option<&'t str>, &'t str);

/// Takes apart what follows `${`; `None` when it names no variable.
fn braced(inner: &str) -> Result<Option<Braced<'_>>, String> {
    let Some((body, tail)) = inner.split_once('}') else { return Ok(None) };
    let (name, default) = match body.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (body, None),
    };
    if !is_name(name) {
        return Ok(None);
    }
    if default.is_some_and(|default| default.contains("${")) {
        return Err(format!("the default of `{name}` cannot contain another `${{`"));
    }
    Ok(Some((name, default, tail)))
}

impl Expansion {
    /// As in a shell, a default also stands in for a variable that is set but empty.
    fn substitute(&mut self, name: &str, default: Option<&str>, env: &Environment<'_>) {
        self.substituted = true;
        match (env(name), default) {
            (Some(value), None) => self.text.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => self.text.push_str(&value),
            (_, Some(default)) => self.text.push_str(default),
            (None, None) => self.missing.push(name.to_owned()),
        }
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(is_name_char)
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Reads a secret and drops the line ends behind it, which most ways of writing a file leave there.
fn read_secret(path: &str) -> Result<String, String> {
    let told = |error: io::Error| error.to_string();
    // Opening a pipe that nobody writes to would hang the start.
    if !fs::metadata(path).map_err(told)?.is_file() {
        return Err("not a regular file".to_owned());
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_SECRET_FILE_BYTES + 1).unwrap_or(u64::MAX);
    File::open(path).map_err(told)?.take(limit).read_to_end(&mut bytes).map_err(told)?;
    if bytes.len() > MAX_SECRET_FILE_BYTES {
        return Err(format!("longer than {MAX_SECRET_FILE_BYTES} bytes"));
    }
    let text = String::from_utf8(bytes).ok().ok_or("not UTF-8")?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Expansion, MAX_EXPANDED_BYTES, MAX_SECRET_FILE_BYTES, expand};

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("db1".to_owned()),
            "_A1" => Some("$HOST".to_owned()),
            "EMPTY" => Some(String::new()),
            "HUGE" => Some("x".repeat(MAX_EXPANDED_BYTES)),
            _ => None,
        }
    }

    #[test]
    fn variables() {
        let check = |input: &str, expected: &str, missing: &[&str]| {
            let expansion = expand(input, &env).expect(input);
            assert_eq!(expansion.text, expected, "{input}");
            assert_eq!(expansion.missing, missing, "{input}");
        };
        check("plain", "plain", &[]);
        check("$HOST", "db1", &[]);
        check("a-$HOST.b", "a-db1.b", &[]);
        check("${HOST}s$HOST", "db1sdb1", &[]);
        check("$HOSTS", "", &["HOSTS"]);
        check("$_A1", "$HOST", &[]);
        check("[$NONE][${NONE2}]", "[][]", &["NONE", "NONE2"]);
        check("[$EMPTY]", "[]", &[]);
        check("${NONE:-x:-y}", "x:-y", &[]);
        check("${NONE:-}", "", &[]);
        check("${EMPTY:-x}", "x", &[]);
        check("${HOST:-x}", "db1", &[]);
        check(r"\$HOST \${HOST} C:\x\", r"$HOST ${HOST} C:\x\", &[]);
        check("$ 5$ $1 $$ $é $-", "$ 5$ $1 $$ $é $-", &[]);
        check("é$HOST€", "édb1€", &[]);
    }

    #[test]
    fn only_what_came_from_outside_counts_as_substituted() {
        for (input, substituted) in
            [("a", false), (r"\$HOST", false), ("$1", false), ("$HOST", true), ("$NONE", true)]
        {
            assert_eq!(expand(input, &env).expect(input).substituted, substituted, "{input}");
        }
    }

    #[test]
    fn braces_that_name_no_variable_stay() {
        for (input, expected) in [
            ("a${HOST", "a${HOST"),
            ("${}", "${}"),
            ("${1}", "${1}"),
            ("${HOST-x}", "${HOST-x}"),
            ("${a.b} of $HOST", "${a.b} of db1"),
            ("cost ${{message}} ${HOST}", "cost ${{message}} db1"),
            ("SELECT '${'", "SELECT '${'"),
            ("${$HOST}", "${db1}"),
        ] {
            let expansion = expand(input, &env).expect(input);
            assert_eq!((expansion.text.as_str(), expansion.is_odd), (expected, true), "{input}");
        }
        for input in ["${HOST}", r"\${a.b}", "$ {"] {
            assert!(!expand(input, &env).expect(input).is_odd, "{input}");
        }
    }

    #[test]
    fn mistakes() {
        for (input, expected) in
            [("${NONE:-${HOST}}", "the default of `NONE`"), ("$HUGE$HUGE", "is larger than")]
        {
            let error = expand(input, &env).expect_err(input);
            assert!(error.contains(expected), "{input}: {error}");
        }
    }

    #[test]
    fn files() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = dir.path().join(name);
            fs::write(&path, content).unwrap();
            format!("$file:{}", path.display())
        };
        let read = |value: &str| expand(value, &env);

        let expected = Expansion {
            text: "to\nken $HOST".to_owned(),
            substituted: true,
            ..Expansion::default()
        };
        assert_eq!(read(&file("plain", b"to\nken $HOST\r\n")), Ok(expected));
        assert_eq!(
            read(&file("full", &[b'x'; MAX_SECRET_FILE_BYTES])).unwrap().text.len(),
            MAX_SECRET_FILE_BYTES
        );

        let folder = dir.path().display().to_string();
        let from_env = |name: &str| (name == "CREDENTIALS").then(|| folder.clone());
        assert_eq!(expand("$file:$CREDENTIALS/plain", &from_env).unwrap().text, "to\nken $HOST");
        let error = expand("$file:$CREDENTIALS/none", &from_env).unwrap_err();
        let expected = "cannot read $CREDENTIALS/none: No such file or directory (os error 2)";
        assert_eq!(error, expected);
        let error = expand("$file:${NONE}/token", &from_env).unwrap_err();
        let expected = "cannot read ${NONE}/token: No such file or directory (os error 2); the environment variable NONE is not set";
        assert_eq!(error, expected);

        for (value, expected) in [
            (file("long", &[b'x'; MAX_SECRET_FILE_BYTES + 1]), "longer than 65536 bytes"),
            (file("latin1", b"\xe9"), "not UTF-8"),
            (format!("$file:{folder}"), "not a regular file"),
            (format!("$file:{folder}/none"), "/none: No such file"),
        ] {
            let error = read(&value).expect_err(&value);
            assert!(error.contains(expected), "{value}: {error}");
        }
    }
}
