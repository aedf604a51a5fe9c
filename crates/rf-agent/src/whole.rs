//! What shows only where a file is looked at as a whole: two parts that want one port, URLs that lead back to the file's own
//! ports, and sinks that get nothing.

use http::Uri;
use http::uri::Scheme;
use rf_core::config::{Node, Problems};
use rf_net::address::{self, Place};

use crate::settings::{at, host_name};

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

/// Warns of sinks that nobody names, by the names of all that are named. Scripts name sinks, too: with one nothing is known.
pub(crate) fn check_named(sinks: &[Node<'_>], key: &str, named: &[&str], problems: &mut Problems) {
    for sink in sinks {
        let Some(name) = sink.get(key) else { continue };
        if name.as_str().is_some_and(|name| !named.contains(&name)) {
            problems.warn(&name, "no source names this sink, so it gets no events");
        }
    }
}

#[cfg(test)]
mod tests {
    use rf_core::config::parse;

    use super::*;

    const RELAY: &str = r#"url: "http://127.0.0.1:1", authBearer: "t", buckets: ["b"]"#;

    /// What is said of a proxy's file with these sources, one that feeds the sink `out`, and these further keys.
    fn of_proxy(sources: &str, keys: &str) -> String {
        of_proxy_with(sources, RELAY, keys)
    }

    /// The same with these keys of the sink `out`.
    fn of_proxy_with(sources: &str, sink: &str, keys: &str) -> String {
        let sinks = format!(r#"[{{ id: "out", type: "http", {sink} }}]"#);
        let text = format!("{{ sources: [{sources}], sinks: {sinks}, {keys} }}");
        let mut problems = Problems::new();
        let document = parse("proxy.json", &text, &|_| None, &mut problems).unwrap();
        let plan = crate::proxy::check(&document, &mut problems);
        assert_eq!(plan.is_none(), problems.has_errors(), "{problems}");
        problems.to_string()
    }

    /// A source of this type with these params.
    fn source(id: &str, kind: &str, params: &str) -> String {
        format!("{{ id: \"{id}\", type: \"{kind}\", targetSink: \"out\", params: {{ {params} }} }}")
    }

    #[test]
    fn a_port_is_listened_on_once() {
        let told = |one: &str, other: &str, expected: &str| {
            let problems = of_proxy(&format!("{one}, {other}"), "portStatusZ: 8090");
            assert!(problems.ends_with(expected), "{problems}");
            assert_eq!(problems.is_empty(), expected.is_empty(), "{problems}");
        };
        let web = source("web", "http", "listenPort: 8080");
        let logs = |params: &str| source("logs", "syslog", params);
        let taken = "error: sources[1].params.listenPort: source `web` listens there already";
        told(
            &web,
            &source("more", "http", "listenPort: 8080, listenAddress: \"127.0.0.1\""),
            taken,
        );
        told(&web, &logs("listenPort: 8080"), taken);
        told(&web, &logs("listenPort: 8080, protocol: \"udp\""), "");
        told(&web, &logs("listenPort: 8081"), "");
        told(&source("web", "http", "listenPort: 0"), &logs("listenPort: 0"), "");
        let status = "error: portStatusZ: source `logs` listens there already";
        told(&web, &logs("listenPort: 8090"), status);
        told(&web, &logs("listenPort: 8090, protocol: \"udp\""), "");
    }

    #[test]
    fn an_address_that_can_be_none_is_told() {
        let expected = "error: sources[0].params.listenAddress: expected an IP address or a name, found \"999.1.1.1\"";
        for kind in ["http", "syslog"] {
            let web = source("web", kind, "listenPort: 8080, listenAddress: \"999.1.1.1\"");
            let problems = of_proxy(&web, "");
            assert!(problems.ends_with(expected), "{problems}");
        }
    }

    #[test]
    fn a_source_does_not_forward_to_itself() {
        let told = |params: &str, is_refused: bool| {
            let problems = of_proxy(&source("web", "http", params), "");
            let expected =
                "error: sources[0].params.forwardTo: this is where the source itself listens";
            assert_eq!(problems.contains(expected), is_refused, "{params}: {problems}");
            assert_eq!(problems.is_empty(), !is_refused, "{params}: {problems}");
        };
        told("listenPort: 8080, forwardTo: \"http://127.0.0.1:8080\"", true);
        told("listenPort: 8080, forwardTo: \"http://localhost:8080/below\"", true);
        told("listenPort: 80, forwardTo: \"http://[::1]\", listenAddress: \"::\"", true);
        told("listenPort: 443, forwardTo: \"https://127.0.0.1\"", true);
        let own = host_name("");
        told(&format!("listenPort: 8080, forwardTo: \"http://{own}:8080\""), true);
        told("listenPort: 8080, forwardTo: \"http://127.0.0.1:8081\"", false);
        told("listenPort: 0, forwardTo: \"http://127.0.0.1:8080\"", false);
        // Another address of this machine may be another program's.
        told(
            "listenPort: 8080, listenAddress: \"192.0.2.1\", forwardTo: \"http://127.0.0.1:8080\"",
            false,
        );
    }

    #[test]
    fn a_sink_does_not_send_to_its_own_proxy() {
        let web = source("web", "http", "listenPort: 8080");
        let told = |sink: &str, expected: &str| {
            let problems = of_proxy_with(&web, sink, "portStatusZ: 8090");
            assert!(problems.ends_with(expected), "{sink}: {problems}");
            assert_eq!(problems.is_empty(), expected.is_empty(), "{sink}: {problems}");
        };
        let relay = |url: &str| format!(r#"url: "{url}", authBearer: "t", buckets: ["b"]"#);
        let back =
            "error: sinks[0].url: this leads back to the proxy itself: source `web` listens there";
        told(&relay("http://127.0.0.1:8080/"), back);
        told(&relay("http://localhost:8080"), back);
        told(&relay(&format!("http://{}:8080", host_name(""))), back);
        told(r#"url: "http://127.0.0.1:8080/api", notRelay: true"#, back);
        let status = "error: sinks[0].url: this leads back to the proxy itself: the status page listens there";
        told(&relay("http://127.0.0.1:8090/"), status);
        told(&relay("http://127.0.0.1:8081/"), "");
        told(&relay("http://relay.example.com:8080/"), "");
        // What another source takes does not come back by itself.
        let other = source("other", "http", "listenPort: 8082");
        let chained = other.replace("targetSink: \"out\"", "targetSink: \"printed\"");
        let sinks = r#"url: "http://127.0.0.1:8082/", notRelay: true }, { id: "printed", type: "http", url: ":dbg>stdout:""#;
        assert_eq!(of_proxy_with(&format!("{web}, {chained}"), sinks, ""), "");
    }

    #[test]
    fn what_cannot_work_in_a_proxy_is_told() {
        let told = |params: &str, keys: &str, expected: &str| {
            let problems = of_proxy(&source("web", "http", params), keys);
            assert!(problems.ends_with(expected), "{problems}");
        };
        let no_time = "error: sources[0].params.requestTimeout: expected a time above zero";
        told("listenPort: 8080, requestTimeout: 0", "", no_time);
        let every = "error: nodeInfoEvery: expected 1s to 1h";
        told("listenPort: 8080", "nodeInfoEvery: \"2h\"", every);
        let most = "more than 1048576 are of no use: 1048576 is used";
        told(
            "listenPort: 8080, maxConnections: 2000000",
            "",
            &format!("params.maxConnections: {most}"),
        );
        told(
            "listenPort: 8080",
            "traceSteps: 99999999999",
            "traceSteps: more than 10000000 are of no use: 10000000 is used",
        );
        told(
            "listenPort: 8080",
            "dataDir: \"/dev/null\"",
            "error: dataDir: expected a folder, /dev/null is a file",
        );
    }

    /// What is said of a player's file with these sources, sinks and further keys.
    fn of_player(sources: &str, sinks: &str, keys: &str) -> String {
        let text = format!(
            "{{ relayUrl: \"http://127.0.0.1:1\", sources: [{sources}], sinks: [{sinks}], {keys} }}"
        );
        let mut problems = Problems::new();
        let document = parse("player.json", &text, &|_| None, &mut problems).unwrap();
        let plan = crate::player::check(&document, &mut problems);
        assert_eq!(plan.is_none(), problems.has_errors(), "{problems}");
        problems.to_string()
    }

    #[test]
    fn a_sink_that_nobody_names_is_told() {
        let out = r#"{ name: "out", type: "log", params: {} }"#;
        let idle = r#"{ name: "idle", type: "log", params: {} }"#;
        let chat = r#"{ name: "chat", type: "notification", params: { webhooks: { a: { url: "http://127.0.0.1:1" } } } }"#;
        let alert = r#"{ name: "alert", type: "alert", params: { database: "a.sqlite3", notification_sink: "chat" } }"#;
        let names = |names: &str| {
            format!("{{ name: \"b\", relayAuthenticationBearer: \"t\", sinks: [{names}] }}")
        };
        let told = |source: &str, sinks: &[&str], expected: &str| {
            let problems = of_player(source, &sinks.join(", "), "");
            assert!(problems.ends_with(expected), "{problems}");
            assert_eq!(problems.is_empty(), expected.is_empty(), "{problems}");
        };
        let expected = "warning: sinks[1].name: no source names this sink, so it gets no events";
        told(&names("\"out\""), &[out, idle], expected);
        told(&names("\"out\", \"idle\""), &[out, idle], "");
        told(&names("\"alert\""), &[alert, chat], "");
        let unnamed = of_proxy("{ id: \"a\", type: \"stdin\", params: {} }", "");
        assert!(unnamed.contains("warning: sinks[0].id: no source names this sink"), "{unnamed}");
    }

    #[test]
    fn the_ports_of_a_player_are_looked_at_together() {
        let source = r#"{ name: "b", relayAuthenticationBearer: "t", sinks: ["rows"] }"#;
        let rows = r#"{ name: "rows", type: "db", params: { database: "a.sqlite3", listen_port: "8090", listen_host: "127.0.0.1" } }"#;
        let told = |keys: &str, expected: &str| {
            let problems = of_player(source, rows, keys);
            assert!(problems.ends_with(expected), "{problems}");
            assert_eq!(problems.is_empty(), expected.is_empty(), "{problems}");
        };
        told("exposedPort: 8091, portStatusZ: 8092", "");
        told(
            "exposedPort: 8092, portStatusZ: 8092",
            "error: portStatusZ: the server listens there already",
        );
        let taken = "error: sinks[0].params.listen_port: the server listens there already";
        told("exposedPort: 8090", taken);
    }

    #[test]
    fn a_player_does_not_send_to_itself() {
        let source = r#"{ name: "b", relayAuthenticationBearer: "t", sinks: ["out"] }"#;
        let told = |hosts: &str, expected: &str| {
            let out = format!(r#"{{ name: "out", type: "http", params: {{ {hosts} }} }}"#);
            let problems = of_player(source, &out, "exposedPort: 8090");
            assert!(problems.ends_with(expected), "{hosts}: {problems}");
            assert_eq!(problems.is_empty(), expected.is_empty(), "{hosts}: {problems}");
        };
        let back = "this leads back to the player itself: the server listens there";
        told(
            r#"targetHost: "http://localhost:8090""#,
            &format!("warning: sinks[0].params.targetHost: {back}"),
        );
        told(
            r#"targetHosts: ["http://127.0.0.1:1", "http://127.0.0.1:8090"]"#,
            &format!("warning: sinks[0].params.targetHosts[1]: {back}"),
        );
        told(r#"targetHost: "http://127.0.0.1:8091""#, "");
    }

    #[test]
    fn a_buffer_is_within_what_a_database_can_be() {
        let (least, most) = (rf_queue::MIN_STORE_BYTES, rf_queue::MAX_STORE_BYTES);
        let told = |bytes: u64, expected: &str| {
            let source = r#"{ name: "b", relayAuthenticationBearer: "t", sinks: ["out"] }"#;
            let buffer = format!("{{ maxBytes: {bytes} }}");
            let out = format!("{{ name: \"out\", type: \"log\", params: {{}}, buffer: {buffer} }}");
            let problems = of_player(source, &out, "");
            assert!(problems.ends_with(expected), "{problems}");
            assert_eq!(problems.is_empty(), expected.is_empty(), "{problems}");
        };
        told(least, "");
        told(most, "");
        let place = "sinks[0].buffer.maxBytes";
        told(least - 1, &format!("error: {place}: expected at least {least} bytes"));
        let at_most = format!("a database holds at most {most} bytes: {most} is used");
        told(most + 1, &format!("warning: {place}: {at_most}"));
    }

    #[test]
    fn a_relay_wants_a_token() {
        let out = r#"{ name: "out", type: "log", params: {} }"#;
        let problems = of_player(r#"{ name: "b", sinks: ["out"] }"#, out, "");
        assert!(
            problems.contains("warning: sources[0]: a relay gives nothing without the token"),
            "{problems}"
        );
        let source = r#"{ name: "b", relayAuthenticationBearer: "secret\n1", sinks: ["out"] }"#;
        let problems = of_player(source, out, "");
        let expected =
            "error: sources[0].relayAuthenticationBearer: this cannot be sent as a header";
        assert!(problems.contains(expected) && !problems.contains("secret"), "{problems}");
    }
}
