//! `/live`: server-sent events that say "look again". What is to be seen is fetched as the page itself, which is rendered
//! once for all who look.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use http::{HeaderMap, StatusCode};

use crate::status::StatusPort;

/// Pages that are open at a time; further ones ask by themselves now and then.
pub(crate) const MAX_VIEWERS: usize = 64;

const TICK: Duration = Duration::from_secs(2);
/// A large page is worth looking at less often.
const SLOW_TICK: Duration = Duration::from_secs(5);
const LARGE: usize = 100;

pub(super) async fn live(State(port): State<Arc<StatusPort>>, headers: HeaderMap) -> Response {
    if !port.access.allows(&headers) {
        return port.access.refusal();
    }
    let Ok(place) = Arc::clone(&port.viewers).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many pages are open").into_response();
    };
    let large = port.view.nodes.len() + port.view.buckets.len() > LARGE;
    let every = if large { SLOW_TICK } else { TICK };
    let ticks = stream::unfold((port, place, 0_u64), move |(port, place, number)| async move {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = port.stop.cancelled() => return None,
        }
        let event = Event::default().data(number.to_string());
        Some((Ok::<Event, Infallible>(event), (port, place, number + 1)))
    });
    Sse::new(ticks).into_response()
}
