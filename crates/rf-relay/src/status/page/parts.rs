//! Small things that tables and pages are made of.

use maud::{Markup, html};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::report::{Level, NodeReport, Why, ago, bytes, count};

/// What a state is called where it is not well.
pub(super) fn glyph(level: Level) -> Option<&'static str> {
    match level {
        Level::Ok => None,
        Level::Warn => Some("!"),
        Level::Bad => Some("✕"),
    }
}

/// A state as word and colour, so that no colour is needed to read it.
pub(super) fn pill(level: Level) -> Markup {
    let word = match level {
        Level::Ok => "ok",
        Level::Warn => "warning",
        Level::Bad => "trouble",
    };
    html! { span class={ "pill " (level.as_str()) } { (glyph(level).unwrap_or("✓")) " " (word) } }
}

/// A node's role, and what tells it from others of that role on its host.
pub(super) fn role(node: &NodeReport) -> Markup {
    html! {
        span class="role" { (node.role) }
        @if !node.instance().is_empty() { " " span class="instance" { (node.instance()) } }
    }
}

/// The sentences that say what is wrong.
pub(super) fn reasons(why: &[Why]) -> Markup {
    html! {
        @if !why.is_empty() {
            ul class="why" {
                @for why in why {
                    li class=(why.level.as_str()) { (why.text) }
                }
            }
        }
    }
}

/// The address of a node's page.
pub(super) fn node_link(id: &str) -> String {
    format!("node?id={}", utf8_percent_encode(id, NON_ALPHANUMERIC))
}

/// The address of a bucket's page.
pub(super) fn bucket_link(name: &str) -> String {
    format!("bucket?name={}", utf8_percent_encode(name, NON_ALPHANUMERIC))
}

/// A share of a limit as a bar with its number.
pub(super) fn bar(percent: u64, label: &str) -> Markup {
    let level = match percent {
        0..80 => "ok",
        80..95 => "warn",
        _ => "bad",
    };
    html! {
        span class="bar" title=(label) {
            svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" {
                rect class="bar-bed" width="100" height="8" {}
                rect class={ "bar-fill " (level) } width=(percent.min(100)) height="8" {}
            }
            span { (percent) " %" }
        }
    }
}

/// Rates of the last messages as a line without numbers.
pub(super) fn spark(values: &[u64]) -> Markup {
    let top = values.iter().copied().max().unwrap_or_default().max(1);
    let step = 100.0 / (values.len().max(2) - 1) as f64;
    let point = |(at, value): (usize, &u64)| {
        format!("{:.1},{:.1}", at as f64 * step, 19.0 - 17.0 * *value as f64 / top as f64)
    };
    let points: Vec<String> = values.iter().enumerate().map(point).collect();
    html! {
        @if values.len() > 1 {
            svg class="spark" viewBox="0 0 100 20" preserveAspectRatio="none" role="img"
                aria-label={ "events a minute at the last " (values.len()) " messages, at most " (top) } {
                polyline points=(points.join(" ")) {}
            }
        }
    }
}

/// `3 min ago`, or a dash.
pub(super) fn when(at_ms: Option<u64>, now_ms: u64) -> Markup {
    match at_ms {
        Some(at_ms) => html! { (ago(at_ms, now_ms)) " ago" },
        None => html! { span class="none" { "–" } },
    }
}

/// How old, or a dash.
pub(super) fn age(at_ms: Option<u64>, now_ms: u64) -> Markup {
    match at_ms {
        Some(at_ms) => html! { (ago(at_ms, now_ms)) },
        None => html! { span class="none" { "–" } },
    }
}

/// A number; nothing is a dash, so that what is there stands out.
pub(super) fn number(number: u64) -> Markup {
    match number {
        0 => html! { span class="none" { "–" } },
        number => html! { (count(number)) },
    }
}

/// A text, or a dash.
pub(super) fn text(text: &str) -> Markup {
    html! { @if text.is_empty() { span class="none" { "–" } } @else { (text) } }
}

/// Name and value, below each other.
pub(super) fn fact(name: &str, value: &Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

/// Processor, memory and disk.
pub(super) fn machine(node: &NodeReport) -> Markup {
    let known = node.memory_percent > 0.0 || node.cpu_percent > 0.0 || node.disk_percent > 0.0;
    html! {
        @if known {
            (bar(whole(node.cpu_percent), "processors in use"))
            (bar(whole(node.memory_percent), "memory in use"))
            (bar(whole(node.disk_percent), "disk in use"))
        } @else {
            span class="none" { "–" }
        }
    }
}

/// Bytes, or a dash.
pub(super) fn size(size: u64) -> Markup {
    match size {
        0 => html! { span class="none" { "–" } },
        size => html! { (bytes(size)) },
    }
}

/// A per cent within 0 and 100.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is a finite number from 0 to 100"
)]
pub(super) fn whole(percent: f64) -> u64 {
    percent.round() as u64
}
