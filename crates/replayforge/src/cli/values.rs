//! Values of arguments: what they may be, and what is said where they are not.

use std::time::Duration;

use http::Uri;
use rf_core::config::Interval;
use uuid::Uuid;

/// Where a program is asked; `http://` may be left away.
pub(super) fn url(text: &str) -> Result<String, String> {
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let is_meant = |uri: Uri| {
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        is_http && uri.query().is_none() && uri.host().is_some_and(|host| !host.is_empty())
    };
    if whole.parse().is_ok_and(is_meant) {
        Ok(whole)
    } else {
        Err("expected http://HOST:PORT".to_owned())
    }
}

/// What an event is called everywhere.
pub(super) fn event_id(text: &str) -> Result<Uuid, String> {
    let expected = "expected an event's id, such as 019abe40-7d3b-7000-8000-000000000001";
    text.parse().map_err(|_malformed: uuid::Error| expected.to_owned())
}

/// As in a file: with a unit, or a number of seconds.
pub(super) fn interval(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse::<u32>() {
        return Ok(Duration::from_secs(seconds.into()));
    }
    text.parse::<Interval>().map(Duration::from).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_or_is_in_seconds() {
        assert_eq!(interval("30"), Ok(Duration::from_secs(30)));
        assert_eq!(interval("1m30s"), Ok(Duration::from_secs(90)));
        assert!(interval("soon").is_err_and(|error| error.contains("a number of seconds")));
    }

    #[test]
    fn a_program_is_asked_at_a_url_or_at_a_host_with_its_port() {
        for (text, expected) in [
            ("http://127.0.0.1:8090", Some("http://127.0.0.1:8090")),
            ("https://relay.example.com/status/", Some("https://relay.example.com/status/")),
            ("127.0.0.1:18090", Some("http://127.0.0.1:18090")),
            ("localhost:8090", Some("http://localhost:8090")),
            ("relay", Some("http://relay")),
            ("[::1]:8090", Some("http://[::1]:8090")),
            ("ftp://x", None),
            ("http://", None),
            ("", None),
            ("a b", None),
            ("http://x/?token=y", None),
        ] {
            assert_eq!(url(text).ok().as_deref(), expected, "{text}");
        }
    }
}
