//! `POST /node-info`: a sender tells about its machine; shown by `/statusz`.

use std::sync::Arc;

use axum::extract::{Request, State};
use bytes::Bytes;
use http::StatusCode;
use rf_core::node_info::MAX_NODE_INFO_BYTES;
use serde_json::value::RawValue;

use super::request::{caller, read};
use super::{ApiError, Relay};
use crate::stats::unix_seconds;

pub(super) async fn node_info(
    State(relay): State<Arc<Relay>>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let (parts, body) = request.into_parts();
    relay.tokens.bucket(&parts.headers)?;
    let caller = caller(&parts.headers);
    if caller.hostname.is_empty() {
        return Err(ApiError::BadRequest("RF-HOSTNAME is missing".to_owned()));
    }
    let info = read(&relay, &parts.headers, body, MAX_NODE_INFO_BYTES, parse).await?;
    relay.stats.told(&caller, info, unix_seconds());
    Ok(StatusCode::OK)
}

/// Kept as it was written: the relay has no use for what is inside.
fn parse(body: Bytes) -> Result<Box<RawValue>, ApiError> {
    let object = serde_json::from_slice::<Box<RawValue>>(&body);
    let object = object
        .map_err(|error| ApiError::BadRequest(format!("not the JSON expected here: {error}")))?;
    if !object.get().starts_with('{') {
        return Err(ApiError::BadRequest("expected a JSON object".to_owned()));
    }
    Ok(object)
}
