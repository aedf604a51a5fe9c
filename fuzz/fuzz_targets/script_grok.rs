//! `cargo fuzz run script_grok`; what must hold is in `crates/rf-script/tests/fuzz/checks.rs`.
#![no_main]

#[expect(dead_code, reason = "each target runs one of the checks")]
#[path = "../../crates/rf-script/tests/fuzz/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::grok(data));
