//! `sslMode`: who is believed, and who is not.

use std::path::Path;

use serde_json::{Value, json};

use super::{params, printing, wait_for};
use crate::support::postgres::{PASSWORD, Postgres, USER};

/// Whether the connection is encrypted, or why there is none.
fn ask(postgres: &Postgres, others: &Value) -> Result<bool, String> {
    let folder = tempfile::tempdir().unwrap();
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let mut params = params(postgres, others);
    if params.get("connString").is_some() {
        for key in ["host", "port", "user", "password", "database"] {
            params.as_object_mut().unwrap().remove(key);
        }
    }
    params["calls"] = json!([{ "name": "c", "sql": sql }]);
    let program = printing(folder.path(), "pgcall", &params);
    wait_for(&program, "a round", |body| {
        let call = &body["c"];
        let error = call.get("error").map(|error| error.as_str().unwrap().to_owned());
        Some(error.map_or_else(|| Ok(call["data"][0]["ssl"].as_bool().unwrap()), Err))
    })
}

fn refused(postgres: &Postgres, others: &Value, expected: &str) {
    let error = ask(postgres, others).expect_err(&others.to_string());
    assert!(error.contains(expected), "{others}: {error}");
}

#[test]
fn a_server_with_tls_is_believed_as_the_mode_says() {
    let postgres = Postgres::start_with_tls();
    let authority = Postgres::ca_file();
    // An authority that has signed nothing.
    let stranger = Path::new(&authority).with_file_name("localhost.pem");
    for others in [
        json!({}),
        json!({ "sslMode": "prefer" }),
        json!({ "sslMode": "require" }),
        json!({ "sslMode": "require", "caFile": authority }),
        json!({ "sslMode": "verify-ca", "caFile": authority }),
        json!({ "sslMode": "verify-full", "caFile": authority, "host": "localhost" }),
        json!({ "connString": format!(
            "postgres://{USER}:{PASSWORD}@localhost:{}/postgres?sslmode=verify-full&sslrootcert={}",
            postgres.port, authority.display(),
        )}),
    ] {
        assert_eq!(ask(&postgres, &others), Ok(true), "{others}");
    }
    refused(&postgres, &json!({ "sslMode": "disable" }), "no encryption");
    refused(
        &postgres,
        &json!({ "sslMode": "verify-full", "caFile": authority }),
        "not valid for name",
    );
    refused(&postgres, &json!({ "sslMode": "verify-full", "host": "localhost" }), "UnknownIssuer");
    refused(&postgres, &json!({ "sslMode": "verify-ca", "caFile": stranger }), "UnknownIssuer");
    refused(&postgres, &json!({ "sslMode": "require", "caFile": stranger }), "UnknownIssuer");
}

#[test]
fn a_server_without_tls_is_for_those_who_do_not_ask_for_it() {
    let postgres = Postgres::start();
    assert_eq!(ask(&postgres, &json!({})), Ok(false));
    assert_eq!(ask(&postgres, &json!({ "sslMode": "disable" })), Ok(false));
    refused(&postgres, &json!({ "sslMode": "require" }), "server does not support TLS");
    refused(&postgres, &json!({ "sslMode": "verify-full" }), "server does not support TLS");
}
