//! Who may touch a bucket.
//!
//! Promises: every named bucket is checked before the answer, whatever the first one said; a bucket that does not exist
//! costs the same comparison as one that does and is the same refusal; no request costs more than a bounded number of
//! comparisons; nothing of a token is logged. Blanks at the ends of a token do not count: HTTP takes them off the end of a
//! header.

use std::collections::HashMap;

use http::{HeaderMap, HeaderValue, header};
use rf_core::config::Secret;
use rf_core::protocol::{MAX_NAMES, RF_BUCKET, RF_BUCKETS, name_list};

use crate::api::ApiError;
use crate::bucket::BucketName;

/// The tokens of all buckets.
#[derive(Clone)]
pub(crate) struct Tokens {
    by_bucket: HashMap<BucketName, Secret>,
    /// Compared where there is no bucket, so that the time does not tell.
    decoy: Secret,
}

impl Tokens {
    pub(crate) fn new<'a>(buckets: impl IntoIterator<Item = (&'a BucketName, &'a Secret)>) -> Self {
        let bare = |secret: &Secret| Secret::new(secret.expose().trim_ascii());
        let by_bucket =
            buckets.into_iter().map(|(name, secret)| (name.clone(), bare(secret))).collect();
        Self { by_bucket, decoy: Secret::new("no bucket has this token") }
    }

    /// All buckets that the request names in `RF-BUCKETS` (or `RF-BUCKET`), if its token fits every one of them.
    pub(crate) fn buckets(&self, headers: &HeaderMap) -> Result<Vec<BucketName>, ApiError> {
        let named = named(headers).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
        let named = named.unwrap_or_default();
        let token = bearer(headers);
        let names = name_list(named);
        let mut allowed = Vec::new();
        // Depends on nothing but the header, so it tells nothing of the buckets.
        let mut refused = names.len() > MAX_NAMES;
        for name in names {
            let known = self.by_bucket.get_key_value(name);
            let fits =
                known.map_or(&self.decoy, |(_, secret)| secret).matches(token) && !token.is_empty();
            match known {
                Some((bucket, _)) if fits => allowed.push(bucket.clone()),
                _ => refused = true,
            }
        }
        if refused || allowed.is_empty() { Err(ApiError::Unauthorized) } else { Ok(allowed) }
    }

    /// The bucket of that name, if the token is its own.
    pub(crate) fn opened_by(&self, name: &str, token: &str) -> Option<BucketName> {
        let known = self.by_bucket.get_key_value(name);
        let token = token.trim_ascii();
        let fits = known.map_or(&self.decoy, |(_, secret)| secret).matches(token);
        known.filter(|_| fits && !token.is_empty()).map(|(bucket, _)| bucket.clone())
    }

    /// Those of the named buckets that there are, for the log; other names are the sender's words.
    pub(crate) fn known(&self, named: &str) -> Option<String> {
        let mut known = name_list(named);
        known.retain(|name| self.by_bucket.contains_key(*name));
        (!known.is_empty()).then(|| known.join(", "))
    }

    /// The one bucket that the request names in `RF-BUCKET` (or `RF-BUCKETS`).
    pub(crate) fn bucket(&self, headers: &HeaderMap) -> Result<BucketName, ApiError> {
        let mut buckets = self.buckets(headers)?;
        match (buckets.pop(), buckets.is_empty()) {
            (Some(bucket), true) => Ok(bucket),
            _ => Err(ApiError::BadRequest(
                "this call needs exactly one bucket: name it in RF-BUCKET".to_owned(),
            )),
        }
    }
}

/// The buckets that a request is about, as it says: `RF-BUCKETS`, or `RF-BUCKET`.
pub(crate) fn named(headers: &HeaderMap) -> Option<&HeaderValue> {
    headers.get(RF_BUCKETS).or_else(|| headers.get(RF_BUCKET))
}

/// The token of `Authorization: Bearer TOKEN`; empty, which fits nowhere, if there is none.
fn bearer(headers: &HeaderMap) -> &[u8] {
    let (scheme, token) = authorization(headers);
    if scheme.eq_ignore_ascii_case(b"bearer") { token } else { &[] }
}

/// Scheme and credentials of `Authorization`, without blanks around them; empty if there are none. They need not be ASCII.
pub(crate) fn authorization(headers: &HeaderMap) -> (&[u8], &[u8]) {
    let value = headers.get(header::AUTHORIZATION).map_or(&b""[..], HeaderValue::as_bytes);
    let blank = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, credentials) = value.split_at(blank);
    (scheme, credentials.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&'static str, &'static str)], expected: Result<&[&str], ApiError>) {
        let names = ["a", "b", "c"].map(|name| BucketName::new(name).unwrap());
        let secrets = ["one", "one", "two"].map(Secret::new);
        let tokens = Tokens::new(names.iter().zip(&secrets));
        let headers: HeaderMap = headers
            .iter()
            .map(|&(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        let expected =
            expected.map(|names| names.iter().map(|name| BucketName::new(name).unwrap()).collect());
        assert_eq!(tokens.buckets(&headers), expected, "{headers:?}");
    }

    const ONE: (&str, &str) = ("authorization", "Bearer one");

    #[test]
    fn the_token_must_fit_every_bucket() {
        check(&[ONE, (RF_BUCKET, "a")], Ok(&["a"]));
        check(&[ONE, (RF_BUCKETS, " a , b,")], Ok(&["a", "b"]));
        check(&[ONE, (RF_BUCKETS, "a,c")], Err(ApiError::Unauthorized));
        check(&[ONE, (RF_BUCKETS, "a,unknown")], Err(ApiError::Unauthorized));
        check(&[ONE, (RF_BUCKETS, "unknown")], Err(ApiError::Unauthorized));
        check(&[ONE, (RF_BUCKETS, "")], Err(ApiError::Unauthorized));
        check(&[ONE], Err(ApiError::Unauthorized));
        check(
            &[("authorization", "Bearer no bucket has this token"), (RF_BUCKETS, "x")],
            Err(ApiError::Unauthorized),
        );
    }

    #[test]
    fn more_names_than_allowed_open_nothing() {
        let names: Vec<BucketName> =
            (0..=MAX_NAMES).map(|number| BucketName::new(&format!("b{number}")).unwrap()).collect();
        let secret = Secret::new("one");
        let tokens = Tokens::new(names.iter().map(|name| (name, &secret)));
        let opened = |count: usize| {
            let named: Vec<&str> = names[..count].iter().map(BucketName::as_str).collect();
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer one"));
            headers.insert(RF_BUCKETS, named.join(",").parse().unwrap());
            tokens.buckets(&headers).map(|buckets| buckets.len())
        };
        assert_eq!(opened(MAX_NAMES), Ok(MAX_NAMES));
        assert_eq!(opened(MAX_NAMES + 1), Err(ApiError::Unauthorized));
    }

    #[test]
    fn a_name_that_is_no_bucket_s_is_the_sender_s_word() {
        let names = ["a", "b"].map(|name| BucketName::new(name).unwrap());
        let secrets = ["one", "two"].map(Secret::new);
        let tokens = Tokens::new(names.iter().zip(&secrets));
        assert_eq!(tokens.known("b, made up, a").as_deref(), Some("b, a"));
        assert_eq!(tokens.known("one"), None);
        assert_eq!(tokens.known(""), None);
    }

    #[test]
    fn only_bearer_tokens_count() {
        check(&[("authorization", "bearer  two "), (RF_BUCKET, "c")], Ok(&["c"]));
        for value in ["Bearer", "Bearer ", "two", "Basic two", "Bearer two two", "Bearer Two"] {
            check(&[("authorization", value), (RF_BUCKET, "c")], Err(ApiError::Unauthorized));
        }
        check(&[(RF_BUCKET, "c")], Err(ApiError::Unauthorized));
    }
    #[test]
    fn a_token_may_have_blanks_at_its_ends_and_any_letters() {
        let names = ["a", "b"].map(|name| BucketName::new(name).unwrap());
        let secrets = [" one\t", "tökn"].map(Secret::new);
        let tokens = Tokens::new(names.iter().zip(&secrets));
        let told = |name: &'static str, token: &str, expected: bool| {
            let value = HeaderValue::from_bytes(format!("Bearer {token}").as_bytes()).unwrap();
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value);
            headers.insert(RF_BUCKET, HeaderValue::from_static(name));
            assert_eq!(tokens.bucket(&headers).is_ok(), expected, "{name} {token:?}");
            assert_eq!(tokens.opened_by(name, token).is_some(), expected, "{name} {token:?}");
        };
        told("a", "one", true);
        told("a", " one\t", true);
        told("a", "tökn", false);
        told("b", "tökn", true);
        told("b", "tokn", false);
        told("b", " ", false);
    }
}
