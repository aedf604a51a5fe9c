//! examples/two-servers-one-player: each server's requests reach their own target, and one that is away holds back no other.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::rig::{Example, number, ports};
use crate::support::target::Target;
use crate::support::wait::{SOON, eventually};
use crate::support::wire::{call, post};

#[test]
fn each_server_has_its_target() {
    let (mut shop, blog) = (Target::start(), Target::start());
    let [to_shop, to_blog, relay, status] = ports();
    let example = Example::set_up(
        "two-servers-one-player",
        &[
            ("8080", &to_shop),
            ("8081", &relay),
            ("8090", &to_blog),
            ("8091", &status),
            ("9001", &shop.port.to_string()),
            ("9002", &blog.port.to_string()),
        ],
    );
    let secret = std::fs::metadata(example.folder().join("secrets/shop.token")).unwrap();
    assert_eq!(secret.permissions().mode() & 0o777, 0o600);
    let _programs = ["relay.json", "proxy-shop.json", "proxy-blog.json", "player.json"]
        .map(|file| example.start(file));
    shop.go_away();
    let authorization = [("Authorization", &b"Basic c2VjcmV0"[..])];
    let answer = call(number(&to_shop), "POST", "/orders/0", &authorization, b"");
    assert_eq!(answer.status(), 200);
    for n in 1..20 {
        post(number(&to_shop), &format!("/orders/{n}"), b"");
        post(number(&to_blog), &format!("/pages/{n}"), b"");
    }
    let pages = blog.wait_for(19);
    assert!(pages.iter().all(|page| page.target().starts_with("/pages/")));
    assert_eq!(blog.by_key().len(), 19);
    assert_eq!(shop.count(), 0);
    shop.come_back();
    let orders = shop.wait_for(20);
    let targets: Vec<&str> = orders.iter().map(crate::support::http::Message::target).collect();
    let expected: Vec<String> = (0..20).map(|n| format!("/orders/{n}")).collect();
    assert_eq!(targets, expected, "in order");
    assert_eq!(orders[0].header("Authorization"), None, "dropped by the proxy");
    // What has come through the relay may be counted later.
    eventually("the relay has counted them", SOON, || {
        let known: Value = serde_json::from_str(&example.run("statusz")).unwrap();
        let count = |bucket: &str| known["buckets"][bucket]["rxMessagesSinceStart"].clone();
        (count("shop"), count("blog")) == (json!(20), json!(19))
    });
}
