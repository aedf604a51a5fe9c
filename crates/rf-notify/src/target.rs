//! A target as its user writes it, checked by its kind, and the running part.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rf_core::config::{Interval, Node, Problems, Secret, did_you_mean};
use rf_net::client::{Client, ClientOptions};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::message::Message;
use crate::service::{KINDS, Kind, Service};
use crate::text::Room;

/// Keys that every kind takes.
const COMMON: [&str; 4] = ["kind", "timeout", "groupMax", "caFile"];
/// What is encoded in an id: all but what can stand in a header, a URL and a `Message-ID` alike.
const NOT_IN_IDS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.');
/// Connections that are kept for a service.
const IDLE_CONNECTIONS: usize = 2;

/// Where notifications go: one service. Which keys it takes depends on `kind`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TargetConfig {
    /// The service: webhook, discord, slack, telegram, ntfy, gotify, matrix, teams or email.
    #[serde(default = "default_kind")]
    pub kind: String,
    /// Where it is reached. For discord, slack and teams it is the secret that allows to post.
    #[serde(default)]
    pub url: Secret,
    /// HTTP method of a webhook.
    #[serde(default = "default_method")]
    #[schemars(extend("x-zero-is-unset" = true))]
    pub method: String,
    /// Of a webhook: `json`, a media type, or empty for plain text.
    #[serde(default)]
    pub content_type: String,
    /// Headers of a webhook: name to value.
    #[serde(default)]
    pub header: BTreeMap<String, Secret>,
    /// Body of a webhook, with `{{subject}}` and `{{message}}`; empty: an object with both, or a plain text.
    #[serde(default)]
    pub build_payload: String,
    /// Token of telegram, gotify, matrix or ntfy.
    #[serde(default)]
    pub token: Secret,
    /// Chat of telegram: its number or `@channel`, as a text.
    #[serde(default)]
    pub chat_id: String,
    /// Topic of ntfy.
    #[serde(default)]
    pub topic: String,
    /// Id of the room of matrix, such as `!abc:example.com`.
    #[serde(default)]
    pub room: String,
    /// Priority of ntfy (1 to 5) or gotify (0 to 10); none: the service's own.
    #[serde(default)]
    pub priority: Option<u8>,
    /// Mail server.
    #[serde(default)]
    pub host: String,
    /// Its port; none: 465 for tls, 587 for starttls, 25 for none.
    #[serde(default)]
    pub port: Option<u16>,
    /// How the connection to the mail server is secured.
    #[serde(default)]
    pub security: Security,
    /// Account at the mail server, or at ntfy.
    #[serde(default)]
    pub username: String,
    /// Its password.
    #[serde(default)]
    pub password: Secret,
    /// Sender of mails: `a@example.com` or `Name <a@example.com>`.
    #[serde(default)]
    pub from: String,
    /// Who gets the mails.
    #[serde(default)]
    pub to: Vec<String>,
    /// How long one try may take.
    #[serde(default = "default_timeout")]
    pub timeout: Interval,
    /// So many notifications that wait become one message; 1: each is sent alone. Default 100, for webhook 1.
    #[serde(default)]
    #[schemars(range(min = 1, max = 100))]
    pub group_max: Option<usize>,
    /// A PEM file of authorities to trust besides the public ones.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
}

/// How a connection to a mail server is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Security {
    /// TLS from the first byte.
    Tls,
    /// Begun in the clear, then TLS; without TLS nothing is sent.
    #[default]
    Starttls,
    /// In the clear; for a server on the same machine.
    None,
}

fn default_kind() -> String {
    "webhook".to_owned()
}

fn default_method() -> String {
    "POST".to_owned()
}

fn default_timeout() -> Interval {
    Interval::from_secs(15)
}

/// What came of a message that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// What the service answered.
    pub answer: String,
    /// Who of several did not get it, and why: a person must act.
    pub missed: Option<String>,
}

impl Sent {
    /// To everybody.
    pub(crate) fn whole(answer: String) -> Self {
        Self { answer, missed: None }
    }
}

/// Why a message was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotifyError {
    /// May work later.
    #[error("{reason}")]
    Retry {
        /// What happened.
        reason: String,
        /// The service's own word on when.
        after: Option<Duration>,
    },
    /// The service was not reached at all.
    #[error("{0}")]
    Away(String),
    /// The service refuses us, not the message: a wrong token, a webhook that was deleted. A person must act.
    #[error("{0}: check the address and the token")]
    Refused(String),
    /// The service refuses this message.
    #[error("{0}")]
    Permanent(String),
}

/// A service that can be sent to.
#[derive(Clone)]
pub struct Target {
    name: String,
    group_max: usize,
    room: Room,
    service: Arc<dyn Service>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Target {
    /// Checks what stands at `node` and makes the target; problems are reported at their place.
    pub fn build(
        name: &str,
        config: &TargetConfig,
        node: &Node<'_>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let Some(kind) = KINDS.iter().find(|kind| kind.name == config.kind) else {
            let known: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
            let meant = did_you_mean(&config.kind, known.iter().copied());
            let message = format!("no kind `{}`{meant}; known: {}", config.kind, known.join(", "));
            problems.error(&at(node, "kind"), message);
            return None;
        };
        if !has_its_keys(kind, node, problems) {
            return None;
        }
        let timeout = Duration::from(config.timeout);
        if timeout.is_zero() {
            problems.error(&at(node, "timeout"), "expected a time above zero");
            return None;
        }
        let options = ClientOptions {
            connect_timeout: timeout,
            max_idle_per_host: IDLE_CONNECTIONS,
            ca_file: config.ca_file.clone(),
            ..ClientOptions::default()
        };
        let client = Client::new(&options)
            .map_err(|error| problems.error(&at(node, "caFile"), error.to_string()))
            .ok()?;
        let service = (kind.build)(config, client)
            .map_err(|wrong| match node.get(wrong.key) {
                Some(value) => problems.error(&value, wrong.reason),
                None => problems.error(node, format!("{}: {}", wrong.key, wrong.reason)),
            })
            .ok()?;
        for doubt in service.doubts() {
            problems.warn(&at(node, doubt.key), doubt.reason);
        }
        let group_max = config.group_max.unwrap_or(kind.group_max);
        Some(Self { name: name.to_owned(), group_max, room: kind.room, service })
    }

    /// Its name in the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// So many messages may go as one.
    pub fn group_max(&self) -> usize {
        self.group_max
    }

    /// Several messages as one that the service takes whole; one alone stays as it is.
    #[must_use]
    pub fn grouped(&self, messages: &[Message]) -> Message {
        Message::grouped(messages, self.room)
    }

    /// Sends one message once; `id`, which may be any text, is the same whenever it is sent again.
    ///
    /// # Errors
    /// [`NotifyError`] says what to do next.
    pub async fn send(&self, message: &Message, id: &str) -> Result<Sent, NotifyError> {
        let id = utf8_percent_encode(id, NOT_IN_IDS).to_string();
        self.service.send(message, &id).await
    }
}

/// What is wrong with a key.
pub(crate) struct Wrong {
    pub(crate) key: &'static str,
    pub(crate) reason: String,
}

impl Wrong {
    pub(crate) fn new(key: &'static str, reason: impl fmt::Display) -> Self {
        Self { key, reason: reason.to_string() }
    }
}

/// Every key that the kind needs, and none that it would pass over.
fn has_its_keys(kind: &Kind, node: &Node<'_>, problems: &mut Problems) -> bool {
    let mut is_fine = true;
    let known = || kind.needs.iter().chain(kind.takes).chain(&COMMON);
    for (name, entry) in node.entries() {
        if !known().any(|key| key.eq_ignore_ascii_case(&name)) {
            let names: Vec<&str> = known().copied().collect();
            let message =
                format!("kind `{}` has no such key; its keys: {}", kind.name, names.join(", "));
            problems.error(&entry, message);
            is_fine = false;
        }
    }
    for key in kind.needs {
        let is_empty = |value: Node<'_>| value.as_str() == Some("");
        if node.get(key).is_none_or(is_empty) {
            problems.error(node, format!("kind `{}` needs {key}", kind.name));
            is_fine = false;
        }
    }
    is_fine
}

fn at<'a>(node: &Node<'a>, key: &str) -> Node<'a> {
    node.get(key).unwrap_or(*node)
}
