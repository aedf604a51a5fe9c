//! The demo's target: reads each request and answers 200.

use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::service::service_fn;
use rf_net::body::read_capped;
use rf_net::received::ReceivedBody;
use rf_net::serve::{ServerLimits, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Above what the proxy captures.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

pub(super) async fn run(listener: TcpListener, stop: CancellationToken) -> Result<(), Infallible> {
    let limits = ServerLimits::default();
    let timeout = limits.write_timeout;
    let answer = move |request: Request<ReceivedBody>| async move {
        let status = if read_capped(request.into_body(), MAX_BODY_BYTES, timeout).await.is_ok() {
            200
        } else {
            400
        };
        let mut response = Response::new(Full::new(Bytes::from_static(b"replayed\n")));
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
        Ok::<_, Infallible>(response)
    };
    serve(listener, |_peer| service_fn(answer), limits, stop).await;
    Ok(())
}
