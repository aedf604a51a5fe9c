//! `DELETE /acknowledge-batch` and `DELETE /acknowledge?id=`: delivered events leave.

use std::sync::Arc;

use axum::extract::{Request, State};
use rf_core::protocol::{ACKNOWLEDGED, NONE_IS_THERE, parse_ids};

use super::query::Query;
use super::request::{Sent, read};
use super::{ApiError, Relay};
use crate::bucket::BucketName;

/// As many ids are taken at once as events are handed out.
const MAX_IDS: usize = 10_000;
/// Room for so many of the longest ids.
const MAX_IDS_BODY_BYTES: usize = MAX_IDS * 32;

pub(super) async fn acknowledge_batch(
    State(relay): State<Arc<Relay>>,
    request: Request,
) -> Result<String, ApiError> {
    let (bucket, ids) = named_events(&relay, request).await?;
    remove(&relay, &bucket, ids).await
}

pub(super) async fn acknowledge(
    State(relay): State<Arc<Relay>>,
    request: Request,
) -> Result<String, ApiError> {
    let bucket = relay.tokens.bucket(request.headers())?;
    let id = Query::of(request.uri())?.number("id", 0..=u64::MAX)?;
    let id = id.ok_or_else(|| ApiError::BadRequest("name the event: ?id=12".to_owned()))?;
    remove(&relay, &bucket, vec![id]).await
}

/// The bucket whose token the request has, and the events of it that its body names.
pub(super) async fn named_events(
    relay: &Relay,
    request: Request,
) -> Result<(BucketName, Vec<u64>), ApiError> {
    let (parts, body) = request.into_parts();
    let bucket = relay.tokens.bucket(&parts.headers)?;
    let parse = |body: bytes::Bytes| Ok(parse_ids(&body, MAX_IDS)?);
    let sent = Sent { bucket: &bucket, headers: &parts.headers, body };
    let ids = read(relay, sent, MAX_IDS_BODY_BYTES, parse).await?.value;
    Ok((bucket, ids))
}

async fn remove(relay: &Relay, bucket: &BucketName, ids: Vec<u64>) -> Result<String, ApiError> {
    match relay.store.acknowledge(bucket, ids).await? {
        0 => Err(ApiError::NotFound(NONE_IS_THERE)),
        1 => Ok(format!("1 event {ACKNOWLEDGED}")),
        many => Ok(format!("{many} events {ACKNOWLEDGED}")),
    }
}
