//! The endpoints, one file a group.
//!
//! Promises: who may is checked before a body is read; a body is read within limits of size and time; every refusal is
//! JSON, `{"error": "..."}`, and one that is our fault says nothing of its cause, which is logged; one for want of a token
//! is logged and counted.

mod acknowledge;
mod answers;
mod error;
mod holders;
mod lease;
mod left;
mod node_info;
mod pull;
mod query;
mod record;
mod refusals;
mod request;
mod shares;
mod tap;

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post};
use http::header;
use rf_core::trace::Journal;
use tokio_util::sync::CancellationToken;

pub(crate) use answers::Answers;
pub(crate) use error::ApiError;
pub(crate) use holders::Holders;
pub(crate) use left::Left;
pub(crate) use refusals::noted;
pub(crate) use shares::Shares;
pub(crate) use tap::Taps;

use crate::auth::Tokens;
use crate::config::RequestLimits;
use crate::nodes::Nodes;
use crate::stats::Stats;
use crate::store::BucketStore;

/// What every endpoint works with.
pub(crate) struct Relay {
    pub(crate) tokens: Tokens,
    pub(crate) store: Arc<dyn BucketStore>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) nodes: Arc<Nodes>,
    pub(crate) holders: Arc<Holders>,
    pub(crate) taps: Arc<Taps>,
    pub(crate) left: Left,
    pub(crate) journal: Arc<Journal>,
    pub(crate) limits: RequestLimits,
    /// Of all bodies that are being read or stored.
    pub(crate) body_memory: Shares,
    /// Of those that came compressed, decompressed.
    pub(crate) decoding_memory: Shares,
    /// Of events on their way out.
    pub(crate) answers: Answers,
    /// Long polls are answered at once when this is cancelled.
    pub(crate) stop: CancellationToken,
}

/// All endpoints.
pub(crate) fn router(relay: Arc<Relay>) -> Router {
    let refuse = async || ApiError::MethodNotAllowed;
    // axum lets HEAD fall through to GET, but a pull with a lease is no thing to do twice without an answer.
    let only_get = async || ([(header::ALLOW, "GET")], ApiError::MethodNotAllowed);
    Router::new()
        .route("/record-batch", post(record::record_batch))
        .route("/record", post(record::record))
        .route("/first-batch", get(pull::first_batch).head(only_get).fallback(only_get))
        .route("/first", get(pull::first).head(only_get).fallback(only_get))
        .route("/tap", get(tap::tap).head(only_get).fallback(only_get))
        .route("/acknowledge-batch", delete(acknowledge::acknowledge_batch))
        .route("/acknowledge", delete(acknowledge::acknowledge))
        .route("/release-batch", post(lease::release_batch))
        .route("/extend-lease", post(lease::extend_lease))
        .route("/node-info", post(node_info::node_info))
        .method_not_allowed_fallback(refuse)
        .fallback(async || ApiError::NoSuchPath)
        .with_state(relay)
}
