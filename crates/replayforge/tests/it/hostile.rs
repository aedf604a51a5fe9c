//! Whatever a client sends, the target gets it byte for byte, or the client is told that it was refused.

mod bodies;
mod heads;
mod limits;

use crate::support::http::{Message, request};
use crate::support::stack::Stack;
use crate::support::wire::Wire;

/// Sends one request and gives what the target got of it.
fn replay(
    stack: &Stack,
    method: &str,
    target: &str,
    headers: &[(&str, &[u8])],
    body: &[u8],
) -> Message {
    replay_bytes(stack, &request(method, target, headers, body))
}

fn replay_bytes(stack: &Stack, bytes: &[u8]) -> Message {
    let before = stack.target.count();
    let mut wire = Wire::connect(stack.ports.proxy);
    wire.send(bytes);
    let is_head = bytes.starts_with(b"HEAD ");
    let kind = if is_head {
        crate::support::http::Kind::AnswerToHead
    } else {
        crate::support::http::Kind::Answer
    };
    let answer = wire.try_answer(kind).unwrap_or_else(|error| panic!("{error}: {}", shown(bytes)));
    assert_eq!(answer.status(), 200, "{}: {}", shown(bytes), answer.text());
    stack.target.wait_for(before + 1).swap_remove(before)
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned()
}

/// What the player itself puts into a request.
const ADDED: [&str; 4] = ["host", "content-length", "idempotency-key", "x-replayforge-id"];

/// Names of what came, without what the player adds, in lower case and sorted.
fn names(request: &Message) -> Vec<String> {
    let names = request.headers.iter().map(|(name, _)| name.to_ascii_lowercase());
    let mut names: Vec<String> = names.filter(|name| !ADDED.contains(&name.as_str())).collect();
    names.sort();
    names.dedup();
    names
}
