//! `POST /release-batch` and `POST /extend-lease`: leases end early or last longer.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use bytes::Bytes;
use rf_core::protocol::ExtendLease;

use super::acknowledge::named_events;
use super::request::{Sent, lease_time, read};
use super::{ApiError, Relay};

/// A token and a number.
const MAX_EXTEND_BODY_BYTES: usize = 4096;

pub(super) async fn release_batch(
    State(relay): State<Arc<Relay>>,
    request: Request,
) -> Result<String, ApiError> {
    let (bucket, ids) = named_events(&relay, request).await?;
    match relay.store.release(&bucket, ids).await? {
        0 => Err(ApiError::NotFound("none of these events is leased")),
        1 => Ok("1 event released".to_owned()),
        many => Ok(format!("{many} events released")),
    }
}

pub(super) async fn extend_lease(
    State(relay): State<Arc<Relay>>,
    request: Request,
) -> Result<&'static str, ApiError> {
    let (parts, body) = request.into_parts();
    let bucket = relay.tokens.bucket(&parts.headers)?;
    let parse = |body: Bytes| {
        serde_json::from_slice::<ExtendLease>(&body).map_err(|error| {
            ApiError::BadRequest(format!(
                "expected {{\"lease\": \"TOKEN\", \"seconds\": 30}}: {error}"
            ))
        })
    };
    let sent = Sent { bucket: &bucket, headers: &parts.headers, body };
    let asked = read(&relay, sent, MAX_EXTEND_BODY_BYTES, parse).await?.value;
    let ttl = lease_time(Duration::from_secs(asked.seconds))?;
    if relay.store.extend(&bucket, &asked.lease, ttl).await? {
        relay.holders.extended(&bucket, &asked.lease, ttl);
        Ok("lease extended")
    } else {
        Err(ApiError::NotFound("the lease does not exist or has ended"))
    }
}
