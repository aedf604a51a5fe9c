//! `connString`: both forms of PostgreSQL's connection strings.
//!
//! The client library reads them, but it knows neither the checking values of `sslmode` nor `sslrootcert`: these are taken
//! out first. A string holds a password, so no message quotes anything of it but names that everybody knows.

use std::borrow::Cow;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;
use tokio_postgres::Config;

use super::ssl::SslMode;

/// What the client library takes.
const TAKEN: [&str; 19] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslnegotiation",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
    "sslmode",
];
/// Further names of PostgreSQL's own client: known, and not possible here.
const NOT_HERE: [&str; 19] = [
    "passfile",
    "require_auth",
    "client_encoding",
    "fallback_application_name",
    "replication",
    "gssencmode",
    "gsslib",
    "gssdelegation",
    "krbsrvname",
    "requirepeer",
    "service",
    "servicefile",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcrl",
    "sslcrldir",
    "sslcompression",
    "sslsni",
];

/// A connection string, taken apart.
#[derive(Debug)]
pub(super) struct ConnString {
    pub(super) config: Config,
    pub(super) ssl_mode: Option<SslMode>,
    pub(super) ca_file: Option<PathBuf>,
}

impl ConnString {
    /// Either form. The error says what is wrong without quoting it.
    pub(super) fn parse(text: &str) -> Result<ConnString, String> {
        let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
        let split = if is_url { split_url(text) } else { split_pairs(text) };
        let Split { rest, options } = split.ok_or_else(not_understood)?;
        let (mut ssl_mode, mut ca_file) = (None, None);
        for (key, value) in options {
            match key.as_ref() {
                "sslmode" => {
                    ssl_mode = Some(SslMode::parse(&value).ok_or(
                        "sslmode: expected disable, prefer, require, verify-ca or verify-full",
                    )?);
                }
                "sslrootcert" if value == "system" => {}
                "sslrootcert" => ca_file = Some(PathBuf::from(value.as_ref())),
                known if TAKEN.contains(&known) => {}
                known if NOT_HERE.contains(&known) => {
                    return Err(format!("the option `{known}` is not possible here"));
                }
                _ => {
                    return Err(format!("an option is unknown; known: {}", TAKEN.join(", ")));
                }
            }
        }
        let config = rest.parse::<Config>().map_err(|error| reason(&error))?;
        Ok(ConnString { config, ssl_mode, ca_file })
    }
}

fn not_understood() -> String {
    "expected postgres://USER:PASSWORD@HOST:PORT/DATABASE (special characters percent-encoded), or pairs such as host=HOST user=USER".to_owned()
}

/// Names the option whose value is wrong; what else the library says may quote the text.
fn reason(error: &tokio_postgres::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    if cause.starts_with("invalid value for option") { cause } else { not_understood() }
}

struct Split<'a> {
    /// The string without `sslmode` and `sslrootcert`.
    rest: String,
    options: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

fn is_ours(key: &str) -> bool {
    matches!(key, "sslmode" | "sslrootcert")
}

fn split_url(text: &str) -> Option<Split<'_>> {
    // A password may hold a question mark; the host after it may not.
    let host = text.find('@').unwrap_or(0);
    let (_, after) = text.split_at_checked(host)?;
    let Some((before, query)) = after.split_once('?') else {
        return Some(Split { rest: text.to_owned(), options: Vec::new() });
    };
    let decode = |text| percent_decode_str(text).decode_utf8().ok();
    let (mut kept, mut options) = (Vec::new(), Vec::new());
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=')?;
        let (key, value) = (decode(key)?, decode(value)?);
        if !is_ours(&key) {
            kept.push(pair);
        }
        options.push((key, value));
    }
    let (credentials, _) = text.split_at_checked(host)?;
    let mark = if kept.is_empty() { "" } else { "?" };
    Some(Split { rest: format!("{credentials}{before}{mark}{}", kept.join("&")), options })
}

fn split_pairs(text: &str) -> Option<Split<'_>> {
    let (mut rest, mut options) = (String::new(), Vec::new());
    let mut left = text.trim_start();
    while !left.is_empty() {
        let begin = left;
        let (key, after) = left.split_once('=')?;
        let key = key.trim_end();
        let (value, after) = pair_value(after.trim_start())?;
        left = after.trim_start();
        if !is_ours(key) {
            let (pair, _) = begin.split_at_checked(begin.len() - after.len())?;
            rest.push_str(pair);
            rest.push(' ');
        }
        options.push((Cow::Borrowed(key), Cow::Owned(value)));
    }
    Some(Split { rest, options })
}

/// A value, quoted or up to a blank, with its backslashes taken off, and what comes after it.
fn pair_value(text: &str) -> Option<(String, &str)> {
    let (is_quoted, text) = match text.strip_prefix('\'') {
        Some(inside) => (true, inside),
        None => (false, text),
    };
    let mut value = String::new();
    let mut chars = text.chars();
    loop {
        let before = chars.as_str();
        match chars.next() {
            Some('\\') => value.push(chars.next()?),
            Some('\'') if is_quoted => return Some((value, chars.as_str())),
            Some(c) if !is_quoted && c.is_whitespace() => return Some((value, before)),
            Some(c) => value.push(c),
            None if is_quoted => return None,
            None => return Some((value, "")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tokio_postgres::config::Host;

    use super::*;

    fn check(text: &str) -> ConnString {
        let parsed = ConnString::parse(text).unwrap_or_else(|reason| panic!("{text}: {reason}"));
        let config = &parsed.config;
        assert_eq!(config.get_user(), Some("u"), "{text}");
        assert_eq!(config.get_password(), Some(b"p w?'\\".as_slice()), "{text}");
        assert_eq!(config.get_hosts(), [Host::Tcp("db".to_owned())], "{text}");
        assert_eq!(config.get_ports(), [6543], "{text}");
        assert_eq!(config.get_dbname(), Some("d"), "{text}");
        parsed
    }

    #[test]
    fn both_forms_say_the_same() {
        for text in [
            "postgres://u:p%20w%3F%27%5C@db:6543/d",
            "postgresql://u:p%20w?'%5C@db:6543/d?connect_timeout=3",
            r"host=db port=6543 user=u dbname=d password='p w?\'\\'",
            r"  password = 'p w?\'\\' host=db port = 6543 user='u' dbname=d ",
        ] {
            let parsed = check(text);
            assert_eq!((parsed.ssl_mode, parsed.ca_file), (None, None), "{text}");
        }
    }

    #[test]
    fn the_mode_and_the_authority_are_taken_out() {
        for text in [
            "postgres://u:p%20w%3F%27%5C@db:6543/d?sslmode=verify-full&application_name=x&sslrootcert=%2Fetc%2Fa%20b.pem",
            r"sslrootcert='/etc/a b.pem' host=db port=6543 user=u dbname=d password='p w?\'\\' sslmode=verify-full",
        ] {
            let parsed = check(text);
            assert_eq!(parsed.ssl_mode, Some(SslMode::VerifyFull), "{text}");
            assert_eq!(parsed.ca_file.as_deref(), Some(Path::new("/etc/a b.pem")), "{text}");
        }
        let parsed = ConnString::parse("host=db sslmode=verify-full sslrootcert=system").unwrap();
        assert_eq!(parsed.ca_file, None);
    }

    #[test]
    fn what_is_wrong_is_said_without_quoting_it() {
        for (text, expected) in [
            ("host=db password=hunter two=hunter2", "an option is unknown"),
            ("postgres://u:hunter2@db/d?hunter2=1", "an option is unknown"),
            ("postgres://u:hunter2@db:hunter2/d", "invalid value for option `port`"),
            ("host=db port=hunter2", "invalid value for option `port`"),
            ("host=db password='hunter2", "expected postgres://"),
            ("hunter2", "expected postgres://"),
            ("host=db sslmode=hunter2", "sslmode: expected disable"),
            ("host=db sslcert=hunter2", "the option `sslcert` is not possible here"),
        ] {
            let reason = ConnString::parse(text).expect_err(text);
            assert!(reason.starts_with(expected), "{text}: {reason}");
            assert!(!reason.contains("hunter2"), "{text}: {reason}");
        }
    }
}
