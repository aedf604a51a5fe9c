//! The one place that writes to standard output: a line, at once, so that a script can read it.

use std::io::Write;

use serde_json::Value;

/// Prints one line and flushes it.
pub(crate) fn line(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// Prints the figures of one run as one line of JSON.
pub(crate) fn figures(value: &Value) -> anyhow::Result<()> {
    line(&value.to_string())
}

/// Rounds to three decimals: more would be noise in the results file.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
