//! A number of bytes, with or without a unit.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};
use thiserror::Error;

use super::decimal;

/// What may be written, for problems and for the schema.
const EXPECTED: &str = "a number of bytes, or a size such as \"10MiB\" or \"1GB\"";

/// The binary units, from the largest, in which a size is printed when it is a multiple of one.
const BINARY_UNITS: [(&str, u64); 4] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

const OTHER_UNITS: [(&str, u64); 6] = [
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("B", 1),
    ("", 1),
];

/// A size in a configuration: a number of bytes, or a text such as `10MiB`, `64 KiB` or `1GB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ByteSize(u64);

/// Why a text is not a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidByteSize {
    /// It has not the form of one.
    #[error("expected {EXPECTED}")]
    Malformed,
    /// 64 bits cannot hold it.
    #[error("expected {EXPECTED}; this one is too large")]
    TooLarge,
}

impl ByteSize {
    /// A size of so many bytes.
    pub const fn new(bytes: u64) -> ByteSize {
        ByteSize(bytes)
    }

    /// A size of so many KiB, for defaults; a size that 64 bits cannot hold becomes the greatest.
    pub const fn kib(count: u64) -> ByteSize {
        ByteSize(count.saturating_mul(1 << 10))
    }

    /// A size of so many MiB, as [`ByteSize::kib`].
    pub const fn mib(count: u64) -> ByteSize {
        ByteSize(count.saturating_mul(1 << 20))
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes for something in memory: a size beyond the address space becomes the greatest.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = InvalidByteSize;

    /// Units go without regard to case; a part of a byte is dropped.
    fn from_str(text: &str) -> Result<ByteSize, InvalidByteSize> {
        let (number, name) = decimal::split_number(text.trim());
        let name = name.trim_start();
        let mut units = BINARY_UNITS.iter().chain(&OTHER_UNITS);
        let (_, unit) = units
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .ok_or(InvalidByteSize::Malformed)?;
        let is_number = number.bytes().any(|byte| byte != b'.') && number.matches('.').count() <= 1;
        let wrong = if is_number { InvalidByteSize::TooLarge } else { InvalidByteSize::Malformed };
        let bytes = decimal::times(number, *unit).ok_or(wrong)?;
        u64::try_from(bytes).ok().map(ByteSize).ok_or(wrong)
    }
}

impl fmt::Display for ByteSize {
    /// In the form that is read, in the largest unit that needs no point: `10MiB`, `1000B`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = |unit: &&(&str, u64)| self.0 >= unit.1 && self.0.is_multiple_of(unit.1);
        match BINARY_UNITS.iter().find(fits) {
            Some((name, unit)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ByteSize, D::Error> {
        deserializer.deserialize_any(ByteSizeVisitor)
    }
}

struct ByteSizeVisitor;

impl Visitor<'_> for ByteSizeVisitor {
    type Value = ByteSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<ByteSize, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<ByteSize, E> {
        Ok(ByteSize(bytes))
    }

    fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<ByteSize, E> {
        u64::try_from(bytes).ok().map(ByteSize).ok_or_else(|| E::custom(InvalidByteSize::Malformed))
    }
}

impl JsonSchema for ByteSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "minimum": 0, "format": "byte-size", "title": EXPECTED })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::{ByteSize, InvalidByteSize};

    #[test]
    fn reads_numbers_and_units() {
        for (value, bytes) in [
            (json!(0), 0),
            (json!(5_242_880), 5_242_880),
            (json!(u64::MAX), u64::MAX),
            (json!("512"), 512),
            (json!("512B"), 512),
            (json!("10MiB"), 10 << 20),
            (json!("64 KiB"), 64 << 10),
            (json!(" 1 gib "), 1 << 30),
            (json!("1GB"), 1_000_000_000),
            (json!("2kB"), 2_000),
            (json!("4.25MiB"), 4_456_448),
            (json!("0.001KiB"), 1),
            (json!("1TiB"), 1 << 40),
            (json!("3TB"), 3_000_000_000_000),
        ] {
            let size = serde_json::from_value::<ByteSize>(value.clone());
            assert_eq!(size.ok(), Some(ByteSize::new(bytes)), "{value}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for value in [
            json!(""),
            json!("MiB"),
            json!("10M"),
            json!("10 bytes"),
            json!("-1"),
            json!("-1KiB"),
            json!("1e3"),
            json!("18446744073709551616"),
            json!("99999999TiB"),
            json!("1 0"),
            json!(-1),
            json!(1.5),
            json!(null),
        ] {
            let error = serde_json::from_value::<ByteSize>(value.clone())
                .expect_err(&value.to_string())
                .to_string();
            assert!(
                error.contains("expected a number of bytes, or a size such as"),
                "{value}: {error}"
            );
        }
    }

    #[test]
    fn what_is_too_large_is_told_from_what_is_no_size() {
        for (text, expected) in [
            ("99999999TB", InvalidByteSize::TooLarge),
            ("18446744073709551616", InvalidByteSize::TooLarge),
            ("999999999999999999999999999999999999999999.5B", InvalidByteSize::TooLarge),
            ("99999999XB", InvalidByteSize::Malformed),
            ("1.2.3", InvalidByteSize::Malformed),
            (".", InvalidByteSize::Malformed),
            ("", InvalidByteSize::Malformed),
        ] {
            assert_eq!(text.parse::<ByteSize>(), Err(expected), "{text}");
        }
    }

    #[test]
    fn prints_the_largest_whole_unit() {
        for (size, expected) in [
            (ByteSize::new(0), "0B"),
            (ByteSize::new(1000), "1000B"),
            (ByteSize::kib(64), "64KiB"),
            (ByteSize::mib(10), "10MiB"),
            (ByteSize::mib(1536), "1536MiB"),
            (ByteSize::mib(2048), "2GiB"),
        ] {
            assert_eq!(size.to_string(), expected);
        }
    }

    proptest! {
        #[test]
        fn prints_what_it_reads(bytes: u64, shift in 0..50_u32) {
            let size = ByteSize::new(bytes << shift);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}
