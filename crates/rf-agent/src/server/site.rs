//! Which path is whose: our own first, then a file of the folder, then the sinks by id.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::uri::{PathAndQuery, Uri};
use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use serde_json::Value;
use tower::ServiceExt;

use super::files::StaticFolder;
use super::refused::{InPath, method_not_allowed};
use super::relay::RelayStatus;
use super::{ServedSink, page, refusal};

/// First parts of paths that are never a sink's.
pub(super) const RESERVED: [&str; 5] = ["ping", "static", "sink", "relay-proxy", "-"];

/// What the original's URLs call every sink of [`TIME_SERIES`], whatever its id: links that people have go on.
const OLD_TIME_SERIES_ID: &str = "timeseries";
/// The `type` of these sinks.
const TIME_SERIES: &str = "time_series";

/// What `/sink/list` says of a sink.
#[derive(Debug, Clone, Serialize)]
struct Listed {
    id: String,
    name: String,
    #[serde(rename = "type")]
    kind: String,
    metadata: Value,
    /// Whether there is something below `/ID/`.
    api: bool,
}

struct Site {
    listed: Vec<Listed>,
    apis: HashMap<String, Router>,
    folder: Option<StaticFolder>,
    relay: Option<RelayStatus>,
}

/// The router of the server; the guards come before it.
pub(super) fn router(
    sinks: Vec<ServedSink>,
    folder: Option<StaticFolder>,
    relay: Option<RelayStatus>,
) -> Router {
    let (mut listed, mut apis) = (Vec::new(), HashMap::new());
    let mut old_api: Option<Router> = None;
    for ServedSink { id, name, kind, metadata, sink } in sinks {
        let api = sink.api();
        if kind == TIME_SERIES && old_api.is_none() {
            old_api.clone_from(&api);
        }
        let metadata = metadata.unwrap_or_else(|| Value::Object(serde_json::Map::new()));
        listed.push(Listed { id: id.clone(), name, kind, metadata, api: api.is_some() });
        apis.extend(api.map(|api| (id, api)));
    }
    if let Some(api) = old_api {
        apis.entry(OLD_TIME_SERIES_ID.to_owned()).or_insert(api);
    }
    let site = Arc::new(Site { listed, apis, folder, relay });
    Router::new()
        .route("/ping", get(async || "pong"))
        .route("/sink/list", get(list))
        .route("/sink/find/{id}", get(find))
        .route("/-/", get(async || page::index(page::At::Below)))
        .route("/-/{file}", get(page::file))
        .fallback(other)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(site)
}

/// The router of a sink's own listener: its bare paths, and where these lead nowhere the same ones below `/ID/`, which is
/// where the original has them. What is bare goes first, so an id that is called as a table or an endpoint hides nothing.
pub(super) fn of_one_sink(served: &ServedSink, api: Router) -> Router {
    let mut ids = vec![served.id.clone()];
    if served.kind == TIME_SERIES {
        ids.push(OLD_TIME_SERIES_ID.to_owned());
    }
    let bare = api.clone();
    api.fallback(move |mut request: Request| {
        if let Some((id, uri)) = split(request.uri())
            && ids.contains(&id)
        {
            *request.uri_mut() = uri;
        }
        async move { bare.oneshot(request).await.into_response() }
    })
}

async fn list(State(site): State<Arc<Site>>) -> Json<Vec<Listed>> {
    Json(site.listed.clone())
}

async fn find(State(site): State<Arc<Site>>, InPath(id): InPath<String>) -> Response {
    if let Some(found) = site.listed.iter().find(|sink| sink.id == id) {
        return Json(found).into_response();
    }
    let known: Vec<&str> = site.listed.iter().map(|sink| sink.id.as_str()).collect();
    let text = format!("no sink has the id `{id}`; known: {}", known.join(", "));
    refusal(StatusCode::NOT_FOUND, text)
}

/// Files, sinks and the relay: paths that only the running configuration knows.
async fn other(State(site): State<Arc<Site>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let below = |prefix: &str| path.strip_prefix(prefix);
    let is_read = matches!(head.method, Method::GET | Method::HEAD);
    if let Some(rest) = below("/relay-proxy/") {
        let Some(relay) = &site.relay else {
            return refusal(StatusCode::NOT_FOUND, "relayUrlStatusz is not configured");
        };
        let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        return relay.answer(&format!("{rest}{query}"), &head).await;
    }
    if let Some(folder) = site.folder.as_ref().filter(|_| is_read) {
        let wanted = below("/static/").unwrap_or(path);
        if let Some(response) = folder.serve(wanted, &head).await {
            return response;
        }
    }
    if let Some((api, uri)) = site.sink_of(&head.uri) {
        let mut request = Request::from_parts(head, body);
        *request.uri_mut() = uri;
        return api.clone().oneshot(request).await.into_response();
    }
    if path == "/" && is_read {
        return page::index(page::At::Root);
    }
    let text = format!("nothing is at {path}: see /sink/list for the sinks");
    refusal(StatusCode::NOT_FOUND, text)
}

impl Site {
    /// The sink that a path belongs to, and the URL as the sink knows it.
    fn sink_of(&self, uri: &Uri) -> Option<(&Router, Uri)> {
        let (id, inner) = split(uri)?;
        Some((self.apis.get(&id)?, inner))
    }
}

/// The first part of a path, and the URL as what it names knows it.
fn split(uri: &Uri) -> Option<(String, Uri)> {
    let path = uri.path().strip_prefix('/')?;
    let (id, rest) = path.split_once('/').unwrap_or((path, ""));
    let id = percent_decode_str(id).decode_utf8().ok()?.into_owned();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let inner: PathAndQuery = format!("/{rest}{query}").parse().ok()?;
    Some((id, Uri::from(inner)))
}
