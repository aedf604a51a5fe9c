//! A script that goes on after it has failed, as agents have it: a new VM, with what `kv_set` remembered.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::read_bounded;
use crate::options::ScriptOptions;
use crate::outcome::{End, Outcome};
use crate::vm::{CallError, LoadError, Request, Vm};

/// One script over many events.
pub struct Session {
    options: Arc<ScriptOptions>,
    text: Vec<u8>,
    kv: BTreeMap<String, Vec<u8>>,
    vm: Vm,
    /// Whether the last call failed: its VM still tells the names of sinks, but must not be called again.
    spent: bool,
}

impl Session {
    /// Reads the script of the options.
    ///
    /// # Errors
    /// When the script cannot be used.
    pub fn load(options: ScriptOptions) -> Result<Self, LoadError> {
        let path = options.path.display().to_string();
        let text =
            read_bounded(&options.path).map_err(|reason| LoadError::File { path, reason })?;
        Self::new(Arc::new(options), BTreeMap::new(), text)
    }

    /// With the script's text at hand.
    ///
    /// # Errors
    /// When the script cannot be used.
    pub fn new(
        options: Arc<ScriptOptions>,
        kv: BTreeMap<String, Vec<u8>>,
        text: Vec<u8>,
    ) -> Result<Self, LoadError> {
        let vm = Vm::from_text(Arc::clone(&options), kv.clone(), &text)?;
        Ok(Self { options, text, kv, vm, spent: false })
    }

    /// The VM of the last call.
    pub fn vm(&self) -> &Vm {
        &self.vm
    }

    /// Calls `Process`.
    ///
    /// # Errors
    /// When the call before failed and the script cannot be loaded again.
    pub fn process(&mut self, content: &[u8]) -> Result<Outcome, LoadError> {
        self.call(|vm| vm.process(content))
    }

    /// Calls `TimerHandler`.
    ///
    /// # Errors
    /// As [`Self::process`].
    pub fn timer(&mut self) -> Result<Outcome, LoadError> {
        self.call(Vm::timer)
    }

    /// Calls `TransformBatch`.
    ///
    /// # Errors
    /// The outer one as [`Self::process`]; the inner one is the call's.
    pub fn transform_batch(
        &mut self,
        messages: &[Bytes],
    ) -> Result<Result<(Vec<Bytes>, Request), CallError>, LoadError> {
        self.renew()?;
        let result = self.vm.transform_batch(messages);
        self.spent = result.is_err();
        Ok(result)
    }

    fn call(&mut self, call: impl FnOnce(&Vm) -> Outcome) -> Result<Outcome, LoadError> {
        self.renew()?;
        let outcome = call(&self.vm);
        self.spent = matches!(outcome.end, End::Failed(_));
        for change in &outcome.kv {
            match &change.value {
                Some(value) => self.kv.insert(change.key.clone(), value.clone()),
                None => self.kv.remove(&change.key),
            };
        }
        Ok(outcome)
    }

    fn renew(&mut self) -> Result<(), LoadError> {
        if self.spent {
            self.vm = Vm::from_text(Arc::clone(&self.options), self.kv.clone(), &self.text)?;
            self.spent = false;
        }
        Ok(())
    }
}
