//! The fuzz targets of scripts as plain tests: over the corpus in `fuzz/corpus`, and over mutations of it from a fixed seed.
//!
//! `cargo fuzz run script_json` (and `script_grok`) searches further; what it finds goes into the corpus.

mod checks;
#[path = "../../../rf-core/tests/fuzz/corpus.rs"]
mod corpus;

use corpus::check_corpus;

#[test]
fn script_json() {
    check_corpus("script_json", checks::json);
}

#[test]
fn script_grok() {
    check_corpus("script_grok", checks::grok);
}
