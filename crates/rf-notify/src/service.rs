//! The services: one file each, and one line in [`KINDS`].

mod discord;
mod email;
mod gotify;
mod matrix;
mod ntfy;
mod slack;
mod teams;
mod telegram;
mod webhook;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use rf_net::client::Client;

use crate::message::Message;
use crate::target::{NotifyError, Sent, TargetConfig, Wrong};
use crate::text::Room;

/// A service that is configured and checked.
pub(crate) trait Service: Send + Sync {
    /// Sends one message once.
    fn send<'a>(
        &'a self,
        message: &'a Message,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Sent, NotifyError>>;

    /// Keys that are hardly meant as they are written, although there are messages that can be sent with them.
    fn doubts(&self) -> Vec<Wrong> {
        Vec::new()
    }
}

/// One kind of service.
pub(crate) struct Kind {
    /// The `kind` in the file.
    pub(crate) name: &'static str,
    /// Keys that must be there.
    pub(crate) needs: &'static [&'static str],
    /// Keys that may be there.
    pub(crate) takes: &'static [&'static str],
    /// How many notifications become one message where the file says nothing.
    pub(crate) group_max: usize,
    /// What it takes of a group.
    pub(crate) room: Room,
    /// Makes it of its keys.
    pub(crate) build: fn(&TargetConfig, Client) -> Result<Arc<dyn Service>, Wrong>,
}

/// Messages to people are grouped; a program behind a webhook is told of each.
const GROUPED: usize = 100;

/// Every kind that a file may name.
#[rustfmt::skip]
pub(crate) const KINDS: &[Kind] = &[
    Kind { name: "webhook", needs: &["url"], takes: &["method", "contentType", "header", "buildPayload"], group_max: 1, room: Room::AMPLE, build: webhook::build },
    Kind { name: "discord", needs: &["url"], takes: &[], group_max: GROUPED, room: discord::ROOM, build: discord::build },
    Kind { name: "slack", needs: &["url"], takes: &[], group_max: GROUPED, room: slack::ROOM, build: slack::build },
    Kind { name: "telegram", needs: &["token", "chatId"], takes: &["url"], group_max: GROUPED, room: telegram::ROOM, build: telegram::build },
    Kind { name: "ntfy", needs: &["topic"], takes: &["url", "token", "username", "password", "priority"], group_max: GROUPED, room: ntfy::ROOM, build: ntfy::build },
    Kind { name: "gotify", needs: &["url", "token"], takes: &["priority"], group_max: GROUPED, room: gotify::ROOM, build: gotify::build },
    Kind { name: "matrix", needs: &["url", "token", "room"], takes: &[], group_max: GROUPED, room: matrix::ROOM, build: matrix::build },
    Kind { name: "teams", needs: &["url"], takes: &[], group_max: GROUPED, room: teams::ROOM, build: teams::build },
    Kind { name: "email", needs: &["host", "from", "to"], takes: &["port", "security", "username", "password"], group_max: GROUPED, room: Room::AMPLE, build: email::build },
];
