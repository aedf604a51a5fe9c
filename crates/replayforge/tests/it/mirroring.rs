//! The files of docs/guides/mirroring-traffic.md, run by the servers that they are for.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use crate::support::http::{Kind, Message, request};
use crate::support::ports::free_port;
use crate::support::program::Program;
use crate::support::server::Answer;
use crate::support::target::Target;
use crate::support::wait::{SOON, eventually, let_pass};
use crate::support::web_server::{WebServer, nginx as nginx_command, server_program};
use crate::support::wire::{Wire, call};

/// More than any of the time limits in the files, also where a slow machine adds to them, and less than servers wait that
/// have none.
const BEARABLE: Duration = Duration::from_secs(12);
/// A copy that has not come after so long was given up: a slow machine took more time for it than the file allows.
const COPIED: Duration = Duration::from_secs(10);
/// Where the files have the application and the proxy.
const APP: u16 = 3000;
const PROXY: u16 = 8080;

/// A web server before an application, with copies for a proxy.
struct Front {
    port: u16,
    server: WebServer,
    app: Target,
    proxy: Program,
    _folder: TempDir,
}

/// A server is started in a folder that holds its files, told its port and those of application and proxy.
type Start = fn(folder: &Path, port: u16, page: &dyn Fn(&str) -> String) -> Command;

impl Front {
    fn start(start: Start) -> Front {
        let folder = tempfile::tempdir().unwrap();
        let (port, app, copies) = (free_port(), Target::start(), free_port());
        app.answer(|_, _| Answer::status(201).with_body("from the application"));
        let config = json!({
            "dataDir": folder.path().join("data"),
            "sources": [{
                "id": "mirror",
                "type": "http",
                "params": { "listenPort": copies, "listenAddress": "127.0.0.1" },
                "targetSink": "out",
            }],
            "sinks": [{ "id": "out", "type": "http", "url": ":dbg>stdout:", "maxMessagesPerMinute": -1 }],
        });
        let proxy = Program::role(folder.path(), "proxy", &config);
        let app_port = app.port;
        let block = move |mark: &str| {
            [(APP, app_port), (PROXY, copies)].iter().fold(block(mark), |file, (from, to)| {
                file.replace(&format!("127.0.0.1:{from}"), &format!("127.0.0.1:{to}"))
                    .replace(&format!("port_value: {from} "), &format!("port_value: {to} "))
            })
        };
        let command = start(folder.path(), port, &block);
        let server = WebServer::start(command, folder.path(), port);
        Front { port, server, app, proxy, _folder: folder }
    }

    /// The events of the copies since the proxy was started last.
    fn copies(&self) -> Vec<Value> {
        let output = self.proxy.output();
        output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// A request that the application must answer, within bearable time.
    fn ask(&self, method: &str, target: &str, body: &[u8]) {
        let begun = Instant::now();
        let answer = call(self.port, method, target, &[("X-Twice", b"1"), ("X-Twice", b"2")], body);
        assert_eq!(
            (answer.status(), answer.text().as_str()),
            (201, "from the application"),
            "{}",
            self.server.log()
        );
        assert!(begun.elapsed() < BEARABLE, "{target}: after {:?}", begun.elapsed());
    }

    /// What the application has got, once each.
    fn check_app(&self, wanted: &[(&str, &str, &[u8])]) {
        let got = self.app.requests();
        let told = |request: &Message| {
            (request.method().to_owned(), request.target().to_owned(), request.body.clone())
        };
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(method, target, body)| {
                ((*method).to_owned(), (*target).to_owned(), body.to_vec())
            })
            .collect();
        assert_eq!(got.iter().map(told).collect::<Vec<_>>(), wanted);
    }

    /// The application answers whether the proxy is there, hangs, or is away.
    fn survives_the_proxy(&mut self) {
        let before = self.app.count();
        self.proxy.signal(Signal::STOP);
        for number in 0..3 {
            self.ask("POST", &format!("/hung/{number}"), b"x");
        }
        self.proxy.signal(Signal::CONT);
        self.proxy.kill();
        for number in 0..3 {
            self.ask("POST", &format!("/away/{number}"), b"x");
        }
        assert_eq!(self.app.count(), before + 6);
        self.proxy.restart();
        self.ask_until_copied("/back");
    }

    /// Asks, and again when the copy was given up.
    fn until_copied(&self, what: &str, ask: impl Fn(), is_it: impl Fn(&Value) -> bool) {
        let mut asked: Option<Instant> = None;
        eventually(what, SOON, || {
            if asked.is_none_or(|at| at.elapsed() > COPIED) {
                ask();
                asked = Some(Instant::now());
            }
            self.copies().iter().any(&is_it)
        });
    }

    fn ask_until_copied(&self, path: &str) {
        let ask = || self.ask("GET", path, b"");
        self.until_copied(&format!("the copy of {path}"), ask, |copy| copy["path"] == path);
    }

    /// There is none of this path, although one that was asked for later is there.
    fn check_no_copy(&self, path: &str) {
        self.ask_until_copied("/later");
        assert!(self.copies().iter().all(|copy| copy["path"] != path), "{path}");
    }
}

/// The first block of the guide with this mark.
fn block(mark: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/guides/mirroring-traffic.md");
    let page = fs::read_to_string(page).unwrap();
    let (_, after) = page.split_once(&format!("```{mark}\n")).expect("a block of the guide");
    after.split("```").next().unwrap_or_default().to_owned()
}

/// Puts something in the place of what must stand in the file.
fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no {from:?} in:\n{text}");
    text.replace(from, to)
}

fn nginx(folder: &Path, port: u16, page: &dyn Fn(&str) -> String) -> Command {
    let server = replaced(&page("nginx"), "listen 80;", &format!("listen 127.0.0.1:{port};"));
    nginx_command(folder, &server)
}

fn haproxy(folder: &Path, port: u16, page: &dyn Fn(&str) -> String) -> Command {
    let script = folder.join("mirror.lua");
    fs::write(&script, page("lua")).unwrap();
    let file = replaced(&page("haproxy"), "/etc/haproxy/mirror.lua", &script.display().to_string());
    let file = replaced(&file, "bind :80", &format!("bind 127.0.0.1:{port}"));
    fs::write(folder.join("haproxy.cfg"), file).unwrap();
    let mut command = Command::new(server_program("haproxy"));
    command.arg("-f").arg(folder.join("haproxy.cfg"));
    command
}

fn caddy(folder: &Path, port: u16, page: &dyn Fn(&str) -> String) -> Command {
    let site = format!("http://:{port}");
    let file = replaced(&page("caddy"), "shop.example.com", &site);
    fs::write(folder.join("Caddyfile"), format!("{{\n    admin off\n}}\n{file}")).unwrap();
    let mut command = Command::new(server_program("caddy"));
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(folder.join("Caddyfile"));
    command.env("HOME", folder).env_remove("XDG_CONFIG_HOME").env_remove("XDG_DATA_HOME");
    command
}

fn envoy(folder: &Path, port: u16, page: &dyn Fn(&str) -> String) -> Command {
    let (all, here) = ("address: 0.0.0.0, port_value: 80 ", "address: 127.0.0.1, port_value: ");
    let file = replaced(&page("yaml"), all, &format!("{here}{port} "));
    fs::write(folder.join("envoy.yaml"), file).unwrap();
    let mut command = Command::new(server_program("envoy"));
    // Without a number Envoys on one machine want the same shared memory.
    command.arg("--use-dynamic-base-id").arg("-c").arg(folder.join("envoy.yaml"));
    command
}

fn with_bodies() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    vec![
        ("POST", "/orders/a%2Fb?x=1&y=%20&x=2", b"{\"order\": 7}".to_vec()),
        ("GET", "/plain", Vec::new()),
        (
            "PUT",
            "/large",
            (0..40_000).map(|byte| b'a' + u8::try_from(byte % 26).unwrap()).collect(),
        ),
        ("DELETE", "/gone", Vec::new()),
    ]
}

/// Sends the requests one after the other; the application gets each as it was sent.
fn through(front: &Front) -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let requests = with_bodies();
    for (number, (method, target, body)) in requests.iter().enumerate() {
        front.ask(method, target, body);
        // Copies may overtake each other: one at a time has an order.
        eventually("a copy", SOON, || front.copies().len() > number);
    }
    let wanted: Vec<_> =
        requests.iter().map(|(method, target, body)| (*method, *target, body.as_slice())).collect();
    front.check_app(&wanted);
    requests
}

/// The copies are the requests, byte for byte, with so many addresses of those who forwarded them.
fn check_copies(front: &Front, addresses: usize) {
    let requests = through(front);
    let copies = front.copies();
    assert_eq!(copies.len(), requests.len());
    for (copy, (method, target, body)) in copies.iter().zip(&requests) {
        let sent = copy.get("target").unwrap_or(&copy["path"]);
        assert_eq!((&copy["method"], sent), (&json!(method), &json!(target)));
        assert_eq!(copy["body"].as_str().unwrap().as_bytes(), body, "{target}");
        check_headers(copy, addresses);
    }
}

fn check_headers(copy: &Value, addresses: usize) {
    let twice = copy["headers"]["X-Twice"].as_array().expect("the client's header");
    let values: Vec<_> =
        twice.iter().flat_map(|value| value.as_str().unwrap().split(", ")).collect();
    assert_eq!(values, ["1", "2"]);
    let told = copy["headers"]["X-Forwarded-For"][0].as_str().unwrap_or_default();
    assert_eq!(told.split(',').count(), addresses, "{copy}");
    // Of several the first is the client, but Envoy puts its own address in the place of one on its own machine.
    assert!(told == "127.0.0.1" || addresses > 1, "{copy}");
}

#[test]
fn nginx_mirrors() {
    let mut front = Front::start(nginx);
    check_copies(&front, 1);
    front.survives_the_proxy();
}

#[test]
fn haproxy_mirrors() {
    let mut front = Front::start(haproxy);
    check_copies(&front, 1);
    // Too large for a copy, not for the application.
    front.ask("POST", "/too-large", &vec![b'x'; 300_000]);
    front.check_no_copy("/too-large");
    front.survives_the_proxy();
}

#[test]
fn envoy_mirrors() {
    let mut front = Front::start(envoy);
    check_copies(&front, 2);
    let large = vec![b'x'; 3_000_000];
    let ask = || front.ask("POST", "/three-megabytes", &large);
    front.until_copied("a large copy", ask, |copy| {
        copy["path"] == "/three-megabytes" && copy["body"].as_str().unwrap().len() == large.len()
    });
    // A slow client: copied within the time of a copy, and in any case handed on.
    for (pause, is_copied) in [(1, true), (4, false)] {
        let path = format!("/slow/{pause}");
        let send = || {
            let mut wire = Wire::connect(front.port);
            let whole = request("POST", &path, &[], b"0123456789");
            let (first, second) = whole.split_at(whole.len() - 5);
            wire.send(first);
            let_pass(Duration::from_secs(pause));
            wire.send(second);
            assert_eq!(wire.try_answer(Kind::Answer).unwrap().status(), 201);
        };
        if is_copied {
            front.until_copied("the slow copy", send, |copy| {
                copy["path"] == path && copy["body"] == "0123456789"
            });
        } else {
            send();
        }
    }
    front.check_no_copy("/slow/4");
    // More than the sockets hold: without a limit to the copy's time the client would wait for it.
    front.proxy.signal(Signal::STOP);
    front.ask("POST", "/hung/large", &vec![b'x'; 20_000_000]);
    front.proxy.signal(Signal::CONT);
    front.survives_the_proxy();
}

#[test]
fn caddy_tells_of_each_request() {
    let mut front = Front::start(caddy);
    let requests = through(&front);
    let copies = front.copies();
    assert_eq!(copies.len(), requests.len());
    for (copy, (method, target, _)) in copies.iter().zip(&requests) {
        let sent = copy.get("target").unwrap_or(&copy["path"]);
        assert_eq!(
            (&copy["method"], sent, &copy["body"]),
            (&json!("GET"), &json!(target), &json!(""))
        );
        assert_eq!(copy["headers"]["X-Forwarded-Method"], json!([method]));
        check_headers(copy, 1);
    }
    front.survives_the_proxy();
    // What the application has got and does not answer is not sent to it again.
    let before = front.app.count();
    front.app.answer(|_, _| Answer::HangUp);
    let answer = call(front.port, "POST", "/broken", &[], b"x");
    assert_eq!((answer.status(), front.app.count()), (502, before + 1), "{}", front.server.log());
}
