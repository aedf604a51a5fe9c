//! A small HTTP client: whole bodies, keep-alive, no timeouts of its own (the run has one).

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use crate::body;

/// Keeps connections open between requests; one that sends one request after the other uses one connection.
#[derive(Debug)]
pub(crate) struct Client {
    inner: hyper_util::client::legacy::Client<HttpConnector, Full<Bytes>>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// Body, as it came.
    pub(crate) body: Bytes,
}

impl Client {
    /// No connection is made before the first request.
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            inner: hyper_util::client::legacy::Client::builder(TokioExecutor::new())
                .build(connector),
        }
    }

    /// Sends and reads the whole answer, whatever its status.
    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let response = self.open(method, url, headers, body).await?;
        let status = response.status().as_u16();
        Ok(Answer { status, body: body::read(response.into_body()).await? })
    }

    /// Sends and leaves the body to be read, as one that never ends has to be.
    pub(crate) async fn open(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body))?;
        self.inner.request(request).await.with_context(|| url.to_owned())
    }

    /// As [`Client::send`], and an error unless the answer is 2xx.
    pub(crate) async fn send_ok(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Bytes> {
        let answer = self.send(method, url, headers, body).await?;
        let text = String::from_utf8_lossy(&answer.body);
        anyhow::ensure!(
            (200..300).contains(&answer.status),
            "{url} answered {}: {text}",
            answer.status
        );
        Ok(answer.body)
    }
}
