//! A check over the inputs in `fuzz/corpus/NAME`, and over mutations of them from a fixed seed. Shared by the crates that have
//! fuzz targets.

use std::path::Path;

const MUTATIONS_PER_INPUT: usize = 2000;

/// Runs `check` over the corpus of this name.
pub(crate) fn check_corpus(name: &str, check: fn(&[u8])) {
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
