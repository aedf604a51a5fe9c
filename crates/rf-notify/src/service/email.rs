//! Mail: SMTP with TLS from the start, with STARTTLS, or in the clear to a server on the same machine.
//!
//! The message's id makes the `Message-ID`, so mail programs show a repeat once. Subjects are one line and encoded by the
//! library, so no header can be put in.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use rf_net::client::Client;

use super::Service;
use crate::message::Message;
use crate::target::{NotifyError, Security, TargetConfig, Wrong};
use crate::text::{cut, one_line};

const MAX_SUBJECT_CHARS: usize = 200;
const MAX_BYTES: usize = 1024 * 1024;
const REPLY_CHARS: usize = 200;

struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    timeout: Duration,
    host: String,
}

pub(super) fn build(config: &TargetConfig, _http: Client) -> Result<Arc<dyn Service>, Wrong> {
    let mailbox = |key, text: &str| {
        text.parse::<Mailbox>().map_err(|error| Wrong::new(key, format!("`{text}`: {error}")))
    };
    let from = mailbox("from", &config.from)?;
    let to: Vec<Mailbox> =
        config.to.iter().map(|text| mailbox("to", text)).collect::<Result<_, _>>()?;
    if to.is_empty() {
        return Err(Wrong::new("to", "expected at least one address"));
    }
    let (tls, default_port) = match config.security {
        Security::Tls => (Tls::Wrapper(tls(config)?), 465),
        Security::Starttls => (Tls::Required(tls(config)?), 587),
        Security::None => (Tls::None, 25),
    };
    if config.security == Security::None && !config.username.is_empty() && !is_local(&config.host) {
        return Err(Wrong::new(
            "security",
            "a password is not sent in the clear: take tls or starttls",
        ));
    }
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&config.host)
        .port(config.port.unwrap_or(default_port))
        .tls(tls)
        .hello_name(ClientId::Domain(name))
        .timeout(Some(config.timeout.into()));
    if !config.username.is_empty() {
        let password = config.password.expose().to_owned();
        builder = builder.credentials(Credentials::new(config.username.clone(), password));
    }
    Ok(Arc::new(Email {
        transport: builder.build(),
        from,
        to,
        timeout: config.timeout.into(),
        host: config.host.clone(),
    }))
}

fn is_local(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// The public authorities, and those of `caFile`.
fn tls(config: &TargetConfig) -> Result<TlsParameters, Wrong> {
    let mut builder = TlsParameters::builder(config.host.clone());
    if let Some(path) = &config.ca_file {
        let wrong =
            |error: &dyn Error| Wrong::new("caFile", format!("{}: {error}", path.display()));
        let pem = std::fs::read(path).map_err(|error| wrong(&error))?;
        let authorities = Certificate::from_pem(&pem).map_err(|error| wrong(&error))?;
        builder = builder.add_root_certificate(authorities);
    }
    builder.build().map_err(|error| Wrong::new("host", error))
}

impl Email {
    fn mail(&self, message: &Message, id: &str) -> Result<lettre::Message, String> {
        let subject = if message.subject.is_empty() { &message.text } else { &message.subject };
        let domain = self.from.email.domain();
        let mut builder = lettre::Message::builder()
            .from(self.from.clone())
            .subject(one_line(subject, MAX_SUBJECT_CHARS))
            .message_id(Some(format!("<{id}@{domain}>")))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        let text = cut(&message.text, MAX_BYTES, char::len_utf8);
        builder.body(text).map_err(|error| format!("no mail can be made of it: {error}"))
    }

    fn refusal(&self, error: &lettre::transport::smtp::Error) -> NotifyError {
        let mut reason = format!("mail server {}: {error}", self.host);
        if let Some(cause) = error.source() {
            reason = format!("{reason}: {cause}");
        }
        let reason = one_line(&reason, REPLY_CHARS);
        // 5xx about login, sender or recipient (RFC 5321, RFC 4954) is about the set-up, the others about the mail.
        match error.status().map(u16::from) {
            Some(530..=538 | 550 | 551 | 553) => NotifyError::Refused(reason),
            Some(code) if code >= 500 => NotifyError::Permanent(reason),
            Some(_) => NotifyError::Retry { reason, after: None },
            None if error.is_client() || error.is_response() || error.is_tls() => {
                NotifyError::Retry { reason, after: None }
            }
            None => NotifyError::Away(reason),
        }
    }
}

impl Service for Email {
    fn send<'a>(
        &'a self,
        message: &'a Message,
        id: &'a str,
    ) -> BoxFuture<'a, Result<String, NotifyError>> {
        Box::pin(async move {
            let mail = self.mail(message, id).map_err(NotifyError::Permanent)?;
            // The library's own limit is for each command; this one is for all of them together.
            match tokio::time::timeout(self.timeout, self.transport.send(mail)).await {
                Ok(Ok(reply)) => Ok(one_line(
                    &format!("{} {}", reply.code(), reply.first_line().unwrap_or_default()),
                    REPLY_CHARS,
                )),
                Ok(Err(error)) => Err(self.refusal(&error)),
                Err(_elapsed) => Err(NotifyError::Retry {
                    reason: format!(
                        "mail server {}: no answer within {:?}",
                        self.host, self.timeout
                    ),
                    after: None,
                }),
            }
        })
    }
}
