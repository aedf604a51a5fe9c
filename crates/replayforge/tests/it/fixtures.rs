//! Real webhook bodies, signed over their exact bytes as GitHub signs them, through the whole way.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::support::http::{Message, request};
use crate::support::stack::Stack;
use crate::support::wire::Wire;

const SECRET: &[u8] = b"the webhook's secret";

/// `sha256=` and the hexadecimal HMAC, as in `X-Hub-Signature-256`.
pub(crate) fn signature(secret: &[u8], body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).unwrap();
    mac.update(body);
    let hex: String =
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

pub(crate) fn copies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/github-webhooks")
}

/// The larger collection beside the workspace; not everybody has it.
pub(crate) fn collection() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/fixtures/github-webhooks")
}

/// File name -> body.
pub(crate) fn bodies(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries =
        std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    let is_body = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "json");
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    paths.filter(is_body).map(|path| (name(&path), std::fs::read(path).unwrap())).collect()
}

fn check_all_arrive(folder: &Path, at_least: usize) {
    let bodies = bodies(folder);
    assert!(bodies.len() >= at_least, "{} bodies in {}", bodies.len(), folder.display());
    let mut stack = Stack::start();
    let mut wire = Wire::connect(stack.ports.proxy);
    for (name, body) in &bodies {
        let signature = signature(SECRET, body);
        let event = name.split('.').next().unwrap();
        let headers: [(&str, &[u8]); 5] = [
            ("Content-Type", b"application/json"),
            ("User-Agent", b"GitHub-Hookshot/044aadd"),
            ("X-GitHub-Event", event.as_bytes()),
            ("X-GitHub-Delivery", name.as_bytes()),
            ("X-Hub-Signature-256", signature.as_bytes()),
        ];
        let answer = wire.exchange(&request("POST", "/hooks/github?from=hub", &headers, body));
        assert_eq!((answer.status(), answer.text().as_str()), (200, "Request received"), "{name}");
    }
    let received = stack.target.wait_for(bodies.len());
    for (name, request) in bodies.keys().zip(&received) {
        check_delivery(name, request, &bodies);
    }
    assert!(stack.player.stop().success());
    assert_eq!(stack.target.count(), bodies.len(), "nothing came twice later");
    assert_eq!(stack.target.by_key().len(), bodies.len(), "each delivery has a key of its own");
}

fn check_delivery(name: &str, request: &Message, bodies: &BTreeMap<String, Vec<u8>>) {
    // One target connection at a time: in the order of the posts.
    assert_eq!(request.header("X-GitHub-Delivery").as_deref(), Some(name));
    assert_eq!(request.start, "POST /hooks/github?from=hub HTTP/1.1");
    assert_eq!(
        request.header("X-Hub-Signature-256"),
        Some(signature(SECRET, &request.body)),
        "{name}: the signature fits"
    );
    assert_eq!(request.body, bodies[name], "{name}");
}

#[test]
fn real_webhooks_arrive_with_every_byte() {
    check_all_arrive(&copies(), 7);
}

#[test]
fn the_whole_collection_of_webhooks_arrives() {
    if collection().exists() {
        check_all_arrive(&collection(), 60);
    } else {
        eprintln!("skipped: {} is not there", collection().display());
    }
}

#[test]
fn one_changed_byte_breaks_a_signature() {
    let body = bodies(&copies()).remove("ping.payload.json").unwrap();
    let mut changed = body.clone();
    changed[100] ^= 1;
    assert_ne!(signature(SECRET, &body), signature(SECRET, &changed));
}
