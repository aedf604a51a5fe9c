//! A script that goes on after it has failed: as it is, or after a limit has cut it short with a new VM and what `kv_set`
//! remembered.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::batch::Transformed;
use crate::error::{CallError, LoadError};
use crate::options::ScriptOptions;
use crate::outcome::{KvChange, Outcome};
use crate::vm::{Vm, read_script};

/// One script over many events.
pub struct Session {
    options: Arc<ScriptOptions>,
    text: Vec<u8>,
    vm: Vm,
    /// Whether the host has given the VM up: it still tells the names of sinks, but must not be called again.
    given_up: bool,
}

impl Session {
    /// Reads the script of the options.
    ///
    /// # Errors
    /// When the script cannot be used.
    pub fn load(options: ScriptOptions) -> Result<Self, LoadError> {
        let text = read_script(&options.path)?;
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
        let vm = Vm::from_text(Arc::clone(&options), kv, &text)?;
        Ok(Self { options, text, vm, given_up: false })
    }

    /// The VM of the last call.
    pub fn vm(&self) -> &Vm {
        &self.vm
    }

    /// Calls `Process`.
    ///
    /// # Errors
    /// When the call before was cut short and the script cannot be reloaded.
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
    ) -> Result<Result<Transformed, CallError>, LoadError> {
        self.renew()?;
        Ok(self.vm.transform_batch(messages))
    }

    /// Calls `extractStatus`.
    ///
    /// # Errors
    /// The outer one as [`Self::process`]; the inner one is the call's.
    pub fn extract_status(&mut self, json: &[u8]) -> Result<Result<String, CallError>, LoadError> {
        self.renew()?;
        Ok(self.vm.extract_status(json))
    }

    /// Takes another text of the script, between two calls. What `kv_set` remembered stays.
    ///
    /// # Errors
    /// When it cannot be used; the script goes on as it was.
    pub fn replace(&mut self, text: Vec<u8>) -> Result<(), LoadError> {
        self.vm = Vm::from_text(Arc::clone(&self.options), self.vm.kv(), &text)?;
        self.text = text;
        self.given_up = false;
        Ok(())
    }

    /// Takes back what calls remembered, the newest first, because their outcome came to nothing; a key that a later call
    /// has changed again stays as that call left it.
    pub fn undo(&mut self, changes: Vec<KvChange>) {
        for change in changes.into_iter().rev() {
            self.vm.undo(change);
        }
    }

    /// Whether what a call remembered is still what is remembered.
    pub fn remembers(&self, change: &KvChange) -> bool {
        self.vm.remembers(change)
    }

    /// What is remembered of a key.
    pub fn remembered(&self, key: &str) -> Option<Vec<u8>> {
        self.vm.remembered(key)
    }

    /// Makes the VM anew before the next call.
    pub fn give_up_vm(&mut self) {
        self.given_up = true;
    }

    /// What `init` has remembered since the last call of this.
    pub fn take_init_changes(&mut self) -> Vec<KvChange> {
        self.vm.take_init_changes()
    }

    fn call(&mut self, call: impl FnOnce(&Vm) -> Outcome) -> Result<Outcome, LoadError> {
        self.renew()?;
        Ok(call(&self.vm))
    }

    fn renew(&mut self) -> Result<(), LoadError> {
        if self.given_up || self.vm.is_spent() {
            self.vm = Vm::from_text(Arc::clone(&self.options), self.vm.kv(), &self.text)?;
            self.given_up = false;
        }
        Ok(())
    }
}
