//! What listens, looked at over the whole file: two parts that want one port, and URLs that lead back to the file's own
//! ports.

use http::Uri;
use http::uri::Scheme;
use rf_core::config::{Node, Problems};
use rf_net::address::{self, Place};

use super::{at, host_name};

/// A part of a file that is to listen.
pub(crate) type Listening<'a> = address::Listening<Node<'a>>;

/// A part whose keys for port and address stand in `node`.
pub(crate) fn listens<'a>(
    name: impl Into<String>,
    places: Vec<Place>,
    node: &Node<'a>,
    (port, address): (&str, &str),
) -> Listening<'a> {
    let (port_at, address_at) = (at(node, port), at(node, address));
    Listening { name: name.into(), places, port_at, address_at }
}

/// Reports addresses that can be none, and ports that two parts want.
pub(crate) fn check_listening(all: &[Listening<'_>], problems: &mut Problems) {
    address::check_listening(all, Node::shown, |at, text| problems.error(at, text));
}

/// The part of the file that a request to this URL would come to.
pub(crate) fn reached<'l, 'n>(all: &'l [Listening<'n>], url: &str) -> Option<&'l Listening<'n>> {
    let uri: Uri = url.parse().ok()?;
    let usual = if uri.scheme() == Some(&Scheme::HTTPS) { 443 } else { 80 };
    let (host, port) = (uri.host()?, uri.port_u16().unwrap_or(usual));
    let host = if host.eq_ignore_ascii_case(&host_name("")) { "localhost" } else { host };
    all.iter().find(|part| part.places.iter().any(|place| place.is_reached(host, port)))
}
