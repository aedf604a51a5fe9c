//! Calls that the manual shows.

use std::path::Path;

use crate::support::stack::{Stack, TOKEN};
use crate::support::wire::call;

#[test]
fn the_batch_of_the_protocol_s_page_is_replayed() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/protocol.md");
    let page = std::fs::read_to_string(page).unwrap();
    let shown = page.split("\n```").find(|block| block.contains("/record-batch \\\n")).unwrap();
    let batch = shown.split('\'').nth_back(1).unwrap();
    let stack = Stack::start();
    let bearer = format!("Bearer {TOKEN}");
    let headers: [(&str, &[u8]); 2] = [("RF-BUCKETS", b"b"), ("Authorization", bearer.as_bytes())];
    let answer = call(stack.ports.relay, "POST", "/record-batch", &headers, batch.as_bytes());
    assert_eq!(answer.status(), 200, "{batch}");
    let replayed = stack.target.wait_for(2);
    let starts: Vec<&str> = replayed.iter().map(|request| request.start.as_str()).collect();
    assert_eq!(starts, ["GET /health HTTP/1.1", "POST /orders HTTP/1.1"]);
    assert_eq!(replayed[1].text(), "hi");
}
