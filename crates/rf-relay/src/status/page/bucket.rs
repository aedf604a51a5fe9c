//! The page of a bucket: rates and depth of the last hours, who uses it, and, for its token, its newest events.

use maud::{Markup, html};

use super::{layout, parts};
use crate::report::{BucketReport, FlowReport, NodeReport, Report, bytes, count};
use crate::stats::{Chart, POINT_MINUTES, POINTS_PER_HOUR, Point};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 120.0;
/// Where the highest value is: its number stands above it.
const TOP: f64 = 18.0;

/// The page; `events` is what was asked for with the token.
pub(super) fn page(
    report: &Report,
    bucket: &BucketReport,
    chart: &Chart,
    events: Option<&Markup>,
) -> Markup {
    let points: Vec<Point> = chart.points().copied().collect();
    let figures = figures(bucket);
    let content = html! {
        (layout::way_back())
        section class={ "panel summary " (bucket.level.as_str()) } {
            h1 { (bucket.name) " " span class="role" { "bucket" } " " (parts::pill(bucket.level)) }
            (parts::reasons(&bucket.why))
            (facts(report, bucket))
        }
        section class="panel charts" {
            h2 { "The last hours" }
            @for figure in &figures { (plot(&points, figure)) }
        }
        (users(report, "Who writes", bucket, |node| &node.writes))
        (users(report, "Who reads", bucket, |node| &node.reads))
        (events.cloned().unwrap_or_else(|| ask(bucket, None)))
    };
    layout::page(report, &bucket.name, events.is_none(), &content)
}

/// The form that asks for the token.
pub(super) fn ask(bucket: &BucketReport, wrong: Option<&str>) -> Markup {
    html! {
        section id="events" class="panel" {
            h2 { "Newest events" }
            @if let Some(wrong) = wrong { p class="why bad" role="alert" { (wrong) } }
            form method="post" action="bucket-events" autocomplete="off" {
                input type="hidden" name="name" value=(bucket.name);
                label { "The bucket's token " input type="password" name="token" required autocomplete="off"; }
                " " button { "Show" }
            }
        }
    }
}

fn facts(report: &Report, bucket: &BucketReport) -> Markup {
    let fill = bucket.fill();
    html! {
        dl class="facts" {
            (parts::fact("Waiting", &html! { (count(bucket.events)) " events" }))
            (parts::fact("Oldest event", &parts::age(bucket.oldest_at_ms, report.at_ms)))
            (parts::fact("Size", &html! { (parts::bar(fill, "share of its limit")) " " (bytes(bucket.used_bytes)) " of " (bytes(bucket.events_limit())) " for events" }))
            (parts::fact("Limit on disk", &html! { (bytes(bucket.max_bytes)) }))
            (parts::fact("Time to live", &html! { @if bucket.ttl_secs == 0 { "for ever" } @else { (crate::report::span(std::time::Duration::from_secs(bucket.ttl_secs))) } }))
            (parts::fact("In", &html! { (count(bucket.rx_per_minute)) "/min, " (count(bucket.received)) " in all" }))
            (parts::fact("Out", &html! { (count(bucket.tx_per_minute)) "/min, " (count(bucket.sent)) " in all" }))
            (parts::fact("Players with a lease", &parts::number(bucket.holders)))
            (parts::fact("Last in", &parts::when(bucket.received_at_ms, report.at_ms)))
            (parts::fact("Last asked for", &parts::when(bucket.asked_at_ms, report.at_ms)))
            (parts::fact("Dropped", &html! { (count(bucket.dropped_full)) " when full, " (count(bucket.dropped_age)) " too old, " (count(bucket.dropped_damaged)) " with a damaged database" }))
            (parts::fact("Refused", &html! { (count(bucket.refused)) " batches" }))
        }
    }
}

fn per_minute(events: u64) -> u64 {
    events.div_ceil(POINT_MINUTES as u64)
}

fn figures(bucket: &BucketReport) -> [Plot; 4] {
    let events = |title, class, value: fn(&Point) -> u64| Plot {
        title,
        class,
        value,
        shown: count,
        limit: None,
    };
    [
        events("Events in per minute", "rx", |point| per_minute(point.rx)),
        events("Events out per minute", "tx", |point| per_minute(point.tx)),
        events("Events waiting", "depth", |point| point.events),
        Plot {
            title: "Size on disk, against its limit",
            class: "size",
            value: |point| point.bytes,
            shown: bytes,
            limit: Some(bucket.max_bytes),
        },
    ]
}

/// One figure over time; with a limit the whole height is that limit.
struct Plot {
    title: &'static str,
    class: &'static str,
    value: fn(&Point) -> u64,
    shown: fn(u64) -> String,
    limit: Option<u64>,
}

fn plot(points: &[Point], plot: &Plot) -> Markup {
    let Plot { title, class, value, shown, limit } = *plot;
    let values: Vec<u64> = points.iter().map(value).collect();
    let most = values.iter().copied().max().unwrap_or_default();
    let top = limit.map_or(most, |limit| limit.max(most));
    let hours = points.len() / POINTS_PER_HOUR;
    html! {
        figure class="chart" {
            figcaption { (title) }
            @if values.len() < 2 {
                p class="none" { "Nothing to draw yet: there is one point for every two minutes." }
            } @else {
                svg viewBox={ "0 0 " (WIDTH) " " (HEIGHT + 18.0) } role="img" aria-label={ (title) ": at most " (shown(most)) } {
                    line class="axis" x1="0" y1=(HEIGHT) x2=(WIDTH) y2=(HEIGHT) {}
                    @if limit.is_some() { line class="limit" x1="0" y1=(TOP) x2=(WIDTH) y2=(TOP) {} }
                    polyline class=(class) points=(line(&values, top)) {}
                    text x="2" y="12" { (shown(top)) }
                    text x="2" y=(HEIGHT + 15.0) { @if hours > 0 { (hours) " h ago" } @else { (points.len() * POINT_MINUTES) " min ago" } }
                    text class="right" x=(WIDTH - 2.0) y=(HEIGHT + 15.0) { "now: " (shown(values.last().copied().unwrap_or_default())) }
                }
            }
        }
    }
}

fn line(values: &[u64], top: u64) -> String {
    let step = WIDTH / (values.len().max(2) - 1) as f64;
    let height = |value: u64| HEIGHT - (HEIGHT - TOP) * value as f64 / top.max(1) as f64;
    let point =
        |(at, value): (usize, &u64)| format!("{:.1},{:.1}", at as f64 * step, height(*value));
    values.iter().enumerate().map(point).collect::<Vec<_>>().join(" ")
}

fn users(
    report: &Report,
    title: &str,
    bucket: &BucketReport,
    flows: impl Fn(&NodeReport) -> &Vec<FlowReport>,
) -> Markup {
    let used = |node| -> Option<(&NodeReport, &FlowReport)> {
        let flow = flows(node).iter().find(|flow| flow.bucket == bucket.name)?;
        Some((node, flow))
    };
    let users: Vec<(&NodeReport, &FlowReport)> = report.nodes.iter().filter_map(used).collect();
    html! {
        section class="panel" {
            h2 { (title) }
            @if users.is_empty() { p class="none" { "Nobody within the last hour." } } @else {
                div class="scroll" {
                    table {
                        thead { tr {
                            th scope="col" { "Node" } th scope="col" class="num" { "Events/min" }
                            th scope="col" class="num" { "Events" } th scope="col" { "Last" }
                        } }
                        tbody {
                            @for (node, flow) in users {
                                tr {
                                    th scope="row" { a href=(parts::node_link(&node.id)) { (node.host) } " " (parts::role(node)) }
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
