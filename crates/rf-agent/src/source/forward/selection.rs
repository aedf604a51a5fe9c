//! Which requests are copied: rules of method, path and headers, then a share.

use http::{HeaderMap, HeaderName, Method, Uri};
use regex::bytes::{Regex, RegexBuilder};
use rf_core::config::{Node, Problems};
use rf_core::event::ParsedTarget;
use schemars::JsonSchema;
use serde::Deserialize;

use super::config::ForwardConfig;
use crate::settings::at;

/// What a compiled pattern may take.
const MAX_PATTERN_BYTES: usize = 256 * 1024;
/// Rules in each list.
const MAX_RULES: usize = 256;

/// One rule of `include` or `exclude`; all that it names must fit.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RuleConfig {
    /// Methods, such as `POST`; none: any.
    #[serde(default)]
    pub(super) methods: Vec<String>,
    /// Patterns of the path, without the query: `*` is anything but a slash, `**` anything; none: any.
    #[serde(default)]
    pub(super) paths: Vec<String>,
    /// Header name to a pattern of its value, in which `*` is anything; all of them must be there.
    #[serde(default)]
    pub(super) headers: std::collections::BTreeMap<String, String>,
}

/// The rules and the share, checked.
#[derive(Debug)]
pub(super) struct Selection {
    include: Vec<Rule>,
    exclude: Vec<Rule>,
    share: f64,
    share_by: Option<HeaderName>,
}

#[derive(Debug)]
struct Rule {
    methods: Vec<String>,
    paths: Vec<Regex>,
    headers: Vec<(HeaderName, Regex)>,
}

impl Selection {
    pub(super) fn build(
        config: &ForwardConfig,
        params: &Node<'_>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut rules = |key: &str, rules: &[RuleConfig]| {
            let node = at(params, key);
            if rules.len() > MAX_RULES {
                problems.error(&node, format!("expected at most {MAX_RULES} rules"));
                return None;
            }
            let built: Result<Vec<Rule>, String> = rules.iter().map(Rule::build).collect();
            built.map_err(|reason| problems.error(&node, reason)).ok()
        };
        let include = rules("include", &config.include);
        let exclude = rules("exclude", &config.exclude);
        let share_by = match config.sample_by.as_str() {
            "" => None,
            name => match HeaderName::try_from(name) {
                Ok(name) => Some(name),
                Err(_invalid) => {
                    problems
                        .error(&at(params, "sampleBy"), format!("`{name}` is not a header name"));
                    return None;
                }
            },
        };
        Some(Self { include: include?, exclude: exclude?, share: config.sample, share_by })
    }

    /// Whether a request is copied. `draw` gives a number from 0 up to 1, and is asked only where the share decides.
    pub(super) fn wants(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        draw: impl Fn() -> f64,
    ) -> bool {
        if !(self.include.is_empty() && self.exclude.is_empty()) {
            let decoded = uri.path().contains('%').then(|| ParsedTarget::parse(uri.path()).path);
            let path = decoded.as_deref().unwrap_or(uri.path());
            let fits = |rule: &Rule| rule.fits(method, path, headers);
            if self.exclude.iter().any(fits)
                || !(self.include.is_empty() || self.include.iter().any(fits))
            {
                return false;
            }
        }
        if self.share >= 1.0 {
            return true;
        }
        let value = self.share_by.as_ref().and_then(|name| headers.get(name));
        value.map_or_else(draw, |value| position(value.as_bytes())) < self.share
    }
}

impl Rule {
    fn build(config: &RuleConfig) -> Result<Self, String> {
        let paths: Result<Vec<Regex>, String> =
            config.paths.iter().map(|glob| pattern(glob, "[^/]*")).collect();
        let header = |(name, glob): (&String, &String)| {
            let known = HeaderName::try_from(name.as_str())
                .map_err(|_invalid| format!("`{name}` is not a header name"))?;
            Ok((known, pattern(glob, ".*")?))
        };
        let headers: Result<Vec<_>, String> = config.headers.iter().map(header).collect();
        let methods = config.methods.iter().map(|method| method.to_ascii_uppercase()).collect();
        Ok(Self { methods, paths: paths?, headers: headers? })
    }

    fn fits(&self, method: &Method, path: &str, headers: &HeaderMap) -> bool {
        let any_value = |name: &HeaderName, glob: &Regex| {
            headers.get_all(name).iter().any(|value| glob.is_match(value.as_bytes()))
        };
        (self.methods.is_empty() || self.methods.iter().any(|known| known == method.as_str()))
            && (self.paths.is_empty()
                || self.paths.iter().any(|glob| glob.is_match(path.as_bytes())))
            && self.headers.iter().all(|(name, glob)| any_value(name, glob))
    }
}

/// A glob as an expression for the whole text; `star` is what `*` stands for.
fn pattern(glob: &str, star: &str) -> Result<Regex, String> {
    let pieces: Vec<String> = glob
        .split("**")
        .map(|piece| piece.split('*').map(regex::escape).collect::<Vec<_>>().join(star))
        .collect();
    let expression = format!("^{}$", pieces.join(".*"));
    RegexBuilder::new(&expression)
        .unicode(false)
        .dot_matches_new_line(true)
        .size_limit(MAX_PATTERN_BYTES)
        .build()
        .map_err(|_too_large| format!("pattern `{glob}` is too large"))
}

/// Where a value lies between 0 and 1, the same on every machine and in every version.
fn position(value: &[u8]) -> f64 {
    let hash = value.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // FNV leaves the high bits of short texts alike: mixed as in MurmurHash3's end.
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let mixed = (mixed ^ (mixed >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    let top = u32::try_from((mixed ^ (mixed >> 33)) >> 32).unwrap_or(u32::MAX);
    f64::from(top) / 4_294_967_296.0
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use serde_json::json;

    use super::*;

    fn selection(params: &serde_json::Value) -> Selection {
        let mut all = json!({ "forwardTo": "http://127.0.0.1:1", "listenPort": 0 });
        all.as_object_mut().unwrap().extend(params.as_object().unwrap().clone());
        let none = |_: &str| None;
        let mut problems = Problems::new();
        let document =
            rf_core::config::parse("test", &all.to_string(), &none, &mut problems).unwrap();
        let config: ForwardConfig = document.root().decode(&mut problems).unwrap();
        let built = Selection::build(&config, &document.root(), &mut problems);
        built.unwrap_or_else(|| panic!("{problems}"))
    }

    fn wants(
        selection: &Selection,
        method: Method,
        uri: &'static str,
        headers: &[(&'static str, &str)],
    ) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        selection.wants(&method, &Uri::from_static(uri), &map, || 0.5)
    }

    #[test]
    fn rules_go_by_method_path_and_header() {
        let chosen = selection(&json!({
            "include": [{ "methods": ["post"], "paths": ["/api/*/x", "/hooks/**"] }, { "headers": { "X-Debug": "*" } }],
            "exclude": [{ "paths": ["/hooks/secret*"] }, { "headers": { "user-agent": "kube-probe/*" } }],
        }));
        let check = |method, uri, headers: &[(&'static str, &str)], expected| {
            assert_eq!(wants(&chosen, method, uri, headers), expected, "{uri} {headers:?}");
        };
        check(Method::POST, "/api/1/x?y=z", &[], true);
        check(Method::POST, "/api/1/2/x", &[], false);
        check(Method::GET, "/api/1/x", &[], false);
        check(Method::POST, "/hooks/a/b", &[], true);
        check(Method::POST, "/hooks/secrets", &[], false);
        check(Method::POST, "/hooks/%73ecrets", &[], false);
        check(Method::GET, "/any", &[("x-debug", "1")], true);
        check(Method::GET, "/any", &[("x-debug", "1"), ("user-agent", "kube-probe/1.2")], false);
        check(Method::GET, "/any.", &[("x-debug", "1"), ("user-agent", "curl")], true);
    }

    #[test]
    fn a_share_goes_by_the_header_where_there_is_one() {
        let chosen = selection(&json!({ "sample": 0.25, "sampleBy": "X-User" }));
        let copied =
            |user: usize| wants(&chosen, Method::GET, "/", &[("x-user", &user.to_string())]);
        let count = (0..10_000).filter(|user| copied(*user)).count();
        assert!((2_200..2_800).contains(&count), "{count}");
        assert!((0..100).all(|user| copied(user) == copied(user)));
        // Without the header the draw decides: 0.5 here.
        assert!(!wants(&chosen, Method::GET, "/", &[]));
        assert!(wants(&selection(&json!({ "sample": 0.6 })), Method::GET, "/", &[]));
        assert!(!wants(&selection(&json!({ "sample": 0 })), Method::GET, "/", &[]));
        assert_eq!(position(b"alice"), position(b"alice"));
    }
}
