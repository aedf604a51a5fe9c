//! Serving on threads of its own: for a service that is called so often that handing its requests between the workers of
//! a shared runtime costs more than the requests.
//!
//! Each listener of [`crate::listen::listen_shared`] gets a thread with a single-threaded runtime. A connection never
//! leaves its thread, and the kernel spreads new connections over the threads. The first one is accepted when every thread
//! has what it needs: under many clients and a small limit of open files there may be nothing left for the next.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::SocketAddr;

use futures_util::future::try_join_all;
use http::{Request, Response};
use http_body::Body;
use hyper::service::Service;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::received::ReceivedBody;
use crate::serve::{ServeReport, ServerLimits, pause_after, serve};

/// Serves every listener on a thread of its own until `stop`; the limits hold for each of them.
///
/// # Errors
/// When a thread cannot be made, or ends by a panic; the others are stopped then. A runtime that cannot be made, as while
/// there are too many open files, is tried again until `stop`.
pub async fn serve_per_core<F, S, B>(
    listeners: Vec<TcpListener>,
    service_for: F,
    limits: ServerLimits,
    stop: CancellationToken,
) -> io::Result<Vec<ServeReport>>
where
    F: Fn(SocketAddr) -> S + Clone + Send + 'static,
    S: Service<Request<ReceivedBody>, Response = Response<B>, Future: Send> + Send + 'static,
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
    maker: M,
    limits: ServerLimits,
    stop: CancellationToken,
) -> io::Result<Vec<ServeReport>>
where
    M: FnMut() -> F,
    F: Fn(SocketAddr) -> S + Send + 'static,
    S: Service<Request<ReceivedBody>, Response = Response<B>, Future: Send> + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    serve_on(own_runtime, listeners, maker, limits, stop).await
}

/// The same on runtimes that `make_runtime` makes.
async fn serve_on<M, F, S, B>(
    mut make_runtime: impl FnMut() -> io::Result<Runtime>,
    listeners: Vec<TcpListener>,
    mut maker: M,
    limits: ServerLimits,
    stop: CancellationToken,
) -> io::Result<Vec<ServeReport>>
where
    M: FnMut() -> F,
    F: Fn(SocketAddr) -> S + Send + 'static,
    S: Service<Request<ReceivedBody>, Response = Response<B>, Future: Send> + Send + 'static,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body<Data: Send, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let stop = stop.child_token();
    // Whatever ends this future ends the threads, too.
    let _stop_all = stop.clone().drop_guard();
    let mut prepared = Vec::with_capacity(listeners.len());
    for listener in listeners {
        let listener = listener.into_std()?;
        let runtime = loop {
            match make_runtime() {
                Ok(runtime) => break Unused(Some(runtime)),
                Err(_) if stop.is_cancelled() => return Ok(Vec::new()),
                Err(error) => pause_after(&error, &stop).await,
            }
        };
        prepared.push((runtime, listener));
    }
    let mut ended = Vec::with_capacity(prepared.len());
    for (index, (runtime, listener)) in prepared.into_iter().enumerate() {
        let (service_for, limits, stop) = (maker(), limits.clone(), stop.clone());
        let serving = move || async move {
            Ok(serve(TcpListener::from_std(listener)?, service_for, limits, stop).await)
        };
        ended.push(on_thread(format!("rf-serve-{index}"), runtime, serving)?);
    }
    try_join_all(ended).await
}

fn own_runtime() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

/// A runtime that may be dropped by a task before a thread has it: a task must not wait for a runtime to end.
struct Unused(Option<Runtime>);

impl Unused {
    fn take(&mut self) -> Runtime {
        self.0.take().expect("it is taken once")
    }
}

impl Drop for Unused {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs a future on a new thread with a runtime of its own.
fn on_thread<M, R, T>(
    name: String,
    mut runtime: Unused,
    make: M,
) -> io::Result<impl Future<Output = io::Result<T>>>
where
    M: FnOnce() -> R + Send + 'static,
    R: Future<Output = io::Result<T>>,
    T: Send + 'static,
{
    let (sender, ended) = oneshot::channel();
    std::thread::Builder::new().name(name.clone()).spawn(move || {
        let runtime = runtime.take();
        let outcome = runtime.block_on(make());
        // Nobody waits any more when the server was dropped.
        drop(sender.send(outcome));
    })?;
    Ok(
        async move { ended.await.map_err(|_gone| io::Error::other(format!("thread {name} panicked")))? },
    )
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use bytes::Bytes;
    use http_body_util::Full;
    use hyper::service::service_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;
    use crate::listen::listen_shared;

    async fn answer(_: Request<ReceivedBody>) -> Result<Response<Full<Bytes>>, Infallible> {
        Ok(Response::new(Full::from("here")))
    }

    fn out_of_files() -> io::Result<Runtime> {
        Err(io::Error::other("too many open files"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_runtime_that_cannot_be_made_is_tried_again_and_nobody_is_accepted_before() {
        let listeners = listen_shared("127.0.0.1", 0, 2).unwrap();
        let address = listeners[0].local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let mut tries = 0;
        let make_runtime = || {
            tries += 1;
            assert_eq!(accepted.load(Ordering::SeqCst), 0);
            if (2..=4).contains(&tries) { out_of_files() } else { own_runtime() }
        };
        let maker = || {
            let accepted = Arc::clone(&accepted);
            move |_peer: SocketAddr| {
                accepted.fetch_add(1, Ordering::SeqCst);
                service_fn(answer)
            }
        };
        let stop = CancellationToken::new();
        let asking = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
            stream.write_all(request).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            stop.cancel();
            answer
        };
        let limits = ServerLimits::default();
        let serving = serve_on(make_runtime, listeners, maker, limits, stop.clone());
        let (reports, answer) = tokio::join!(serving, asking);
        assert!(answer.ends_with("\r\n\r\nhere"), "{answer}");
        assert_eq!(reports.unwrap().into_iter().sum::<ServeReport>().accepted, 1);
        assert_eq!(tries, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_can_be_dropped_while_it_waits_for_a_runtime() {
        let listeners = listen_shared("127.0.0.1", 0, 2).unwrap();
        let mut tries = 0;
        let make_runtime = || {
            tries += 1;
            if tries == 1 { own_runtime() } else { out_of_files() }
        };
        let maker = || |_peer: SocketAddr| service_fn(answer);
        let stop = CancellationToken::new();
        let serving = serve_on(make_runtime, listeners, maker, ServerLimits::default(), stop);
        let dropped = tokio::time::timeout(Duration::from_secs(1), serving).await;
        assert!(dropped.is_err() && tries > 2, "{tries} tries");
    }
}
