//! Serving on threads of its own: for a service that is called so often that handing its requests between the workers of
//! a shared runtime costs more than the requests.
//!
//! Each listener of [`crate::listen::listen_shared`] gets a thread with a single-threaded runtime. A connection never
//! leaves its thread, and the kernel spreads new connections over the threads.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;

use futures_util::future::try_join_all;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::service::Service;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::serve::{ServeReport, ServerLimits, serve};

/// Serves every listener on a thread of its own until `stop`; the limits hold for each of them.
///
/// # Errors
/// When a thread or its runtime cannot be made, or a thread ends by a panic; the others are stopped then.
pub async fn serve_per_core<F, S, B>(
    listeners: Vec<TcpListener>,
    service_for: F,
    limits: ServerLimits,
    stop: CancellationToken,
) -> io::Result<Vec<ServeReport>>
where
    F: Fn(SocketAddr) -> S + Clone + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Future: Send> + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    serve_each(listeners, || service_for.clone(), limits, stop).await
}

/// The same with a maker of services for each thread, as for connections that must not be shared between threads.
///
/// # Errors
/// As [`serve_per_core`].
pub async fn serve_each<M, F, S, B>(
    listeners: Vec<TcpListener>,
    mut maker: M,
    limits: ServerLimits,
    stop: CancellationToken,
) -> io::Result<Vec<ServeReport>>
where
    M: FnMut() -> F,
    F: Fn(SocketAddr) -> S + Send + 'static,
    S: Service<Request<Incoming>, Response = Response<B>, Future: Send> + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let stop = stop.child_token();
    // Whatever ends this future ends the threads, too.
    let _stop_all = stop.clone().drop_guard();
    let mut ended = Vec::with_capacity(listeners.len());
    for (index, listener) in listeners.into_iter().enumerate() {
        let listener = listener.into_std()?;
        let (service_for, limits, stop) = (maker(), limits.clone(), stop.clone());
        let serving = move || async move {
            Ok(serve(TcpListener::from_std(listener)?, service_for, limits, stop).await)
        };
        ended.push(on_thread(format!("rf-serve-{index}"), serving)?);
    }
    try_join_all(ended).await
}

/// Runs a future on a new thread with a runtime of its own.
fn on_thread<M, R, T>(name: String, make: M) -> io::Result<impl Future<Output = io::Result<T>>>
where
    M: FnOnce() -> R + Send + 'static,
    R: Future<Output = io::Result<T>>,
    T: Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (sender, ended) = oneshot::channel();
    std::thread::Builder::new().name(name.clone()).spawn(move || {
        let outcome = runtime.block_on(make());
        // Nobody waits any more when the server was dropped.
        drop(sender.send(outcome));
    })?;
    Ok(
        async move { ended.await.map_err(|_gone| io::Error::other(format!("thread {name} panicked")))? },
    )
}
