//! Mail: SMTP with TLS from the start, with STARTTLS, or in the clear to a server on the same machine.
//!
//! The message's id makes the `Message-ID`, so mail programs show a repeat once. Subjects are one line and encoded by the
//! library, so no header can be put in.
//!
//! Promise: an address that the server refuses keeps the mail from nobody else (`recipients`).

mod recipients;

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use lettre::Address;
use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, Tls, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{
    ClientId, Extension, MailBodyParameter, MailParameter, ServerInfo,
};
use lettre::transport::smtp::response::Response;
use parking_lot::Mutex;
use rf_net::client::Client;
use tokio::time::{Instant, timeout, timeout_at};

use self::recipients::{Ledger, Replies};
use super::Service;
use crate::message::Message;
use crate::target::{NotifyError, Security, Sent, TargetConfig, Wrong};
use crate::text::{cut, one_line};

const MAX_SUBJECT_CHARS: usize = 200;
const MAX_BYTES: usize = 1024 * 1024;
const REPLY_CHARS: usize = 200;
/// So long a server may take to say goodbye once a mail is settled.
const GOODBYE: Duration = Duration::from_secs(1);

struct Email {
    tls: Tls,
    port: u16,
    hello: ClientId,
    credentials: Option<Credentials>,
    from: Mailbox,
    to: Vec<Mailbox>,
    timeout: Duration,
    host: String,
    /// Mails are sent one after the other, so it is about one at a time.
    ledger: Mutex<Ledger>,
}

/// How far a conversation with the server had come.
#[derive(Clone, Copy)]
enum Step {
    Greeting,
    Login,
    Addresses,
    Content,
}

pub(super) fn build(config: &TargetConfig, _http: Client) -> Result<Arc<dyn Service>, Wrong> {
    let mailbox = |key, text: &str| {
        // The library's own words are "Invalid input", whatever it is.
        text.parse::<Mailbox>().map_err(|_says_less| {
            let shown = text.escape_debug();
            Wrong::new(key, format!("`{shown}`: expected an address such as name@example.com"))
        })
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
            "a password is not sent unencrypted: use tls or starttls",
        ));
    }
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let credentials = (!config.username.is_empty())
        .then(|| Credentials::new(config.username.clone(), config.password.expose().to_owned()));
    Ok(Arc::new(Email {
        tls,
        port: config.port.unwrap_or(default_port),
        hello: ClientId::Domain(name),
        credentials,
        from,
        to,
        timeout: config.timeout.into(),
        host: config.host.clone(),
        ledger: Mutex::default(),
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
        builder.body(text).map_err(|error| format!("it cannot be turned into a mail: {error}"))
    }

    /// A connection that takes mails.
    async fn connect(&self) -> Result<AsyncSmtpConnection, NotifyError> {
        let from_the_start = match &self.tls {
            Tls::Wrapper(parameters) => Some(parameters.clone()),
            _ => None,
        };
        let server = (self.host.as_str(), self.port);
        let limit = Some(self.timeout);
        // Boxed: the library's states of a TLS handshake are large.
        let greeted = Box::pin(AsyncSmtpConnection::connect_tokio1(
            server,
            limit,
            &self.hello,
            from_the_start,
            None,
        ));
        let mut connection = greeted.await.map_err(|error| self.refusal(Step::Greeting, &error))?;
        if let Tls::Required(parameters) = &self.tls {
            Box::pin(connection.starttls(parameters.clone(), &self.hello))
                .await
                .map_err(|error| self.refusal(Step::Greeting, &error))?;
        }
        if let Some(credentials) = &self.credentials {
            connection
                .auth(DEFAULT_MECHANISMS, credentials)
                .await
                .map_err(|error| self.refusal(Step::Login, &error))?;
        }
        Ok(connection)
    }

    /// The server, for messages.
    fn server(&self) -> String {
        let (host, port) = (&self.host, self.port);
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Offers the mail for each of these addresses, and sends it to those that the server takes.
    async fn hand_over(
        &self,
        connection: &mut AsyncSmtpConnection,
        mail: &[u8],
        to: Vec<Address>,
    ) -> Result<Replies, NotifyError> {
        let refusal = |step, error| self.refusal(step, &error);
        let parameters = self.parameters(connection.server_info(), mail, &to)?;
        let from = Mail::new(Some(self.from.email.clone()), parameters);
        connection.command(from).await.map_err(|error| refusal(Step::Addresses, error))?;
        let mut replies = Replies::default();
        let mut is_taken_for_any = false;
        for address in to {
            let rcpt = Rcpt::new(address.clone(), Vec::new());
            let Err(error) = connection.command(rcpt).await else {
                is_taken_for_any = true;
                continue;
            };
            let is_about_the_address = error.status().is_some();
            match refusal(Step::Addresses, error) {
                error if !is_about_the_address => return Err(error),
                NotifyError::Refused(reason) => replies.refused.push((address, reason)),
                error => replies.put_off.push((address, error.to_string())),
            }
        }
        if is_taken_for_any {
            connection.command(Data).await.map_err(|error| refusal(Step::Content, error))?;
            let answer = connection.message(mail).await;
            let answer = answer.map_err(|error| refusal(Step::Content, error))?;
            replies.answer = Some(one_reply(&answer));
        }
        Ok(replies)
    }

    /// What the server must know of the mail beforehand.
    fn parameters(
        &self,
        offers: &ServerInfo,
        mail: &[u8],
        to: &[Address],
    ) -> Result<Vec<MailParameter>, NotifyError> {
        let is_ascii = |address: &Address| AsRef::<str>::as_ref(address).is_ascii();
        let mut parameters = Vec::new();
        let mut ask_for = |extension, parameter| {
            if !offers.supports_feature(extension) {
                let server = self.server();
                let reason = format!("mail server {server}: it does not offer {extension}");
                return Err(NotifyError::Retry { reason, after: None });
            }
            parameters.push(parameter);
            Ok(())
        };
        if !to.iter().chain([&self.from.email]).all(is_ascii) {
            ask_for(Extension::SmtpUtfEight, MailParameter::SmtpUtfEight)?;
        }
        if !mail.is_ascii() {
            let body = MailParameter::Body(MailBodyParameter::EightBitMime);
            ask_for(Extension::EightBitMime, body)?;
        }
        Ok(parameters)
    }

    fn refusal(&self, step: Step, error: &lettre::transport::smtp::Error) -> NotifyError {
        let reason = format!("mail server {}: {}", self.server(), in_words(error));
        let reason = one_line(&reason, REPLY_CHARS);
        match (error.status().map(u16::from), step) {
            // RFC 5321, 3.1: with a 5xx at the start a server says that it is closed, to whatever mail. 4.5.3.1.10: with a
            // 552 an older one says that there are too many recipients; a full mailbox passes, too.
            (Some(..500), _) | (Some(_), Step::Greeting) | (Some(552), Step::Addresses) => {
                NotifyError::Retry { reason, after: None }
            }
            // Before it has seen anything of the mail it is about the set-up; so are refusals of the login, the sender or
            // a recipient later on (RFC 5321, RFC 4954).
            (Some(_), Step::Login | Step::Addresses)
            | (Some(530..=538 | 550 | 551 | 553), Step::Content) => NotifyError::Refused(reason),
            (Some(_), Step::Content) => NotifyError::Permanent(reason),
            (None, _) if error.is_client() || error.is_response() || error.is_tls() => {
                NotifyError::Retry { reason, after: None }
            }
            (None, _) => NotifyError::Away(reason),
        }
    }

    fn too_slow(&self) -> NotifyError {
        let reason = format!("mail server {}: no answer within {:?}", self.server(), self.timeout);
        NotifyError::Retry { reason, after: None }
    }

    /// Sends the mail to those who do not have it yet.
    async fn deliver(&self, message: &Message, id: &str) -> Result<Sent, NotifyError> {
        let mail = self.mail(message, id).map_err(NotifyError::Permanent)?.formatted();
        let rest = self.ledger.lock().rest(id);
        let to =
            rest.unwrap_or_else(|| self.to.iter().map(|mailbox| mailbox.email.clone()).collect());
        // The library's own limit is for each command; this one is for all of them together.
        let deadline = Instant::now() + self.timeout;
        let connected = timeout_at(deadline, Box::pin(self.connect())).await;
        let mut connection = connected.map_err(|_elapsed| self.too_slow())??;
        let replies = timeout_at(deadline, Box::pin(self.hand_over(&mut connection, &mail, to)));
        let replies = replies.await.map_err(|_elapsed| self.too_slow())?;
        // The mail is settled, however the connection ends.
        timeout(GOODBYE, Box::pin(connection.abort())).await.unwrap_or_default();
        self.ledger.lock().settle(replies?, id)
    }
}

fn one_reply(reply: &Response) -> String {
    let line = format!("{} {}", reply.code(), reply.first_line().unwrap_or_default());
    one_line(&line, REPLY_CHARS)
}

/// The server's reply, or the cause beneath the library's own words, which say "connection error" several times.
fn in_words(error: &lettre::transport::smtp::Error) -> String {
    let mut cause: &(dyn Error + 'static) = error;
    while cause.is::<lettre::transport::smtp::Error>() {
        let Some(beneath) = cause.source() else { break };
        cause = beneath;
    }
    let text = cause.to_string();
    match error.status() {
        Some(code) => format!("{code} {text}"),
        None if text.contains("CaUsedAsEndEntity") => {
            "its certificate is that of a certificate authority: give the server one that the authority signed"
                .to_owned()
        }
        None => text,
    }
}

impl Service for Email {
    fn send<'a>(
        &'a self,
        message: &'a Message,
        id: &'a str,
    ) -> BoxFuture<'a, Result<Sent, NotifyError>> {
        Box::pin(self.deliver(message, id))
    }
}
