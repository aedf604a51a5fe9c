//! Where this machine listens, as a file says it: whether a text can be an address, whether two listeners want the same
//! port, and whether a connection would come back to who opens it. [`check_listening`] says what is wrong with all of a file.
//!
//! Promise: no name service is asked, but for `localhost`. What cannot be known without one is not judged.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs, UdpSocket};

/// Says whether a listener on `::` takes the connections of IPv4, too.
const BIND_V6_ONLY: &str = "/proc/sys/net/ipv6/bindv6only";
/// Nothing is sent to it: the kernel only chooses the way there.
const ANY_PORT: u16 = 9;
/// Of a name and of one of its parts (RFC 1035, section 2.3.4).
const MAX_NAME_BYTES: usize = 253;
const MAX_LABEL_BYTES: usize = 63;

/// What is listened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// An address and a port that are to be listened on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// What for.
    pub transport: Transport,
    /// As in the file: an IP address or a name.
    pub address: String,
    /// 0: any free one.
    pub port: u16,
}

impl Place {
    /// For connections.
    pub fn tcp(address: &str, port: u16) -> Place {
        Place { transport: Transport::Tcp, address: address.to_owned(), port }
    }

    /// For datagrams.
    pub fn udp(address: &str, port: u16) -> Place {
        Place { transport: Transport::Udp, ..Place::tcp(address, port) }
    }

    /// Whether the address has the form of an IP address or of a name.
    pub fn is_address(&self) -> bool {
        let bare = bare(&self.address);
        if bare.contains(':') {
            let (address, _zone) = bare.split_once('%').unwrap_or((bare, ""));
            return address.parse::<Ipv6Addr>().is_ok();
        }
        let name = bare.strip_suffix('.').unwrap_or(bare);
        let labels: Vec<&str> = name.split('.').collect();
        let is_number = |label: &&str| label.bytes().all(|byte| byte.is_ascii_digit());
        let is_label = |label: &&str| {
            let is_known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            let has_length = (1..=MAX_LABEL_BYTES).contains(&label.len());
            has_length && !label.starts_with('-') && label.bytes().all(is_known)
        };
        let has_form = name.len() <= MAX_NAME_BYTES && labels.iter().all(is_label);
        has_form && (!labels.iter().all(is_number) || is_ipv4(&labels))
    }

    /// Whether one of the two could not listen while the other does.
    pub fn collides(&self, other: &Place) -> bool {
        if self.transport != other.transport || self.port != other.port || self.port == 0 {
            return false;
        }
        match (listener(&self.address), listener(&other.address)) {
            (Some(one), Some(other)) => takes(one, other) || takes(other, one),
            _ => self.address.eq_ignore_ascii_case(&other.address),
        }
    }

    /// Whether a connection of this machine to that host and port would come here.
    pub fn is_reached(&self, host: &str, port: u16) -> bool {
        if self.transport != Transport::Tcp || self.port != port || port == 0 {
            return false;
        }
        let Some(listener) = listener(&self.address) else {
            return self.address.eq_ignore_ascii_case(host);
        };
        targets(host).into_iter().any(|target| {
            let is_here = !listener.is_unspecified() || target.is_loopback() || is_own(target);
            is_here && takes(listener, target)
        })
    }
}

/// A part of a file that is to listen; `At` is a place in the file.
#[derive(Debug)]
pub struct Listening<At> {
    /// What people call it, such as "source `web`".
    pub name: String,
    /// Where it listens.
    pub places: Vec<Place>,
    /// Where a problem with its port is told.
    pub port_at: At,
    /// Where a problem with its address is told.
    pub address_at: At,
}

/// Tells of addresses that can be none, which are quoted as `shown` has them, and of ports that two parts want.
pub fn check_listening<At>(
    all: &[Listening<At>],
    shown: impl Fn(&At) -> String,
    mut tell: impl FnMut(&At, String),
) {
    for (index, one) in all.iter().enumerate() {
        if !one.places.iter().all(Place::is_address) {
            let found = shown(&one.address_at);
            tell(&one.address_at, format!("expected an IP address or a name, found {found}"));
        }
        for place in &one.places {
            let has_it = |other: &&Listening<At>| other.places.iter().any(|it| it.collides(place));
            let Some(other) = all.iter().take(index).find(has_it) else { continue };
            tell(&one.port_at, format!("{} listens there already", other.name));
            // The same for datagrams would say nothing new.
            break;
        }
    }
}

fn bare(address: &str) -> &str {
    address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address)
}

/// Four numbers, or the older forms with fewer (`127.1`), the last of which stands for the bytes that are left.
fn is_ipv4(labels: &[&str]) -> bool {
    let Some((last, bytes)) = labels.split_last() else { return false };
    let most = |left: usize| u64::MAX >> (64 - 8 * left);
    let left = 4_usize.saturating_sub(bytes.len());
    left > 0
        && bytes.iter().all(|byte| byte.parse::<u8>().is_ok())
        && last.parse::<u64>().is_ok_and(|number| number <= most(left))
}

/// The address that is listened on; `None` where only a name service knows.
fn listener(address: &str) -> Option<IpAddr> {
    let bare = bare(address);
    let known = bare.parse::<IpAddr>().ok();
    let of_name = || (bare, 0).to_socket_addrs().ok()?.next().map(|found| found.ip());
    known.or_else(|| is_localhost(bare).then(of_name).flatten()).map(|ip| ip.to_canonical())
}

/// Where a connection to the host goes; nothing where only a name service knows.
fn targets(host: &str) -> Vec<IpAddr> {
    let bare = bare(host);
    let (v4, v6) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST));
    match bare.parse::<IpAddr>().map(|ip| ip.to_canonical()) {
        // A connection to no address in particular is one to this machine.
        Ok(ip) if ip.is_unspecified() => vec![if ip.is_ipv4() { v4 } else { v6 }],
        Ok(ip) => vec![ip],
        Err(_name) if is_localhost(bare) => vec![v4, v6],
        Err(_name) => Vec::new(),
    }
}

fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

/// Whether what comes to the address comes to a listener on `listener`.
fn takes(listener: IpAddr, address: IpAddr) -> bool {
    if !listener.is_unspecified() {
        return listener == address;
    }
    listener.is_ipv4() == address.is_ipv4() || (listener.is_ipv6() && takes_both())
}

fn takes_both() -> bool {
    std::fs::read_to_string(BIND_V6_ONLY).is_ok_and(|only| only.trim() == "0")
}

/// Whether the address is one of this machine: what it sends there comes from there.
fn is_own(address: IpAddr) -> bool {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let chosen = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((address, ANY_PORT))?;
        socket.local_addr()
    });
    chosen.is_ok_and(|chosen| chosen.ip() == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_the_form_of_one() {
        let check = |address: &str, expected: bool| {
            assert_eq!(Place::tcp(address, 80).is_address(), expected, "{address:?}");
        };
        for address in [
            "0.0.0.0",
            "127.0.0.1",
            "127.1",
            "2130706433",
            "::",
            "[::1]",
            "fe80::1%eth0",
            "::ffff:127.0.0.1",
            "localhost",
            "web-1.example.com.",
            "my_host",
            "4.example",
        ] {
            check(address, true);
        }
        for address in
            ["", "999.1.1.1", "1.2.3.4.5", "1.2.3.256", "a b", "a..b", "http://a", "::g", "-/-"]
        {
            check(address, false);
        }
        for address in ["-", "-a.example", "a.-b"] {
            check(address, false);
        }
        check(&"a".repeat(64), false);
        check(&["abc"; 64].join("."), false);
    }

    #[test]
    fn one_port_has_one_listener() {
        let check = |one: &str, other: &str, expected: bool| {
            let (one, other) = (Place::tcp(one, 80), Place::tcp(other, 80));
            assert_eq!(one.collides(&other), expected, "{one:?} {other:?}");
            assert_eq!(other.collides(&one), expected, "{other:?} {one:?}");
        };
        check("0.0.0.0", "127.0.0.1", true);
        check("127.0.0.1", "127.0.0.1", true);
        check("127.0.0.1", "127.0.0.2", false);
        check("127.0.0.1", "::1", false);
        check("0.0.0.0", "::1", false);
        check("::", "[::1]", true);
        check("::", "127.0.0.1", takes_both());
        check("Web.example", "web.example", true);
        check("web.example", "0.0.0.0", false);
        let udp = Place::udp("127.0.0.1", 80);
        assert!(udp.collides(&udp) && !udp.collides(&Place::tcp("127.0.0.1", 80)));
        assert!(!Place::tcp("0.0.0.0", 0).collides(&Place::tcp("0.0.0.0", 0)), "any free port");
        assert!(!Place::tcp("0.0.0.0", 80).collides(&Place::tcp("0.0.0.0", 81)));
    }

    #[test]
    fn what_is_wrong_with_listeners_is_told_at_its_place() {
        let part = |name: &str, places: Vec<Place>, at: [&'static str; 2]| Listening {
            name: name.to_owned(),
            places,
            port_at: at[0],
            address_at: at[1],
        };
        let both = vec![Place::tcp("0.0.0.0", 80), Place::udp("0.0.0.0", 80)];
        let all = [
            part("one", both.clone(), ["1.port", "1.address"]),
            part("two", both, ["2.port", "2.address"]),
            part("three", vec![Place::tcp("999.1.1.1", 81)], ["3.port", "3.address"]),
            part("four", vec![Place::tcp("127.0.0.1", 82)], ["4.port", "4.address"]),
        ];
        let mut told = Vec::new();
        check_listening(
            &all,
            |at| format!("<{at}>"),
            |at, text| told.push(format!("{at}: {text}")),
        );
        let expected = [
            "2.port: one listens there already",
            "3.address: expected an IP address or a name, found <3.address>",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_connection_comes_back_to_where_this_machine_listens() {
        let check = |listener: &str, host: &str, expected: bool| {
            let place = Place::tcp(listener, 80);
            assert_eq!(place.is_reached(host, 80), expected, "{listener} {host}");
            assert!(!place.is_reached(host, 81), "{listener} {host}");
        };
        check("0.0.0.0", "127.0.0.1", true);
        check("0.0.0.0", "127.8.9.1", true);
        check("0.0.0.0", "localhost", true);
        check("0.0.0.0", "app.localhost", true);
        check("0.0.0.0", "0.0.0.0", true);
        check("127.0.0.1", "0.0.0.0", true);
        check("127.0.0.1", "127.0.0.1", true);
        check("::", "[::1]", true);
        check("web.example", "WEB.example", true);
        // Somebody else's: of another address of this machine, of another machine (RFC 5737), of a name.
        check("127.0.0.1", "127.0.0.2", false);
        check("192.0.2.7", "127.0.0.1", false);
        check("0.0.0.0", "192.0.2.7", false);
        check("0.0.0.0", "web.example", false);
    }

    #[test]
    fn an_address_of_this_machine_is_known_by_the_way_there() {
        assert!(is_own(Ipv4Addr::LOCALHOST.into()));
        assert!(!is_own(Ipv4Addr::new(192, 0, 2, 7).into()));
    }
}
