//! A webhook of any kind: method, headers and payload as the file says. The original's only kind.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, header};
use http_body_util::Full;
use rf_core::config::{Secret, did_you_mean};
use rf_net::client::{Client, url_login};
use serde_json::{Value, json};

use super::Service;
use crate::message::Message;
use crate::post::{self, Form, Post};
use crate::target::{TargetConfig, Wrong};
use crate::template::{Escape, Template};

/// The same for every repeat of a message, as with replayed requests.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// What `contentType` may say for plain text.
const PLAIN: [&str; 3] = ["", "plain", "text"];

struct Webhook {
    url: Uri,
    method: Method,
    headers: HeaderMap,
    /// It is sent as JSON.
    is_json: bool,
    template: Option<Template>,
    /// As [`Service::doubts`].
    doubts: Vec<(&'static str, String)>,
}

pub(super) fn build(config: &TargetConfig, client: Client) -> Result<Arc<dyn Service>, Wrong> {
    let url = post::url(&config.url, "").map_err(|reason| Wrong::new("url", reason))?;
    let method = Method::from_bytes(config.method.to_ascii_uppercase().as_bytes())
        .map_err(|error| Wrong::new("method", error))?;
    let kind = config.content_type.to_ascii_lowercase();
    let is_json = is_json(&kind);
    let content_type = if kind.contains('/') {
        HeaderValue::try_from(&config.content_type)
            .map_err(|error| Wrong::new("contentType", error))?
    } else if is_json {
        HeaderValue::from_static("application/json")
    } else {
        HeaderValue::from_static("text/plain; charset=utf-8")
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, content_type);
    for (name, value) in &config.header {
        let name = HeaderName::try_from(name.as_str())
            .map_err(|error| Wrong::new("header", format!("`{name}`: {error}")))?;
        post::secret_header(&mut headers, name, "", value)
            .map_err(|reason| Wrong::new("header", reason))?;
    }
    let sent_as = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let escape = if is_json { Escape::Json } else { Escape::of(sent_as.unwrap_or_default()) };
    let template =
        (!config.build_payload.is_empty()).then(|| Template::new(&config.build_payload, escape));
    let mut doubts = doubts(&config.content_type, &url, &config.header);
    if let Some(template) = template.as_ref().filter(|_| is_json)
        && let Err(error) = parsed(template, "a text")
    {
        // It would be refused with every message.
        parsed(template, "1").map_err(|_also| {
            Wrong::new("buildPayload", format!("expected JSON once it is filled in: {error}"))
        })?;
        let reason = "filled in with a text, it is no JSON: put quotes around {{subject}} and {{message}}, unless they are always numbers";
        doubts.push(("buildPayload", reason.to_owned()));
    }
    let is_json = escape == Escape::Json;
    let form = Webhook { url, method, headers, is_json, template, doubts };
    Ok(Arc::new(Post { form, client, timeout: config.timeout.into() }))
}

/// Settings of the original that work, and hardly as they are meant.
fn doubts(
    content_type: &str,
    url: &Uri,
    headers: &BTreeMap<String, Secret>,
) -> Vec<(&'static str, String)> {
    let mut doubts = Vec::new();
    let has = |name: HeaderName| headers.keys().any(|key| key.eq_ignore_ascii_case(name.as_str()));
    if has(header::AUTHORIZATION) && url_login(url).is_some() {
        let reason = "its name and password are not sent: the header Authorization is";
        doubts.push(("url", reason.to_owned()));
    }
    let kind = content_type.to_ascii_lowercase();
    let is_known = PLAIN.contains(&kind.as_str()) || kind.contains('/') || is_json(&kind);
    if !is_known && !has(header::CONTENT_TYPE) {
        let meant = did_you_mean(&kind, ["json"]);
        let expected = "expected json, or a media type such as text/html";
        doubts.push(("contentType", format!("this is sent as plain text: {expected}{meant}")));
    }
    doubts
}

/// Whether this `contentType`, in lower case, is sent as JSON.
fn is_json(kind: &str) -> bool {
    kind == "json" || kind.contains("/json") || kind.contains("+json")
}

/// The payload of a message whose subject and text are `value`.
fn parsed(template: &Template, value: &str) -> serde_json::Result<Value> {
    let message = Message { subject: value.to_owned(), text: value.to_owned() };
    serde_json::from_str(&template.render(&message))
}

impl Form for Webhook {
    fn request(&self, message: &Message, id: &str) -> Result<Request<Full<Bytes>>, String> {
        let body = match &self.template {
            Some(template) => template.render(message),
            None if self.is_json => {
                json!({ "subject": message.subject, "message": message.text }).to_string()
            }
            None => message.joined(str::to_owned),
        };
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.url.clone();
        request.headers_mut().extend(self.headers.clone());
        let id = HeaderValue::try_from(id).map_err(|error| error.to_string())?;
        request.headers_mut().entry(IDEMPOTENCY_KEY).or_insert(id);
        Ok(request)
    }

    fn doubts(&self) -> Vec<Wrong> {
        self.doubts.iter().map(|(key, reason)| Wrong::new(key, reason)).collect()
    }
}
