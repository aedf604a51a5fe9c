//! A status port, as the command line asks it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, Uri, header};
use http_body_util::Full;
use rf_net::body::read_capped;
use rf_net::client::{Client, ClientOptions};
use rf_net::mask::shown;

use crate::config_file::environment;

/// How long the program may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A status of a thousand nodes is a few MiB.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// The variable that holds `statusAuth` of the relay.
pub(super) const TOKEN_VARIABLE: &str = "RF_STATUS_TOKEN";

/// The status port of a program.
pub(super) struct StatusPort {
    url: String,
    token: Option<HeaderValue>,
    client: Client,
}

impl StatusPort {
    /// At this URL, with the token that it asks for.
    pub(super) fn new(url: &str, token: Option<&str>) -> anyhow::Result<StatusPort> {
        let bearer = |token: &str| -> anyhow::Result<HeaderValue> {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))
                .context("the token cannot be sent as a header")?;
            value.set_sensitive(true);
            Ok(value)
        };
        Ok(StatusPort {
            url: url.trim_end_matches('/').to_owned(),
            token: token.map(bearer).transpose()?,
            client: Client::new(&ClientOptions::default())?,
        })
    }

    /// What it answers to a path.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Bytes> {
        let mut request =
            Request::get(format!("{}{path}", self.url)).body(Full::new(Bytes::new()))?;
        // Only what the user has given may be secret, not the path.
        let url: Uri = self.url.parse()?;
        let url = format!("{}{path}", shown(&url).trim_end_matches('/'));
        if let Some(token) = &self.token {
            request.headers_mut().insert(header::AUTHORIZATION, token.clone());
        }
        let answer = self.client.send(request, TIMEOUT).await?;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED if self.token.is_some() => anyhow::bail!(
                "the relay refuses the token from {TOKEN_VARIABLE} or --token-file: expected its statusAuth"
            ),
            StatusCode::UNAUTHORIZED => anyhow::bail!(
                "the relay requires a token: set {TOKEN_VARIABLE} to its statusAuth, or use --token-file"
            ),
            StatusCode::NOT_FOUND => anyhow::bail!(
                "{url} answered {}: is it a status port (portStatusZ)?",
                StatusCode::NOT_FOUND
            ),
            other => anyhow::bail!("{url} answered {other}"),
        }
        Ok(read_capped(answer.into_body(), MAX_ANSWER_BYTES, TIMEOUT).await?)
    }
}

/// A token from a file, or from the environment: never from the command line, where everybody on the machine sees it.
pub(super) fn token(variable: &str, file: Option<&PathBuf>) -> anyhow::Result<Option<String>> {
    let Some(file) = file else {
        return Ok(environment(variable).filter(|token| !token.is_empty()));
    };
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Ok(Some(text.trim_end().to_owned()))
}
