//! `POST /node-info`: an agent tells of itself and its machine.

use std::sync::Arc;

use axum::extract::{Request, State};
use bytes::Bytes;
use http::StatusCode;
use rf_core::clock::unix_ms;
use rf_core::node_info::{MAX_NODE_INFO_BODY_BYTES, MAX_NODE_INFO_BYTES, NodeInfo, kept_part};
use serde_json::value::RawValue;

use super::request::{Sent, caller, read};
use super::{ApiError, Relay};

pub(super) async fn node_info(
    State(relay): State<Arc<Relay>>,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let (parts, body) = request.into_parts();
    let bucket = relay.tokens.bucket(&parts.headers)?;
    let caller = caller(&parts.headers);
    if caller.hostname.is_empty() {
        return Err(ApiError::BadRequest("RF-HOSTNAME is missing".to_owned()));
    }
    let sent = Sent { bucket: &bucket, headers: &parts.headers, body };
    let (raw, info) = read(&relay, sent, MAX_NODE_INFO_BODY_BYTES, parse).await?.value;
    relay.nodes.told(&caller.hostname, raw, info, unix_ms());
    Ok(StatusCode::OK)
}

/// As it was written, as far as it is kept, for `/statusz`; and as far as it is understood.
fn parse(body: Bytes) -> Result<(Box<RawValue>, NodeInfo), ApiError> {
    let bad = |error| ApiError::BadRequest(format!("not the JSON expected here: {error}"));
    let kept = kept_part(&body).map_err(bad)?.ok_or_else(|| {
        let most = MAX_NODE_INFO_BYTES;
        ApiError::TooLarge(format!("larger than {most} bytes, even without its log lines"))
    })?;
    let object = serde_json::from_slice::<Box<RawValue>>(&kept).map_err(bad)?;
    if !object.get().starts_with('{') {
        return Err(ApiError::BadRequest("expected a JSON object".to_owned()));
    }
    let info = NodeInfo::parse(&kept).map_err(bad)?;
    Ok((object, info))
}
