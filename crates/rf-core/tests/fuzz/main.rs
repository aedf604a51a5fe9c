//! The fuzz targets as plain tests: over the corpus in `fuzz/corpus`, and over mutations of it from a fixed seed.
//!
//! `cargo fuzz run record_batch` (and `config`, `event`) searches further; what it finds goes into the corpus.

mod checks;
mod corpus;

use corpus::check_corpus;

#[test]
fn record_batch() {
    check_corpus("record_batch", checks::record_batch);
}

#[test]
fn config() {
    check_corpus("config", checks::config);
}

#[test]
fn event() {
    check_corpus("event", checks::event);
}
