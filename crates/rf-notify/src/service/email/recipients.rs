//! A mail to several: who has it, who does not, and what that means for the whole.
//!
//! Those who can be reached are told at once. An address that is refused is named and passed over, for it may be that of
//! somebody who left; one that is put off (a full mailbox) is tried again, alone, for a while. Once that was in vain, no
//! later mail waits for it, until it takes one.

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

/// What is remembered from one try to the next.
#[derive(Default)]
pub(super) struct Ledger {
    /// The last mail, while it is to be tried again for some of its recipients only.
    partly: Option<Partly>,
    /// Were waited for in vain the last time.
    slow: Vec<Address>,
}

/// A mail that some have, and that others were put off with.
struct Partly {
    id: String,
    since: Instant,
    answer: String,
    rest: Vec<Address>,
    /// Who was refused, and why.
    missed: Vec<String>,
}

impl Ledger {
    /// Who is still to get the mail `id`, where some have it already.
    pub(super) fn rest(&self, id: &str) -> Option<Vec<Address>> {
        self.partly.as_ref().filter(|partly| partly.id == id).map(|partly| partly.rest.clone())
    }

    /// What came of a try of the mail `id`.
    pub(super) fn settle(&mut self, replies: Replies, id: &str) -> Result<Sent, NotifyError> {
        let Replies { answer, refused, put_off } = replies;
        let before = self.partly.take().filter(|partly| partly.id == id);
        let (since, answer, mut missed) = match (before, answer) {
            (Some(before), answer) => {
                (before.since, answer.unwrap_or(before.answer), before.missed)
            }
            (None, Some(answer)) => {
                // All were asked. Who is not put off any more is waited for again.
                self.slow.retain(|slow| put_off.iter().any(|(address, _)| address == slow));
                (Instant::now(), answer, Vec::new())
            }
            (None, None) => return Err(nobody(refused, put_off)),
        };
        let is_over = since.elapsed() >= PATIENCE;
        let (given_up, waiting): (Vec<_>, Vec<_>) =
            put_off.into_iter().partition(|(address, _)| is_over || self.slow.contains(address));
        for (address, _) in &given_up {
            if !self.slow.contains(address) {
                self.slow.push(address.clone());
            }
        }
        missed.extend(refused.into_iter().chain(given_up).map(told));
        if waiting.is_empty() {
            let missed = (!missed.is_empty()).then(|| missed.join("; "));
            return Ok(Sent { answer, missed });
        }
        let rest = waiting.iter().map(|(address, _)| address.clone()).collect();
        let reasons: Vec<String> = waiting.into_iter().map(told).collect();
        let reason = format!("others have the mail; not yet {}", reasons.join("; "));
        self.partly = Some(Partly { id: id.to_owned(), since, answer, rest, missed });
        Err(NotifyError::Retry { reason, after: None })
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
        let mut ledger = Ledger::default();
        let first = replies(Some("250 ok"), &["gone@x.org"], &["full@x.org"]);
        let reason = "others have the mail; not yet full@x.org: 452 full".to_owned();
        assert_eq!(ledger.settle(first, "id"), Err(NotifyError::Retry { reason, after: None }));
        assert_eq!(ledger.rest("id"), Some(vec!["full@x.org".parse().unwrap()]));
        assert_eq!(ledger.rest("other"), None);
        tokio::time::advance(PATIENCE - Duration::from_secs(1)).await;
        assert!(ledger.settle(replies(None, &[], &["full@x.org"]), "id").is_err());
        tokio::time::advance(Duration::from_secs(1)).await;
        let last = ledger.settle(replies(None, &[], &["full@x.org"]), "id");
        let missed = "gone@x.org: 550 gone; full@x.org: 452 full".to_owned();
        assert_eq!(last, Ok(Sent { answer: "250 ok".to_owned(), missed: Some(missed) }));
        assert_eq!(ledger.rest("id"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_waited_for_in_vain_holds_up_no_later_mail() {
        let mut ledger = Ledger::default();
        let put_off = || replies(Some("250 ok"), &[], &["full@x.org"]);
        assert!(ledger.settle(put_off(), "1").is_err());
        tokio::time::advance(PATIENCE).await;
        assert!(ledger.settle(replies(None, &[], &["full@x.org"]), "1").is_ok());
        let missed = Some("full@x.org: 452 full".to_owned());
        let sent = Sent { answer: "250 ok".to_owned(), missed };
        assert_eq!(ledger.settle(put_off(), "2"), Ok(sent));
        let both = replies(Some("250 ok"), &[], &["full@x.org", "busy@x.org"]);
        assert!(ledger.settle(both, "3").is_err());
        assert_eq!(ledger.rest("3"), Some(vec!["busy@x.org".parse().unwrap()]));
        // It takes one.
        assert!(ledger.settle(replies(Some("250 ok"), &[], &[]), "4").is_ok());
        assert!(ledger.settle(put_off(), "5").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_mail_that_nobody_has_is_sent_again_or_needs_a_person() {
        let mut ledger = Ledger::default();
        let outcome = ledger.settle(replies(None, &["gone@x.org"], &["full@x.org"]), "id");
        assert_eq!(outcome, Err(NotifyError::Retry { reason: "452 full".to_owned(), after: None }));
        let outcome = ledger.settle(replies(None, &["gone@x.org"], &[]), "id");
        assert_eq!(outcome, Err(NotifyError::Refused("550 gone".to_owned())));
    }
}
