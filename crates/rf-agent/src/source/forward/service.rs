//! One request on its way to the upstream, and the answer on its way back.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use http::header::{CONTENT_TYPE, EXPECT};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::upgrade::OnUpgrade;
use rf_core::lifecycle::Tasks;
use rf_net::interim::Interim;
use rf_net::received::ReceivedBody;
use rf_net::upstream::{UpstreamError, tunnel};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::bodies::{AnswerBody, Progress, RequestBody};
use super::config::Settings;
use super::copies::Copies;
use super::expect::Gate;
use super::recording::{Head, Recording, Side};
use super::{Upstream, headers};
use crate::source::http::{OTHER_CODING, is_only_framed};

/// What every connection of one thread shares.
pub(super) struct Forwarding {
    pub(super) id: String,
    pub(super) settings: Arc<Settings>,
    pub(super) upstream: Upstream,
    /// None: nothing is copied.
    pub(super) copies: Option<Copies>,
    pub(super) tunnels: Arc<Tunnels>,
    pub(super) stop: CancellationToken,
}

/// Upgraded connections: they have left their server, so they are counted here.
pub(super) struct Tunnels {
    pub(super) tasks: Tasks,
    pub(super) room: Arc<Semaphore>,
}

/// Why there is no answer of the upstream.
enum Failure {
    /// The client sends no more.
    Slow,
    /// The client has left, so nobody reads what is answered.
    Gone,
    /// No connection, or no answer, in time.
    Timeout(String),
    /// No connection, or it broke.
    Away(String),
    /// There is one, of an upgrade, but no room for another tunnel.
    Crowded,
}

impl Forwarding {
    pub(super) async fn answer(
        &self,
        peer: SocketAddr,
        mut request: Request<ReceivedBody>,
    ) -> Response<AnswerBody> {
        if *request.method() == Method::CONNECT {
            return own(
                StatusCode::METHOD_NOT_ALLOWED,
                "CONNECT is not supported: this is not a forward proxy\n",
            );
        }
        if !headers::has_one_host(request.headers()) || headers::has_user(request.uri()) {
            return own(
                StatusCode::BAD_REQUEST,
                "The request has more than one host, or a bad one\n",
            );
        }
        if !is_only_framed(request.headers()) {
            return own(StatusCode::NOT_IMPLEMENTED, OTHER_CODING);
        }
        let Some(uri) = self.settings.target.uri(&request) else {
            return own(StatusCode::BAD_REQUEST, "The target of the request cannot be forwarded\n");
        };
        headers::take_host_of_target(&mut request);
        let copy = self.copy(peer, &request);
        // In HTTP/1.0 it means nothing (RFC 9110, section 7.8), and the server could not follow an upstream that takes it up.
        let upgrade = (request.version() == Version::HTTP_11)
            .then(|| headers::wanted_upgrade(request.headers()))
            .flatten();
        let client = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        headers::for_upstream(request.headers_mut(), &self.settings, peer, upgrade);
        let gate = listen_to_interim(&mut request);
        let progress = Progress::new();
        let patience = self.settings.request_timeout;
        let interim = request.extensions_mut().remove::<Interim>();
        let mut request = request.map(|body| {
            RequestBody::new(body, copy.clone(), gate, Arc::clone(&progress), patience)
        });
        *request.uri_mut() = uri;
        *request.version_mut() = Version::HTTP_11;
        // Without the answer the copy is whole with the end of the request's body.
        let copy = copy
            .filter(|_| self.settings.capture.as_ref().is_some_and(|capture| capture.with_answer));
        match self.head(request, &progress, interim).await {
            Ok(response) => self.pass_on(response, client, copy),
            Err(failure) => self.fail(failure, copy.as_deref()),
        }
    }

    /// Begins a copy, where one is wanted and there is room.
    fn copy(&self, peer: SocketAddr, request: &Request<ReceivedBody>) -> Option<Arc<Recording>> {
        let copies = self.copies.as_ref()?;
        let (method, uri, headers) = (request.method(), request.uri(), request.headers());
        if !copies.settings().selection.wants(method, uri, headers, fastrand::f64) {
            return None;
        }
        let target = uri.path_and_query().map_or("/", |target| target.as_str());
        Recording::begin(&Head { peer, method, target, headers }, copies)
    }

    /// Waits for the head of the answer: as long as the client goes on with its request, and as the file allows where it is
    /// the upstream that is waited for.
    async fn head(
        &self,
        request: Request<RequestBody>,
        progress: &Progress,
        interim: Option<Interim>,
    ) -> Result<Response<Incoming>, Failure> {
        let mut sending = pin!(self.upstream.send(request));
        let patience = self.settings.upstream_timeout;
        loop {
            let watched = std::future::poll_fn(|cx| {
                if let Some(interim) = &interim {
                    interim.register(cx.waker());
                }
                sending.as_mut().poll(cx)
            });
            return match timeout_at(progress.upstream_since() + patience, watched).await {
                Ok(Ok(response)) => Ok(response),
                Ok(Err(_broken)) if progress.is_slow() => Err(Failure::Slow),
                Ok(Err(_broken)) if progress.is_broken() => Err(Failure::Gone),
                Ok(Err(
                    error @ (UpstreamError::Away { is_timeout: true, .. }
                    | UpstreamError::Broken { is_timeout: true, .. }),
                )) => Err(Failure::Timeout(error.to_string())),
                Ok(Err(error)) => Err(Failure::Away(error.to_string())),
                // The client was still sending, or is.
                Err(_elapsed) if Instant::now() < progress.upstream_since() + patience => continue,
                Err(_elapsed) => Err(Failure::Timeout(format!("no answer within {patience:?}"))),
            };
        }
    }

    fn pass_on(
        &self,
        mut response: Response<Incoming>,
        client: Option<OnUpgrade>,
        copy: Option<Arc<Recording>>,
    ) -> Response<AnswerBody> {
        let status = response.status();
        if status == StatusCode::SWITCHING_PROTOCOLS {
            let upstream = hyper::upgrade::on(&mut response);
            let Some(client) = client else {
                return self.fail(
                    Failure::Away("it switched protocols without being asked".to_owned()),
                    copy.as_deref(),
                );
            };
            let Ok(room) = Arc::clone(&self.tunnels.room).try_acquire_owned() else {
                return self.fail(Failure::Crowded, copy.as_deref());
            };
            let stop = self.stop.clone();
            self.tunnels.tasks.spawn_contained("tunnel", async move {
                tunnel(client, upstream, stop).await;
                drop(room);
            });
        }
        headers::for_client(status, response.headers_mut());
        *response.version_mut() = Version::HTTP_11;
        if let Some(copy) = &copy {
            copy.answer(status, response.headers(), false);
        }
        response.map(|body| AnswerBody::upstream(body, copy))
    }

    fn fail(&self, failure: Failure, copy: Option<&Recording>) -> Response<AnswerBody> {
        let upstream = self.settings.target.name();
        let response = match failure {
            Failure::Slow => own(StatusCode::REQUEST_TIMEOUT, "The body came too slowly\n"),
            Failure::Gone => own(StatusCode::BAD_REQUEST, "The body is incomplete\n"),
            Failure::Timeout(error) => {
                tracing::warn!(
                    source = self.id,
                    upstream,
                    error,
                    "the upstream did not answer in time: answered with 504"
                );
                own(
                    StatusCode::GATEWAY_TIMEOUT,
                    "The server behind this proxy did not answer in time\n",
                )
            }
            Failure::Away(error) => {
                tracing::warn!(
                    source = self.id,
                    upstream,
                    error,
                    "no answer from the upstream: answered with 502"
                );
                own(StatusCode::BAD_GATEWAY, "The server behind this proxy gave no answer\n")
            }
            Failure::Crowded => {
                tracing::warn!(
                    source = self.id,
                    "limit of upgraded connections reached, an upgrade is refused"
                );
                own(StatusCode::SERVICE_UNAVAILABLE, "Too many connections\n")
            }
        };
        if let Some(copy) = copy {
            copy.answer(response.status(), response.headers(), true);
            copy.complete(Side::Answer);
        }
        response
    }
}

/// Has interim answers sent on to the client; the gate of the body, if the client waits for `100 Continue`.
fn listen_to_interim(request: &mut Request<ReceivedBody>) -> Option<Gate> {
    let interim = request.extensions().get::<Interim>().cloned()?;
    let expects = request
        .headers()
        .get(EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let (gate, wanted) = (expects && !request.body().is_end_stream()).then(Gate::new).unzip();
    hyper::ext::on_informational(request, move |answer| {
        if answer.status() != StatusCode::CONTINUE {
            interim.push(answer.status(), &headers::for_interim(answer.headers()));
        } else if let Some(wanted) = &wanted {
            // hyper tells the client when the body is asked for.
            wanted.cancel();
        }
    });
    gate
}

fn own(status: StatusCode, text: &'static str) -> Response<AnswerBody> {
    let mut response = Response::new(AnswerBody::Own(Full::from(text)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
