//! Content codings: zstd and gzip.
//!
//! Promises: decoding stops at a given number of bytes whatever the input claims; who accepts what is read as RFC 9110
//! says; nothing is sent compressed to a peer that has not asked for it.

mod codec;
mod negotiate;

use http::{HeaderMap, header};

pub use codec::{DecodeError, decode, decode_prefix, decoded_bytes, encode};
pub use negotiate::negotiate;

/// How the bytes of a body are coded.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// As they are.
    Identity,
    /// RFC 1952.
    Gzip,
    /// RFC 8878, with windows of at most 8 MiB (RFC 9659).
    Zstd,
}

/// What [`decode`] takes, as the value of an `Accept-Encoding` header.
pub const ACCEPTED: &str = "zstd, gzip";

/// A `Content-Encoding` that this program does not know.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("content encoding {name:?} is not supported: use {ACCEPTED} or none")]
pub struct UnknownCoding {
    /// The header's value.
    pub name: String,
}

impl Coding {
    /// The coding that the `Content-Encoding` of a message names; none is [`Coding::Identity`].
    ///
    /// # Errors
    /// [`UnknownCoding`]; a list of codings is one too, nobody sends it for a reason.
    pub fn of(headers: &HeaderMap) -> Result<Coding, UnknownCoding> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let (Some(value), second) = (values.next(), values.next()) else {
            return Ok(Coding::Identity);
        };
        match value.to_str().ok().and_then(Coding::named) {
            Some(coding) if second.is_none() => Ok(coding),
            _ => {
                Err(UnknownCoding { name: String::from_utf8_lossy(value.as_bytes()).into_owned() })
            }
        }
    }

    /// The coding of a value of `Content-Encoding`; `None` when it is not known here.
    pub fn parse(value: &[u8]) -> Option<Coding> {
        std::str::from_utf8(value).ok().and_then(Coding::named)
    }

    /// Its name in `Content-Encoding` and `Accept-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Coding::Identity => "identity",
            Coding::Gzip => "gzip",
            Coding::Zstd => "zstd",
        }
    }

    fn named(name: &str) -> Option<Coding> {
        let is = |known: &str| name.trim().eq_ignore_ascii_case(known);
        if is("identity") || is("") {
            Some(Coding::Identity)
        } else if is("gzip") || is("x-gzip") {
            Some(Coding::Gzip)
        } else if is("zstd") {
            Some(Coding::Zstd)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn check(values: &[&'static str], expected: Result<Coding, &str>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::CONTENT_ENCODING, HeaderValue::from_static(value));
        }
        let expected = expected.map_err(|name| UnknownCoding { name: name.to_owned() });
        assert_eq!(Coding::of(&headers), expected, "{values:?}");
    }

    #[test]
    fn content_encoding_is_read() {
        check(&[], Ok(Coding::Identity));
        check(&["identity"], Ok(Coding::Identity));
        check(&["ZSTD"], Ok(Coding::Zstd));
        check(&[" gzip "], Ok(Coding::Gzip));
        check(&["x-gzip"], Ok(Coding::Gzip));
        check(&["br"], Err("br"));
        check(&["gzip, zstd"], Err("gzip, zstd"));
        check(&["gzip", "zstd"], Err("gzip"));
    }
}
