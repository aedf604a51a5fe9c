//! `schema`: the JSON Schema of a role's file, made from the very types that the file is read into.

use rf_core::config::schema_of;
use rf_relay::config::RelayConfigFile;

use super::{complain, print};
use crate::cli::Role;
use crate::running::Exit;

pub(super) fn run(role: Role) -> Exit {
    let schema = match role {
        Role::Proxy => rf_agent::proxy::schema(),
        Role::Player => rf_agent::player::schema(),
        Role::Relay => schema_of::<RelayConfigFile>(),
    };
    match serde_json::to_string_pretty(&schema) {
        Ok(text) => print(format!("{text}\n").as_bytes()),
        Err(error) => {
            complain(&error.to_string());
            Exit::Failed
        }
    }
}
