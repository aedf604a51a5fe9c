//! Where the events of a source go: to the sinks that the file names, or to those that a script chooses.

use rf_core::config::{Interval, Node, Problems};

use super::at;
use crate::agent::PlannedSource;
use crate::script::config::{ScriptKeys, check_pass};
use crate::script::{ScriptPlan, letters_queue};
use crate::source::Source;

/// What a source's keys say about where its events go.
pub(crate) struct RouteKeys<'a> {
    /// The source's own name.
    pub(crate) source: &'a str,
    /// The key that holds a sink's name.
    pub(crate) sink_key: &'static str,
    /// What a source that goes nowhere lacks.
    pub(crate) expected: &'static str,
    /// The sinks that get every event, each with its place in the file.
    pub(crate) sinks: Vec<(&'a str, Node<'a>)>,
    pub(crate) script: ScriptKeys<'a>,
    pub(crate) hook_interval: Option<Interval>,
}

impl RouteKeys<'_> {
    /// Checks the keys of the source at `node` against the names of all sinks.
    pub(crate) fn check(
        &self,
        known: Vec<String>,
        node: &Node<'_>,
        problems: &mut Problems,
    ) -> Routes {
        if self.script.path.is_empty() && self.sinks.is_empty() {
            let message = format!(
                "source `{}` goes nowhere: expected {}, or transformScript, a Lua script",
                self.source, self.expected
            );
            problems.error(node, message);
        }
        let script = self.script.check_source(&known, self.hook_interval, node, problems);
        check_pass(script.as_ref(), self.sinks.is_empty(), node, problems);
        let letters = letters_queue(self.source);
        if script.is_some() && known.contains(&letters) {
            let text = format!(
                "a sink is named `{letters}`, as the queue of this script's dead letters is: give it another name"
            );
            problems.error(&at(node, "transformScript"), text);
        }
        let sinks = self.check_sinks(&known, problems);
        let feeds = if script.is_some() { known } else { sinks.clone() };
        Routes { sinks, feeds, script }
    }

    /// The sinks, each once.
    fn check_sinks(&self, known: &[String], problems: &mut Problems) -> Vec<String> {
        let mut sinks: Vec<String> = Vec::new();
        for (name, at) in &self.sinks {
            if !known.iter().any(|sink| sink == name) {
                let (key, known) = (self.sink_key, known.join(", "));
                problems.error(at, format!("no sink has the {key} `{name}`; known: {known}"));
            }
            if sinks.iter().any(|sink| sink == name) {
                problems.warn(at, format!("`{name}` is named twice, and gets each event once"));
            } else {
                sinks.push((*name).to_owned());
            }
        }
        sinks
    }
}

/// Where the events of a source go.
pub(crate) struct Routes {
    sinks: Vec<String>,
    feeds: Vec<String>,
    script: Option<ScriptPlan>,
}

impl Routes {
    /// The source of these routes.
    pub(crate) fn plan(self, id: &str, kind: &str, source: Box<dyn Source>) -> PlannedSource {
        PlannedSource {
            id: id.to_owned(),
            kind: kind.to_owned(),
            routes: self.sinks,
            feeds: self.feeds,
            source,
            script: self.script,
        }
    }
}

/// Warns of sinks that no source names, nor any of the `further` names. Scripts name sinks, too: with one nothing is known.
/// Nor is it where a source names no sink that is there: that is told, and any of them may be meant.
pub(crate) fn check_named(
    sinks: &[Node<'_>],
    key: &str,
    named: &[&str],
    further: &[&str],
    problems: &mut Problems,
) {
    let known = sinks.iter().filter_map(|sink| sink.get(key));
    let known: Vec<_> = known.filter_map(|at| Some((at, at.as_str()?))).collect();
    if named.iter().any(|name| !known.iter().any(|(_, id)| id == name)) {
        return;
    }
    for (at, id) in known {
        if !named.contains(&id) && !further.contains(&id) {
            problems.warn(&at, "no source names this sink, so it gets no events");
        }
    }
}
