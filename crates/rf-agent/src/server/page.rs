//! The built-in page: a few hand-written files, served as they are, without anything from elsewhere.
//!
//! Promise: its Content-Security-Policy allows only these files and requests to this server, so a text in the data can do
//! nothing even where the page's own escaping failed.

use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};

use sha2::{Digest, Sha256};

use super::refusal;
use super::refused::InPath;

const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// Asked again at each use: the files change with the program.
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

const INDEX: &str = include_str!("page/index.html");
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Name, type and text of every file of the page.
const FILES: &[(&str, &str, &str)] = &[
    ("page.css", CSS, include_str!("page/page.css")),
    ("icon.svg", SVG, include_str!("page/icon.svg")),
    ("alerts.js", JS, include_str!("page/alerts.js")),
    ("api.js", JS, include_str!("page/api.js")),
    ("chart.js", JS, include_str!("page/chart.js")),
    ("columns.js", JS, include_str!("page/columns.js")),
    ("counts.js", JS, include_str!("page/counts.js")),
    ("detail.js", JS, include_str!("page/detail.js")),
    ("dom.js", JS, include_str!("page/dom.js")),
    ("filters.js", JS, include_str!("page/filters.js")),
    ("format.js", JS, include_str!("page/format.js")),
    ("json.js", JS, include_str!("page/json.js")),
    ("keys.js", JS, include_str!("page/keys.js")),
    ("main.js", JS, include_str!("page/main.js")),
    ("route.js", JS, include_str!("page/route.js")),
    ("rows.js", JS, include_str!("page/rows.js")),
    ("series.js", JS, include_str!("page/series.js")),
];

/// Where the page was asked for: its links are relative, so that a proxy may put a prefix before them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum At {
    /// `/`
    Root,
    /// `/-/`
    Below,
}

/// The page itself.
pub(super) fn index(at: At) -> Response {
    let files = if at == At::Root { "-/" } else { "" };
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, REVALIDATE),
    ];
    (headers, INDEX.replace("{files}", files)).into_response()
}

/// One of its files.
pub(super) async fn file(InPath(name): InPath<String>, headers: HeaderMap) -> Response {
    let Some((_, kind, text)) = FILES.iter().find(|(known, ..)| *known == name) else {
        return refusal(StatusCode::NOT_FOUND, format!("the page has no file `{name}`"));
    };
    let tag = tag_of(text);
    let is_known = headers.get(IF_NONE_MATCH).is_some_and(|known| *known == tag);
    let sent = [(CACHE_CONTROL, REVALIDATE), (ETAG, tag)];
    if is_known {
        return (StatusCode::NOT_MODIFIED, sent).into_response();
    }
    let policy = [
        (CONTENT_TYPE, HeaderValue::from_static(kind)),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox")),
    ];
    (sent, policy, *text).into_response()
}

fn tag_of(text: &str) -> HeaderValue {
    let digest: [u8; 32] = Sha256::digest(text).into();
    let tag = u64::from_be_bytes(digest[..8].try_into().expect("8 of 32 bytes"));
    HeaderValue::try_from(format!("\"{tag:x}\"")).expect("digits are a header")
}
