//! The status of an event: what its table's script says, else the body's `status`.
//!
//! A script lives on the writer thread, loaded once; one that a limit has cut short is loaded anew for the next event.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rf_script::{LoadError, ScriptOptions, Vm, read_script};
use serde_json::{Map, Value};

use crate::script::missing;
use crate::sink::table::call::value_of;
use crate::sink::table::failure::WriteError;

/// Scripts by table, in lower case.
pub(super) struct Scripts {
    paths: BTreeMap<String, PathBuf>,
    loaded: HashMap<String, Vm>,
}

/// Loads a script, to see whether it can be.
///
/// # Errors
/// [`LoadError`], or that the script has no `extractStatus`.
pub(super) fn load(path: PathBuf) -> Result<Vm, String> {
    let vm = Vm::load(Arc::new(ScriptOptions::new(path, Vec::new())), BTreeMap::new());
    let vm = vm.map_err(|error: LoadError| error.to_string())?;
    if vm.has_extract_status() {
        Ok(vm)
    } else {
        Err("the script has no function extractStatus".to_owned())
    }
}

/// What a script that can be loaded will look for in vain.
pub(super) fn warnings(path: &Path) -> Vec<String> {
    read_script(path).map(|text| missing::warnings(path, &text, None)).unwrap_or_default()
}

impl Scripts {
    pub(super) fn new(paths: BTreeMap<String, PathBuf>) -> Self {
        Self { paths, loaded: HashMap::new() }
    }

    /// Loads every script anew; one that cannot be loaded stays as it is.
    pub(super) fn reload(&mut self, sink: &str) {
        for (table, path) in &self.paths {
            match load(path.clone()) {
                Ok(vm) => {
                    tracing::info!(sink, table, path = %path.display(), state = "up", "script reloaded");
                    self.loaded.insert(table.clone(), vm);
                }
                Err(error) => {
                    tracing::error!(
                        sink,
                        table,
                        error,
                        state = "down",
                        "script not reloaded, its previous version stays in use"
                    );
                }
            }
        }
    }

    /// The status of an event of this table; empty is good.
    ///
    /// # Errors
    /// [`WriteError::Refused`]: a script that fails costs the event that it failed for, which becomes a dead letter.
    pub(super) fn status(
        &mut self,
        table: &str,
        body: &Map<String, Value>,
    ) -> Result<String, WriteError> {
        let Some(path) = self.paths.get(table) else { return Ok(own_status(body)) };
        let vm = match self.loaded.remove(table) {
            Some(vm) => vm,
            // Not the event's fault: it was fine at the start, and the file is mended before long.
            None => load(path.clone()).map_err(|error| {
                WriteError::Broken(format!("script {}: {error}", path.display()))
            })?,
        };
        let json =
            serde_json::to_vec(body).map_err(|error| WriteError::Refused(error.to_string()))?;
        let status = vm.extract_status(&json);
        if !vm.is_spent() {
            self.loaded.insert(table.to_owned(), vm);
        }
        status.map_err(|error| WriteError::Refused(format!("extractStatus: {error}")))
    }
}

fn own_status(body: &Map<String, Value>) -> String {
    match value_of(body, "status") {
        None => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
