//! What was sent and must not be seen: a peer's answer may repeat it, and a URL may hold it.
//!
//! Promises: a text that went through [`Mask::text`], and a URL as [`shown`] writes it, hold no password of the URL (nor a name
//! without a password, which is a key), no value of its query, no part of its path that may be a token, and no header that is
//! marked as sensitive.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use percent_encoding::percent_decode_str;

use crate::client::split_user;

/// What stands in the place of a secret.
const HIDDEN: &str = "***";
/// A shorter secret is hidden only where it is a word of its own: `?v=1` is no reason to hide each 1.
const ANYWHERE_BYTES: usize = 4;
/// A part of a path that is as long as this may be a token, as those of chat services are.
const TOKEN_BYTES: usize = 20;
/// Headers that may be marked with all others of a file, and say nothing that is secret.
const OPEN: [HeaderName; 3] = [header::ACCEPT, header::CONTENT_TYPE, header::USER_AGENT];

/// The secrets of a request, to be hidden in what is said about it.
#[derive(Clone, Default)]
pub struct Mask {
    /// The longest first, so that one within another leaves no rest of that.
    secrets: Vec<String>,
}

impl Mask {
    /// Of a request to this URL with these headers.
    pub fn of(uri: &Uri, headers: &HeaderMap) -> Mask {
        let (user, _host) = split_user(uri);
        let password = user.map(password_of);
        let query = pairs(uri).map(|(_name, value)| value);
        let tokens = uri.path().split('/').filter(|part| may_be_token(part));
        let of_url = password.into_iter().chain(query.clone()).chain(tokens);
        let mut secrets: Vec<String> =
            of_url.flat_map(|text| [text.to_owned(), decoded(text)]).collect();
        // As forms write a blank.
        let with_blanks = query.filter(|value| value.contains('+'));
        secrets.extend(with_blanks.map(|value| decoded(&value.replace('+', " "))));
        for (name, value) in headers {
            if value.is_sensitive() && !OPEN.contains(name) {
                secrets.extend(of_header(name, value));
            }
        }
        Mask::new(secrets)
    }

    /// The same, and one more.
    #[must_use]
    pub fn and(self, secret: &str) -> Mask {
        let mut secrets = self.secrets;
        secrets.push(secret.to_owned());
        Mask::new(secrets)
    }

    fn new(mut secrets: Vec<String>) -> Mask {
        secrets.retain(|secret| !secret.is_empty());
        secrets.sort_unstable_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
        Mask { secrets }
    }

    /// The text without the secrets. To be called before the text is cut: half a secret is not found any more.
    pub fn text(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| without(&text, secret))
    }
}

/// A URL as people may see it.
pub fn shown(uri: &Uri) -> String {
    let (user, host) = split_user(uri);
    let user = user.map_or_else(String::new, |_user| format!("{HIDDEN}@"));
    let part = |part| if may_be_token(part) { HIDDEN } else { part };
    let path = uri.path().split('/').map(part).collect::<Vec<_>>().join("/");
    let pair = |(name, _value): (&str, &str)| match name {
        "" => HIDDEN.to_owned(),
        name => format!("{name}={HIDDEN}"),
    };
    let query = pairs(uri).map(pair).collect::<Vec<_>>().join("&");
    let query = if query.is_empty() { query } else { format!("?{query}") };
    format!("{}://{user}{host}{path}{query}", uri.scheme_str().unwrap_or("http"))
}

/// The password behind a name; the name where there is none, as APIs take their keys.
fn password_of(user: &str) -> &str {
    match user.split_once(':') {
        Some((name, "")) => name,
        Some((_name, password)) => password,
        None => user,
    }
}

/// Names and values of the query; what has no name may be a token as well.
fn pairs(uri: &Uri) -> impl Iterator<Item = (&str, &str)> + Clone {
    let query = uri.query().unwrap_or_default();
    let pieces = query.split('&').filter(|piece| !piece.is_empty());
    pieces.map(|piece| piece.split_once('=').unwrap_or(("", piece)))
}

fn may_be_token(part: &str) -> bool {
    part.len() >= TOKEN_BYTES
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// What is secret in a header: all of it, but of credentials not the scheme; and what may be repeated by itself: the password
/// of Basic, what follows a scheme in a header of the user's own, the values of cookies.
fn of_header(name: &HeaderName, value: &HeaderValue) -> Vec<String> {
    let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
    if name == header::COOKIE {
        let values = text.split(';').filter_map(|cookie| cookie.split_once('='));
        let values: Vec<String> =
            values.map(|(_name, value)| value.trim().trim_matches('"').to_owned()).collect();
        return values.into_iter().chain([text]).collect();
    }
    let Some((scheme, rest)) = text.split_once(' ') else { return vec![text] };
    let rest = rest.trim();
    let mut found = vec![rest.to_owned()];
    if scheme.eq_ignore_ascii_case("basic") {
        let pair = STANDARD.decode(rest).unwrap_or_default();
        let pair = String::from_utf8_lossy(&pair);
        found.extend(pair.contains(':').then(|| password_of(&pair).to_owned()));
    }
    if ![header::AUTHORIZATION, header::PROXY_AUTHORIZATION].contains(name) {
        found.push(text);
    }
    found
}

fn without(text: &str, secret: &str) -> String {
    let is_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(secret) {
        shown.push_str(before);
        let is_within = is_word(shown.chars().next_back()) || is_word(after.chars().next());
        let is_shown = secret.len() < ANYWHERE_BYTES && is_within;
        shown.push_str(if is_shown { secret } else { HIDDEN });
        rest = after;
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::basic_auth;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    fn sensitive(text: &'static str) -> HeaderValue {
        let mut value = HeaderValue::from_static(text);
        value.set_sensitive(true);
        value
    }

    #[test]
    fn a_url_is_shown_without_what_is_secret_in_it() {
        let check = |url: &str, expected: &str| assert_eq!(shown(&uri(url)), expected);
        check("http://host:81/in/v1", "http://host:81/in/v1");
        check("http://host", "http://host/");
        check(
            "https://usr:PW@host/hook?api_key=abc&v=1",
            "https://***@host/hook?api_key=***&v=***",
        );
        check("http://host/?abc", "http://host/?***");
        check("http://host/?a=b=c&", "http://host/?a=***");
        check(
            "https://hooks.example/services/T01/B02/abcdefghijklmnopqrstuvwx",
            "https://hooks.example/services/T01/B02/***",
        );
    }

    #[test]
    fn an_answer_that_repeats_the_request_shows_no_secret_of_it() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, sensitive("Bearer token-1"));
        headers.insert("x-api-key", sensitive("key-1"));
        headers.insert(header::CONTENT_TYPE, sensitive("application/json"));
        headers.insert("x-open", HeaderValue::from_static("open-2"));
        let url = "http://usr:pass%2Fword@host/hook?api_key=a%20secret&v=1";
        let mask = Mask::of(&uri(url), &headers);
        let check = |text: &str, expected: &str| assert_eq!(mask.text(text), expected);
        check("auth Bearer token-1, again: token-1", "auth Bearer ***, again: ***");
        check("key-1key-1", "******");
        check("usr:pass/word usr:pass%2Fword", "usr:*** usr:***");
        check("?api_key=a%20secret or a secret", "?api_key=*** or ***");
        check("expected application/json, open-2", "expected application/json, open-2");
        check("v=1: 11 of 1", "v=***: 11 of ***");
    }

    #[test]
    fn parts_of_the_request_that_are_repeated_by_themselves_are_hidden() {
        let mut headers = HeaderMap::new();
        headers.insert("x-auth", sensitive("Token part-1"));
        headers.insert("x-phrase", sensitive("first second"));
        headers.insert(header::COOKIE, sensitive("session=abcdef; theme=\"darkest\"; empty="));
        let mask = Mask::of(&uri("http://host/?key=a+long%2Bsecret"), &headers);
        let check = |text: &str, expected: &str| assert_eq!(mask.text(text), expected);
        check("part-1 is no token, nor is Token part-1", "*** is no token, nor is ***");
        check("first second, second", "***, ***");
        check("no session abcdef with darkest", "no session *** with ***");
        check("session=abcdef; theme=\"darkest\"; empty=", "***");
        check("key=a+long%2Bsecret, a long+secret", "key=***, ***");
    }

    #[test]
    fn credentials_of_basic_are_hidden_in_both_forms() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, basic_auth("me", "hunter2"));
        let mask = Mask::of(&uri("http://host"), &headers).and("more");
        assert_eq!(
            mask.text("Basic bWU6aHVudGVyMg== is me:hunter2, no more"),
            "Basic *** is me:***, no ***"
        );
        assert_eq!(Mask::default().text("as it was"), "as it was");
    }

    #[test]
    fn a_name_without_a_password_is_a_key() {
        let headers =
            HeaderMap::from_iter([(header::AUTHORIZATION, basic_auth("key-of-header", ""))]);
        for user in ["key-of-url", "key-of-url:"] {
            let mask = Mask::of(&uri(&format!("https://{user}@host/")), &headers);
            assert_eq!(mask.text("neither key-of-url nor key-of-header"), "neither *** nor ***");
        }
    }
}
