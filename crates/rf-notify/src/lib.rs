//! Notifications: a subject and a message, to chat services, push services, mail and webhooks.
//!
//! Used by the sink `notification` of an agent and by the alerts of a relay, so it knows neither.
//!
//! Must not know: events, queues, retries. It sends one message once, and says what the service answered.
//!
//! Promises: a message never calls anybody out (`@everyone`, `<!channel>`), shows where its links lead, keeps to the
//! service's limits, and lands in the service's text and nowhere else, whatever it contains. No error names a URL, a token
//! or the message.
//!
//! Reading order: [`message`] (what is sent, and how several become one), [`target`] (what a user writes, and what comes
//! of it), `post` (one HTTP exchange and its answer), `service` (one file for each service), `text` and `template` (texts
//! within a service's limits, and a user's own payload).

pub mod message;
mod post;
mod service;
pub mod target;
mod template;
mod text;

pub use message::Message;
pub use target::{NotifyError, Sent, Target, TargetConfig};
