//! What sinks and their workers have stored of how far they are.

use serde::de::DeserializeOwned;

/// Decodes a checkpoint of a sink. One that cannot be read counts as missing; the log says so, and what follows from that.
pub(crate) fn decode<T: DeserializeOwned>(
    sink: &str,
    key: &str,
    stored: &[u8],
    consequence: &str,
) -> Option<T> {
    match serde_json::from_slice(stored) {
        Ok(decoded) => Some(decoded),
        Err(error) => {
            tracing::error!(sink, checkpoint = key, %error, "checkpoint cannot be read: {consequence}");
            None
        }
    }
}
