//! Which name is meant: `access_token`, `accessToken` and `Access-Token` are one.

use std::collections::HashSet;

/// Steps of a path that are looked at; a deeper path of a file is never matched beyond this.
const MAX_STEPS: usize = 32;

/// A set of names without regard to case, `_` and `-`.
#[derive(Debug, Default)]
pub(super) struct Names(HashSet<Vec<u8>>);

impl Names {
    pub(super) fn of<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        let names = names.into_iter().map(|name| normalized(name.as_ref().as_bytes()));
        Self(names.filter(|name| !name.is_empty()).collect())
    }

    pub(super) fn contains(&self, name: &[u8]) -> bool {
        let mut short = [0; 64];
        match normalize_into(name, &mut short) {
            Some(length) => self.0.contains(&short[..length]),
            None => self.0.contains(normalized(name).as_slice()),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Names and paths of fields.
#[derive(Debug, Default)]
pub(super) struct Fields {
    names: Names,
    paths: Vec<PathPattern>,
}

#[derive(Debug)]
struct PathPattern {
    /// From the outermost object, not at any depth.
    is_anchored: bool,
    /// Outermost first; `None` is any name.
    steps: Vec<Option<Vec<u8>>>,
}

impl Fields {
    /// Names alone: a dot in them is a part of the name.
    pub(super) fn of_names<S: AsRef<str>>(names: impl IntoIterator<Item = S>) -> Self {
        Self { names: Names::of(names), paths: Vec::new() }
    }

    /// Names, paths and anchored paths, as a file says them.
    pub(super) fn of<'a>(entries: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut names, mut paths) = (Vec::new(), Vec::new());
        for entry in entries {
            let (is_anchored, rest) = match entry.strip_prefix("$.") {
                Some(rest) => (true, rest),
                None => (false, entry),
            };
            // Lists are passed through, so an index or `[*]` in a path says nothing.
            let steps: Vec<&str> = rest
                .split('.')
                .map(|step| step.split_once('[').map_or(step, |(name, _index)| name))
                .filter(|step| !step.is_empty())
                .collect();
            match steps.as_slice() {
                [] => {}
                [name] if !is_anchored && *name != "*" => names.push(*name),
                steps => {
                    let step = |step: &&str| (*step != "*").then(|| normalized(step.as_bytes()));
                    paths.push(PathPattern {
                        is_anchored,
                        steps: steps.iter().take(MAX_STEPS).map(step).collect(),
                    });
                }
            }
        }
        Self { names: Names::of(names), paths }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty() && self.paths.is_empty()
    }

    /// Whether paths have to be followed at all.
    pub(super) fn has_paths(&self) -> bool {
        !self.paths.is_empty()
    }

    /// Whether a field of this name is meant wherever it stands.
    pub(super) fn has_name(&self, name: &[u8]) -> bool {
        self.names.contains(name)
    }

    /// Whether the field `name` within the objects of `outer`, outermost first, is meant.
    pub(super) fn matches(&self, outer: &[Vec<u8>], name: &[u8]) -> bool {
        self.names.contains(name)
            || (self.has_paths() && self.matches_path(outer, &normalized(name)))
    }

    fn matches_path(&self, outer: &[Vec<u8>], name: &[u8]) -> bool {
        self.paths.iter().any(|path| {
            let length = outer.len() + 1;
            if path.steps.len() > length || (path.is_anchored && path.steps.len() != length) {
                return false;
            }
            let names = std::iter::once(name).chain(outer.iter().rev().map(Vec::as_slice));
            path.steps
                .iter()
                .rev()
                .zip(names)
                .all(|(step, name)| step.as_deref().is_none_or(|step| step == name))
        })
    }
}

/// Lower case, without `_` and `-`.
pub(super) fn normalized(name: &[u8]) -> Vec<u8> {
    name.iter().filter(|byte| !matches!(byte, b'_' | b'-')).map(u8::to_ascii_lowercase).collect()
}

/// The same without an allocation; `None` when it does not fit.
fn normalize_into(name: &[u8], into: &mut [u8; 64]) -> Option<usize> {
    let mut length = 0;
    for byte in name.iter().filter(|byte| !matches!(byte, b'_' | b'-')) {
        *into.get_mut(length)? = byte.to_ascii_lowercase();
        length += 1;
    }
    Some(length)
}
