//! `redact` in a source's params.

use regex::bytes::{Regex, RegexBuilder};
use rf_core::config::{Node, Problems};
use schemars::JsonSchema;
use serde::Deserialize;

use super::Redactor;
use super::names::{Fields, Names};
use crate::settings::{at, regex_reason};

/// What a compiled pattern may take; a larger one is refused at the start.
const MAX_PATTERN_BYTES: usize = 1024 * 1024;
/// Patterns at the most: each of them reads every captured byte.
const MAX_PATTERNS: usize = 64;
/// What an entry of `headers`, `query` and `keep` is.
const NAME: &str = "expected a name";
/// What an entry of `fields` is.
const FIELD: &str = "expected a name, a path such as user.pin, or one from the outermost object \
                     such as $.user.pin";
/// In `keep`: none of the defaults.
const EVERYTHING: &str = "*";

const HEADERS: &[&str] = &[
    "Authorization",
    "Proxy-Authorization",
    "Authentication-Info",
    "Proxy-Authentication-Info",
    "Cookie",
    "Cookie2",
    "Set-Cookie",
    "Set-Cookie2",
    "Api-Key",
    "X-Api-Key",
    "X-Api-Token",
    "X-Api-Secret",
    "X-Access-Token",
    "X-Auth-Key",
    "X-Auth-Token",
    "X-Amz-Security-Token",
    "X-Client-Secret",
    "X-Csrf-Token",
    "X-Xsrf-Token",
    "X-Goog-Api-Key",
    "X-Functions-Key",
    "X-Gitlab-Token",
    "X-Shopify-Access-Token",
    "X-Session-Id",
    "X-Session-Token",
    "X-Vault-Token",
    "Ocp-Apim-Subscription-Key",
    "Private-Token",
    "X-Authorization",
    "X-Forwarded-Access-Token",
    "X-Auth-Request-Access-Token",
    "X-Amzn-Oidc-Accesstoken",
    "X-Amzn-Oidc-Data",
    "X-Goog-Iap-Jwt-Assertion",
    "Cf-Access-Jwt-Assertion",
    "Cf-Access-Client-Secret",
];

/// Names of query parameters and of fields of bodies.
const FIELDS: &[&str] = &[
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "newPassword",
    "oldPassword",
    "currentPassword",
    "passwordConfirmation",
    "confirmPassword",
    "secret",
    "clientSecret",
    "apiSecret",
    "appSecret",
    "secretKey",
    "secretAccessKey",
    "privateKey",
    "token",
    "accessToken",
    "refreshToken",
    "idToken",
    "authToken",
    "sessionToken",
    "csrfToken",
    "xsrfToken",
    "bearerToken",
    "apiToken",
    "apiKey",
    "accessKey",
    "authKey",
    "authorization",
    "credential",
    "credentials",
    "jwt",
    "otp",
    "sessionId",
    "cardNumber",
    "cvv",
    "cvc",
    "ssn",
];

/// Only in queries: what signs a URL, or stands for a login for a moment.
const QUERY: &[&str] = &[
    "sig",
    "signature",
    "auth",
    "key",
    "code",
    "client_assertion",
    "SAMLResponse",
    "X-Amz-Signature",
    "X-Amz-Credential",
    "X-Amz-Security-Token",
    "X-Goog-Signature",
    "X-Goog-Credential",
];

/// What is masked in an event before it is written anywhere.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RedactConfig {
    /// Names of headers whose values are masked.
    #[serde(default)]
    pub(crate) headers: Vec<String>,
    /// Names of query parameters whose values are masked.
    #[serde(default)]
    pub(crate) query: Vec<String>,
    /// Fields of JSON, form, multipart and XML bodies: a name (`password`, at any depth), a path (`user.pin`, at any
    /// depth; `*` is any name) or a path from the outermost object (`$.user.pin`).
    #[serde(default)]
    pub(crate) fields: Vec<String>,
    /// Regular expressions; what matches is masked in targets, header values and bodies.
    #[serde(default)]
    pub(crate) patterns: Vec<String>,
    /// Names of headers, parameters and fields that the defaults would mask and that are kept; `"*"`: no defaults.
    #[serde(default)]
    pub(crate) keep: Vec<String>,
}

/// Whether the lists of usual secrets are masked without being asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defaults {
    /// Yes, but for `keep`.
    On,
    /// Only what the file names.
    Off,
}

impl RedactConfig {
    /// The redactor; `None` when there is nothing to mask. Problems are reported within `node`.
    pub(crate) fn build(
        &self,
        defaults: Defaults,
        node: &Node<'_>,
        problems: &mut Problems,
    ) -> Option<Redactor> {
        let is_name = |name: &str| !Names::of([name]).is_empty();
        for key in ["headers", "query", "keep"] {
            check_entries(&at(node, key), is_name, NAME, problems);
        }
        let is_field = |entry: &str| !Fields::of([entry]).is_empty();
        check_entries(&at(node, "fields"), is_field, FIELD, problems);
        let keep_all = defaults == Defaults::Off || self.keep.iter().any(|name| name == EVERYTHING);
        let kept = Names::of(self.keep.iter().map(String::as_str));
        let usual = |lists: &[&'static [&'static str]]| -> Vec<&'static str> {
            let all = lists.iter().flat_map(|list| list.iter().copied());
            all.filter(|name| !keep_all && !kept.contains(name.as_bytes())).collect()
        };
        let headers = Names::of(texts(&self.headers).chain(usual(&[HEADERS])));
        let query = Fields::of_names(texts(&self.query).chain(usual(&[FIELDS, QUERY])));
        let fields = Fields::of(texts(&self.fields).chain(usual(&[FIELDS])));
        let patterns = compiled(&self.patterns, &at(node, "patterns"), problems);
        let redactor = Redactor { headers, query, fields, patterns };
        (!redactor.headers.is_empty() || redactor.looks_into_bodies()).then_some(redactor)
    }
}

fn texts(list: &[String]) -> impl Iterator<Item = &str> {
    list.iter().map(String::as_str)
}

/// Reports the entries of a list that nothing can match.
fn check_entries(
    list: &Node<'_>,
    can_match: impl Fn(&str) -> bool,
    expected: &str,
    problems: &mut Problems,
) {
    for entry in list.items() {
        if entry.as_str().is_some_and(|text| !can_match(text)) {
            problems.error(&entry, format!("{expected}, found {}", entry.shown()));
        }
    }
}

/// The patterns that are ones; each of the others is reported at its place in the list.
fn compiled(patterns: &[String], list: &Node<'_>, problems: &mut Problems) -> Vec<Regex> {
    if patterns.len() > MAX_PATTERNS {
        let found = patterns.len();
        problems.error(list, format!("expected at most {MAX_PATTERNS} patterns, found {found}"));
        return Vec::new();
    }
    let places = list.items();
    let mut compiled = Vec::with_capacity(patterns.len());
    for (index, pattern) in patterns.iter().enumerate() {
        match compile(pattern) {
            Ok(regex) => compiled.push(regex),
            Err(reason) => problems.error(places.get(index).unwrap_or(list), reason),
        }
    }
    compiled
}

fn compile(pattern: &str) -> Result<Regex, String> {
    match RegexBuilder::new(pattern).size_limit(MAX_PATTERN_BYTES).build() {
        Ok(regex) if regex.is_match(b"") => {
            Err(format!("`{pattern}` matches an empty text, so it would match everywhere"))
        }
        Ok(regex) => Ok(regex),
        Err(error) => {
            let reason = regex_reason(&error);
            Err(format!("`{pattern}` is not a regular expression: {reason}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manual_lists_the_defaults() {
        let page = include_str!("../../../../docs/sources/http-forward.md");
        let (_, section) = page.split_once("\n### The defaults\n").expect("the section");
        let (section, _) = section.split_once("\nNot found,").expect("what comes after the lists");
        // Each name stands in backticks.
        let names = |list: &'static str| list.split('`').skip(1).step_by(2).collect::<Vec<_>>();
        let told: Vec<_> = section.split("\n- ").skip(1).map(names).collect();
        assert_eq!(told, [HEADERS, FIELDS, QUERY]);
    }
}
