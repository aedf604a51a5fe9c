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
    config.max_connections = check_connections(params, config.max_connections, problems);
    let times = [("requestTimeout", config.request_timeout), ("idleTimeout", config.idle_timeout)];
    not_zero(params, &times, problems);
    let mut drop_headers = header_names(&config.drop_headers, params, problems)?;
    drop_headers.extend([CONNECTION, COOKIE]);
    let before = problems.error_count();
    let redactor = config.redact.build(Defaults::Off, &at(params, "redact"), problems);
    if problems.error_count() > before {
        return None;
    }
    let id = context.id.to_owned();
    let port = ClaimedPort::new(config.listen_address.clone(), config.listen_port);
    Some(Box::new(HttpSource { id, config, port, drop_headers, redactor }))
}

/// `dropHeaders`, checked.
pub(in crate::source) fn header_names(
    names: &[String],
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<Vec<HeaderName>> {
    let mut checked = Vec::with_capacity(names.len());
    for name in names {
        match HeaderName::try_from(name.as_str()) {
            Ok(name) => checked.push(name),
            Err(_invalid) => {
                problems.error(params, format!("dropHeaders: `{name}` is not a header name"));
                return None;
            }
        }
    }
    Some(checked)
}
