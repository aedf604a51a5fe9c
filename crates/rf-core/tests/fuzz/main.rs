//! The fuzz targets as plain tests: over the corpus in `fuzz/corpus`, and over mutations of it from a fixed seed.
//!
//! `cargo fuzz run record_batch` (and `config`, `event`) searches further; what it finds goes into the corpus.

mod checks;

use std::path::Path;

const MUTATIONS_PER_INPUT: usize = 2000;

fn check_corpus(name: &str, check: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name);
    let mut inputs: Vec<Vec<u8>> = Vec::new();
    for entry in std::fs::read_dir(&folder).expect("the corpus is part of the repository") {
        inputs.push(std::fs::read(entry.expect("entry").path()).expect("input"));
    }
    assert!(inputs.len() >= 3, "{} holds too few inputs", folder.display());
    let mut random = fastrand::Rng::with_seed(7);
    for input in &inputs {
        check(input);
        for _ in 0..MUTATIONS_PER_INPUT {
            check(&mutated(input, &inputs, &mut random));
        }
    }
}

/// A few random edits: bytes changed, cut out, repeated, or taken from another input.
fn mutated(input: &[u8], others: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..random.usize(1..6) {
        if bytes.is_empty() {
            bytes.push(random.u8(..));
        }
        let at = random.usize(..bytes.len());
        let end = (at + random.usize(..16)).min(bytes.len());
        match random.u8(..5) {
            0 => bytes[at] = random.u8(..),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            3 => bytes.insert(at, *random.choice(b"[]{}\",:\\/*'$%\x00\xff0u").expect("not empty")),
            _ => {
                let other = random.choice(others).expect("not empty");
                let from = random.usize(..=other.len());
                let to = (from + random.usize(..32)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
        }
    }
    bytes
}

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
