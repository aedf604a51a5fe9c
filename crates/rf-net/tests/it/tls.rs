//! TLS for dialing: what is trusted, and what is not.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use rf_net::client::{Client, ClientError, ClientOptions};
use rf_net::tls::{Trust, client_config, client_config_trusting};
use rustls::{ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

const MINUTE: Duration = Duration::from_secs(60);

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/data").join(name)
}

/// Answers one request over TLS as `localhost`, with this certificate; an error is the client leaving during the handshake.
fn serve_one(listener: &TcpListener, certificate: &str) -> std::io::Result<()> {
    let certificate = CertificateDer::from_pem_file(data(certificate)).unwrap();
    let key = PrivateKeyDer::from_pem_file(data("localhost.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let (stream, _) = listener.accept()?;
    let mut stream = StreamOwned::new(ServerConnection::new(Arc::new(config)).unwrap(), stream);
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        request.extend(byte);
    }
    stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
    stream.flush()
}

/// Asks a TLS server that calls itself `localhost` at `host`; `Ok` is the status, `Err` the error's text.
async fn ask(host: &str, ca_file: Option<PathBuf>) -> Result<u16, String> {
    ask_server("localhost.pem", host, ca_file).await
}

/// The same of a server with this certificate.
async fn ask_server(
    certificate: &'static str,
    host: &str,
    ca_file: Option<PathBuf>,
) -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::task::spawn_blocking(move || serve_one(&listener, certificate));
    let client = Client::new(&ClientOptions { ca_file, ..ClientOptions::default() }).unwrap();
    let request =
        Request::get(format!("https://{host}:{port}/")).body(Full::<Bytes>::default()).unwrap();
    let answer = client.send(request, MINUTE).await;
    let served = serving.await.unwrap();
    assert_eq!(served.is_ok(), answer.is_ok(), "{served:?}");
    match answer {
        Ok(answer) => Ok(answer.status().as_u16()),
        Err(ClientError::Connect { reason, .. }) => Err(reason),
        Err(other) => panic!("not a connect error: {other:?}"),
    }
}

#[tokio::test]
async fn an_authority_from_a_file_is_trusted() {
    assert_eq!(ask("localhost", Some(data("ca.pem"))).await, Ok(204));
}

#[tokio::test]
async fn an_unknown_authority_or_another_name_is_not() {
    let unknown = ask("localhost", None).await.expect_err("not trusted");
    assert!(unknown.contains("not trusted") && unknown.contains("caFile"), "{unknown}");
    let misnamed = ask("127.0.0.1", Some(data("ca.pem"))).await.expect_err("not its name");
    assert!(misnamed.contains("not valid for name"), "{misnamed}");
    assert!(misnamed.ends_with("only valid for \"localhost\""), "{misnamed}");
}

#[tokio::test]
async fn an_authority_that_serves_by_itself_is_told_with_what_to_do() {
    for ca_file in [None, Some(data("self-signed.pem"))] {
        let told = ask_server("self-signed.pem", "localhost", ca_file).await.expect_err("refused");
        assert!(told.contains("basicConstraints=CA:FALSE"), "{told}");
    }
}

#[test]
fn a_bad_file_of_authorities_is_named() {
    for (file, expected) in [
        ("none.pem", "cannot read certificates from "),
        ("README.md", "no certificate in "),
        ("localhost.key", "no certificate in "),
    ] {
        let error = client_config(Some(&data(file))).expect_err("must not load").to_string();
        assert!(error.starts_with(expected) && error.contains(file), "{error}");
    }
}

/// Shakes hands, as a client that trusts like this, with a TLS server that calls itself `localhost`; why it does not work.
fn shake(trust: Trust<'_>, name: &'static str) -> Option<String> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serving = std::thread::spawn(move || serve_one(&listener, "localhost.pem"));
    let config = Arc::new(client_config_trusting(trust).unwrap());
    let client = ClientConnection::new(config, name.try_into().unwrap()).unwrap();
    let mut stream = StreamOwned::new(client, TcpStream::connect(address).unwrap());
    let asked = stream.write_all(b"GET / HTTP/1.1\r\n\r\n");
    let shaken = asked.and_then(|()| stream.read_exact(&mut [0]));
    assert_eq!(serving.join().unwrap().is_ok(), shaken.is_ok());
    shaken.err().map(|error| error.to_string())
}

#[test]
fn who_is_believed_is_as_told() {
    let (authority, stranger) = (data("ca.pem"), data("localhost.pem"));
    for (trust, name, expected) in [
        (Trust::Public, "localhost", "UnknownIssuer"),
        (Trust::Only(&authority), "localhost", ""),
        (Trust::Only(&authority), "127.0.0.1", "not valid for name"),
        (Trust::Only(&stranger), "localhost", "UnknownIssuer"),
        (Trust::OnlyByAnyName(&authority), "127.0.0.1", ""),
        (Trust::OnlyByAnyName(&stranger), "localhost", "UnknownIssuer"),
        (Trust::Anybody, "127.0.0.1", ""),
    ] {
        let told = shake(trust, name).unwrap_or_default();
        assert!(
            told.contains(expected) && told.is_empty() == expected.is_empty(),
            "{trust:?} {name}: {told}"
        );
    }
}
