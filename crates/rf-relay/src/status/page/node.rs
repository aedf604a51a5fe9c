//! The page of a node: its machine, sources, sinks, buckets and last log lines.

use maud::{Markup, html};
use rf_core::node_info::LogLine;

use super::{layout, parts};
use crate::nodes::Node;
use crate::report::{FlowReport, Level, NodeReport, Presence, Report, SinkReport, SourceReport};

pub(super) fn page(report: &Report, node: &NodeReport, told: Option<&Node>) -> Markup {
    let content = html! {
        (layout::way_back())
        section class={ "panel summary " (node.level.as_str()) } {
            h1 { (node.host) " " (parts::role(node)) " " (parts::pill(node.level)) }
            (parts::reasons(&node.why))
            (facts(report, node))
        }
        (sources(node))
        (sinks(report, node))
        (flows(report, "Buckets that it writes to", &node.writes))
        (flows(report, "Buckets that it reads", &node.reads))
        @if let Some(told) = told { (logs(report, told)) }
    };
    layout::page(report, &node.host, true, &content)
}

fn facts(report: &Report, node: &NodeReport) -> Markup {
    let now = report.at_ms;
    html! {
        dl class="facts" {
            (parts::fact("Last heard from", &html! { (node.presence_word()) ", " (parts::when(node.last_seen_ms, now)) }))
            @if !node.env.is_empty() { (parts::fact("Environment", &html! { (node.env) })) }
            @if !node.version.is_empty() { (parts::fact("Version", &html! { (node.version) })) }
            @if node.started_at_ms > 0 { (parts::fact("Started", &parts::when(Some(node.started_at_ms.saturating_add_signed(-node.skew_ms)), now))) }
            (parts::fact("Events/min", &html! { (parts::number(node.per_minute)) (parts::spark(&node.spark)) }))
            (parts::fact("CPU, memory, disk", &parts::machine(node)))
            (parts::fact("Its memory", &parts::size(node.memory_process)))
            (parts::fact("Clock", &html! { (node.skew_ms) " ms from the relay's" }))
            (parts::fact("Expected", &html! { (if node.expected { "yes" } else { "no" }) }))
            (parts::fact("Errors logged", &parts::number(node.errors)))
        }
    }
}

fn sources(node: &NodeReport) -> Markup {
    html! {
        @if !node.sources.is_empty() {
            section class="panel" {
                h2 { "Sources" }
                div class="scroll" tabindex="0" role="region" aria-label="Sources" {
                    table {
                        thead { tr {
                            th scope="col" { "Source" } th scope="col" { "State" } th scope="col" { "Feeds" }
                            th scope="col" class="num" { "Events/min" } th scope="col" class="num" { "Received" }
                            th scope="col" class="num" { "Dropped" } th scope="col" class="num" { "Dead" }
                        } }
                        tbody {
                            @for source in &node.sources { (source_row(node, source)) }
                        }
                    }
                }
            }
        }
    }
}

fn source_row(node: &NodeReport, source: &SourceReport) -> Markup {
    html! {
        tr class=(level(node, source.level)) {
            th scope="row" { (source.id) " " span class="role" { (source.kind) } }
            td data-label="State" { (state(node, source.level)) }
            td data-label="Feeds" { (parts::text(&source.sinks.join(", "))) }
            td data-label="Events/min" class="num" { (parts::number(source.per_minute)) }
            td data-label="Received" class="num" { (parts::number(source.received)) }
            td data-label="Dropped" class="num" { (parts::number(source.dropped)) }
            td data-label="Dead" class="num" { (parts::number(source.dead_lettered)) }
        }
    }
}

/// How a source or sink is: nobody knows it of a node that is silent.
fn state(node: &NodeReport, level: Level) -> Markup {
    match node.presence {
        Presence::Silent => html! { span class="none" { "–" } },
        _ => parts::pill(level),
    }
}

fn level(node: &NodeReport, level: Level) -> &'static str {
    if node.presence == Presence::Silent { Level::Ok.as_str() } else { level.as_str() }
}

fn sinks(report: &Report, node: &NodeReport) -> Markup {
    html! {
        @if !node.sinks.is_empty() {
            section class="panel" {
                h2 { "Sinks" }
                div class="scroll" tabindex="0" role="region" aria-label="Sinks" {
                    table class="sinks" {
                        thead { tr {
                            th scope="col" { "Sink" } th scope="col" { "State" } th scope="col" { "To" }
                            th scope="col" class="num" { "Events/min" } th scope="col" class="num" { "Delivered" }
                            th scope="col" { "Queue" } th scope="col" class="num" { "Queued" } th scope="col" class="num" { "Oldest" }
                            th scope="col" class="num" { "Retried" } th scope="col" class="num" { "Dropped" }
                            th scope="col" class="num" { "Dead" } th scope="col" class="num" { "Latency 50 / 99 %" }
                        } }
                        tbody { @for sink in &node.sinks { (sink_row(report, node, sink)) } }
                    }
                }
            }
        }
    }
}

fn sink_row(report: &Report, node: &NodeReport, sink: &SinkReport) -> Markup {
    // The two may stand below each other; the blanks within one do not break.
    let within = |ms: Option<u64>| ms.map_or("–".to_owned(), |ms| format!("≤\u{a0}{ms}\u{a0}ms"));
    html! {
        tr class=(level(node, sink.level)) {
            th scope="row" {
                (sink.id) " " span class="role" { (sink.kind) }
                @if let Some(error) = &sink.error { p class="why" { (error) } }
            }
            td data-label="State" { (state(node, sink.level)) }
            td data-label="To" { (parts::text(&to(sink))) }
            td data-label="Events/min" class="num" { (parts::number(sink.per_minute)) }
            td data-label="Delivered" class="num" { (parts::number(sink.delivered)) }
            td data-label="Queue" { (parts::bar(sink.fill_percent, "share of its limit")) }
            td data-label="Queued" class="num" { (parts::number(sink.queued)) }
            td data-label="Oldest" class="num" { (parts::age(sink.oldest_at_ms, report.at_ms)) }
            td data-label="Retried" class="num" { (parts::number(sink.retried)) }
            td data-label="Dropped" class="num" { (parts::number(sink.dropped)) }
            td data-label="Dead" class="num" { (parts::number(sink.dead_letters)) }
            td data-label="Latency" class="num" { (within(sink.p50_ms)) " / " (within(sink.p99_ms)) }
        }
    }
}

/// Buckets, and where they or else the events go.
fn to(sink: &SinkReport) -> String {
    let mut places = vec![sink.buckets.join(", "), sink.target.clone()];
    places.retain(|place| !place.is_empty());
    places.join(" at ")
}

fn flows(report: &Report, title: &str, flows: &[FlowReport]) -> Markup {
    html! {
        @if !flows.is_empty() {
            section class="panel" {
                h2 { (title) }
                div class="scroll" {
                    table {
                        thead { tr {
                            th scope="col" { "Bucket" } th scope="col" class="num" { "Events/min" }
                            th scope="col" class="num" { "Events" } th scope="col" { "Last" }
                        } }
                        tbody {
                            @for flow in flows {
                                tr {
                                    th scope="row" { a href=(parts::bucket_link(&flow.bucket)) { (flow.bucket) } }
                                    td data-label="Events/min" class="num" { (parts::number(flow.per_minute)) }
                                    td data-label="Events" class="num" { (parts::number(flow.events)) }
                                    td data-label="Last" { (parts::when(flow.at_ms, report.at_ms)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn logs(report: &Report, node: &Node) -> Markup {
    let sources = node.info.sources.iter().map(|(id, source)| (id, &source.recent_logs));
    let sinks = node.info.sinks.iter().map(|(id, sink)| (id, &sink.recent_logs));
    let mut lines: Vec<(&String, &LogLine)> = sources
        .chain(sinks)
        .flat_map(|(id, lines)| lines.iter().map(move |line| (id, line)))
        .collect();
    lines.sort_by_key(|(_, line)| std::cmp::Reverse(line.at_ms));
    html! {
        @if !lines.is_empty() {
            section class="panel" {
                h2 { "Last log lines" }
                ol class="logs" {
                    @for (id, line) in lines {
                        li class=(level_class(&line.level)) {
                            span class="at" { (parts::when(Some(line.at_ms.saturating_add_signed(-node.past.skew_ms)), report.at_ms)) }
                            " " b { (line.level) } " " span class="role" { (id) } " " span { (line.text) }
                        }
                    }
                }
            }
        }
    }
}

/// A word of our own: the level is whatever somebody sent.
fn level_class(level: &str) -> &'static str {
    match level.to_ascii_lowercase().as_str() {
        "error" => "bad",
        "warn" | "warning" => "warn",
        _ => "ok",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(presence: Presence) -> String {
        let source = SourceReport { id: "in".to_owned(), ..SourceReport::default() };
        let sink = SinkReport {
            id: "out".to_owned(),
            level: Level::Warn,
            buckets: vec!["shop".to_owned(), "logs".to_owned()],
            target: "http://relay:8081".to_owned(),
            p50_ms: Some(5),
            ..SinkReport::default()
        };
        let only_target = SinkReport { buckets: Vec::new(), ..sink.clone() };
        let node = NodeReport {
            host: "web".to_owned(),
            presence,
            sources: vec![source],
            sinks: vec![sink, only_target],
            ..NodeReport::default()
        };
        let report = Report::default();
        page(&report, &node, None).into_string()
    }

    #[test]
    fn a_sink_shows_its_buckets_and_where_they_are() {
        let page = shown(Presence::Here);
        assert!(page.contains("\"To\">shop, logs at http://relay:8081</td>"), "{page}");
        assert!(page.contains("\"To\">http://relay:8081</td>"), "{page}");
        assert!(page.contains("≤\u{a0}5\u{a0}ms / –"), "{page}");
    }

    #[test]
    fn how_the_parts_of_a_silent_node_are_is_not_known() {
        let states = |page: &str| {
            let cells = page.split("data-label=\"State\">").skip(1);
            cells.map(|cell| cell.contains("class=\"pill")).collect::<Vec<_>>()
        };
        assert_eq!(states(&shown(Presence::Here)), [true, true, true]);
        let silent = shown(Presence::Silent);
        assert_eq!(states(&silent), [false, false, false], "{silent}");
        assert!(!silent.contains("<tr class=\"warn\">"), "{silent}");
    }
}
