//! `report`: the results of `bench/run` as a table, with medians, spreads and ratios, into a document between markers.
//!
//! A ratio is made of two figures of the same round, measured one after the other, and the median is taken of the
//! ratios: what else the machine did in that minute is in both. A row whose figures are not there is left out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Deserialize;
use serde_json::Value;

use crate::out;
use crate::rows::{Figure, Goal, ROWS, Row, Unit};
use crate::stats::Spread;

/// Turns a results file into a table.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Results: a line of JSON for each run of a tool
    results: PathBuf,
    /// A line above the table: machine, date, command; repeatable
    #[arg(long)]
    note: Vec<String>,
    /// Document to write the table into, between the markers of the section
    #[arg(long)]
    into: Option<PathBuf>,
    /// Section of the document
    #[arg(long, default_value = "spine")]
    section: String,
}

/// One line of the results file.
#[derive(Debug, Deserialize)]
struct Line {
    bench: String,
    variant: String,
    round: u32,
    figures: Value,
}

/// Prints the table, and writes it into the document if one is named.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let results = read_file(&args.results)?;
    let lines = results
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("result line {line}")))
        .collect::<anyhow::Result<Vec<Line>>>()?;
    let text = render(&lines, &args.note);
    out::line(&text)?;
    if let Some(path) = &args.into {
        let document = insert(&read_file(path)?, &args.section, &text).with_context(|| {
            format!("no markers of section {:?} in {}", args.section, path.display())
        })?;
        std::fs::write(path, document).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn read_file(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}

/// The document with `text` between the markers of a section; None without those markers.
fn insert(document: &str, section: &str, text: &str) -> Option<String> {
    let begin = format!("<!-- bench/run {section}: begin -->\n");
    let end = format!("<!-- bench/run {section}: end -->");
    let (before, rest) = document.split_once(&begin)?;
    let (_old, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{text}\n{end}{after}"))
}

fn render(lines: &[Line], notes: &[String]) -> String {
    let measured: Vec<Measured<'_>> =
        ROWS.iter().filter_map(|row| Measured::of(row, lines)).collect();
    let judged: Vec<bool> = measured.iter().filter_map(Measured::reached).collect();
    let reached = judged.iter().filter(|reached| **reached).count();
    let mut text: Vec<String> = notes.iter().map(|note| format!("- {note}")).collect();
    text.push(format!("- Goals reached: {reached} of {}", judged.len()));
    text.push(String::new());
    text.push(
        "| benchmark | figure | bare: median (min-max) | ReplayForge | ratio | goal | reached |"
            .to_owned(),
    );
    text.push("| --- | --- | ---: | ---: | ---: | --- | --- |".to_owned());
    text.extend(measured.iter().map(Measured::line));
    text.join("\n")
}

/// A row with its figures.
struct Measured<'a> {
    row: &'a Row,
    bare: Option<Spread>,
    ours: Spread,
    ratio: Option<Spread>,
}

impl<'a> Measured<'a> {
    fn of(row: &'a Row, lines: &[Line]) -> Option<Self> {
        let ours = rounds(lines, row.bench, row.ours);
        let bare = row.bare.map(|figure| rounds(lines, row.bench, figure)).unwrap_or_default();
        let ratios = ours
            .iter()
            .filter_map(|(round, ours)| Some(ours / bare.get(round).filter(|bare| **bare > 0.0)?));
        Some(Self {
            row,
            ratio: Spread::of(ratios.collect()),
            bare: Spread::of(bare.into_values().collect()),
            ours: Spread::of(ours.into_values().collect())?,
        })
    }

    /// None when there is nothing to reach; a goal whose figures are missing is not reached.
    fn reached(&self) -> Option<bool> {
        let ratio = self.ratio.map(|ratio| ratio.median);
        match self.row.goal {
            Goal::RatioAtLeast(least) => Some(ratio.is_some_and(|ratio| ratio >= least)),
            Goal::RatioUnder(bound) => Some(ratio.is_some_and(|ratio| ratio < bound)),
            Goal::AtLeast(least) => Some(self.ours.median >= least),
            Goal::Under(bound) => Some(self.ours.median < bound),
            Goal::Zero => Some(self.ours.max == 0.0),
            Goal::None => None,
        }
    }

    fn line(&self) -> String {
        let unit = self.row.unit;
        let goal = match self.row.goal {
            Goal::RatioAtLeast(least) => format!("ratio ≥ {least}"),
            Goal::RatioUnder(bound) => format!("ratio < {bound}"),
            Goal::AtLeast(least) => format!("≥ {least}"),
            Goal::Under(bound) => format!("< {bound}"),
            Goal::Zero => "0".to_owned(),
            Goal::None => String::new(),
        };
        let reached = match self.reached() {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        let bare =
            self.bare.map(|bare| spread(bare, |value| number(value, unit))).unwrap_or_default();
        let ours = spread(self.ours, |value| number(value, unit));
        let ratio = self
            .ratio
            .map(|ratio| spread(ratio, |value| format!("{value:.2}")))
            .unwrap_or_default();
        format!(
            "| {} | {} | {bare} | {ours} | {ratio} | {goal} | {reached} |",
            self.row.bench, self.row.what
        )
    }
}

/// The figure of each round; a tool that ran twice in a round counts with its last run.
fn rounds(lines: &[Line], bench: &str, figure: Figure) -> BTreeMap<u32, f64> {
    lines
        .iter()
        .filter(|line| line.bench == bench && line.variant == figure.variant)
        .filter_map(|line| Some((line.round, line.figures.get(figure.field)?.as_f64()?)))
        .collect()
}

fn spread(spread: Spread, write: impl Fn(f64) -> String) -> String {
    let (median, min, max) = (write(spread.median), write(spread.min), write(spread.max));
    if min == max { median } else { format!("{median} ({min}-{max})") }
}

fn number(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Whole => thousands(&format!("{value:.0}")),
        Unit::Ms | Unit::Percent => format!("{value:.2}"),
        Unit::Mib => format!("{value:.1}"),
    }
}

/// 1234567 as 1,234,567.
fn thousands(digits: &str) -> String {
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(results: &[(&str, &str, u32, Value)]) -> Vec<Line> {
        let line = |(bench, variant, round, figures): &(&str, &str, u32, Value)| Line {
            bench: (*bench).to_owned(),
            variant: (*variant).to_owned(),
            round: *round,
            figures: figures.clone(),
        };
        results.iter().map(line).collect()
    }

    fn check_row(results: &[(&str, &str, u32, Value)], what: &str, expected: &str) {
        let text = render(&lines(results), &[]);
        let found = text.lines().find(|line| line.contains(what));
        assert_eq!(found.unwrap_or("no such row"), expected, "{text}");
    }

    fn rate(per_second: f64) -> Value {
        serde_json::json!({ "per_second": per_second })
    }

    #[test]
    fn a_ratio_is_the_median_of_the_ratios_of_rounds() {
        let results = [
            ("relay-pull", "bare", 1, rate(100_000.0)),
            ("relay-pull", "ours", 1, rate(70_000.0)),
            ("relay-pull", "bare", 2, rate(200_000.0)),
            ("relay-pull", "ours", 2, rate(100_000.0)),
            ("relay-pull", "bare", 3, rate(1_000_000.0)),
            ("relay-pull", "ours", 3, rate(650_000.0)),
        ];
        let expected = "| relay-pull | events/s | 200,000 (100,000-1,000,000) | 100,000 (70,000-650,000) \
                        | 0.65 (0.50-0.70) | ratio ≥ 0.6 | yes |";
        check_row(&results, "relay-pull", expected);
    }

    #[test]
    fn a_goal_without_its_counterpart_is_not_reached() {
        let results = [("relay-ingest", "ours", 1, rate(70_000.0))];
        let expected = "| relay-ingest | events/s |  | 70,000 |  | ratio ≥ 0.6 | **no** |";
        check_row(&results, "relay-ingest", expected);
    }

    #[test]
    fn one_round_with_a_loss_misses_the_goal_of_none() {
        let lost = |lost: u64| serde_json::json!({ "lost": lost });
        let results = [
            ("shipper", "ours", 1, lost(0)),
            ("shipper", "ours", 2, lost(0)),
            ("shipper", "ours", 3, lost(7)),
        ];
        check_row(
            &results,
            "but lost",
            "| shipper | acknowledged but lost |  | 0 (0-7) |  | 0 | **no** |",
        );
    }

    #[test]
    fn rows_that_were_not_measured_are_left_out() {
        let text = render(
            &lines(&[("idle", "proxy", 1, serde_json::json!({ "rss_mib": 7.25 }))]),
            &["here".to_owned()],
        );
        let expected = "- here\n- Goals reached: 1 of 1\n\n\
            | benchmark | figure | bare: median (min-max) | ReplayForge | ratio | goal | reached |\n\
            | --- | --- | ---: | ---: | ---: | --- | --- |\n\
            | idle | proxy memory MiB |  | 7.2 |  | < 15 | yes |";
        assert_eq!(text, expected);
    }

    fn check_insert(document: &str, expected: Option<&str>) {
        assert_eq!(insert(document, "spine", "NEW").as_deref(), expected, "{document}");
    }

    #[test]
    fn only_what_stands_between_the_markers_changes() {
        check_insert(
            "# Top\n<!-- bench/run spine: begin -->\nold\ntable\n<!-- bench/run spine: end -->\nprose\n",
            Some(
                "# Top\n<!-- bench/run spine: begin -->\nNEW\n<!-- bench/run spine: end -->\nprose\n",
            ),
        );
        check_insert("<!-- bench/run other: begin -->\n<!-- bench/run other: end -->\n", None);
        check_insert("no markers", None);
    }
}
