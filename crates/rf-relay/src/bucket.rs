//! Names of buckets.

use std::fmt;
use std::sync::Arc;

/// The longest name of a folder that Linux takes.
const MAX_NAME_BYTES: usize = 255;

/// The name of a bucket: what can be the name of a folder, and one of several in a header. A dot at the start is kept for
/// files of the relay itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketName(Arc<str>);

/// A name that no bucket can have.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "not the name of a bucket: expected 1 to {MAX_NAME_BYTES} bytes without `/`, commas and control characters, without \
     a `.` at the start, and without whitespace at either end"
)]
pub struct BadBucketName;

impl BucketName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`BadBucketName`].
    pub fn new(name: &str) -> Result<Self, BadBucketName> {
        let good = !name.is_empty()
            && name.len() <= MAX_NAME_BYTES
            && !name.starts_with('.')
            && name.trim() == name
            && !name.contains(|letter: char| matches!(letter, '/' | ',') || letter.is_control());
        if good { Ok(Self(name.into())) } else { Err(BadBucketName) }
    }

    /// The name, shared.
    pub(crate) fn shared(&self) -> &Arc<str> {
        &self.0
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BucketName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// So that a map of buckets can be asked with the text of a header.
impl std::borrow::Borrow<str> for BucketName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in [
            "a",
            "api.prod",
            "A_b-9",
            "a..b",
            "my shop",
            "shop:eu",
            "a@b",
            "a\\b",
            "größe",
            "%2e",
            &"x".repeat(255),
        ] {
            assert_eq!(BucketName::new(good).map(|name| name.to_string()), Ok(good.to_owned()));
        }
        for bad in [
            "",
            " ",
            ".",
            "..",
            ".a",
            "a/b",
            "a,b",
            " a",
            "a ",
            "a\u{a0}",
            "a\0",
            "a\nb",
            "a\x7f",
            &"ö".repeat(128),
        ] {
            assert_eq!(BucketName::new(bad), Err(BadBucketName), "{bad:?}");
        }
    }
}
