//! What of a head is for the other end, and what is about one connection (RFC 9110, section 7.6.1).
//!
//! No `Via` is added, though a gateway should: servers answer differently when they see one (nginx does not compress).

use std::fmt::Write;
use std::net::SocketAddr;

use http::header::{CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, Uri};

use super::config::{ForwardedHeaders, Settings, client_ip};
use crate::source::http::nominated;

const HOP_BY_HOP: [HeaderName; 7] = [
    CONNECTION,
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The protocol that a client wants to change to. Not to HTTP/2: nothing of it could be copied.
pub(super) fn wanted_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let upgrade = headers.get(UPGRADE)?;
    let is_asked = names(headers, &CONNECTION).any(|name| name.eq_ignore_ascii_case("upgrade"));
    // The server takes any of them that it likes.
    let is_http2 = names(headers, &UPGRADE).any(|protocol| protocol.eq_ignore_ascii_case("h2c"));
    (is_asked && !is_http2).then(|| upgrade.clone())
}

/// Whether a request names one host at the most, and one that there can be. Others are refused (RFC 9112, section 3.2): the
/// upstream might take another one for the host than what stands before it, or than the copy says.
pub(super) fn has_one_host(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => true,
        (Some(host), None) => {
            let host = host.as_bytes();
            // A target without an authority may have an empty one.
            host.is_empty() || (!host.contains(&b'@') && Authority::try_from(host).is_ok())
        }
        (Some(_), Some(_)) => false,
    }
}

/// Whether a target that is a whole URL has a user before its host, which no `Host` may have.
pub(super) fn has_user(target: &Uri) -> bool {
    target.authority().is_some_and(|authority| authority.as_str().contains('@'))
}

/// A request whose target is a whole URL names its host there, whatever its `Host` says (RFC 9112, section 3.2.2).
pub(super) fn take_host_of_target<B>(request: &mut Request<B>) {
    let host = request.uri().authority().map(|host| HeaderValue::from_str(host.as_str()));
    if let Some(Ok(host)) = host {
        request.headers_mut().insert(HOST, host);
    }
}

/// Makes a request's headers those for the upstream.
pub(super) fn for_upstream(
    headers: &mut HeaderMap,
    settings: &Settings,
    peer: SocketAddr,
    upgrade: Option<HeaderValue>,
) {
    let takes_trailers = names(headers, &TE).any(|coding| coding.eq_ignore_ascii_case("trailers"));
    let is_chunked = headers.contains_key(TRANSFER_ENCODING);
    remove_hop_by_hop(headers);
    if is_chunked {
        // Said in so many words, since hyper assumes that a GET has no body.
        headers.remove(CONTENT_LENGTH);
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
        headers.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    if let Some(protocol) = upgrade {
        headers.insert(UPGRADE, protocol);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    add_forwarded(headers, settings, peer);
    if !settings.preserve_host {
        headers.remove(HOST);
    }
}

/// Makes an answer's headers those for the client.
pub(super) fn for_client(status: StatusCode, headers: &mut HeaderMap) {
    let upgrade = headers.get(UPGRADE).cloned();
    if headers.contains_key(TRANSFER_ENCODING) {
        // The coding frames the body, whatever length is named besides (RFC 9112, section 6.3).
        headers.remove(CONTENT_LENGTH);
    }
    remove_hop_by_hop(headers);
    if let Some(protocol) = upgrade {
        headers.insert(UPGRADE, protocol);
        // 426 names what the client should change to.
        let is_changed =
            matches!(status, StatusCode::SWITCHING_PROTOCOLS | StatusCode::UPGRADE_REQUIRED);
        if is_changed {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        }
    }
}

/// Headers of an interim answer for the client.
pub(super) fn for_interim(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    remove_hop_by_hop(&mut headers);
    headers
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let is_plain = |value: &HeaderValue| {
        let value = value.as_bytes();
        value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close")
    };
    if headers.get_all(CONNECTION).iter().any(|value| !is_plain(value)) {
        // These frame the message and name its host, whatever a peer calls them.
        let never = [HOST, CONTENT_LENGTH];
        for name in nominated(headers).iter().filter(|name| !never.contains(name)) {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

fn names<'a>(headers: &'a HeaderMap, list: &HeaderName) -> impl Iterator<Item = &'a str> {
    let values = headers.get_all(list).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(|name| name.split(';').next().unwrap_or(name).trim())
}

fn add_forwarded(headers: &mut HeaderMap, settings: &Settings, peer: SocketAddr) {
    if !settings.trust_forwarded {
        // Also those that nothing takes the place of: servers believe whichever they know.
        for name in [FORWARDED, X_FORWARDED_FOR, X_FORWARDED_PROTO, X_FORWARDED_HOST] {
            headers.remove(name);
        }
    }
    match settings.forwarded_headers {
        ForwardedHeaders::None => {}
        ForwardedHeaders::XForwarded => {
            append(headers, X_FORWARDED_FOR, &client_ip(peer));
            let host = headers.get(HOST).cloned();
            let mut tell = |name: HeaderName, value: Option<HeaderValue>| {
                if !headers.contains_key(&name)
                    && let Some(value) = value
                {
                    headers.insert(name, value);
                }
            };
            tell(X_FORWARDED_PROTO, Some(HeaderValue::from_static("http")));
            tell(X_FORWARDED_HOST, host);
        }
        ForwardedHeaders::Forwarded => {
            let element = forwarded_element(peer, headers.get(HOST));
            append(headers, FORWARDED, &element);
        }
    }
}

/// Adds to what the client says.
fn append(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    let known = headers.get_all(&name).iter().map(HeaderValue::as_bytes);
    let mut all = known.collect::<Vec<_>>().join(&b", "[..]);
    if !all.is_empty() {
        all.extend_from_slice(b", ");
    }
    all.extend_from_slice(value.as_bytes());
    if let Ok(value) = HeaderValue::from_bytes(&all) {
        headers.insert(name, value);
    }
}

/// RFC 7239: an address with colons stands in brackets and quotes.
fn forwarded_element(peer: SocketAddr, host: Option<&HeaderValue>) -> String {
    let ip = client_ip(peer);
    let mut element =
        if ip.contains(':') { format!("for=\"[{ip}]\"") } else { format!("for={ip}") };
    if let Some(host) =
        host.and_then(|host| host.to_str().ok()).filter(|host| !host.contains(['"', '\\']))
    {
        write!(element, ";host=\"{host}\"").expect("writing to memory cannot fail");
    }
    element.push_str(";proto=http");
    element
}
