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
    by_bucket: HashMap<BucketName, Token>,
    /// Compared where there is no bucket, so that the time does not tell.
    decoy: Secret,
    /// There is more than one, so that what all clients use has to be shared.
    are_several: bool,
}

#[derive(Clone)]
struct Token {
    id: TokenId,
    secret: Secret,
}

/// Tells tokens apart: buckets with the same token have the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TokenId(usize);

impl Tokens {
    pub(crate) fn new<'a>(buckets: impl IntoIterator<Item = (&'a BucketName, &'a Secret)>) -> Self {
        let mut ids: HashMap<String, TokenId> = HashMap::new();
        let token = |(name, secret): (&BucketName, &Secret)| {
            let bare = secret.expose().trim_ascii();
            let next = TokenId(ids.len());
            let id = *ids.entry(bare.to_owned()).or_insert(next);
            (name.clone(), Token { id, secret: Secret::new(bare) })
        };
        let by_bucket = buckets.into_iter().map(token).collect();
        let decoy = Secret::new("no bucket has this token");
        Self { by_bucket, decoy, are_several: ids.len() > 1 }
    }

    /// All buckets, and the tokens that open them.
    pub(crate) fn ids(&self) -> impl Iterator<Item = (&BucketName, TokenId)> {
        self.by_bucket.iter().map(|(name, token)| (name, token.id))
    }

    /// The token that opens a bucket of the configuration.
    pub(crate) fn id_of(&self, bucket: &BucketName) -> TokenId {
        self.by_bucket.get(bucket).expect("only buckets of the configuration are asked for").id
    }

    /// How much of what all clients use is one token's at the most: half of it, unless there is no other token.
    pub(crate) fn share_of(&self, all: usize) -> usize {
        if self.are_several { all / 2 } else { all }
    }

    /// All buckets that the request names in `RF-BUCKETS` (or `RF-BUCKET`), if its token fits every one of them.
    pub(crate) fn buckets(&self, headers: &HeaderMap) -> Result<Vec<BucketName>, ApiError> {
        let named = named(headers);
        let named = named.as_ref().and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
        let named = named.unwrap_or_default();
        let token = bearer(headers);
        let names = name_list(named);
        let mut allowed = Vec::new();
        // Depends on nothing but the header, so it tells nothing of the buckets.
        let mut refused = names.len() > MAX_NAMES;
        for name in names {
            let known = self.by_bucket.get_key_value(name);
            let fits = self.secret(known).matches(token) && !token.is_empty();
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
        let fits = self.secret(known).matches(token);
        known.filter(|_| fits && !token.is_empty()).map(|(bucket, _)| bucket.clone())
    }

    fn secret<'a>(&'a self, known: Option<(&BucketName, &'a Token)>) -> &'a Secret {
        known.map_or(&self.decoy, |(_, token)| &token.secret)
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

/// The buckets that a request is about, as it says: `RF-BUCKETS`, or `RF-BUCKET`. Several lines of one are one list (RFC 9110,
/// 5.3).
pub(crate) fn named(headers: &HeaderMap) -> Option<HeaderValue> {
    let lines = |name| headers.get_all(name).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
    let lines = [RF_BUCKETS, RF_BUCKET].map(lines).into_iter().find(|lines| !lines.is_empty())?;
    HeaderValue::from_bytes(&lines.join(&b","[..])).ok()
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
        let headers = headers.iter().fold(HeaderMap::new(), |mut map, &(name, value)| {
            let name: http::HeaderName = name.parse().unwrap();
            map.append(name, HeaderValue::from_static(value));
            map
        });
        let expected =
            expected.map(|names| names.iter().map(|name| BucketName::new(name).unwrap()).collect());
        assert_eq!(tokens.buckets(&headers), expected, "{headers:?}");
    }

    const ONE: (&str, &str) = ("authorization", "Bearer one");

    #[test]
    fn the_token_must_fit_every_bucket() {
        check(&[ONE, (RF_BUCKET, "a")], Ok(&["a"]));
        check(&[ONE, (RF_BUCKETS, " a , b,")], Ok(&["a", "b"]));
        check(&[ONE, (RF_BUCKETS, "a"), (RF_BUCKETS, "b")], Ok(&["a", "b"]));
        check(&[ONE, (RF_BUCKET, "b"), (RF_BUCKET, "a")], Ok(&["b", "a"]));
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
    fn buckets_with_one_token_have_one_share() {
        let names = ["a", "b", "c"].map(|name| BucketName::new(name).unwrap());
        let tokens = |secrets: [&str; 3]| Tokens::new(names.iter().zip(&secrets.map(Secret::new)));
        let two = tokens(["one", "two", " one "]);
        let [a, b, c] = [0, 1, 2].map(|index| two.id_of(&names[index]));
        assert!(a == c && a != b);
        assert_eq!(two.share_of(16), 8);
        assert_eq!(tokens(["one"; 3]).share_of(16), 16, "there is nobody to leave it to");
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
