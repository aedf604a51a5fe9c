//! Names of buckets.

use std::fmt;
use std::sync::Arc;

/// The longest name: it becomes the name of a folder.
const MAX_NAME_BYTES: usize = 128;

/// The name of a bucket: letters, digits, `_`, `-` and `.`, but no dot at the start, since it becomes the name of a
/// folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BucketName(Arc<str>);

/// A name that no bucket can have.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error(
    "not the name of a bucket: expected 1 to {MAX_NAME_BYTES} letters, digits, `_`, `-` or `.`, and no `.` at the start"
)]
pub struct BadBucketName;

impl BucketName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`BadBucketName`].
    pub fn new(name: &str) -> Result<BucketName, BadBucketName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let good = !name.is_empty()
            && name.len() <= MAX_NAME_BYTES
            && !name.starts_with('.')
            && name.bytes().all(allowed);
        if good { Ok(BucketName(name.into())) } else { Err(BadBucketName) }
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
        for good in ["a", "api.prod", "A_b-9", "a..b", &"x".repeat(128)] {
            assert_eq!(BucketName::new(good).map(|name| name.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", ".", "..", ".a", "a/b", "a\\b", "a b", "ä", "a\0", &"x".repeat(129)] {
            assert_eq!(BucketName::new(bad), Err(BadBucketName), "{bad:?}");
        }
    }
}
