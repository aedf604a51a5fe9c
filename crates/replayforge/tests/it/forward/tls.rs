//! An upstream with TLS: a real nginx, whose certificate is from an authority of the tests.

use std::path::{Path, PathBuf};

use serde_json::json;
use tempfile::TempDir;

use super::rig::Rig;
use crate::support::ports::free_port;
use crate::support::web_server::{WebServer, nginx};
use crate::support::wire::call;

fn certificates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../rf-net/tests/it/data")
}

/// Answers as `localhost` alone.
fn upstream() -> (WebServer, TempDir, u16) {
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let data = certificates();
    let content = format!(
        "server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {0}/localhost.pem;\n\
        ssl_certificate_key {0}/localhost.key;\n\
        location / {{ return 200 \"over $scheme: $request_method $request_uri\"; }} }}\n",
        data.display()
    );
    let server = WebServer::start(nginx(folder.path(), &content), folder.path(), port);
    (server, folder, port)
}

/// A proxy before the upstream of this URL.
fn rig(port: u16, forward_to: &str, ca_file: Option<&Path>) -> Rig {
    let mut params = json!({ "forwardTo": forward_to, "captureResponse": true });
    if let Some(file) = ca_file {
        params["caFile"] = json!(file);
    }
    Rig::start(port, &params)
}

#[test]
fn an_upstream_with_tls_is_checked_and_used() {
    let (_server, _folder, port) = upstream();
    let authority = certificates().join("ca.pem");
    let rig = rig(port, &format!("https://localhost:{port}"), Some(&authority));
    let answer = call(rig.port, "GET", "/a?b=c", &[], b"");
    assert_eq!((answer.status(), answer.text().as_str()), (200, "over https: GET /a?b=c"));
    let event = rig.event("/a");
    assert_eq!(event["response"]["body"], "over https: GET /a?b=c");
}

#[test]
fn a_certificate_that_proves_nothing_is_refused() {
    let (_server, _folder, port) = upstream();
    let authority = certificates().join("ca.pem");
    let cases = [
        // Of an authority that nobody trusts here.
        (format!("https://localhost:{port}"), None, "an authority that is not trusted"),
        // For another name.
        (format!("https://127.0.0.1:{port}"), Some(authority.as_path()), "not valid for name"),
    ];
    for (forward_to, ca_file, reason) in cases {
        let rig = rig(port, &forward_to, ca_file);
        assert_eq!(call(rig.port, "GET", "/secret", &[], b"").status(), 502, "{forward_to}");
        let line = rig.proxy.wait_for("no answer from the upstream: answered with 502");
        assert!(line.contains(reason), "{line}");
    }
}
