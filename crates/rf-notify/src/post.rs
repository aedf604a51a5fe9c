//! One exchange with a service over HTTP, and what its answer means.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use rf_core::config::Secret;
use rf_net::body::read_capped;
use rf_net::client::{Client, ClientError, url_login};
use rf_net::mask::Mask;
use rf_net::retry_after::{MAX_RETRY_AFTER, retry_after};
use serde_json::Value;

use crate::message::Message;
use crate::service::Service;
use crate::target::{NotifyError, Sent, Wrong};
use crate::text::one_line;

/// Most of an answer that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// Most of a service's own words that is shown.
const SAID_CHARS: usize = 200;
/// The longest plain word that counts as a service's error code, as Slack's `invalid_token`.
const WORD_CHARS: usize = 60;

/// How a service wants its messages.
pub(crate) trait Form: Send + Sync {
    /// The request of a message; `id` is the same whenever the message is sent again.
    ///
    /// # Errors
    /// Why no request can be made of it.
    fn request(&self, message: &Message, id: &str) -> Result<Request<Full<Bytes>>, String>;

    /// What a 2xx answer means that is none, for services that hide their refusals there.
    fn hidden_refusal(&self, _answer: &str) -> Option<NotifyError> {
        None
    }

    /// What is to be put behind the reason where a refusal of the message is one of the target's settings, for services that
    /// tell both with one status.
    fn wrong_target(&self, _answer: &str) -> Option<String> {
        None
    }

    /// As [`Service::doubts`].
    fn doubts(&self) -> Vec<Wrong> {
        Vec::new()
    }
}

/// A service that is reached over HTTP.
pub(crate) struct Post<F> {
    pub(crate) form: F,
    pub(crate) client: Client,
    pub(crate) timeout: Duration,
}

impl<F: Form> Service for Post<F> {
    fn send<'a>(
        &'a self,
        message: &'a Message,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Sent, NotifyError>> {
        Box::pin(async move {
            let mut request = self.form.request(message, id).map_err(NotifyError::Permanent)?;
            if let Some(login) = url_login(request.uri()) {
                request.headers_mut().entry(header::AUTHORIZATION).or_insert(login);
            }
            let mask = Mask::of(request.uri(), request.headers());
            let sent = self.client.send(request, self.timeout).await;
            let response = sent.map_err(|error| match error {
                ClientError::NoTarget => NotifyError::Permanent(error.to_string()),
                ClientError::Connect { .. } => NotifyError::Away(error.to_string()),
                other => NotifyError::Retry { reason: other.to_string(), after: None },
            })?;
            let (head, body) = response.into_parts();
            let asked = retry_after(&head.headers, SystemTime::now());
            // An answer whose body cannot be read has still been given.
            let body = read_capped(body, MAX_ANSWER_BYTES, self.timeout).await.unwrap_or_default();
            let answer = String::from_utf8_lossy(&body);
            if head.status.is_success() {
                let refusal = self.form.hidden_refusal(&answer);
                return refusal.map_or_else(|| Ok(Sent::whole(head.status.to_string())), Err);
            }
            Err(
                match (refusal(head.status, asked, &answer, &mask), self.form.wrong_target(&answer))
                {
                    (NotifyError::Permanent(reason), Some(more)) => {
                        NotifyError::Refused(format!("{reason}{more}"))
                    }
                    (refusal, _) => refusal,
                },
            )
        })
    }

    fn doubts(&self) -> Vec<Wrong> {
        self.form.doubts()
    }
}

/// What an answer that is no success asks of the sender; its words are quoted through the mask.
pub(crate) fn refusal(
    status: StatusCode,
    asked: Option<Duration>,
    answer: &str,
    mask: &Mask,
) -> NotifyError {
    let parsed: Value = serde_json::from_str(answer).unwrap_or_default();
    let reason = format!("answered {status}{}", said(&parsed, answer, mask));
    match status.as_u16() {
        408 | 425 | 429 | 500..=599 => {
            NotifyError::Retry { reason, after: asked.max(wanted_pause(&parsed)) }
        }
        400 | 413 | 415 | 422 => NotifyError::Permanent(reason),
        _ => NotifyError::Refused(reason),
    }
}

/// The pause in the body: seconds (Discord, Telegram) or milliseconds (Matrix), at most an hour.
fn wanted_pause(answer: &Value) -> Option<Duration> {
    let seconds = answer["retry_after"]
        .as_f64()
        .or_else(|| answer["parameters"]["retry_after"].as_f64())
        .or_else(|| answer["retry_after_ms"].as_f64().map(|millis| millis / 1000.0))?;
    Duration::try_from_secs_f64(seconds).ok().map(|pause| pause.min(MAX_RETRY_AFTER))
}

/// The service's own words, where they are in a place for errors: a body may as well repeat the message.
fn said(parsed: &Value, answer: &str, mask: &Mask) -> String {
    let texts = ["message", "description", "error", "errorDescription", "errcode"];
    let known = texts.iter().filter_map(|name| parsed[*name].as_str());
    let said =
        known.map(|text| one_line(&mask.text(text), SAID_CHARS)).collect::<Vec<_>>().join(", ");
    let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
    if !said.is_empty() {
        format!(": {said}")
    } else if (1..=WORD_CHARS).contains(&answer.len()) && answer.chars().all(is_word) {
        format!(": {}", mask.text(answer))
    } else {
        String::new()
    }
}

/// A POST of JSON.
pub(crate) fn json(uri: &Uri, payload: &Value) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(Bytes::from(payload.to_string())));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri.clone();
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    request.headers_mut().insert(header::CONTENT_TYPE, json);
    request
}

/// A header value that logs and errors do not show.
pub(crate) fn secret_header(
    headers: &mut HeaderMap,
    name: HeaderName,
    prefix: &str,
    secret: &Secret,
) -> Result<(), String> {
    let text = format!("{prefix}{}", secret.expose());
    // The text itself stays out of the reason.
    let mut value = HeaderValue::try_from(text)
        .map_err(|_quotes_nothing| "expected a value without line breaks".to_owned())?;
    value.set_sensitive(true);
    headers.insert(name, value);
    Ok(())
}

/// A URL of `http` or `https` with a host; a slash at its end is taken away when `below` is put behind it.
pub(crate) fn url(url: &Secret, below: &str) -> Result<Uri, String> {
    let wanted = "expected a URL such as https://example.com/";
    let text = url.expose();
    let full = if below.is_empty() {
        text.to_owned()
    } else {
        format!("{}{below}", text.trim_end_matches('/'))
    };
    let uri: Uri = full.parse().map_err(|_quotes_nothing| wanted.to_owned())?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    if is_http && uri.host().is_some_and(|host| !host.is_empty()) {
        Ok(uri)
    } else {
        Err(wanted.to_owned())
    }
}

/// One place alone says who asks: the URL, or the key that `headers` were made of.
///
/// # Errors
/// Both do, which would be sent in the same header.
pub(crate) fn one_login(url: &Uri, headers: &HeaderMap) -> Result<(), String> {
    if headers.contains_key(header::AUTHORIZATION) && url_login(url).is_some() {
        let text = "expected a URL without name and password: another key says who asks";
        return Err(text.to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_what_to_do_next() {
        let check = |status: u16, asked: Option<u64>, answer: &str, expected: NotifyError| {
            let status = StatusCode::from_u16(status).unwrap();
            let asked = asked.map(Duration::from_secs);
            assert_eq!(refusal(status, asked, answer, &Mask::default()), expected);
        };
        let retry = |reason: &str, after: Option<u64>| NotifyError::Retry {
            reason: reason.to_owned(),
            after: after.map(Duration::from_millis),
        };
        let discord =
            r#"{"message":"You are being rate limited.","retry_after":0.65,"global":false}"#;
        let limited = "answered 429 Too Many Requests: You are being rate limited.";
        check(429, None, discord, retry(limited, Some(650)));
        check(429, Some(2), discord, retry(limited, Some(2000)));
        check(
            429,
            None,
            r#"{"errcode":"M_LIMIT_EXCEEDED","error":"Too fast","retry_after_ms":2000}"#,
            retry("answered 429 Too Many Requests: Too fast, M_LIMIT_EXCEEDED", Some(2000)),
        );
        let telegram = r#"{"ok":false,"error_code":429,"description":"Too Many Requests: retry after 5","parameters":{"retry_after":5}}"#;
        let limited = "answered 429 Too Many Requests: Too Many Requests: retry after 5";
        check(429, None, telegram, retry(limited, Some(5000)));
        check(503, None, "<html>a page</html>", retry("answered 503 Service Unavailable", None));
        let hour = retry("answered 429 Too Many Requests", Some(3_600_000));
        check(429, None, r#"{"retry_after":1e12}"#, hour);
        check(
            404,
            None,
            "channel_not_found",
            NotifyError::Refused("answered 404 Not Found: channel_not_found".to_owned()),
        );
        check(
            400,
            None,
            "you sent: the message",
            NotifyError::Permanent("answered 400 Bad Request".to_owned()),
        );
    }
}
