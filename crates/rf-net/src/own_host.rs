//! The name by which a browser asks: a page of another site must not read a server on loopback.
//!
//! A foreign name can be made to point at 127.0.0.1 (DNS rebinding); the browser then takes that server for the page's
//! own and lets the page read it. What gives such a request away is its `Host`. So a server on loopback that asks for no
//! credentials answers only to names that nobody else can hand out.

use std::net::IpAddr;

use http::HeaderMap;
use http::header::HOST;

/// Names that a server answers to, besides IP addresses and `localhost`.
#[derive(Clone, Debug, Default)]
pub struct OwnHosts {
    /// In lower case, without a dot at the end.
    names: Vec<String>,
}

impl OwnHosts {
    /// The names as people write them.
    pub fn new(names: impl IntoIterator<Item = impl AsRef<str>>) -> OwnHosts {
        OwnHosts { names: names.into_iter().map(|name| normal(name.as_ref())).collect() }
    }

    /// Whether the `Host` of a request is one of ours. Clients without the header are no browsers.
    #[must_use]
    pub fn know(&self, headers: &HeaderMap) -> bool {
        let Some(host) = headers.get(HOST) else { return true };
        let Some(name) = host.to_str().ok().map(without_port) else { return false };
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().is_ok()
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.names.contains(&name)
    }
}

/// Whether only this machine reaches a server that listens on this address.
#[must_use]
pub fn is_loopback(address: &str) -> bool {
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn without_port(host: &str) -> String {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    normal(name)
}

fn normal(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(host: &[u8], expected: bool) {
        let own = OwnHosts::new(["Relay.Example.", "box"]);
        let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_bytes(host).unwrap())]);
        assert_eq!(own.know(&headers), expected, "{}", host.escape_ascii());
    }

    #[test]
    fn names_that_nobody_else_can_hand_out() {
        for host in [
            "127.0.0.1",
            "127.0.0.1:8082",
            "192.0.2.7:8082",
            "[::1]",
            "[::1]:8082",
            "localhost",
            "LOCALHOST.:8082",
            "status.localhost",
            "relay.example",
            "relay.example.:443",
            "Box:8082",
        ] {
            check(host.as_bytes(), true);
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "evil.example:8082",
            "localhost.evil.example",
            "notlocalhost",
            "a.relay.example",
            "relay.example:80x",
            "",
        ] {
            check(host.as_bytes(), false);
        }
        check(b"local\xffhost", false);
        assert!(OwnHosts::default().know(&HeaderMap::new()), "no browser leaves it out");
    }

    #[test]
    fn addresses_of_this_machine_alone() {
        for address in ["127.0.0.1", "127.8.9.1", "::1", "[::1]", "localhost"] {
            assert!(is_loopback(address), "{address}");
        }
        for address in ["0.0.0.0", "::", "192.0.2.7", "player.lan", ""] {
            assert!(!is_loopback(address), "{address}");
        }
    }
}
