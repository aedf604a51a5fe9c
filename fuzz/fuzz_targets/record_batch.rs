//! `cargo fuzz run record_batch`; what must hold is in `crates/rf-core/tests/fuzz/checks.rs`.
#![no_main]

#[expect(dead_code, reason = "each target runs one of the checks")]
#[path = "../../crates/rf-core/tests/fuzz/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::record_batch(data));
