//! A mail to several: who has it, who does not, and what that means for the whole.
//!
//! Those who can be reached are told at once. An address that is refused is named and passed over, for it may be that of
//! somebody who left; one that is put off (a full mailbox) is tried again, alone, for a while.

use std::time::Duration;

use lettre::Address;
use tokio::time::Instant;

use crate::target::{NotifyError, Sent};

/// So long an address that is put off is tried again while others have the mail: every later one waits behind it.
const PATIENCE: Duration = Duration::from_secs(600);

/// What the server said of each address.
#[derive(Default)]
pub(super) struct Replies {
    /// To the mail, where any address was taken.
    pub(super) answer: Option<String>,
    /// With a 5xx.
    pub(super) refused: Vec<(Address, String)>,
    /// With a 4xx.
    pub(super) put_off: Vec<(Address, String)>,
}

/// A mail that some have, and that others were put off with.
#[derive(Clone)]
pub(super) struct Partly {
    pub(super) id: String,
    since: Instant,
    answer: String,
    pub(super) rest: Vec<Address>,
    /// Who was refused, and why.
    missed: Vec<String>,
}

impl Replies {
    /// What came of the mail `id`, and what is still to do; `before`, if it was tried before and some have it.
    pub(super) fn settle(
        self,
        before: Option<Partly>,
        id: &str,
    ) -> (Result<Sent, NotifyError>, Option<Partly>) {
        let Replies { answer, refused, put_off } = self;
        let (since, answer, mut missed) = match (before, answer) {
            (Some(before), answer) => {
                (before.since, answer.unwrap_or(before.answer), before.missed)
            }
            (None, Some(answer)) => (Instant::now(), answer, Vec::new()),
            (None, None) => return (Err(nobody(refused, put_off)), None),
        };
        missed.extend(refused.into_iter().map(told));
        if put_off.is_empty() || since.elapsed() >= PATIENCE {
            missed.extend(put_off.into_iter().map(told));
            let missed = (!missed.is_empty()).then(|| missed.join("; "));
            return (Ok(Sent { answer, missed }), None);
        }
        let rest = put_off.iter().map(|(address, _)| address.clone()).collect();
        let reasons: Vec<String> = put_off.into_iter().map(told).collect();
        let reason = format!("others have the mail; not yet {}", reasons.join("; "));
        let partly = Partly { id: id.to_owned(), since, answer, rest, missed };
        (Err(NotifyError::Retry { reason, after: None }), Some(partly))
    }
}

fn told((address, reason): (Address, String)) -> String {
    format!("{address}: {reason}")
}

/// Nobody has it: what may change by itself comes first.
fn nobody(refused: Vec<(Address, String)>, put_off: Vec<(Address, String)>) -> NotifyError {
    match (put_off.into_iter().next(), refused.into_iter().next()) {
        (Some((_, reason)), _) => NotifyError::Retry { reason, after: None },
        (None, Some((_, reason))) => NotifyError::Refused(reason),
        (None, None) => NotifyError::Permanent("the mail has no recipient".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replies(answer: Option<&str>, refused: &[&str], put_off: &[&str]) -> Replies {
        let with = |reason: &str, names: &[&str]| -> Vec<(Address, String)> {
            names.iter().map(|name| (name.parse().unwrap(), reason.to_owned())).collect()
        };
        Replies {
            answer: answer.map(str::to_owned),
            refused: with("550 gone", refused),
            put_off: with("452 full", put_off),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_put_off_is_waited_for_and_named_in_the_end() {
        let first = replies(Some("250 ok"), &["gone@x.org"], &["full@x.org"]);
        let (outcome, partly) = first.settle(None, "id");
        let reason = "others have the mail; not yet full@x.org: 452 full".to_owned();
        assert_eq!(outcome, Err(NotifyError::Retry { reason, after: None }));
        assert_eq!(partly.as_ref().unwrap().rest, ["full@x.org".parse::<Address>().unwrap()]);
        tokio::time::advance(PATIENCE - Duration::from_secs(1)).await;
        let (outcome, partly) = replies(None, &[], &["full@x.org"]).settle(partly, "id");
        assert!(outcome.is_err());
        tokio::time::advance(Duration::from_secs(1)).await;
        let (outcome, partly) = replies(None, &[], &["full@x.org"]).settle(partly, "id");
        let missed = "gone@x.org: 550 gone; full@x.org: 452 full".to_owned();
        assert_eq!(outcome, Ok(Sent { answer: "250 ok".to_owned(), missed: Some(missed) }));
        assert!(partly.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_mail_that_nobody_has_is_sent_again_or_needs_a_person() {
        let (outcome, _) = replies(None, &["gone@x.org"], &["full@x.org"]).settle(None, "id");
        assert_eq!(outcome, Err(NotifyError::Retry { reason: "452 full".to_owned(), after: None }));
        let (outcome, _) = replies(None, &["gone@x.org"], &[]).settle(None, "id");
        assert_eq!(outcome, Err(NotifyError::Refused("550 gone".to_owned())));
    }
}
