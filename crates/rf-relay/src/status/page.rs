//! The page: the whole system as a person sees it, rendered here, so that it works without scripts too.
//!
//! Promises: everything that a host, a bucket or a log line says goes through `maud`, which escapes it; the Content
//! Security Policy lets nothing run or load but our own two files; the overview is rendered at most once a second, for
//! all who look; events are shown only for the bucket's own token.

mod bucket;
mod events;
mod home;
mod layout;
mod live;
mod map;
mod node;
mod parts;

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use maud::Markup;
use parking_lot::Mutex;
use rf_core::clock::unix_ms;
use rf_net::encoding::{Coding, encode, negotiate};

use super::{NO_STORE, PLAIN, StatusPort, failed, other};
use crate::report::{BucketReport, Report};
pub(crate) use live::MAX_VIEWERS;

/// What nothing on the page may do: load from elsewhere, run what is not our file, be put into a frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// An overview is good for so long.
const RENDER_EVERY_MS: u64 = 1000;

/// The overview, rendered; `true` is the one with all rows.
#[derive(Default)]
pub(crate) struct Rendered {
    pages: Mutex<HashMap<bool, Page>>,
}

#[derive(Clone)]
struct Page {
    at_ms: u64,
    html: Bytes,
    gzip: Bytes,
}

/// The paths of the page. They answer `ok` to who does not ask for HTML, as any path does.
pub(super) fn router() -> Router<Arc<StatusPort>> {
    Router::new()
        .route("/", get(home))
        .route("/node", get(node_page))
        .route("/bucket", get(bucket_page))
        .route("/bucket-events", post(events::page))
        .route("/live", get(live::live))
        .route("/page.css", get(css))
        .route("/page.js", get(js))
        // As any other path.
        .method_not_allowed_fallback(other)
}

async fn home(State(port): State<Arc<StatusPort>>, headers: HeaderMap, uri: Uri) -> Response {
    if let Some(other) = not_for_a_browser(&port, &headers) {
        return other;
    }
    let all = query(&uri).contains_key("all");
    let coding = negotiate(&headers, &[Coding::Gzip]);
    match port.make(move |port| render_home(port, all)).await {
        Some(page) if coding == Coding::Gzip => {
            let coded = (header::CONTENT_ENCODING, "gzip");
            html(StatusCode::OK, ([coded], page.gzip).into_response())
        }
        Some(page) => html(StatusCode::OK, page.html.into_response()),
        None => failed(),
    }
}

/// One renders, and all who wait for the lock take that.
fn render_home(port: &StatusPort, all: bool) -> Page {
    let mut pages = port.rendered.pages.lock();
    let now_ms = unix_ms();
    if let Some(page) = pages.get(&all)
        && now_ms.saturating_sub(page.at_ms) < RENDER_EVERY_MS
        && page.at_ms <= now_ms
    {
        return page.clone();
    }
    let html: Bytes = home::page(&port.view.report(now_ms), all).into_string().into();
    let page = Page { at_ms: now_ms, gzip: encode(Coding::Gzip, &html), html };
    pages.insert(all, page.clone());
    page
}

async fn node_page(State(port): State<Arc<StatusPort>>, headers: HeaderMap, uri: Uri) -> Response {
    if let Some(other) = not_for_a_browser(&port, &headers) {
        return other;
    }
    let id = query(&uri).remove("id").unwrap_or_default();
    port.make(move |port| render_node(port, &id)).await.unwrap_or_else(failed)
}

fn render_node(port: &StatusPort, id: &str) -> Response {
    let report = port.view.report(unix_ms());
    let Some(found) = report.nodes.iter().find(|node| node.id == id) else {
        return missing(&report, "There is no such node. It may have been silent for an hour.");
    };
    let nodes = port.view.nodes.all(report.at_ms);
    let told = nodes.iter().find(|node| node.id.text() == id).map(AsRef::as_ref);
    shown(StatusCode::OK, &node::page(&report, found, told))
}

async fn bucket_page(
    State(port): State<Arc<StatusPort>>,
    headers: HeaderMap,
    uri: Uri,
) -> Response {
    if let Some(other) = not_for_a_browser(&port, &headers) {
        return other;
    }
    let name = query(&uri).remove("name").unwrap_or_default();
    let page = move |port: &StatusPort| render_bucket(port, &name, StatusCode::OK, |_| None);
    port.make(page).await.unwrap_or_else(failed)
}

/// The page of a bucket with what stands where its events are asked for.
fn render_bucket(
    port: &StatusPort,
    name: &str,
    status: StatusCode,
    events: impl FnOnce(&BucketReport) -> Option<Markup>,
) -> Response {
    let report = port.view.report(unix_ms());
    let Some(found) = report.buckets.iter().find(|bucket| bucket.name == name) else {
        return missing(&report, "There is no such bucket in the relay's configuration.");
    };
    let counts = port.view.stats.bucket(name, report.at_ms / 1000);
    let events = events(found);
    shown(status, &bucket::page(&report, found, &counts.chart, events.as_ref()))
}

/// `ok` for a program, and a refusal for who may not see the page.
fn not_for_a_browser(port: &StatusPort, headers: &HeaderMap) -> Option<Response> {
    let accept = headers.get_all(header::ACCEPT).iter();
    let mut accept = accept.filter_map(|value| value.to_str().ok());
    if !accept.any(|value| value.contains("text/html")) {
        return Some(([PLAIN], "ok").into_response());
    }
    (!port.access.allows(headers)).then(|| port.access.refusal())
}

fn query(uri: &Uri) -> HashMap<String, String> {
    Query::try_from_uri(uri).map(|Query(values)| values).unwrap_or_default()
}

fn missing(report: &Report, text: &str) -> Response {
    shown(StatusCode::NOT_FOUND, &layout::message(report, text))
}

/// A whole page.
fn shown(status: StatusCode, page: &Markup) -> Response {
    html(status, page.0.clone().into_response())
}

fn html(status: StatusCode, mut response: Response) -> Response {
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    for (name, value) in [
        NO_STORE,
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::VARY, "Accept, Accept-Encoding"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn css() -> impl IntoResponse {
    asset("text/css; charset=utf-8", include_str!("page/page.css"))
}

async fn js() -> impl IntoResponse {
    asset("text/javascript; charset=utf-8", include_str!("page/page.js"))
}

/// Files of the program: they change with its version, so they are asked for again now and then.
fn asset(
    kind: &'static str,
    text: &'static str,
) -> ([(HeaderName, &'static str); 3], &'static str) {
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "max-age=300"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, text)
}
