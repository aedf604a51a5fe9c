//! The contract of sources, kept with the example's program as the other side.

use std::fs;
use std::path::{Path, PathBuf};

use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::source::Source;
use crate::source::contract::{Delivery, Origin, build_source, check_source_contract};

/// A folder whose files are events until they are acknowledged.
struct Spool {
    folder: tempfile::TempDir,
    program: Vec<String>,
}

fn spool(program: &str) -> Spool {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/exec-source");
    let path: PathBuf = examples.join(program);
    let interpreter = if program.ends_with(".py") { "python3" } else { "sh" };
    let folder = tempfile::tempdir().unwrap();
    let program =
        [interpreter.into(), path.display().to_string(), folder.path().display().to_string()];
    Spool { folder, program: program.to_vec() }
}

impl Origin for Spool {
    fn source(&self) -> Box<dyn Source> {
        build_source("exec", &json!({ "command": self.program }))
    }

    fn write(&self, number: u64) -> BoxFuture<'_, ()> {
        // Under its name only when it is whole, as the examples ask for.
        let path = self.folder.path().join(format!("{number:05}.json"));
        let new = path.with_extension("new");
        fs::write(&new, json!({ "number": number }).to_string()).unwrap();
        fs::rename(new, path).unwrap();
        Box::pin(std::future::ready(()))
    }

    fn number(&self, event: &[u8]) -> Option<u64> {
        let event: Value = serde_json::from_slice(event).unwrap();
        let body: Value = serde_json::from_str(event["body"].as_str()?).ok()?;
        body["number"].as_u64()
    }

    fn delivery(&self) -> Delivery {
        // An acknowledgement may be on its way when the program ends.
        Delivery::AtLeastOnce
    }
}

#[tokio::test]
pub(crate) async fn the_contract_of_sources_holds_with_the_example_in_shell() {
    check_source_contract(|| spool("spool.sh")).await;
}

#[tokio::test]
pub(crate) async fn the_contract_of_sources_holds_with_the_example_in_python() {
    check_source_contract(|| spool("spool.py")).await;
}
