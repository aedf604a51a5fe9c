//! TLS for dialing.
//!
//! Promises: the public authorities are trusted, and those of a file in addition; names are always checked. Who must trust
//! otherwise (databases have certificates of their own) says so with [`Trust`].

mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use verify::Verifier;

/// Why there is no TLS configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of authorities cannot be read or is not PEM.
    #[error("cannot read certificates from {}: {reason}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The file of authorities holds no certificate.
    #[error("no certificate in {}: expected PEM, -----BEGIN CERTIFICATE-----", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// The TLS library refuses its own defaults.
    #[error("TLS set-up: {0}")]
    Setup(#[from] rustls::Error),
}

/// Whom a client believes that the server is who it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust<'a> {
    /// Whom the public authorities have certified, by this name.
    Public,
    /// Whom the authorities in this file (PEM), and no others, have certified, by this name.
    Only(&'a Path),
    /// Whom the authorities in this file (PEM), and no others, have certified, by any name.
    OnlyByAnyName(&'a Path),
    /// Anybody: the connection is encrypted, but may be one with somebody in between.
    Anybody,
}

/// Trusts as told; names are checked unless it says otherwise.
///
/// # Errors
/// See [`TlsError`].
pub fn client_config_trusting(trust: Trust<'_>) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = match trust {
        Trust::Public => return client_config(None),
        Trust::Only(path) => {
            return Ok(builder(provider)?
                .with_root_certificates(only_file(path)?)
                .with_no_client_auth());
        }
        Trust::OnlyByAnyName(path) => Verifier::any_name(only_file(path)?, &provider),
        Trust::Anybody => Verifier::anybody(&provider),
    };
    Ok(builder(provider)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

fn only_file(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    add_file(&mut roots, path)?;
    Ok(roots)
}

/// Trusts the public authorities, and those in `ca_file` (PEM) in addition.
///
/// # Errors
/// See [`TlsError`].
pub fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = ca_file {
        add_file(&mut roots, path)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(builder(provider)?.with_root_certificates(roots).with_no_client_auth())
}

/// The provider is named, so that no other crate's choice of a process-wide default can change or break it.
fn builder(
    provider: Arc<CryptoProvider>,
) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    let unreadable = |reason: String| TlsError::CaFile { path: path.to_owned(), reason };
    let before = roots.len();
    for certificate in
        CertificateDer::pem_file_iter(path).map_err(|error| unreadable(error.to_string()))?
    {
        let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
        roots.add(certificate).map_err(|error| unreadable(error.to_string()))?;
    }
    if roots.len() == before {
        return Err(TlsError::NoCertificate { path: path.to_owned() });
    }
    Ok(())
}
