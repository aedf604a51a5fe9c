//! The stock patterns: the names that every grok knows, in our own writing.

use std::collections::BTreeMap;
use std::sync::LazyLock;

const FILES: [&str; 4] = [
    include_str!("stock/general.txt"),
    include_str!("stock/web.txt"),
    include_str!("stock/syslog.txt"),
    include_str!("stock/services.txt"),
];

type Patterns = BTreeMap<&'static str, &'static str>;

static STOCK: LazyLock<Patterns> =
    LazyLock::new(|| FILES.iter().flat_map(|file| lines(file)).collect());
static FAST: LazyLock<Patterns> = LazyLock::new(|| lines(include_str!("stock/fast.txt")).collect());

/// A stock pattern.
pub(super) fn get(name: &str) -> Option<&'static str> {
    STOCK.get(name).copied()
}

/// The narrower form of a stock pattern.
pub(super) fn fast(name: &str) -> Option<&'static str> {
    FAST.get(name).copied()
}

/// All of them.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    STOCK.keys().copied()
}

fn lines(file: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    file.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' '))
}
