//! What every page has: head, title line, and where the parts go.

use maud::{DOCTYPE, Markup, html};

use super::parts;
use crate::report::{Report, ago, count};

/// A page around `content`. A live one is fetched anew by the script, and without scripts by the browser.
pub(super) fn page(report: &Report, title: &str, is_live: bool, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (mark(report)) (title) " · ReplayForge" }
                link rel="stylesheet" href="page.css";
                @if is_live {
                    noscript { meta http-equiv="refresh" content="15"; }
                    script src="page.js" defer {}
                }
            }
            body {
                a class="skip" href="#main" { "Skip to the content" }
                header {
                    a class="brand" href="." { "ReplayForge" }
                    p class="facts" {
                        "relay " (report.version)
                        " · up " (ago(report.started_at_ms, report.at_ms))
                        " · " (nodes(report)) " · " (buckets(report))
                        " · " (count(per_minute(report))) " events/min"
                    }
                    p id="live" class="live" aria-live="polite" {}
                }
                main id="main" { (content) }
                footer {
                    "Also as " a href="statusz" { "JSON" } ", " a href="metrics" { "metrics" }
                    ", and on the command line: " code id="command" { "replayforge status --relay URL" }
                }
            }
        }
    }
}

/// A page that says one thing.
pub(super) fn message(report: &Report, text: &str) -> Markup {
    let content = html! {
        section class="panel" { p { (text) } p { a href="." { "To the overview" } } }
    };
    page(report, "Not found", false, &content)
}

/// The way back.
pub(super) fn way_back() -> Markup {
    html! { nav class="way" aria-label="Way" { a href="." { "← Overview" } } }
}

/// The state in the tab's title, so that it is seen among other tabs.
fn mark(report: &Report) -> &'static str {
    parts::glyph(report.level).map_or("", |glyph| if glyph == "✕" { "✕ " } else { "! " })
}

fn nodes(report: &Report) -> String {
    plural(report.nodes.len(), "node")
}

fn buckets(report: &Report) -> String {
    plural(report.buckets.len(), "bucket")
}

fn plural(number: usize, word: &str) -> String {
    if number == 1 { format!("1 {word}") } else { format!("{number} {word}s") }
}

fn per_minute(report: &Report) -> u64 {
    report.buckets.iter().map(|bucket| bucket.rx_per_minute).sum()
}
