//! The keys that say where a database is, checked into a [`Server`].

use std::path::PathBuf;
use std::time::Duration;

use rf_core::config::{Interval, Node, Problems, Secret};
use tokio_postgres::Config;
use tokio_postgres::config::Host;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::conn_string::ConnString;
pub(crate) use super::ssl::SslMode;
use crate::settings::{Port, at, not_zero};

const DEFAULT_HOST: &str = "localhost";
const DEFAULT_PORT: u16 = 5432;
const APPLICATION_NAME: &str = "replayforge";
/// A peer that has gone without a word is noticed after about a minute.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(30), Duration::from_secs(10), 3);

/// Declares the `params` of a source that asks a database: its own keys, and those of the connection, which are the same
/// for all. A macro, for serde does not refuse unknown keys of a struct into which another one is flattened.
macro_rules! params_with_connection {
    ($(#[$about:meta])* pub(crate) struct $name:ident { $($own:tt)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        pub(crate) struct $name {
            $($own)*
            /// Where the database is and who asks, in one text: a URL or key=value pairs.
            #[serde(default)]
            pub(crate) conn_string: Secret,
            /// The server's name or address, or the folder of its socket.
            #[serde(default)]
            pub(crate) host: Option<String>,
            /// The server's port.
            #[serde(default)]
            #[schemars(extend("x-zero-is-unset" = true))]
            pub(crate) port: Option<crate::settings::Port>,
            /// Who asks.
            #[serde(default)]
            pub(crate) user: Option<String>,
            /// The user's password.
            #[serde(default)]
            pub(crate) password: Secret,
            /// The database; default: that of the user's name.
            #[serde(default)]
            pub(crate) database: Option<String>,
            /// Whether the connection is encrypted, and who is believed.
            #[serde(default)]
            pub(crate) ssl_mode: Option<SslMode>,
            /// A PEM file of the authorities that are trusted, instead of the public ones.
            #[serde(default)]
            pub(crate) ca_file: Option<PathBuf>,
            /// How long a statement may take.
            #[serde(default = "crate::source::postgres::connection::default_statement_timeout")]
            pub(crate) statement_timeout: Interval,
        }

        impl $name {
            fn connection(&self) -> Keys {
                Keys {
                    conn_string: self.conn_string.clone(),
                    host: self.host.clone(),
                    port: self.port,
                    user: self.user.clone(),
                    password: self.password.clone(),
                    database: self.database.clone(),
                    ssl_mode: self.ssl_mode,
                    ca_file: self.ca_file.clone(),
                    statement_timeout: self.statement_timeout,
                }
            }
        }
    };
}
pub(crate) use params_with_connection;

pub(crate) fn default_statement_timeout() -> Interval {
    Interval::from_secs(30)
}

/// The keys as a source's `params` hold them.
#[derive(Debug)]
pub(crate) struct Keys {
    pub(crate) conn_string: Secret,
    pub(crate) host: Option<String>,
    pub(crate) port: Option<Port>,
    pub(crate) user: Option<String>,
    pub(crate) password: Secret,
    pub(crate) database: Option<String>,
    pub(crate) ssl_mode: Option<SslMode>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) statement_timeout: Interval,
}

/// Where a database is and how it is spoken to.
#[derive(Clone)]
pub(crate) struct Server {
    pub(super) config: Config,
    pub(super) tls: MakeRustlsConnect,
    pub(super) statement_timeout: Duration,
    /// Host and port, for messages.
    pub(super) name: String,
}

impl Keys {
    /// Checks the keys; problems are reported at their place.
    pub(crate) fn server(self, params: &Node<'_>, problems: &mut Problems) -> Option<Server> {
        not_zero(params, &[("statementTimeout", self.statement_timeout)], problems);
        let (mut config, said_mode, said_file) = if self.conn_string.is_empty() {
            (self.config(params, problems)?, None, None)
        } else {
            self.warn_of_unused(params, problems);
            let parsed = ConnString::parse(self.conn_string.expose());
            let parsed = parsed
                .map_err(|reason| problems.error(params, format!("connString: {reason}")))
                .ok()?;
            (parsed.config, parsed.ssl_mode, parsed.ca_file)
        };
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            config.host(DEFAULT_HOST);
        }
        let mode = self.ssl_mode.or(said_mode).unwrap_or_default();
        let ca_file = self.ca_file.or(said_file);
        let tls = mode.connector(ca_file.as_deref());
        let tls = tls.map_err(|reason| problems.error(&at(params, "sslMode"), reason)).ok()?;
        config.ssl_mode(mode.on_the_wire());
        if config.get_application_name().is_none() {
            config.application_name(APPLICATION_NAME);
        }
        if config.get_keepalives_idle() == Config::new().get_keepalives_idle() {
            config.keepalives_idle(KEEPALIVE.0);
            config.keepalives_interval(KEEPALIVE.1).keepalives_retries(KEEPALIVE.2);
        }
        let name = name_of(&config);
        Some(Server { config, tls, statement_timeout: self.statement_timeout.into(), name })
    }

    fn config(&self, params: &Node<'_>, problems: &mut Problems) -> Option<Config> {
        let Some(user) = self.user.as_deref().filter(|user| !user.is_empty()) else {
            problems.error(params, "user is missing: expected user and database, or connString");
            return None;
        };
        let mut config = Config::new();
        config.host(self.host.as_deref().filter(|host| !host.is_empty()).unwrap_or(DEFAULT_HOST));
        let port = self.port.map(|Port(port)| port).filter(|port| *port > 0);
        config.port(port.unwrap_or(DEFAULT_PORT)).user(user);
        if !self.password.is_empty() {
            config.password(self.password.expose());
        }
        if let Some(database) = self.database.as_deref().filter(|name| !name.is_empty()) {
            config.dbname(database);
        }
        Some(config)
    }

    /// As in the original, a connection string wins over the single keys.
    fn warn_of_unused(&self, params: &Node<'_>, problems: &mut Problems) {
        for key in ["host", "port", "user", "password", "database"] {
            // The original's files name keys also where they say nothing with them.
            if let Some(node) = params.get(key)
                && node.as_str() != Some("")
                && !matches!(node.shown().as_str(), "null" | "0")
            {
                problems.warn(&node, "has no effect beside connString");
            }
        }
    }
}

fn name_of(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(host)) => host.clone(),
        Some(Host::Unix(path)) => path.display().to_string(),
        None => config.get_hostaddrs().first().map(ToString::to_string).unwrap_or_default(),
    };
    format!("{host}:{}", config.get_ports().first().copied().unwrap_or(DEFAULT_PORT))
}
