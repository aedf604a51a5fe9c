//! `Expect: 100-continue` from end to end: the client is told to go on when the upstream says so, or says nothing.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

/// An upstream that says nothing may not know the header: the body is sent then, as RFC 9110, section 10.1.1 has it.
const PATIENCE: Duration = Duration::from_secs(1);

/// Keeps a body back until the upstream wants it.
pub(super) struct Gate(BoxFuture<'static, ()>);

impl Gate {
    /// A gate, and what opens it.
    pub(super) fn new() -> (Self, CancellationToken) {
        let wanted = CancellationToken::new();
        let opened = wanted.clone().cancelled_owned();
        let gate = async move {
            // Both ends are an end: told to go on, or tired of waiting.
            drop(tokio::time::timeout(PATIENCE, opened).await);
        };
        (Self(Box::pin(gate)), wanted)
    }

    pub(super) fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx)
    }
}
