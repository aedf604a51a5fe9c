//! Settings that several files' parts share.

mod buffer;
mod listening;
mod port;
mod routes;
mod status_pattern;
mod store;

use std::num::NonZeroUsize;
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use http::Uri;
use rf_core::config::{Interval, Node, Problems, Secret, at_most};
use rf_core::node_info::DEFAULT_EVERY_SECS;
use rf_net::client::split_user;
use rf_net::serve::MAX_CONNECTIONS;
use schemars::Schema;

pub(crate) use self::buffer::{BufferConfig, check_buffer};
pub(crate) use self::listening::{Listening, check_listening, listens, reached};
pub(crate) use self::port::Port;
pub(crate) use self::routes::{RouteKeys, check_named};
pub(crate) use self::status_pattern::StatusPattern;
pub(crate) use self::store::{DurabilityConfig, store_options};

/// What `nodeInfoEvery` may be.
const NODE_INFO_EVERY: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(3600);

/// The value of a key, or the whole object where the key is missing: where a problem is reported.
pub(crate) fn at<'a>(node: &Node<'a>, key: &str) -> Node<'a> {
    node.get(key).unwrap_or(*node)
}

/// A URL of `http` or `https` with a host.
///
/// # Errors
/// What was `wanted`, and what keeps the text from being that; it is not quoted.
pub(crate) fn parse_url(text: &str, wanted: &str) -> Result<Uri, String> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        None => return Err(format!("{wanted}: it does not begin with http:// or https://")),
        Some("http" | "https") => {}
        Some(_) => return Err(format!("{wanted}: its scheme is neither http nor https")),
    }
    let uri: Uri = text.parse().map_err(|error| format!("{wanted}: {error}"))?;
    let Some(host) = uri.host().filter(|host| !host.is_empty()) else {
        return Err(format!("{wanted}: it names no host"));
    };
    let port = split_user(&uri).1.strip_prefix(host).and_then(|port| port.strip_prefix(':'));
    // The port of the scheme would be used in its place.
    if port.is_some_and(|port| !port.is_empty()) && uri.port_u16().is_none() {
        return Err(format!("{wanted}: its port is no number up to 65535"));
    }
    Ok(uri)
}

/// Whether all of a URL is taken where those of requests are made of it: its query is not.
///
/// # Errors
/// Which part is not, and why. Nothing of the URL is quoted, since it may hold secrets.
pub(crate) fn check_base_url(uri: &Uri, text: &str) -> Result<(), String> {
    if uri.query().is_some() {
        return Err("expected a URL without a query: each request has its own".to_owned());
    }
    if text.contains('#') {
        return Err("expected a URL without `#`: what follows it is never sent".to_owned());
    }
    Ok(())
}

/// The one spelling of a path, which need not exist: links are followed as far as there is something.
pub(crate) fn plain(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_no_directory| path.to_owned());
    let mut plain = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            other => plain.push(other),
        }
        plain = plain.canonicalize().unwrap_or(plain);
    }
    plain
}

/// What is wrong with a regular expression, in one line.
pub(crate) fn regex_reason(error: &regex::Error) -> String {
    // The first lines show the place, the last one says what is wrong.
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// Warns of a relay's URL that calls cannot be added to, or that has this `call` already.
pub(crate) fn check_relay_url(url_at: &Node<'_>, url: &str, call: &str, problems: &mut Problems) {
    let before = url.trim_end_matches('/').strip_suffix(call);
    if url.contains(['?', '#']) {
        let text = "calls are added to the relay's URL: expected one without `?` and `#`";
        problems.warn(url_at, text);
    } else if before.is_some_and(|before| before.ends_with('/')) {
        problems.warn(url_at, format!("{call} is added to the relay's URL: leave it out here"));
    }
}

/// Reports ids that are used twice or cannot name a queue.
pub(crate) fn check_ids(nodes: &[Node<'_>], key: &str, problems: &mut Problems) {
    let mut seen: Vec<&str> = Vec::new();
    for node in nodes {
        let Some(at) = node.get(key) else { continue };
        let Some(id) = at.as_str() else { continue };
        if id.is_empty() {
            problems.error(&at, "expected a name, found an empty text");
        } else if seen.contains(&id) {
            problems.error(&at, format!("`{id}` is used twice: ids must be unique"));
        }
        seen.push(id);
    }
}

/// Warns of a bucket's token that is not there, without which a relay does `nothing`. Where its variable is not set, that is
/// told already.
pub(crate) fn check_token(
    node: &Node<'_>,
    key: &str,
    token: &Secret,
    nothing: &str,
    problems: &mut Problems,
) {
    let path = node.get(key).map(|at| at.path());
    let is_told = problems.warnings().any(|warning| Some(&warning.key) == path.as_ref());
    if token.is_empty() && !is_told {
        let text = format!("{nothing} without the token of the bucket: set {key}");
        problems.warn(&at(node, key), text);
    }
}

/// The tailnet comes with a later version; dialing around it could show data to others.
pub(crate) fn no_tailnet(node: &Node<'_>, key: &str, wanted: bool, problems: &mut Problems) {
    if wanted {
        problems.error(&at(node, key), "this program does not join a tailnet by itself: remove the key, and use the host's Tailscale, see docs/guides/tailnet.md");
    }
}

/// The default `dataDir`: the working directory, as the original.
pub(crate) fn working_directory() -> PathBuf {
    PathBuf::from(".")
}

/// `traceSteps` where the file says nothing.
pub(crate) fn default_trace_steps() -> usize {
    rf_core::trace::DEFAULT_STEPS
}

/// `nodeInfoEvery` where the file says nothing.
pub(crate) fn default_node_info_every() -> Interval {
    Duration::from_secs(DEFAULT_EVERY_SECS).into()
}

/// Reports a `nodeInfoEvery` that would flood the relay, or seem silent.
pub(crate) fn check_node_info_every(root: &Node<'_>, every: Interval, problems: &mut Problems) {
    if !NODE_INFO_EVERY.contains(&every.as_duration()) {
        problems.error(&at(root, "nodeInfoEvery"), "expected 1s to 1h");
    }
}

/// `maxConnections`, or as many as are of use.
pub(crate) fn check_connections(
    params: &Node<'_>,
    asked: NonZeroUsize,
    problems: &mut Problems,
) -> NonZeroUsize {
    let place = at(params, "maxConnections");
    let used = at_most(&place, asked.get(), MAX_CONNECTIONS.get(), problems);
    NonZeroUsize::new(used).unwrap_or(MAX_CONNECTIONS)
}

/// Where pages listen that ask for no token.
pub(crate) fn loopback() -> String {
    "127.0.0.1".to_owned()
}

/// Keys that are accepted, so that the original's files go on working, and do nothing in this version.
pub(crate) fn no_effect_yet(root: &Node<'_>, keys: &[&str], problems: &mut Problems) {
    for key in keys {
        // The original's files name such keys also where they ask for nothing.
        if let Some(at) = root.get(key)
            && !matches!(at.shown().as_str(), "null" | "false" | "0" | "\"\"")
        {
            problems.warn(&at, "not in this version: the key has no effect");
        }
    }
}

/// Times that must not be zero.
pub(crate) fn not_zero(node: &Node<'_>, times: &[(&str, Interval)], problems: &mut Problems) {
    for (key, time) in times {
        if time.as_duration().is_zero() {
            problems.error(&at(node, key), "expected a time above zero");
        }
    }
}

/// The configured name, or the machine's.
pub(crate) fn host_name(configured: &str) -> String {
    if !configured.is_empty() {
        return configured.to_owned();
    }
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Says in a file's schema what `params` holds for each `type` of the component `definition`.
pub(crate) fn with_params(
    mut file: Schema,
    definition: &str,
    kinds: impl Iterator<Item = (&'static str, Schema)>,
) -> Schema {
    let kinds: Vec<_> = kinds.collect();
    let names: Vec<&str> = kinds.iter().map(|(name, _)| *name).collect();
    let mut rules = Vec::new();
    let mut definitions = serde_json::Map::new();
    for (name, schema) in &kinds {
        let mut schema = schema.clone().to_value();
        // References point from the root of the whole file.
        if let Some(serde_json::Value::Object(own)) =
            schema.as_object_mut().and_then(|object| object.remove("$defs"))
        {
            definitions.extend(own);
        }
        let mut rule = serde_json::json!({ "properties": { "params": schema } });
        // No params are an empty object: whether they may be left out, their own keys say.
        if rule.pointer("/properties/params/required").is_some() {
            rule["required"] = serde_json::json!(["params"]);
        }
        rules.push(serde_json::json!({
            "if": { "properties": { "type": { "const": name } } },
            "then": rule,
        }));
    }
    if let Some(serde_json::Value::Object(known)) = file.ensure_object().get_mut("$defs") {
        known.extend(definitions);
        if let Some(serde_json::Value::Object(component)) = known.get_mut(definition) {
            component.insert("allOf".to_owned(), rules.into());
            component["properties"]["type"]["enum"] = names.into();
        }
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_text_from_being_a_url_is_told() {
        let check = |text: &str, expected: Result<&str, &str>| {
            let parsed = parse_url(text, "expected a URL");
            match (&parsed, expected) {
                (Ok(uri), Ok(host)) => assert_eq!(uri.host(), Some(host), "{text}"),
                (Err(told), Err(expected)) => {
                    assert_eq!(told, &format!("expected a URL: {expected}"), "{text}");
                }
                _ => panic!("{text}: {parsed:?}"),
            }
        };
        check("http://127.0.0.1:8081", Ok("127.0.0.1"));
        check("HTTPS://relay.example.com/below/", Ok("relay.example.com"));
        check("127.0.0.1:8081", Err("it does not begin with http:// or https://"));
        check("", Err("it does not begin with http:// or https://"));
        check("ftp://relay.example.com", Err("its scheme is neither http nor https"));
        check("http://:80", Err("it names no host"));
        for url in ["http://h:65535", "http://h:", "http://a:99999@h", "http://a@h:1/x"] {
            check(url, Ok("h"));
        }
        check("http://[::1]", Ok("[::1]"));
        for url in ["http://h:99999", "http://h:x/", "http://a:1@h:99999", "http://[::1]:99999"] {
            check(url, Err("its port is no number up to 65535"));
        }
    }

    #[test]
    fn a_part_of_a_url_that_is_not_taken_is_told_and_not_quoted() {
        let check = |text: &str, expected: Result<(), &str>| {
            let uri = parse_url(text, "expected a URL").expect(text);
            let told = check_base_url(&uri, text);
            let expected = expected.map_err(|part| format!("expected a URL without {part}"));
            assert_eq!(told, expected, "{text}");
        };
        check("http://h", Ok(()));
        check("http://[::1]:80/below/", Ok(()));
        check("http://me:secret@h?key=secret", Err("a query: each request has its own"));
        check("http://h/#secret", Err("`#`: what follows it is never sent"));
    }

    #[test]
    fn what_is_wrong_with_a_regular_expression_is_one_line() {
        let reason = |pattern: &str| regex_reason(&regex::Regex::new(pattern).expect_err(pattern));
        assert_eq!(reason("a("), "unclosed group");
        assert_eq!(reason("a\n(b"), "unclosed group");
        let large = reason("(a{999}){999}{999}");
        assert!(large.contains("exceeds size limit") && large.lines().count() == 1, "{large}");
    }
}
