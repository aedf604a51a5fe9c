//! What stands in the `params` of an `http` source, and what is checked of it.

use std::num::NonZeroUsize;
use std::time::Duration;

use http::header::{CONNECTION, COOKIE, HeaderName};
use rf_core::config::{ByteSize, Interval, Node, Problems, schema_of};
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::HttpSource;
use crate::redact::{Defaults, RedactConfig};
use crate::settings::{at, check_connections, not_zero};
use crate::source::claimed_port::ClaimedPort;
use crate::source::defaults::all_interfaces;
use crate::source::{Source, SourceContext, forward};

/// With this key the source is a reverse proxy: see [`forward`].
const FORWARD_TO: &str = "forwardTo";

/// `params` of an `http` source.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HttpSourceConfig {
    /// Port to listen on; 0 takes any free one and logs which.
    pub(crate) listen_port: u16,
    /// Address to listen on: all interfaces by default.
    #[serde(default = "all_interfaces")]
    #[schemars(extend("x-zero-is-unset" = true))]
    pub(crate) listen_address: String,
    /// Largest body; a larger one is answered 413.
    #[serde(default = "default_max_body")]
    pub(crate) max_body_bytes: ByteSize,
    /// Memory for all bodies that are being read or stored; when it is used up, larger ones are answered 503.
    #[serde(default = "default_body_memory")]
    pub(crate) body_memory_bytes: ByteSize,
    /// Headers that are not kept, besides `Connection` and `Cookie`.
    #[serde(default)]
    pub(crate) drop_headers: Vec<String>,
    /// Connections at a time; at the limit, accepting pauses.
    #[serde(default = "default_max_connections")]
    pub(crate) max_connections: NonZeroUsize,
    /// How long a request's head, and each piece of its body, may take.
    #[serde(default = "default_request_timeout")]
    pub(crate) request_timeout: Interval,
    /// How long a connection may stay unused.
    #[serde(default = "default_idle_timeout")]
    pub(crate) idle_timeout: Interval,
    /// What is masked in the events; nothing by default.
    #[serde(default)]
    pub(crate) redact: RedactConfig,
}

fn default_max_body() -> ByteSize {
    ByteSize::mib(8)
}

fn default_body_memory() -> ByteSize {
    ByteSize::mib(64)
}

pub(in crate::source) fn default_max_connections() -> NonZeroUsize {
    NonZeroUsize::new(4096).expect("4096 is not zero")
}

pub(in crate::source) fn default_request_timeout() -> Interval {
    Interval::from(Duration::from_secs(30))
}

pub(in crate::source) fn default_idle_timeout() -> Interval {
    Interval::from(Duration::from_secs(75))
}

/// JSON Schema of the `params`: the keys of [`HttpSourceConfig`], and with `forwardTo` those of `ForwardConfig`.
pub(in crate::source) fn schema() -> Schema {
    let mut schema = schema_of::<HttpSourceConfig>();
    let forward = forward::schema().to_value();
    for part in ["properties", "$defs"] {
        let Some(more) = forward.get(part).and_then(Value::as_object) else { continue };
        let known = schema.ensure_object().entry(part).or_insert_with(|| Value::Object(Map::new()));
        let Some(known) = known.as_object_mut() else { continue };
        for (name, shape) in more {
            known.entry(name).or_insert_with(|| shape.clone());
        }
    }
    schema
}

/// Checks the configuration and makes the source.
pub(in crate::source) fn build(
    context: &SourceContext<'_>,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Box<dyn Source>> {
    if params.get(FORWARD_TO).is_some() {
        return forward::build(context, params, problems);
    }
    let mut config: HttpSourceConfig = params.decode(problems)?;
    let before = problems.error_count();
    config.max_connections = check_connections(params, config.max_connections, problems);
    let times = [("requestTimeout", config.request_timeout), ("idleTimeout", config.idle_timeout)];
    not_zero(params, &times, problems);
    let mut drop_headers = header_names(&config.drop_headers, params, problems);
    drop_headers.extend([CONNECTION, COOKIE]);
    let redactor = config.redact.build(Defaults::Off, &at(params, "redact"), problems);
    if problems.error_count() > before {
        return None;
    }
    let id = context.id.to_owned();
    let port = ClaimedPort::new(config.listen_address.clone(), config.listen_port);
    Some(Box::new(HttpSource { id, config, port, drop_headers, redactor }))
}

/// `dropHeaders`, checked: each that is no name is reported at its place.
pub(in crate::source) fn header_names(
    names: &[String],
    params: &Node<'_>,
    problems: &mut Problems,
) -> Vec<HeaderName> {
    let list = at(params, "dropHeaders");
    let places = list.items();
    let mut checked = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        match HeaderName::try_from(name.as_str()) {
            Ok(name) => checked.push(name),
            Err(_invalid) => {
                let place = places.get(index).unwrap_or(&list);
                problems.error(place, format!("{} is not a header name", place.shown()));
            }
        }
    }
    checked
}

#[cfg(test)]
mod tests {
    use rf_core::config::parse;
    use serde_json::json;

    use super::*;

    /// What is told of these keys.
    fn told(params: &Value) -> String {
        let mut problems = Problems::new();
        let document = parse("f", &params.to_string(), &|_| None, &mut problems).expect("JSON");
        let context = SourceContext { id: "s", env_name: "", host_name: "", hook_interval: None };
        let built = build(&context, &document.root(), &mut problems);
        assert_eq!(built.is_none(), problems.has_errors(), "{problems}");
        problems.to_string()
    }

    #[track_caller]
    fn check(params: &Value, expected: &[&str]) {
        let told = told(params);
        for expected in expected {
            assert!(told.contains(&format!("error: {expected}")), "{expected} of {told}");
        }
        assert_eq!(told.lines().count(), expected.len(), "{told}");
    }

    #[test]
    fn all_wrong_keys_are_told_at_their_places() {
        check(
            &json!({
                "listenPort": 0, "dropHeaders": ["X-A", "a b", ""], "idleTimeout": 0,
                "redact": { "patterns": ["("], "fields": [""] },
            }),
            &[
                "dropHeaders[1]: \"a b\" is not a header name",
                "dropHeaders[2]: \"\" is not a header name",
                "idleTimeout: expected a time above zero",
                "redact.patterns[0]: `(` is not a regular expression",
                "redact.fields[0]: expected a name",
            ],
        );
        check(&json!({ "listenPort": 0, "dropHeaders": ["X-A"] }), &[]);
    }

    #[test]
    fn all_wrong_keys_of_a_reverse_proxy_are_told_at_their_places() {
        check(
            &json!({
                "forwardTo": "127.0.0.1:1", "listenPort": 0, "caFile": "/nowhere/ca.pem",
                "clientTimeout": 0, "dropHeaders": ["a b"], "sampleBy": "c d",
                "include": [{ "headers": { "e f": "*" } }],
                "exclude": [{ "headers": { "g h": "*" } }], "redact": { "patterns": ["("] },
            }),
            &[
                "forwardTo: expected a scheme and a host",
                "caFile: ",
                "clientTimeout: expected a time above zero",
                "dropHeaders[0]: \"a b\" is not a header name",
                "sampleBy: `c d` is not a header name",
                "include: `e f` is not a header name",
                "exclude: `g h` is not a header name",
                "redact.patterns[0]: `(` is not a regular expression",
            ],
        );
    }
}
