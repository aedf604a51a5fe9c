//! `sslMode`: whether a connection is encrypted, and who is believed.

use std::path::Path;

use rf_net::tls::{Trust, client_config_trusting};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_postgres::config::SslMode as WireMode;
use tokio_postgres_rustls::MakeRustlsConnect;

/// As `sslmode` of PostgreSQL's own programs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted if the server can; whoever answers is believed.
    #[default]
    Prefer,
    /// Always encrypted; whoever answers is believed, unless there is a `caFile`: then as `verify-ca`.
    Require,
    /// Always encrypted; the certificate must come from an authority in `caFile`.
    VerifyCa,
    /// Always encrypted; the certificate must come from an authority and name the host.
    VerifyFull,
}

impl SslMode {
    /// From a connection string.
    pub(super) fn parse(text: &str) -> Option<SslMode> {
        match text {
            "disable" => Some(SslMode::Disable),
            "prefer" | "allow" => Some(SslMode::Prefer),
            "require" => Some(SslMode::Require),
            "verify-ca" => Some(SslMode::VerifyCa),
            "verify-full" => Some(SslMode::VerifyFull),
            _ => None,
        }
    }

    pub(super) fn on_the_wire(self) -> WireMode {
        match self {
            SslMode::Disable => WireMode::Disable,
            SslMode::Prefer => WireMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => WireMode::Require,
        }
    }

    fn trust(self, ca_file: Option<&Path>) -> Result<Trust<'_>, &'static str> {
        match (self, ca_file) {
            (SslMode::Disable | SslMode::Prefer, _) | (SslMode::Require, None) => {
                Ok(Trust::Anybody)
            }
            (SslMode::Require | SslMode::VerifyCa, Some(file)) => Ok(Trust::OnlyByAnyName(file)),
            (SslMode::VerifyFull, Some(file)) => Ok(Trust::Only(file)),
            (SslMode::VerifyFull, None) => Ok(Trust::Public),
            (SslMode::VerifyCa, None) => Err(
                "verify-ca needs a caFile, since with the public authorities anyone's certificate would be accepted; or use verify-full",
            ),
        }
    }

    /// What makes connections of this mode.
    pub(super) fn connector(self, ca_file: Option<&Path>) -> Result<MakeRustlsConnect, String> {
        let trust = self.trust(ca_file)?;
        let config = client_config_trusting(trust).map_err(|error| error.to_string())?;
        Ok(MakeRustlsConnect::new(config))
    }
}
