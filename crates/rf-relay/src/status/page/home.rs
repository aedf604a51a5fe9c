//! The overview: what is wrong, the map, and everything as tables.

use std::cmp::Reverse;

use maud::{Markup, html};

use super::{layout, map, parts};
use crate::report::{BucketReport, Level, NodeReport, Presence, Report, Subject, count};

/// Rows of a table, unless all are asked for; what is in trouble comes first.
const MAX_ROWS: usize = 100;
/// Sentences at the top.
const MAX_TROUBLES: usize = 12;

pub(super) fn page(report: &Report, all: bool) -> Markup {
    let content = html! {
        (summary(report))
        (map::map(report))
        (nodes(report, all))
        (buckets(report, all))
    };
    layout::page(report, "Overview", true, &content)
}

fn summary(report: &Report) -> Markup {
    let troubles = report.troubles();
    let bad = troubles.iter().filter(|trouble| trouble.why.level == Level::Bad).count();
    html! {
        section id="summary" class={ "panel summary " (report.level.as_str()) } aria-labelledby="verdict" {
            h1 id="verdict" { (verdict(bad, troubles.len() - bad)) }
            @if !troubles.is_empty() {
                ul class="troubles" {
                    @for trouble in troubles.iter().take(MAX_TROUBLES) {
                        li class=(trouble.why.level.as_str()) {
                            (parts::pill(trouble.why.level)) " "
                            a href=(link(trouble.subject, trouble.id)) {
                                (trouble.subject.as_str()) " " strong { (trouble.id) }
                            }
                            " " span { (trouble.why.text) }
                        }
                    }
                }
                @if troubles.len() > MAX_TROUBLES {
                    p { "and " (troubles.len() - MAX_TROUBLES) " more, in the tables below" }
                }
            }
        }
    }
}

fn verdict(bad: usize, warnings: usize) -> String {
    let things = |number, word: &str| match number {
        1 => format!("1 {word}"),
        many => format!("{many} {word}s"),
    };
    match (bad, warnings) {
        (0, 0) => "All is well".to_owned(),
        (0, warnings) => things(warnings, "warning"),
        (1, 0) => "1 thing is wrong".to_owned(),
        (bad, 0) => format!("{bad} things are wrong"),
        (1, warnings) => format!("1 thing is wrong, and {}", things(warnings, "warning")),
        (bad, warnings) => format!("{bad} things are wrong, and {}", things(warnings, "warning")),
    }
}

fn link(subject: Subject, id: &str) -> String {
    match subject {
        Subject::Bucket => parts::bucket_link(id),
        Subject::Node => parts::node_link(id),
        Subject::Relay => "#summary".to_owned(),
    }
}

/// Worst first, then by name.
fn first<T>(all: &[T], level: impl Fn(&T) -> Level, most: usize) -> Vec<&T> {
    let mut rows: Vec<&T> = all.iter().collect();
    rows.sort_by_key(|row| Reverse(level(row)));
    rows.truncate(most);
    rows
}

fn nodes(report: &Report, all: bool) -> Markup {
    let most = if all { usize::MAX } else { MAX_ROWS };
    let rows = first(&report.nodes, |node| node.level, most);
    html! {
        section id="nodes" class="panel" aria-labelledby="nodes-title" {
            h2 id="nodes-title" { "Nodes" }
            @if rows.is_empty() {
                p class="none" { "No proxy or player has called yet." }
            } @else {
                div class="scroll" {
                    table {
                        thead {
                            tr {
                                th scope="col" { "Node" }
                                th scope="col" { "State" }
                                th scope="col" { "Last seen" }
                                th scope="col" class="num" { "Events/min" }
                                th scope="col" { "Fullest queue" }
                                th scope="col" class="num" { "Queued" }
                                th scope="col" class="num" { "Oldest" }
                                th scope="col" class="num" { "Dropped" }
                                th scope="col" class="num" { "Dead" }
                                th scope="col" class="num" { "Errors" }
                                th scope="col" { "CPU, memory, disk" }
                            }
                        }
                        tbody {
                            @for node in &rows { (node_row(report, node)) }
                        }
                    }
                }
                (more(rows.len(), report.nodes.len()))
            }
        }
    }
}

fn node_row(report: &Report, node: &NodeReport) -> Markup {
    let tells = node.presence == Presence::Here;
    html! {
        tr id={ "node-" (node.id) } class=(node.level.as_str()) {
            th scope="row" {
                a href=(parts::node_link(&node.id)) { (node.host) }
                " " (parts::role(node))
                @if !node.env.is_empty() { " " span class="env" { (node.env) } }
                @if !node.version.is_empty() { " " span class="version" { (node.version) } }
                (parts::reasons(&node.why))
            }
            td data-label="State" { (parts::pill(node.level)) (presence(node)) }
            td data-label="Last seen" { (parts::when(node.last_seen_ms, report.at_ms)) }
            td data-label="Events/min" class="num" { (parts::number(node.per_minute)) (parts::spark(&node.spark)) }
            td data-label="Fullest queue" {
                @if tells && !node.sinks.is_empty() { (parts::bar(node.fill_percent, "the fullest queue of its sinks")) }
                @else { span class="none" { "–" } }
            }
            td data-label="Queued" class="num" { (parts::number(node.queued)) }
            td data-label="Oldest" class="num" { (parts::age(node.oldest_at_ms, report.at_ms)) }
            td data-label="Dropped" class="num" { (parts::number(node.dropped)) }
            td data-label="Dead" class="num" { (parts::number(node.dead_letters)) }
            td data-label="Errors" class="num" { (parts::number(node.errors)) }
            td data-label="Machine" class="machine" { (parts::machine(node)) }
        }
    }
}

fn presence(node: &NodeReport) -> Markup {
    html! {
        @match node.presence {
            Presence::Here => {}
            _ => { " " span class="presence" { (node.presence_word()) } }
        }
    }
}

fn buckets(report: &Report, all: bool) -> Markup {
    let most = if all { usize::MAX } else { MAX_ROWS };
    let rows = first(&report.buckets, |bucket| bucket.level, most);
    html! {
        section id="buckets" class="panel" aria-labelledby="buckets-title" {
            h2 id="buckets-title" { "Buckets" }
            @if rows.is_empty() {
                p class="none" { "There is no bucket in the relay's configuration." }
            } @else {
                div class="scroll" {
                    table {
                        thead {
                            tr {
                                th scope="col" { "Bucket" }
                                th scope="col" { "State" }
                                th scope="col" class="num" { "In/min" }
                                th scope="col" class="num" { "Out/min" }
                                th scope="col" class="num" { "Waiting" }
                                th scope="col" class="num" { "Oldest" }
                                th scope="col" { "Size" }
                                th scope="col" class="num" { "Dropped" }
                                th scope="col" class="num" { "Refused" }
                                th scope="col" { "Last in" }
                                th scope="col" { "Last asked" }
                            }
                        }
                        tbody {
                            @for bucket in &rows { (bucket_row(report, bucket)) }
                        }
                    }
                }
                (more(rows.len(), report.buckets.len()))
            }
        }
    }
}

fn bucket_row(report: &Report, bucket: &BucketReport) -> Markup {
    let fill = bucket.fill();
    html! {
        tr id={ "bucket-" (bucket.name) } class=(bucket.level.as_str()) {
            th scope="row" {
                a href=(parts::bucket_link(&bucket.name)) { (bucket.name) }
                (parts::reasons(&bucket.why))
            }
            td data-label="State" { (parts::pill(bucket.level)) }
            td data-label="In/min" class="num" { (parts::number(bucket.rx_per_minute)) }
            td data-label="Out/min" class="num" { (parts::number(bucket.tx_per_minute)) }
            td data-label="Waiting" class="num" { (parts::number(bucket.events)) }
            td data-label="Oldest" class="num" { (parts::age(bucket.oldest_at_ms, report.at_ms)) }
            td data-label="Size" { (parts::bar(fill, &format!("{} of {}", crate::report::bytes(bucket.used_bytes), crate::report::bytes(bucket.events_limit())))) }
            td data-label="Dropped" class="num" { (parts::number(bucket.dropped())) }
            td data-label="Refused" class="num" { (parts::number(bucket.refused)) }
            td data-label="Last in" { (parts::when(bucket.received_at_ms, report.at_ms)) }
            td data-label="Last asked" { (parts::when(bucket.asked_at_ms, report.at_ms)) }
        }
    }
}

fn more(shown: usize, all: usize) -> Markup {
    html! {
        @if shown < all {
            p class="more" {
                "The first " (shown) " of " (count(all as u64)) ", those in trouble first. "
                a href="?all" { "Show all" }
            }
        }
    }
}
