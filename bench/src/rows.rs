//! The rows of the table in `docs/benchmarks.md`, and what each of them has to reach.
//!
//! A new benchmark is a function in `bench/run` and its rows here.

/// One row: a figure of ours, the bare figure beside it where there is one, and the goal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Benchmark, as `bench/run --only` takes it.
    pub(crate) bench: &'static str,
    /// What the figure is.
    pub(crate) what: &'static str,
    /// How it is written.
    pub(crate) unit: Unit,
    /// The counterpart's figure.
    pub(crate) bare: Option<Figure>,
    /// Our figure.
    pub(crate) ours: Figure,
    /// What has to hold.
    pub(crate) goal: Goal,
}

/// Where a figure stands in the results: `variant` and the field of what its tool printed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figure {
    /// Variant, as `bench/run` recorded it.
    pub(crate) variant: &'static str,
    /// Field.
    pub(crate) field: &'static str,
}

/// How a figure is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    /// A count, or a count a second.
    Whole,
    /// Milliseconds.
    Ms,
    /// Mebibytes.
    Mib,
    /// Percent, of one processor or of a count.
    Percent,
}

/// What has to hold of the median.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    /// Ours divided by bare.
    RatioAtLeast(f64),
    /// Ours divided by bare.
    RatioUnder(f64),
    /// Ours.
    AtLeast(f64),
    /// Ours.
    Under(f64),
    /// Ours, in every round.
    Zero,
    /// For the reader only.
    None,
}

/// All rows, in the order of the table.
pub(crate) const ROWS: &[Row] = &[
    versus("capture-commit", "requests/s", Unit::Whole, ["bare", "ours"], "per_second")
        .goal(Goal::RatioAtLeast(0.45)),
    versus("capture-commit", "p99 ms", Unit::Ms, ["bare", "ours"], "p99_ms")
        .goal(Goal::RatioUnder(4.0)),
    alone("capture-commit", "refused or failed", Unit::Whole, "ours", "not_ok").goal(Goal::Zero),
    versus("capture-process", "requests/s", Unit::Whole, ["bare", "ours"], "per_second")
        .goal(Goal::RatioAtLeast(0.55)),
    versus("capture-process", "p99 ms", Unit::Ms, ["bare", "ours"], "p99_ms"),
    alone("capture-process", "refused or failed", Unit::Whole, "ours", "not_ok").goal(Goal::Zero),
    versus("script-json", "events/s", Unit::Whole, ["bare", "ours"], "per_second")
        .goal(Goal::RatioAtLeast(0.8)),
    alone("script-json", "a VM ready, ms", Unit::Ms, "ours", "ready_ms").goal(Goal::Under(1.0)),
    alone("script-json", "a VM ready, KiB", Unit::Whole, "ours", "ready_kib")
        .goal(Goal::Under(100.0)),
    versus("script-grok", "lines/s", Unit::Whole, ["bare", "ours"], "per_second")
        .goal(Goal::RatioAtLeast(0.85)),
    versus("capture-script", "requests/s", Unit::Whole, ["bare", "ours"], "per_second")
        .goal(Goal::RatioAtLeast(0.85)),
    alone("capture-script", "refused or failed", Unit::Whole, "ours", "not_ok").goal(Goal::Zero),
    versus("open-loop-5000", "p50 ms", Unit::Ms, ["bare", "ours"], "p50_ms"),
    versus("open-loop-5000", "p99 ms", Unit::Ms, ["bare", "ours"], "p99_ms").goal(Goal::Under(2.0)),
    versus("open-loop-5000", "p99.9 ms", Unit::Ms, ["bare", "ours"], "p999_ms"),
    versus("shipper", "delivered events/s", Unit::Whole, ["bare", "ours"], "per_second")
        .goal(Goal::RatioAtLeast(0.36)),
    alone("shipper", "acknowledged but lost", Unit::Whole, "ours", "lost").goal(Goal::Zero),
    alone("shipper", "delivered beyond the acknowledged", Unit::Whole, "ours", "surplus"),
    alone("shipper", "memory peak MiB", Unit::Mib, "memory", "proxy_mib").goal(Goal::Under(40.0)),
    versus("relay-ingest", "events/s", Unit::Whole, ["bare", "ours"], "per_second")
        .goal(Goal::RatioAtLeast(0.6)),
    alone("relay-ingest", "memory peak MiB", Unit::Mib, "memory", "relay_mib"),
    versus("relay-pull", "events/s", Unit::Whole, ["bare", "ours"], "per_second")
        .goal(Goal::RatioAtLeast(0.6)),
    versus("whole-way", "delivered events/s", Unit::Whole, ["bare", "ours"], "per_second")
        .goal(Goal::RatioAtLeast(0.15)),
    alone("whole-way", "acknowledged but lost", Unit::Whole, "ours", "lost").goal(Goal::Zero),
    alone("whole-way", "delivered twice", Unit::Whole, "ours", "repeats"),
    alone("whole-way", "proxy memory peak MiB", Unit::Mib, "memory", "proxy_mib"),
    alone("whole-way", "relay memory peak MiB", Unit::Mib, "memory", "relay_mib"),
    alone("whole-way", "player memory peak MiB", Unit::Mib, "memory", "player_mib"),
    alone("idle-latency", "p50 ms", Unit::Ms, "ours", "p50_ms").goal(Goal::Under(10.0)),
    alone("idle-latency", "p99 ms", Unit::Ms, "ours", "p99_ms").goal(Goal::Under(50.0)),
    versus(
        "backlog-1m",
        "append events/s",
        Unit::Whole,
        ["append-empty", "append-1m"],
        "per_second",
    )
    .goal(Goal::RatioAtLeast(0.9)),
    versus("backlog-1m", "pull events/s", Unit::Whole, ["pull-empty", "pull-1m"], "per_second")
        .goal(Goal::RatioAtLeast(0.9)),
    alone("idle", "proxy memory MiB", Unit::Mib, "proxy", "rss_mib").goal(Goal::Under(15.0)),
    alone("idle", "relay memory MiB", Unit::Mib, "relay", "rss_mib").goal(Goal::Under(15.0)),
    alone("idle", "player memory MiB", Unit::Mib, "player", "rss_mib").goal(Goal::Under(15.0)),
    alone("idle", "proxy CPU %", Unit::Percent, "proxy", "cpu_percent").goal(Goal::Under(0.5)),
    alone("idle", "relay CPU %", Unit::Percent, "relay", "cpu_percent").goal(Goal::Under(0.5)),
    alone("idle", "player CPU %", Unit::Percent, "player", "cpu_percent").goal(Goal::Under(0.5)),
    alone("idle", "stripped binary MiB", Unit::Mib, "binary", "size_mib").goal(Goal::Under(20.0)),
    alone("idle", "proxy start-up ms", Unit::Ms, "proxy-start", "startup_ms")
        .goal(Goal::Under(50.0)),
    alone("idle", "relay start-up ms", Unit::Ms, "relay-start", "startup_ms")
        .goal(Goal::Under(50.0)),
    alone("idle", "player start-up ms", Unit::Ms, "player-start", "startup_ms")
        .goal(Goal::Under(50.0)),
    versus("sink-db", "events/s", Unit::Whole, ["bare", "ours"], "per_second")
        .goal(Goal::RatioAtLeast(0.6)),
    beside_queue("sink-db").goal(Goal::RatioAtLeast(0.6)),
    alone("sink-db", "memory peak MiB", Unit::Mib, "memory", "player_mib"),
    versus("sink-time_series", "events/s", Unit::Whole, ["bare", "ours"], "per_second")
        .goal(Goal::RatioAtLeast(0.6)),
    beside_queue("sink-time_series").goal(Goal::RatioAtLeast(0.6)),
    alone("sink-time_series", "memory peak MiB", Unit::Mib, "memory", "player_mib"),
    versus("sink-file", "events/s", Unit::Whole, ["bare", "ours"], "per_second")
        .goal(Goal::RatioAtLeast(0.8)),
    beside_queue("sink-file").goal(Goal::RatioAtLeast(0.8)),
    alone("sink-file", "memory peak MiB", Unit::Mib, "memory", "player_mib"),
    alone("query-1m", "first page ms", Unit::Ms, "page", "p50_ms"),
    alone("query-1m", "page behind row 900,000 ms", Unit::Ms, "deep-page", "p50_ms"),
    alone("query-1m", "page by another column ms", Unit::Ms, "ordered", "p50_ms"),
    alone("query-1m", "one row by its id ms", Unit::Ms, "find", "p50_ms"),
    alone("query-1m", "text in any row ms", Unit::Ms, "contains", "p50_ms"),
    alone("query-1m", "time-analytics, all rows ms", Unit::Ms, "analytics", "p50_ms")
        .goal(Goal::Under(1000.0)),
    alone("query-1m", "time-analytics, a day ms", Unit::Ms, "analytics-day", "p50_ms"),
    alone("query-1m", "list of 100 series ms", Unit::Ms, "series", "p50_ms"),
    alone("query-1m", "chart of a series, all rows ms", Unit::Ms, "range-one", "p50_ms"),
    alone("query-1m", "chart of 100 series, all rows ms", Unit::Ms, "range-all", "p50_ms"),
    versus(
        "forward",
        "requests/s, not copied; beside no proxy",
        Unit::Whole,
        ["bare", "off"],
        "per_second",
    ),
    versus(
        "forward",
        "requests/s, not copied; beside nginx",
        Unit::Whole,
        ["nginx", "off"],
        "per_second",
    ),
    versus(
        "forward",
        "requests/s, copied; beside not copied",
        Unit::Whole,
        ["off", "requests"],
        "per_second",
    )
    .goal(Goal::RatioAtLeast(0.95)),
    versus(
        "forward",
        "requests/s, copied; beside nginx",
        Unit::Whole,
        ["nginx", "requests"],
        "per_second",
    ),
    versus(
        "forward",
        "requests/s, copied with answers; beside not copied",
        Unit::Whole,
        ["off", "answers"],
        "per_second",
    ),
    versus("forward", "p99 ms, copied; beside not copied", Unit::Ms, ["off", "requests"], "p99_ms"),
    alone("forward", "copies lost, requests, %", Unit::Percent, "requests-lost", "percent"),
    alone("forward", "copies lost, with answers, %", Unit::Percent, "answers-lost", "percent"),
    alone("forward", "refused or failed", Unit::Whole, "requests", "not_ok").goal(Goal::Zero),
    alone("forward", "memory peak MiB", Unit::Mib, "requests-memory", "proxy_mib"),
    versus(
        "forward-turns",
        "requests/s, copied; beside not copied, in turns of a second",
        Unit::Whole,
        ["off", "requests"],
        "per_second",
    )
    .goal(Goal::RatioAtLeast(0.95)),
    versus(
        "forward-turns",
        "requests/s, copied with answers; beside not copied, in turns of a second",
        Unit::Whole,
        ["off", "answers"],
        "per_second",
    ),
    versus(
        "forward-turns",
        "ms of processor per 1,000 requests, copied; beside not copied",
        Unit::Ms,
        ["off-cpu", "requests-cpu"],
        "ms_per_1000",
    ),
    versus(
        "forward-turns",
        "ms of processor per 1,000 requests, copied with answers; beside not copied",
        Unit::Ms,
        ["off-cpu", "answers-cpu"],
        "ms_per_1000",
    ),
    versus(
        "forward-open-3000",
        "p50 ms, not copied; beside no proxy",
        Unit::Ms,
        ["bare", "off"],
        "p50_ms",
    ),
    versus(
        "forward-open-3000",
        "p50 ms, copied; beside nginx",
        Unit::Ms,
        ["nginx", "requests"],
        "p50_ms",
    ),
    versus(
        "forward-open-3000",
        "p50 ms, copied; beside not copied",
        Unit::Ms,
        ["off", "requests"],
        "p50_ms",
    ),
    versus(
        "forward-open-3000",
        "p99 ms, not copied; beside no proxy",
        Unit::Ms,
        ["bare", "off"],
        "p99_ms",
    ),
    versus(
        "forward-open-3000",
        "p99 ms, copied; beside nginx",
        Unit::Ms,
        ["nginx", "requests"],
        "p99_ms",
    ),
    versus(
        "forward-open-3000",
        "p99 ms, copied; beside not copied",
        Unit::Ms,
        ["off", "requests"],
        "p99_ms",
    ),
    alone("forward-open-3000", "ms that copies add at p99", Unit::Ms, "requests-added", "p99_ms")
        .goal(Goal::Under(1.0)),
    alone(
        "forward-open-3000",
        "ms that copies with answers add at p99",
        Unit::Ms,
        "answers-added",
        "p99_ms",
    )
    .goal(Goal::Under(1.0)),
    alone("forward-open-3000", "copies lost", Unit::Whole, "requests-lost", "copies")
        .goal(Goal::Zero),
    alone("forward-open-3000", "copies lost, with answers", Unit::Whole, "answers-lost", "copies")
        .goal(Goal::Zero),
    alone("forward-long", "copies lost, 3,000/s for 40 s", Unit::Whole, "requests-lost", "copies")
        .goal(Goal::Zero),
    versus(
        "tail-peak",
        "MB/s, lines of 240 bytes; beside read, split, commit",
        Unit::Whole,
        ["bare", "ours"],
        "mb_per_second",
    )
    .goal(Goal::AtLeast(100.0)),
    versus(
        "tail-peak",
        "MB/s, lines of 240 bytes; beside the same with rows of an event's size",
        Unit::Whole,
        ["bare-events", "ours"],
        "mb_per_second",
    ),
    versus(
        "tail-peak",
        "MB/s, lines of 240 bytes; beside tail -F",
        Unit::Whole,
        ["pipe", "ours"],
        "mb_per_second",
    ),
    versus(
        "tail-peak",
        "lines/s; beside read, split, commit",
        Unit::Whole,
        ["bare", "ours"],
        "per_second",
    ),
    versus(
        "tail-peak",
        "MB/s, lines of 1000 bytes; beside read, split, commit",
        Unit::Whole,
        ["bare-1k", "ours-1k"],
        "mb_per_second",
    )
    .goal(Goal::AtLeast(100.0)),
    versus(
        "tail-peak",
        "MB/s, lines of 1000 bytes; beside the same with rows of an event's size",
        Unit::Whole,
        ["bare-events-1k", "ours-1k"],
        "mb_per_second",
    ),
    versus(
        "tail-peak",
        "MB/s, lines of 1000 bytes; beside tail -F",
        Unit::Whole,
        ["pipe-1k", "ours-1k"],
        "mb_per_second",
    ),
    alone("tail-peak", "memory peak MiB", Unit::Mib, "memory", "proxy_mib"),
    alone("tail-10k", "CPU % of a core", Unit::Percent, "cpu", "cpu_percent")
        .goal(Goal::Under(10.0)),
    alone("tail-10k", "memory peak MiB", Unit::Mib, "memory", "proxy_mib").goal(Goal::Under(40.0)),
    alone("stats-10s", "CPU % of a core", Unit::Percent, "cpu", "cpu_percent")
        .goal(Goal::Under(1.0)),
    versus(
        "status-flood",
        "events/s, flood at the relay; beside at a bare server",
        Unit::Whole,
        ["bare", "ours"],
        "per_second",
    )
    .goal(Goal::RatioAtLeast(0.98)),
    versus(
        "status-flood",
        "events/s, flood at the relay; beside none",
        Unit::Whole,
        ["off", "ours"],
        "per_second",
    ),
    alone("status-flood", "processors for the status, %", Unit::Percent, "cost", "percent")
        .goal(Goal::Under(2.0)),
    versus(
        "status-flood",
        "status answers/s",
        Unit::Whole,
        ["bare-flood", "ours-flood"],
        "per_second",
    ),
    versus(
        "status-flood",
        "status answers, p99 ms",
        Unit::Ms,
        ["bare-flood", "ours-flood"],
        "p99_ms",
    ),
    alone("status-flood", "refused or failed", Unit::Whole, "ours-flood", "not_ok")
        .goal(Goal::Zero),
    alone("status-500", "page ms", Unit::Ms, "page", "p50_ms").goal(Goal::Under(50.0)),
    alone("status-500", "page KiB, gzip", Unit::Whole, "page", "kib").goal(Goal::Under(100.0)),
    alone("status-500", "page with all rows ms", Unit::Ms, "page-all", "p50_ms")
        .goal(Goal::Under(100.0)),
    alone("status-500", "page with all rows KiB, gzip", Unit::Whole, "page-all", "kib"),
    alone("status-500", "page of a node ms", Unit::Ms, "node", "p50_ms"),
    alone("status-500", "page of a bucket ms", Unit::Ms, "bucket", "p50_ms"),
    alone("status-500", "/statusz ms", Unit::Ms, "statusz", "p50_ms"),
    alone("status-500", "/statusz KiB", Unit::Whole, "statusz", "kib"),
    alone("status-500", "/metrics ms", Unit::Ms, "metrics", "p50_ms"),
    alone("status-500", "/metrics KiB", Unit::Whole, "metrics", "kib"),
    alone("status-500", "relay memory before MiB", Unit::Mib, "memory", "empty_mib"),
    alone("status-500", "relay memory with all nodes MiB", Unit::Mib, "memory", "told_mib"),
    alone("status-500", "relay memory peak MiB", Unit::Mib, "memory-shown", "peak_mib")
        .goal(Goal::Under(128.0)),
];

/// A row with a counterpart: `variants` are the bare one and ours.
const fn versus(
    bench: &'static str,
    what: &'static str,
    unit: Unit,
    variants: [&'static str; 2],
    field: &'static str,
) -> Row {
    let bare = Some(Figure { variant: variants[0], field });
    Row { bench, what, unit, bare, ours: Figure { variant: variants[1], field }, goal: Goal::None }
}

/// A sink beside a loop that does not only write, but takes what it writes out of a queue.
const fn beside_queue(bench: &'static str) -> Row {
    let what = "events/s; beside a loop that empties a queue, too";
    versus(bench, what, Unit::Whole, ["bare-queue", "ours"], "per_second")
}

/// A row without a counterpart.
const fn alone(
    bench: &'static str,
    what: &'static str,
    unit: Unit,
    variant: &'static str,
    field: &'static str,
) -> Row {
    Row { bench, what, unit, bare: None, ours: Figure { variant, field }, goal: Goal::None }
}

impl Row {
    const fn goal(self, goal: Goal) -> Self {
        Self { goal, ..self }
    }
}
