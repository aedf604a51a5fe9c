//! Where requests go: one host, or several of which the first that is well gets them.

use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{HeaderValue, Uri};
use parking_lot::Mutex;
use rf_net::client::{split_user, url_login};
use tokio::time::Instant;

use crate::settings::{check_base_url, parse_url};

/// A host that failed is passed over for so long, unless every other one failed later. Each time that it fails again after
/// its rest the next one is twice as long, up to the second: a host that hangs costs a try the whole timeout.
const REST: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(300));

/// Scheme and authority of a host, with a path before that of the event.
#[derive(Debug, Clone)]
pub(super) struct Target {
    scheme: Scheme,
    authority: Authority,
    /// Without a slash at the end.
    prefix: String,
    /// Sent with requests that have no `Authorization` of their own, as Go's client did for the original.
    pub(super) login: Option<HeaderValue>,
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wanted = "expected a scheme and a host, such as http://127.0.0.1:8080";
        let uri = parse_url(text, wanted)?;
        check_base_url(&uri, text)?;
        let login = url_login(&uri);
        let authority = split_user(&uri).1.parse().map_err(|_no_host| wanted)?;
        let parts = uri.into_parts();
        let scheme = parts
            .scheme
            .filter(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS)
            .ok_or(wanted)?;
        let path = parts.path_and_query.map(|path| path.path().trim_end_matches('/').to_owned());
        Ok(Self { scheme, authority, prefix: path.unwrap_or_default(), login })
    }

    pub(super) fn uri(&self, target: &str) -> Result<Uri, String> {
        // The asterisk form has no URL; the root is the nearest thing that can be asked.
        let target = if target == "/*" { "/" } else { target };
        let path = format!("{}{target}", self.prefix);
        let builder = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone());
        builder
            .path_and_query(path)
            .build()
            .map_err(|error| format!("path `{target}` cannot be sent: {error}"))
    }
}

/// The hosts of a sink in the order of the file, and how each failed last.
#[derive(Debug)]
pub(super) struct Targets {
    all: Vec<Target>,
    failed: Mutex<Vec<Option<Failed>>>,
}

/// A host that failed, and was not well since.
#[derive(Debug, Clone, Copy)]
struct Failed {
    at: Instant,
    rest: Duration,
}

impl Failed {
    fn rests(&self) -> bool {
        self.at.elapsed() < self.rest
    }

    /// It fails now. Several requests of one time are one failure.
    fn again(before: Option<Failed>) -> Failed {
        let rest = match before {
            Some(before) if before.rests() => before.rest,
            Some(before) => before.rest.saturating_mul(2).min(REST.1),
            None => REST.0,
        };
        Failed { at: Instant::now(), rest }
    }
}

impl Targets {
    /// At least one.
    pub(super) fn new(all: Vec<Target>) -> Self {
        let failed = Mutex::new(vec![None; all.len()]);
        Self { all, failed }
    }

    /// The hosts in the order in which they are to be tried now, with their numbers: those that are well in the order of
    /// the file, then the others, the one first that has rested longest.
    pub(super) fn in_turn(&self) -> Vec<(usize, &Target)> {
        let failed = self.failed.lock();
        let mut turn: Vec<(usize, &Target)> = self.all.iter().enumerate().collect();
        turn.sort_by_key(|(index, _)| {
            failed.get(*index).copied().flatten().filter(Failed::rests).map(|failed| failed.at)
        });
        turn
    }

    pub(super) fn is_only_one(&self) -> bool {
        self.all.len() == 1
    }

    pub(super) fn note(&self, index: usize, is_well: bool) {
        let mut failed = self.failed.lock();
        if let Some(slot) = failed.get_mut(index) {
            *slot = (!is_well).then(|| Failed::again(*slot));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_host_that_failed_rests_and_comes_back() {
        let hosts = ["http://a", "http://b", "http://c"];
        let targets = Targets::new(hosts.iter().map(|host| Target::parse(host).unwrap()).collect());
        let check = |expected: [usize; 3]| {
            let turn: Vec<usize> = targets.in_turn().iter().map(|(index, _)| *index).collect();
            assert_eq!(turn, expected);
        };
        check([0, 1, 2]);
        targets.note(0, false);
        check([1, 2, 0]);
        tokio::time::advance(REST.0 / 2).await;
        targets.note(1, false);
        check([2, 0, 1]);
        tokio::time::advance(REST.0 / 2).await;
        check([0, 2, 1]);
        targets.note(1, true);
        check([0, 1, 2]);
    }
    #[tokio::test(start_paused = true)]
    async fn a_host_that_goes_on_failing_rests_longer_each_time() {
        let hosts = ["http://a", "http://b"];
        let targets = Targets::new(hosts.iter().map(|host| Target::parse(host).unwrap()).collect());
        let rest = async || {
            let started = Instant::now();
            // As several requests at a time do.
            targets.note(0, false);
            targets.note(0, false);
            while targets.in_turn()[0].0 != 0 {
                tokio::time::advance(Duration::from_secs(5)).await;
            }
            started.elapsed().as_secs()
        };
        let mut rests = Vec::new();
        for _ in 0..7 {
            rests.push(rest().await);
        }
        assert_eq!(rests, [10, 20, 40, 80, 160, 300, 300]);
        targets.note(0, true);
        assert_eq!(rest().await, 10);
    }
}
