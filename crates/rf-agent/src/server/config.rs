//! The keys of the server in a player's file become a plan.

use std::path::Path;

use http::HeaderValue;
use rf_core::config::{Node, Problems, Secret};
use rf_net::client::{Client, ClientOptions};
use rf_net::own_host::{OwnHosts, is_loopback};

use super::access::Access;
use super::files::StaticFolder;
use super::password::{Password, Verifier};
use super::relay::RelayStatus;
use super::site::RESERVED;
use super::{ServedSink, ServerPlan};
use crate::player::PlayerFile;
use crate::settings::{at, host_name};

/// Where the server listens when the file does not say: nobody else reaches it there.
const DEFAULT_ADDRESS: &str = "127.0.0.1";
/// What is said of an address beyond loopback, where no credentials are asked for.
const OPEN: &str = "anyone who can reach this address can read the data of the sinks: set httpUsername and httpPassword, or httpTokens";

/// Checks the keys of the server; `None` when one of them is wrong, which has been reported.
pub(crate) fn plan(
    file: &PlayerFile,
    root: &Node<'_>,
    sinks: Vec<ServedSink>,
    problems: &mut Problems,
) -> Option<ServerPlan> {
    let address = address(file, root, problems);
    if address.is_some() {
        check_ids(&sinks, root, problems);
    }
    let access = access(file, root, address.as_ref(), problems);
    if access.as_ref().is_some_and(Access::is_open) {
        warn_of_open_sinks(&sinks, root, problems);
    }
    let folder = if address.is_some() { folder(file, root, problems) } else { Some(None) };
    let relay = relay(file, root, problems);
    Some(ServerPlan { address, sinks, access: access?, folder: folder?, relay: relay? })
}

fn address(file: &PlayerFile, root: &Node<'_>, problems: &mut Problems) -> Option<(String, u16)> {
    // The original's files name the port also where they want none.
    let Some(port) = file.exposed_port.filter(|port| *port != 0) else {
        for key in ["listenAddress", "staticFolderPath", "relayUrlStatusz", "httpHosts"] {
            if let Some(at) = root.get(key)
                && !matches!(at.shown().as_str(), "null" | "\"\"" | "[]")
            {
                problems
                    .warn(&at, "without exposedPort there is no server, and this has no effect");
            }
        }
        return None;
    };
    let address =
        if file.listen_address.is_empty() { DEFAULT_ADDRESS } else { &file.listen_address };
    Some((address.to_owned(), port))
}

/// Ids are parts of URLs, and name one sink each.
fn check_ids(sinks: &[ServedSink], root: &Node<'_>, problems: &mut Problems) {
    let nodes = root.get("sinks").map(|node| node.items()).unwrap_or_default();
    for (index, sink) in sinks.iter().enumerate() {
        let place = nodes.get(index).map_or(*root, |node| at(node, "id"));
        if RESERVED.contains(&sink.id.as_str()) {
            let text =
                format!("the server's own paths begin with `/{}`: choose another id", sink.id);
            problems.error(&place, text);
        } else if sink.id.contains('/') || matches!(sink.id.as_str(), "" | "." | "..") {
            problems.error(&place, format!("`{}` cannot be a part of a URL", sink.id));
        } else if let Some(other) = sinks.iter().take(index).find(|other| other.id == sink.id) {
            let text = format!("sink `{}` has the id `{}` already", other.name, sink.id);
            problems.error(&place, text);
        }
    }
}

fn access(
    file: &PlayerFile,
    root: &Node<'_>,
    address: Option<&(String, u16)>,
    problems: &mut Problems,
) -> Option<Access> {
    if file.http_username.contains(':') {
        let text = "expected a name without a colon: with one nobody could log in";
        problems.error(&at(root, "httpUsername"), text);
        return None;
    }
    let mut password = |secret: &Secret, place: &Node<'_>| {
        if secret.is_empty() {
            problems.error(place, "expected a password, found an empty text");
            return None;
        }
        Password::new(secret.clone()).map_err(|reason| problems.error(place, reason)).ok()
    };
    let login = match (&file.http_username, &file.http_password) {
        (name, Some(secret)) if !name.is_empty() => {
            Some((name.clone(), password(secret, &at(root, "httpPassword"))?))
        }
        (name, None) if name.is_empty() => None,
        // As the original's files have it where they ask for no password.
        (name, Some(secret)) if name.is_empty() && secret.is_empty() => None,
        _ => {
            problems.error(
                &at(root, "httpUsername"),
                "httpUsername and httpPassword come together: one of them is missing",
            );
            return None;
        }
    };
    let places = root.get("httpTokens").map(|node| node.items()).unwrap_or_default();
    let tokens = file.http_tokens.iter().zip(&places).map(|(token, place)| password(token, place));
    let tokens = tokens.collect::<Option<Vec<_>>>()?;
    let mut hosts = file.http_hosts.clone();
    hosts.push(host_name(""));
    hosts.extend(address.map(|(address, _)| address.clone()));
    let access = Access { login, tokens, hosts: OwnHosts::new(hosts), verifier: Verifier::new() };
    if access.is_open() && address.is_some_and(|(address, _)| !is_loopback(address)) {
        problems.warn(&at(root, "listenAddress"), OPEN);
    }
    Some(access)
}

/// Warns of sinks that show their data to others at listeners of their own.
fn warn_of_open_sinks(sinks: &[ServedSink], root: &Node<'_>, problems: &mut Problems) {
    let nodes = root.get("sinks").map(|node| node.items()).unwrap_or_default();
    for (sink, node) in sinks.iter().zip(&nodes) {
        let own = sink.sink.own_listener();
        if own.is_some_and(|(address, _port)| !is_loopback(&address)) {
            let params = at(node, "params");
            problems.warn(&at(&params, listener_keys(&params).1), OPEN);
        }
    }
}

/// The keys of `params` with port and address of a sink's own listener: an `alert` calls them as the original does.
pub(crate) fn listener_keys(params: &Node<'_>) -> (&'static str, &'static str) {
    if params.get("exposed_port").is_some() {
        ("exposed_port", "listen_addr")
    } else {
        ("listen_port", "listen_host")
    }
}

/// The outer `None` is an error that was reported; the inner one means that there shall be no folder.
fn folder(
    file: &PlayerFile,
    root: &Node<'_>,
    problems: &mut Problems,
) -> Option<Option<StaticFolder>> {
    if file.static_folder_path.is_empty() {
        return Some(None);
    }
    let path = Path::new(&file.static_folder_path);
    let place = at(root, "staticFolderPath");
    StaticFolder::configured(path, &file.data_dir, &place, problems)
}

/// As [`folder`].
fn relay(
    file: &PlayerFile,
    root: &Node<'_>,
    problems: &mut Problems,
) -> Option<Option<RelayStatus>> {
    if file.relay_url_statusz.is_empty() {
        return Some(None);
    }
    let options = ClientOptions { ca_file: file.ca_file.clone(), ..ClientOptions::default() };
    let client = Client::new(&options)
        .map_err(|error| problems.error(&at(root, "caFile"), error.to_string()))
        .ok()?;
    let authorization = authorization(&file.relay_status_auth);
    let authorization = authorization
        .map_err(|reason| problems.error(&at(root, "relayStatusAuth"), reason))
        .ok()?;
    let made = RelayStatus::new(&file.relay_url_statusz, authorization, client);
    if made.is_none() {
        problems.error(
            &at(root, "relayUrlStatusz"),
            "expected the URL of the relay's status port, such as http://relay.example.com:8082/",
        );
    }
    made.map(Some)
}

/// The header that shows a token.
fn authorization(token: &Secret) -> Result<Option<HeaderValue>, &'static str> {
    if token.is_empty() {
        return Ok(None);
    }
    let value = HeaderValue::try_from(format!("Bearer {}", token.expose()));
    let mut value = value.map_err(|_bad| "this cannot be sent as a header")?;
    value.set_sensitive(true);
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use rf_core::config::{Problems, parse};

    /// Checks a player's file with these further keys, and gives its problems, one a line.
    fn check(keys: &str, expected: &[&str]) {
        let sinks = r#"sinks: [
            { name: "a", id: "one", type: "http", params: { targetHost: "http://127.0.0.1:1" } },
            { name: "b", type: "http", params: { targetHost: "http://127.0.0.1:1" } },
        ]"#;
        let source = r#"{ name: "x", relayAuthenticationBearer: "t", sinks: ["a", "b"] }"#;
        let text = format!(
            "{{ relayUrl: \"http://127.0.0.1:1/\", dataDir: \"/nowhere\", sources: [{source}], {sinks}, {keys} }}"
        );
        let mut problems = Problems::new();
        let document = parse("player.json", &text, &|_| None, &mut problems).unwrap();
        let plan = crate::player::check(&document, &mut problems);
        let told: Vec<String> = problems
            .errors()
            .chain(problems.warnings())
            .map(|problem| format!("{}: {}", problem.key, problem.message))
            .collect();
        assert_eq!(told.len(), expected.len(), "{keys}: {told:#?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.contains(expected), "{keys}: {told}");
        }
        assert_eq!(plan.is_none(), problems.has_errors(), "{keys}");
    }

    #[test]
    fn keys_of_the_server() {
        check("", &[]);
        check("exposedPort: 0, listenAddress: \"\", staticFolderPath: \"\"", &[]);
        check("exposedPort: 8080", &[]);
        check("exposedPort: 8080, listenAddress: \"::1\", httpHosts: [\"a.example\"]", &[]);
        check("exposedPort: 8080, httpUsername: \"\", httpPassword: \"\"", &[]);
        check("exposedPort: 8080, relayUrlStatusz: \"http://relay.example:8082\"", &[]);
        check(
            "exposedPort: 8080, relayUrlStatusz: \"http://r:1\", relayStatusAuth: \"a\\nb\"",
            &["cannot be sent as a header"],
        );
        check("listenAddress: \"0.0.0.0\"", &["without exposedPort there is no server"]);
        check("httpUsername: \"a\"", &["come together"]);
        check("httpPassword: \"a\"", &["come together"]);
        let colon = "httpUsername: expected a name without a colon";
        check("exposedPort: 2, httpUsername: \"a:b\", httpPassword: \"c\"", &[colon]);
        check("httpUsername: \"a\", httpPassword: \"\"", &["expected a password"]);
        check("httpUsername: \"a\", httpPassword: \"$file:/nowhere\"", &["/nowhere"]);
        check("httpTokens: [\"a\", \"\"]", &["httpTokens[1]: expected a password"]);
        check("httpTokens: [\"\\\\$2y\\\\$05\\\\$cut\"]", &["begins like a hash but is not one"]);
        check("relayUrlStatusz: \"relay:8082\", exposedPort: 2", &["expected the URL"]);
        check(
            "staticFolderPath: \"/nowhere\", exposedPort: 2",
            &["folder /nowhere: No such file or directory (os error 2): no files are served until"],
        );
        check("staticFolderPath: \"/dev/null\", exposedPort: 2", &["folder /dev/null: not a dir"]);
        check("staticFolderPath: \"/nowhere\"", &["without exposedPort there is no server"]);
        check("staticFolderPath: \"/\", exposedPort: 2", &["dataDir lies in this folder"]);
    }

    #[test]
    fn an_open_door_is_told() {
        for address in ["0.0.0.0", "::", "192.0.2.7", "player.lan"] {
            let keys = format!("exposedPort: 8080, listenAddress: \"{address}\"");
            check(&keys, &["listenAddress: anyone who can reach this address"]);
            check(&format!("{keys}, httpTokens: [\"t\"]"), &[]);
            check(&format!("{keys}, httpUsername: \"a\", httpPassword: \"b\""), &[]);
        }
    }

    #[test]
    fn an_open_door_of_a_sink_s_own_is_told() {
        for (kind, port, key) in [
            ("db", "listen_port", "listen_host"),
            ("time_series", "listen_port", "listen_host"),
            ("alert", "exposed_port", "listen_addr"),
        ] {
            let with = |address: &str, keys: &str| {
                let params = format!("database: \"d\", {port}: \"8090\", {key}: \"{address}\"");
                let text = format!(
                    "{{ relayUrl: \"http://127.0.0.1:1/\", dataDir: \"/nowhere\", \
                     sources: [{{ name: \"x\", relayAuthenticationBearer: \"t\", sinks: [\"a\"] }}], \
                     sinks: [{{ name: \"a\", type: \"{kind}\", params: {{ {params} }} }}], {keys} }}"
                );
                let mut problems = Problems::new();
                let document = parse("player.json", &text, &|_| None, &mut problems).unwrap();
                assert!(crate::player::check(&document, &mut problems).is_some(), "{problems}");
                problems.to_string()
            };
            assert_eq!(with("127.0.0.1", ""), "", "{kind}");
            assert_eq!(with("0.0.0.0", "httpTokens: [\"t\"]"), "", "{kind}");
            let told = with("0.0.0.0", "");
            let place = format!("warning: sinks[0].params.{key}: anyone who can reach");
            assert!(told.contains(&place) && told.lines().count() == 1, "{told}");
        }
    }

    #[test]
    fn ids_are_parts_of_urls() {
        let with = |id: &str, expected: &str| {
            let sinks = format!(
                "exposedPort: 2, sinks: [{{ name: \"a\", id: \"one\", type: \"http\", params: {{ targetHost: \"http://127.0.0.1:1\" }} }}, \
                 {{ name: \"b\", id: \"{id}\", type: \"http\", params: {{ targetHost: \"http://127.0.0.1:1\" }} }}]"
            );
            let text = format!(
                "{{ relayUrl: \"http://127.0.0.1:1/\", dataDir: \"/nowhere\", sources: [{{ name: \"x\", sinks: [\"a\"] }}], {sinks} }}"
            );
            let mut problems = Problems::new();
            let document = parse("player.json", &text, &|_| None, &mut problems).unwrap();
            crate::player::check(&document, &mut problems);
            let told = problems.to_string();
            assert!(told.contains(expected), "{id}: {told}");
        };
        with("sink", "the server's own paths begin with `/sink`");
        with("-", "the server's own paths begin with `/-`");
        with("a/b", "`a/b` cannot be a part of a URL");
        with("..", "`..` cannot be a part of a URL");
        with("one", "sink `a` has the id `one` already");
    }
}
