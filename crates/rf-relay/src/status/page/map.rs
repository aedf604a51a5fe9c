//! The map: nodes that write on the left with their sources, buckets in the middle, nodes that read on the right with
//! their sinks; lines as thick as what flows and coloured by state. The tables below it say the same in words.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, PreEscaped, html};

use super::parts;
use crate::report::{BucketReport, FlowReport, Level, NodeReport, Presence, Report, count};

/// Boxes of a column; what is in trouble, and then what flows most, comes first.
const MAX_BOXES: usize = 14;
/// Sources, or sinks, that are named in a box.
const MAX_LINES: usize = 4;
/// Characters of a name in a box.
const MAX_CHARS: usize = 30;

const WIDTH: u64 = 1180;
const BOX_WIDTH: u64 = 290;
const BUCKET_WIDTH: u64 = 230;
const TITLE_HEIGHT: u64 = 40;
const LINE_HEIGHT: u64 = 19;
const GAP: u64 = 14;

/// Where a box is.
struct Place {
    y: u64,
    height: u64,
}

impl Place {
    fn middle(&self) -> u64 {
        self.y + self.height / 2
    }
}

pub(super) fn map(report: &Report) -> Markup {
    let readers: Vec<&NodeReport> = report.nodes.iter().filter(|node| is_reader(node)).collect();
    let writers: Vec<&NodeReport> = report.nodes.iter().filter(|node| !is_reader(node)).collect();
    let (left, right) = (choose_nodes(writers), choose_nodes(readers));
    let mut buckets: Vec<&BucketReport> = report.buckets.iter().collect();
    let hidden_buckets = buckets.len().saturating_sub(MAX_BOXES);
    let concerned = concerned(left.shown.iter().chain(&right.shown));
    buckets.sort_by_key(|bucket| {
        let flow = bucket.rx_per_minute + bucket.tx_per_minute;
        Reverse((bucket.level, concerned.contains(bucket.name.as_str()), flow))
    });
    buckets.truncate(MAX_BOXES);
    buckets.sort_by(|a, b| a.name.cmp(&b.name));

    let left_places = places(left.shown.iter().map(|node| lines(node).len()));
    let right_places = places(right.shown.iter().map(|node| lines(node).len()));
    let bucket_places = places(buckets.iter().map(|_| 1));
    let height =
        [&left_places, &bucket_places, &right_places].map(|column| end(column)).into_iter().max();
    let height = height.unwrap_or_default().max(60) + 24;
    let (from, to) = span(!left.shown.is_empty(), !right.shown.is_empty());
    let by_name: BTreeMap<&str, &Place> =
        buckets.iter().map(|bucket| bucket.name.as_str()).zip(&bucket_places).collect();
    html! {
        section id="map" class="panel map" aria-labelledby="map-title" {
            h2 id="map-title" { "Map" }
            div class="map-scroll" tabindex="0" role="group" aria-label="Map of nodes and buckets; the tables below say the same" {
                svg class=(room(to - from)) viewBox={ (from) " 0 " (to - from) " " (height) } width=(to - from) height=(height) {
                    g class="edges" {
                        @for (node, place) in left.shown.iter().zip(&left_places) { (edges(node, place, &by_name, Side::Left)) }
                        @for (node, place) in right.shown.iter().zip(&right_places) { (edges(node, place, &by_name, Side::Right)) }
                    }
                    @for (node, place) in left.shown.iter().zip(&left_places) { (node_box(node, place, 0)) }
                    @for (bucket, place) in buckets.iter().zip(&bucket_places) { (bucket_box(bucket, place)) }
                    @for (node, place) in right.shown.iter().zip(&right_places) { (node_box(node, place, WIDTH - BOX_WIDTH)) }
                    (hidden(left.hidden, "nodes", 0, height))
                    (hidden(hidden_buckets, "buckets", (WIDTH - BUCKET_WIDTH) / 2, height))
                    (hidden(right.hidden, "nodes", WIDTH - BOX_WIDTH, height))
                }
            }
        }
    }
}

/// From where to where the map goes: a side without nodes is left out.
fn span(has_left: bool, has_right: bool) -> (u64, u64) {
    let bucket_x = (WIDTH - BUCKET_WIDTH) / 2;
    (if has_left { 0 } else { bucket_x }, if has_right { WIDTH } else { bucket_x + BUCKET_WIDTH })
}

/// The class that keeps a map of this width legible on a phone.
fn room(width: u64) -> &'static str {
    match width {
        WIDTH => "wide",
        BUCKET_WIDTH => "narrow",
        _ => "half",
    }
}

fn is_reader(node: &NodeReport) -> bool {
    node.role == "player"
        || (node.role != "proxy" && node.writes.is_empty() && !node.reads.is_empty())
}

/// Buckets of nodes that are in trouble: without them the way that is broken would not be seen.
fn concerned<'a>(nodes: impl Iterator<Item = &'a &'a NodeReport>) -> BTreeSet<&'a str> {
    let of = |node: &'a &'a NodeReport| {
        let sources = node.sources.iter().flat_map(|source| &source.buckets);
        let sinks = node.sinks.iter().flat_map(|sink| &sink.buckets);
        let seen = node.writes.iter().chain(&node.reads).map(|flow| &flow.bucket);
        sources.chain(sinks).chain(seen).map(String::as_str)
    };
    nodes.filter(|node| node.level > Level::Ok).flat_map(of).collect()
}

struct Chosen<'a> {
    shown: Vec<&'a NodeReport>,
    hidden: usize,
}

fn choose_nodes(mut nodes: Vec<&NodeReport>) -> Chosen<'_> {
    let hidden = nodes.len().saturating_sub(MAX_BOXES);
    nodes.sort_by_key(|node| Reverse((node.level, node.per_minute)));
    nodes.truncate(MAX_BOXES);
    nodes.sort_by(|a, b| a.id.cmp(&b.id));
    Chosen { shown: nodes, hidden }
}

fn places(lines: impl Iterator<Item = usize>) -> Vec<Place> {
    let mut y = 2;
    let place = |lines: usize| {
        let height = TITLE_HEIGHT + LINE_HEIGHT * lines as u64;
        let place = Place { y, height };
        y += height + GAP;
        place
    };
    lines.map(place).collect()
}

fn end(column: &[Place]) -> u64 {
    column.last().map_or(0, |place| place.y + place.height)
}

/// What is named in a node's box: state and text.
fn lines(node: &NodeReport) -> Vec<(Level, String)> {
    let rate =
        |rate: u64| if rate > 0 { format!(" · {}/min", count(rate)) } else { String::new() };
    let mut lines: Vec<(Level, String)> = Vec::new();
    if node.role != "player" {
        let sources = node.sources.iter();
        lines.extend(
            sources.map(|s| (s.level, format!("{} ({}){}", s.id, s.kind, rate(s.per_minute)))),
        );
    }
    // Sinks that ship to buckets are the lines of the map, but where one is in trouble it is named.
    let sinks = node.sinks.iter().filter(|sink| sink.buckets.is_empty() || sink.level > Level::Ok);
    lines
        .extend(sinks.map(|s| (s.level, format!("→ {} ({}){}", s.id, s.kind, rate(s.per_minute)))));
    lines.sort_by_key(|(level, _)| Reverse(*level));
    if lines.len() > MAX_LINES {
        let rest = lines.len() - (MAX_LINES - 1);
        lines.truncate(MAX_LINES - 1);
        lines.push((Level::Ok, format!("and {rest} more")));
    }
    lines
}

fn node_box(node: &NodeReport, place: &Place, x: u64) -> Markup {
    let title = node.why.first().map_or("as it should be", |why| why.text.as_str());
    let name = format!("{} {}", node.host, node.instance());
    html! {
        a id={ "box-node-" (node.id) } href=(parts::node_link(&node.id)) class={ "box " (node.level.as_str()) } {
            title { (name.trim_end()) " (" (node.role) "): " (title) }
            (frame(x, place, BOX_WIDTH))
            text class="name" x=(x + 14) y=(place.y + 25) { (cut(name.trim_end(), MAX_CHARS - 11)) }
            text class="side" x=(x + BOX_WIDTH - 12) y=(place.y + 25) { (word(node)) }
            @for (at, (level, line)) in lines(node).iter().enumerate() {
                text class={ "line " (level.as_str()) } x=(x + 14) y=(place.y + TITLE_HEIGHT + 6 + LINE_HEIGHT * at as u64) {
                    (cut(line, MAX_CHARS + 6))
                }
            }
        }
    }
}

/// What stands beside a node's name.
fn word(node: &NodeReport) -> String {
    match (parts::glyph(node.level), node.presence) {
        (None, Presence::Missing) => node.presence_word().to_owned(),
        (_, Presence::Silent | Presence::Missing) => format!("✕ {}", node.presence_word()),
        (Some(glyph), _) => format!("{glyph} {}", node.role),
        (None, _) => node.role.clone(),
    }
}

fn bucket_box(bucket: &BucketReport, place: &Place) -> Markup {
    let x = (WIDTH - BUCKET_WIDTH) / 2;
    let fill = bucket.fill().min(100);
    let title = bucket.why.first().map_or("as it should be", |why| why.text.as_str());
    html! {
        a id={ "box-bucket-" (bucket.name) } href=(parts::bucket_link(&bucket.name)) class={ "box bucket " (bucket.level.as_str()) } {
            title { "bucket " (bucket.name) ": " (title) }
            (frame(x, place, BUCKET_WIDTH))
            rect class="level" x=(x + 1) y=(place.y + place.height - 5) width=((BUCKET_WIDTH - 2) * fill / 100) height="4" {}
            text class="name" x=(x + 14) y=(place.y + 25) { (cut(&bucket.name, MAX_CHARS - 10)) }
            text class="side" x=(x + BUCKET_WIDTH - 12) y=(place.y + 25) { (parts::glyph(bucket.level).unwrap_or_default()) }
            text class="line" x=(x + 14) y=(place.y + TITLE_HEIGHT + 6) {
                (count(bucket.events)) " waiting · " (fill) " % full"
            }
        }
    }
}

fn frame(x: u64, place: &Place, width: u64) -> Markup {
    html! {
        rect class="frame" x=(x + 1) y=(place.y) width=(width - 2) height=(place.height) rx="7" {}
        rect class="edge" x=(x + 1) y=(place.y) width="4" height=(place.height) rx="2" {}
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Side {
    Left,
    Right,
}

fn edges(node: &NodeReport, place: &Place, buckets: &BTreeMap<&str, &Place>, side: Side) -> Markup {
    let flows: BTreeMap<&str, (u64, Level)> = match side {
        Side::Left => {
            let wired = node
                .sinks
                .iter()
                .flat_map(|s| s.buckets.iter().map(move |b| (b.as_str(), s.level)));
            flows(&node.writes, wired)
        }
        Side::Right => {
            let wired = node
                .sources
                .iter()
                .flat_map(|s| s.buckets.iter().map(move |b| (b.as_str(), s.level)));
            flows(&node.reads, wired)
        }
    };
    let gone = matches!(node.presence, Presence::Silent | Presence::Missing);
    html! {
        @for (bucket, (rate, level)) in flows {
            @if let Some(to) = buckets.get(bucket) {
                (edge(place.middle(), to.middle(), side, rate, if gone { Level::Bad } else { level }))
            }
        }
    }
}

fn flows<'a>(
    seen: &'a [FlowReport],
    wired: impl Iterator<Item = (&'a str, Level)>,
) -> BTreeMap<&'a str, (u64, Level)> {
    let mut flows: BTreeMap<&str, (u64, Level)> = BTreeMap::new();
    for flow in seen {
        flows.entry(&flow.bucket).or_default().0 += flow.per_minute;
    }
    for (bucket, level) in wired {
        let known = flows.entry(bucket).or_default();
        known.1 = known.1.max(level);
    }
    flows
}

fn edge(node_y: u64, bucket_y: u64, side: Side, rate: u64, level: Level) -> Markup {
    let bucket_x = (WIDTH - BUCKET_WIDTH) / 2;
    let (x1, y1, x2, y2) = match side {
        Side::Left => (BOX_WIDTH, node_y, bucket_x, bucket_y),
        Side::Right => (bucket_x + BUCKET_WIDTH, bucket_y, WIDTH - BOX_WIDTH, node_y),
    };
    let bend = (x2 - x1) / 2;
    // Ten times as much is one step thicker.
    let width = 1 + 2 * rate.checked_ilog10().map_or(0, |digits| digits + 1).min(5);
    let idle = if rate == 0 { " idle" } else { "" };
    html! {
        path class={ (level.as_str()) (PreEscaped(idle)) } stroke-width=(width)
            d={ "M" (x1) " " (y1) " C" (x1 + bend) " " (y1) " " (x2 - bend) " " (y2) " " (x2) " " (y2) } {
            title { (count(rate)) " events a minute" }
        }
    }
}

fn hidden(number: usize, what: &str, x: u64, height: u64) -> Markup {
    html! {
        @if number > 0 {
            text class="line" x=(x + 14) y=(height - 6) { "and " (number) " more " (what) " in the table" }
        }
    }
}

/// Names may be long; the whole one is in the title and the table.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most - 1).chain(['…']).collect()
}
