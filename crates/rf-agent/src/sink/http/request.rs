//! The request that an event becomes, with what the file changes of it.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderName, HeaderValue, Method, Request};
use http_body_util::Full;
use jiff::Timestamp;
use regex::Regex;
use rf_core::config::{Node, Problems};
use rf_core::event::ReplayRequest;
use rf_net::client::basic_auth;
use serde_json::Value;
use uuid::Uuid;

use super::targets::Target;
use super::{HttpSinkConfig, IDEMPOTENCY_KEY, X_REPLAYFORGE_ID};
use crate::settings::{at, regex_reason};
use crate::sink::template::Template;

/// About one connection (RFC 9110, section 7.6.1), or made anew for the target.
const NOT_REPLAYED: [&str; 12] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "proxy-authorization",
    "proxy-authenticate",
    "content-length",
    "host",
    "expect",
];
/// Headers of an event at the most; no server takes so many, and more than some 24,000 cannot be held.
const MAX_HEADERS: usize = 10_000;
/// Changes of the path at the most.
const MAX_REWRITES: usize = 64;
/// The library says only that a value is none.
const NO_VALUE: &str = "it has a line break or another control character, which no header can hold";

/// Whether the client makes the header for each connection, so that neither a file nor a script may set it. `Host` they may.
pub(in crate::sink) fn is_of_connection(name: &HeaderName) -> bool {
    NOT_REPLAYED.contains(&name.as_str()) && *name != HOST
}

/// What a file changes of every request.
#[derive(Debug, Default)]
pub(super) struct Changes {
    preserve_host: bool,
    method: Option<Method>,
    /// An empty text takes the header away.
    headers: Vec<(HeaderName, Template)>,
    authorization: Option<HeaderValue>,
    rewrites: Vec<(Regex, String)>,
    /// Whether a header has fields of the event.
    has_fields: bool,
}

impl Changes {
    pub(super) fn check(
        config: &HttpSinkConfig,
        params: &Node<'_>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let before = problems.error_count();
        let method = config.method.to_ascii_uppercase();
        let method =
            (!method.is_empty()).then(|| Method::from_bytes(method.as_bytes())).transpose();
        let method = method.unwrap_or_else(|error| {
            problems
                .error(&at(params, "method"), format!("expected a method such as POST: {error}"));
            None
        });
        let headers = headers(&config.headers, &at(params, "headers"), problems);
        let changes = Self {
            preserve_host: config.preserve_host,
            method,
            has_fields: headers.iter().any(|(_, value)| value.fixed().is_none()),
            headers,
            authorization: authorization(config, params, problems),
            rewrites: rewrites(config, params, problems),
        };
        (problems.error_count() == before).then_some(changes)
    }

    /// The event's target with the first change of the path that fits.
    pub(super) fn target(&self, target: &str) -> String {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let Some((pattern, to)) = self.rewrites.iter().find(|(pattern, _)| pattern.is_match(path))
        else {
            return target.to_owned();
        };
        let mut changed = pattern.replace(path, to.as_str()).into_owned();
        if !changed.starts_with('/') {
            changed.insert(0, '/');
        }
        match query {
            Some(query) if changed.contains('?') => format!("{changed}&{query}"),
            Some(query) => format!("{changed}?{query}"),
            None => changed,
        }
    }

    /// The request to a host. `content` is what `event` was read from.
    ///
    /// # Errors
    /// Why no request can be made of it.
    pub(super) fn request(
        &self,
        event: &ReplayRequest,
        content: &[u8],
        id: Uuid,
        to: &Target,
    ) -> Result<Request<Full<Bytes>>, String> {
        let mut request = Request::new(Full::new(event.body.clone()));
        *request.uri_mut() = to.uri(&self.target(&event.target))?;
        *request.method_mut() = match &self.method {
            Some(method) => method.clone(),
            None => Method::from_bytes(event.method.as_bytes())
                .map_err(|error| format!("method `{}`: {error}", event.method))?,
        };
        if event.headers.len() > MAX_HEADERS {
            return Err(format!("the event has more than {MAX_HEADERS} headers"));
        }
        let headers = request.headers_mut();
        for (name, value) in &event.headers {
            let is_host = name.eq_ignore_ascii_case("host");
            if NOT_REPLAYED.iter().any(|other| name.eq_ignore_ascii_case(other))
                && !(is_host && self.preserve_host)
            {
                continue;
            }
            let key = HeaderName::try_from(name.as_str())
                .map_err(|error| format!("header name `{name}`: {error}"))?;
            let value = HeaderValue::from_bytes(value)
                .map_err(|_says_less| format!("value of header `{name}`: {NO_VALUE}"))?;
            // A second Host would make the request ambiguous.
            if is_host {
                headers.insert(HOST, value)
            } else {
                headers.append(key, value).then_some(HeaderValue::from_static(""))
            };
        }
        self.change_headers(headers, content)?;
        if let Some(login) = &to.login {
            headers.entry(AUTHORIZATION).or_insert_with(|| login.clone());
        }
        let id = HeaderValue::try_from(id.to_string()).map_err(|error| error.to_string())?;
        // A key that the client itself had sent is the better one: its own retries carry it, too.
        headers.entry(IDEMPOTENCY_KEY).or_insert_with(|| id.clone());
        headers.insert(X_REPLAYFORGE_ID, id);
        Ok(request)
    }

    fn change_headers(&self, headers: &mut http::HeaderMap, content: &[u8]) -> Result<(), String> {
        let event: Value = if self.has_fields {
            rf_core::json::from_slice(content).map_err(|error| error.to_string())?
        } else {
            Value::Null
        };
        let epoch = Timestamp::try_from(UNIX_EPOCH).unwrap_or_default();
        for (name, template) in &self.headers {
            let value = template.render(&event, epoch, |value| value);
            if value.is_empty() {
                headers.remove(name);
            } else {
                let value = HeaderValue::try_from(value)
                    .map_err(|_says_less| format!("value of header `{name}`: {NO_VALUE}"))?;
                headers.insert(name, value);
            }
        }
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        Ok(())
    }
}

fn headers(
    config: &BTreeMap<String, String>,
    node: &Node<'_>,
    problems: &mut Problems,
) -> Vec<(HeaderName, Template)> {
    let mut checked = Vec::new();
    for (name, value) in config {
        let at = at(node, name);
        let template = Template::of_fields(value).and_then(|template| {
            let fixed = template.fixed().unwrap_or_default();
            HeaderValue::try_from(fixed).map_err(|_says_less| NO_VALUE.to_owned()).map(|_| template)
        });
        match (HeaderName::try_from(name.as_str()), template) {
            (Err(error), _) => problems.error(&at, format!("`{name}`: {error}")),
            (Ok(known), _) if is_of_connection(&known) => {
                problems.error(
                    &at,
                    format!("`{name}` belongs to the connection and is generated anew"),
                );
            }
            (_, Err(reason)) => problems.error(&at, reason),
            (Ok(name), Ok(template)) => checked.push((name, template)),
        }
    }
    checked
}

fn authorization(
    config: &HttpSinkConfig,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Option<HeaderValue> {
    let bearer = (!config.bearer_token.is_empty()).then(|| {
        let value = HeaderValue::try_from(format!("Bearer {}", config.bearer_token.expose()));
        value.map(|mut value| {
            value.set_sensitive(true);
            value
        })
    });
    match (bearer, &config.basic_auth) {
        (Some(_), Some(_)) => {
            problems.error(&at(params, "bearerToken"), "expected either bearerToken or basicAuth");
            None
        }
        (Some(Ok(value)), None) => Some(value),
        (Some(Err(_quotes_nothing)), None) => {
            problems.error(&at(params, "bearerToken"), "expected a token without line breaks");
            None
        }
        (None, Some(basic)) if basic.username.contains(':') => {
            problems.error(&at(params, "basicAuth"), "username: expected a name without a colon");
            None
        }
        (None, Some(basic)) => Some(basic_auth(&basic.username, basic.password.expose())),
        (None, None) => None,
    }
}

fn rewrites(
    config: &HttpSinkConfig,
    params: &Node<'_>,
    problems: &mut Problems,
) -> Vec<(Regex, String)> {
    let node = at(params, "rewritePath");
    if config.rewrite_path.len() > MAX_REWRITES {
        problems.error(&node, format!("expected at most {MAX_REWRITES} changes"));
    }
    let mut checked = Vec::new();
    for (rewrite, item) in config.rewrite_path.iter().zip(node.items()) {
        match Regex::new(&rewrite.from) {
            Ok(pattern) => checked.push((pattern, rewrite.to.clone())),
            Err(error) => {
                let reason = regex_reason(&error);
                problems.error(&at(&item, "from"), format!("not a regular expression: {reason}"));
            }
        }
    }
    checked
}
