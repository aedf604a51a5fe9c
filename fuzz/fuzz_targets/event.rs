//! `cargo fuzz run event`; what must hold is in `crates/rf-core/tests/fuzz/checks.rs`.
#![no_main]

#[expect(dead_code, reason = "each target runs one of the checks")]
#[path = "../../crates/rf-core/tests/fuzz/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::event(data));
