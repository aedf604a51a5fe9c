//! `syslog`: both transports into one proxy, and datagrams that find no room.

use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use serde_json::json;

use super::{bodies, contents, events, proxy, proxy_file, wait_for_bodies};
use crate::support::ports::free_port;
use crate::support::program::Program;
use crate::support::target::Target;
use crate::support::wait::eventually;

/// The first loss is told at once, further ones once a minute.
const BEFORE_THE_MINUTE: Duration = Duration::from_secs(45);

#[test]
fn devices_are_heard_over_both_transports() {
    let (folder, target, port) = (tempfile::tempdir().unwrap(), Target::start(), free_port());
    let params = json!({ "listenPort": port, "listenAddress": "127.0.0.1", "path": "/syslog" });
    let proxy = proxy(folder.path(), &target, "syslog", &params);
    for protocol in ["tcp", "udp"] {
        let line = proxy.wait_for(&format!("address=127.0.0.1:{port} protocol={protocol}"));
        assert!(line.contains(" INFO listening source="), "{line}");
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"<34>1 - h su 7 - - by datagram", ("127.0.0.1", port)).unwrap();
    wait_for_bodies(&target, 1);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.write_all(b"25 <34>1 - h su 7 - - by tcp").unwrap();
    let bodies = wait_for_bodies(&target, 2);
    let told: Vec<_> = bodies.iter().map(|body| body["message"].as_str().unwrap()).collect();
    assert_eq!(told, ["by datagram", "by tcp"]);
    let event = events(&target).remove(0);
    assert_eq!(event["path"], "/syslog");
    assert_eq!(event["ip"], socket.local_addr().unwrap().to_string());
}

#[test]
fn datagrams_that_find_no_room_are_counted_and_the_loss_is_told_once() {
    let (folder, mut target, port) = (tempfile::tempdir().unwrap(), Target::start(), free_port());
    target.go_away();
    let params = json!({
        "listenPort": port, "listenAddress": "127.0.0.1", "protocol": "udp", "udpBufferBytes": "64KiB",
    });
    let mut file = proxy_file(folder.path(), &target, "syslog", &params);
    file["sinks"][0]["buffer"] = json!({ "maxBytes": "1MiB" });
    let mut proxy = Program::role(folder.path(), "proxy", &file);
    proxy.expect_error("syslog datagrams are lost");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let text = "x".repeat(2000);
    let mut sent = 0;
    eventually("a loss is told", BEFORE_THE_MINUTE, || {
        let datagram = format!("<13>{sent} {text}");
        socket.send_to(datagram.as_bytes(), ("127.0.0.1", port)).unwrap();
        sent += 1;
        proxy.log().contains("syslog datagrams are lost")
    });
    let line = proxy.wait_for("syslog datagrams are lost");
    assert!(line.contains(" memory\""), "{line}");
    target.come_back();
    wait_for_bodies(&target, 1);
    assert_eq!(proxy.log().matches("syslog datagrams are lost").count(), 1);
    // What had room has come, in order and once.
    assert!(proxy.stop().success());
    let numbers: Vec<u64> = bodies(&target)
        .iter()
        .map(|body| body["message"].as_str().unwrap().split(' ').next().unwrap().parse().unwrap())
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b) && contents(&target).len() < sent, "{numbers:?}");
}
