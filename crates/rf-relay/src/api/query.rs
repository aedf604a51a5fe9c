//! The parameters of a request's query.

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::Query as AxumQuery;
use http::Uri;
use rf_core::config::Interval;

use super::ApiError;

/// The parameters by name; of a repeated one the last counts, an unknown one is skipped.
pub(super) struct Query(HashMap<String, String>);

impl Query {
    pub(super) fn of(uri: &Uri) -> Result<Self, ApiError> {
        let bad = |error: &dyn Display| ApiError::BadRequest(format!("invalid query: {error}"));
        AxumQuery::try_from_uri(uri)
            .map(|AxumQuery(values)| Self(values))
            .map_err(|error| bad(&error))
    }

    pub(super) fn number<N>(
        &self,
        name: &str,
        range: RangeInclusive<N>,
    ) -> Result<Option<N>, ApiError>
    where
        N: FromStr + PartialOrd + Display,
    {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => {
                let (least, most) = (range.start(), range.end());
                Err(ApiError::BadRequest(format!("{name} must be a number from {least} to {most}")))
            }
        }
    }

    /// A name of 1 to `max_bytes` visible ASCII characters.
    pub(super) fn name(&self, name: &str, max_bytes: usize) -> Result<Option<&str>, ApiError> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        let is_name = (1..=max_bytes).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic());
        let wanted = || {
            ApiError::BadRequest(format!(
                "{name} must be 1 to {max_bytes} visible ASCII characters"
            ))
        };
        is_name.then_some(Some(text.as_str())).ok_or_else(wanted)
    }

    /// A duration as in the configuration: `20s`, `1m30s`, `500ms`, or a number of seconds.
    pub(super) fn duration(&self, name: &str) -> Result<Option<Duration>, ApiError> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        if let Ok(seconds) = text.parse() {
            return Ok(Some(Duration::from_secs(seconds)));
        }
        match text.parse::<Interval>() {
            Ok(interval) => Ok(Some(interval.into())),
            Err(error) => Err(ApiError::BadRequest(format!("{name}: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::of(&format!("/x?{text}").parse().unwrap()).unwrap()
    }

    #[test]
    fn numbers_are_within_their_range() {
        let limit = |text| query(text).number("limit", 1..=100_usize);
        let bad = || Err(ApiError::BadRequest("limit must be a number from 1 to 100".to_owned()));
        assert_eq!(limit(""), Ok(None));
        assert_eq!(limit("other=1"), Ok(None));
        assert_eq!(limit("limit=1"), Ok(Some(1)));
        assert_eq!(limit("limit=5&limit=100"), Ok(Some(100)));
        for text in [
            "limit=0",
            "limit=101",
            "limit=-1",
            "limit=",
            "limit=ten",
            "limit=99999999999999999999",
        ] {
            assert_eq!(limit(text), bad(), "{text}");
        }
    }

    #[test]
    fn names_are_short_and_visible() {
        let holder = |text| query(text).name("holder", 4).map(|name| name.map(str::to_owned));
        assert_eq!(holder(""), Ok(None));
        assert_eq!(holder("holder=a-1"), Ok(Some("a-1".to_owned())));
        for text in ["holder=", "holder=12345", "holder=a%20b", "holder=%C3%A9"] {
            assert!(holder(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_those_of_the_configuration() {
        let wait = |text| query(text).duration("wait");
        assert_eq!(wait(""), Ok(None));
        assert_eq!(wait("wait=20s"), Ok(Some(Duration::from_secs(20))));
        assert_eq!(wait("wait=1m30s"), Ok(Some(Duration::from_secs(90))));
        assert_eq!(wait("wait=250ms"), Ok(Some(Duration::from_millis(250))));
        assert_eq!(wait("wait=5"), Ok(Some(Duration::from_secs(5))));
        assert_eq!(wait("wait=0"), Ok(Some(Duration::ZERO)));
        assert!(
            matches!(wait("wait=soon"), Err(ApiError::BadRequest(text)) if text.starts_with("wait: "))
        );
        assert!(wait("wait=-1s").is_err() && wait("wait=-1").is_err());
    }
}
