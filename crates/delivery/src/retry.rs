//! What follows from an attempt: when it is repeated, when it is given up, and who is told.

use nightmail_core::Timestamp;
use nightmail_mime::report::Action;
use nightmail_queue::{Attempt, Notify, QueueMessage, Recipient, RecipientOutcome, Verdict};

use crate::options::RetryPolicy;
use crate::random::Random;

/// How an attempt ended for one recipient.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// The peer has taken responsibility.
    Delivered {
        /// Whether it will send the reports that were asked for.
        peer_reports: bool,
    },
    /// Worth repeating.
    Temporary,
    /// Not worth repeating.
    Permanent,
}

/// One recipient's result of an attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct AttemptResult {
    /// Its place among the message's recipients.
    pub index: usize,
    /// How it ended.
    pub ended: Ended,
    /// What happened.
    pub attempt: Attempt,
}

/// A result, judged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Judged {
    /// What the queue records.
    pub outcome: RecipientOutcome,
    /// What the sender is told.
    pub report: Option<Action>,
}

impl RetryPolicy {
    /// When `message` is given up.
    pub(crate) fn deadline(&self, message: &QueueMessage) -> Timestamp {
        message.created.plus_millis(self.expiry_millis)
    }

    /// The pause after attempt number `attempts` (from 1), with jitter, in milliseconds.
    pub(crate) fn pause_millis(&self, attempts: u32, random: &Random) -> i64 {
        let place = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
        let pause = self
            .pauses_millis
            .get(place)
            .or(self.pauses_millis.last())
            .copied()
            .unwrap_or(60_000);
        let spread = pause.saturating_mul(self.jitter_percent) / 100;
        let jittered = pause
            .saturating_sub(spread)
            .saturating_add(random.below(spread.saturating_mul(2) + 1));
        i64::try_from(jittered).unwrap_or(i64::MAX)
    }

    /// Judges one result at the time its attempt ended.
    pub(crate) fn judge(
        &self,
        message: &QueueMessage,
        recipient: &Recipient,
        result: &AttemptResult,
        random: &Random,
    ) -> Judged {
        let now = result.attempt.at;
        let deadline = self.deadline(message);
        let (verdict, report) = match result.ended {
            Ended::Delivered { peer_reports } => (
                Verdict::Delivered,
                (recipient.notify.success() && !peer_reports).then_some(Action::Relayed),
            ),
            Ended::Temporary if now < deadline => {
                let pause = self.pause_millis(recipient.attempts.saturating_add(1), random);
                let next_attempt = now.plus_millis(pause).min(deadline);
                let delay_reported = self.reports_delay(message, recipient, now);
                (
                    Verdict::Deferred {
                        next_attempt,
                        delay_reported,
                    },
                    delay_reported.then_some(Action::Delayed),
                )
            }
            Ended::Temporary | Ended::Permanent => (
                Verdict::Failed,
                recipient.notify.failure().then_some(Action::Failed),
            ),
        };
        let outcome = RecipientOutcome {
            index: result.index,
            verdict,
            attempt: Some(result.attempt.clone()),
        };
        Judged { outcome, report }
    }

    fn reports_delay(&self, message: &QueueMessage, recipient: &Recipient, now: Timestamp) -> bool {
        let wanted = match recipient.notify {
            Notify::Unspecified => self.delay_reports_unasked,
            notify => notify.delay(),
        };
        let is_late = self
            .delay_report_millis
            .is_some_and(|after| now >= message.created.plus_millis(after));
        wanted && is_late && !recipient.delay_reported && message.reverse_path.address().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightmail_core::{BlobId, ReversePath};
    use nightmail_queue::{BodyType, RecipientState, Source};

    fn message(notify: Notify) -> QueueMessage {
        QueueMessage {
            created: Timestamp::from_secs(0),
            reverse_path: ReversePath::Address("s@near.test".parse().unwrap()),
            blob: BlobId::new([0; 32]),
            prefix: Default::default(),
            blob_size: 0,
            body: BodyType::SevenBit,
            smtputf8: false,
            ret: None,
            envid: None,
            source: Source::Relay,
            recipients: vec![Recipient {
                address: "r@far.test".parse().unwrap(),
                notify,
                orcpt: None,
                state: RecipientState::Pending {
                    next_attempt: Timestamp::from_secs(0),
                },
                attempts: 0,
                last: None,
                delay_reported: false,
            }],
            demands: Default::default(),
            unrouted: None,
        }
    }

    fn judge(message: &QueueMessage, ended: Ended, at_secs: i64) -> (Verdict, Option<Action>) {
        let attempt = Attempt::new(Timestamp::from_secs(at_secs), None, "4.0.0", None, "");
        let result = AttemptResult {
            index: 0,
            ended,
            attempt,
        };
        let policy = RetryPolicy::default();
        let judged = policy.judge(message, &message.recipients[0], &result, &Random::new(1));
        (judged.outcome.verdict, judged.report)
    }

    #[test]
    fn pauses_grow_to_the_last_and_vary_by_the_jitter() {
        let policy = RetryPolicy {
            pauses_millis: vec![100, 1_000],
            jitter_percent: 10,
            ..RetryPolicy::default()
        };
        let random = Random::new(5);
        for _ in 0..100 {
            assert!((90..=110).contains(&policy.pause_millis(1, &random)));
            assert!((900..=1_100).contains(&policy.pause_millis(2, &random)));
            assert!((900..=1_100).contains(&policy.pause_millis(9, &random)));
        }
    }

    #[test]
    fn a_temporary_failure_is_repeated_until_the_deadline_and_then_reported() {
        let message = message(Notify::Unspecified);
        let Verdict::Deferred { next_attempt, .. } = judge(&message, Ended::Temporary, 10).0 else {
            panic!()
        };
        assert!(next_attempt > Timestamp::from_secs(60) && next_attempt < Timestamp::from_secs(80));
        let last_day = 5 * 86_400;
        let Verdict::Deferred { next_attempt, .. } =
            judge(&message, Ended::Temporary, last_day - 1).0
        else {
            panic!()
        };
        assert_eq!(next_attempt, Timestamp::from_secs(last_day));
        let expired = judge(&message, Ended::Temporary, last_day);
        assert_eq!(expired, (Verdict::Failed, Some(Action::Failed)));
    }

    #[test]
    fn notify_decides_who_is_told() {
        let never = message(Notify::Never);
        assert_eq!(judge(&never, Ended::Permanent, 1), (Verdict::Failed, None));
        let success = message(Notify::On {
            success: true,
            failure: false,
            delay: false,
        });
        let delivered = Ended::Delivered {
            peer_reports: false,
        };
        assert_eq!(
            judge(&success, delivered, 1),
            (Verdict::Delivered, Some(Action::Relayed))
        );
        assert_eq!(
            judge(&success, Ended::Delivered { peer_reports: true }, 1),
            (Verdict::Delivered, None)
        );
        assert_eq!(
            judge(&success, Ended::Permanent, 1),
            (Verdict::Failed, None)
        );
        assert_eq!(
            judge(&message(Notify::Unspecified), delivered, 1),
            (Verdict::Delivered, None)
        );
    }

    #[test]
    fn a_delay_is_reported_once_and_only_where_it_was_asked_for() {
        let mut asked = message(Notify::On {
            success: false,
            failure: true,
            delay: true,
        });
        let late = 4 * 3_600;
        assert_eq!(judge(&asked, Ended::Temporary, late - 1).1, None);
        assert_eq!(
            judge(&asked, Ended::Temporary, late).1,
            Some(Action::Delayed)
        );
        asked.recipients[0].delay_reported = true;
        assert_eq!(judge(&asked, Ended::Temporary, late).1, None);
        assert_eq!(
            judge(&message(Notify::Unspecified), Ended::Temporary, late).1,
            None
        );
    }
}
