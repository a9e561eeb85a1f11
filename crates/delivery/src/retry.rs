//! What follows from an attempt: when it is repeated, when it is given up, and who is told.

use std::time::Duration;

use nightmail_core::Timestamp;
use nightmail_mime::report::Action;
use nightmail_pace::Settings;
use nightmail_queue::{
    Attempt, Notify, QueueMessage, Recipient, RecipientOutcome, Verdict, Waiting,
};

use crate::random::Random;

/// How an attempt ended for one recipient.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// The peer has taken responsibility.
    Delivered {
        /// Whether it will send the reports that were asked for.
        peer_reports: bool,
        /// Whether it knows by when the message is to be delivered, where that matters.
        peer_keeps_time: bool,
    },
    /// Worth repeating.
    Temporary,
    /// Not worth repeating.
    Permanent,
    /// Nothing was tried: it is not the time for it.
    NotNow {
        /// When it is; `None`: not known.
        until: Option<Timestamp>,
        /// What it waits for.
        waiting: Waiting,
    },
    /// An operator is to look at it.
    Held,
    /// Thrown away without a word, as an operator wants it.
    Dropped,
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
    /// The enhanced status code of that, where it is not the attempt's.
    pub status: Option<&'static str>,
    /// What happened, also where it is not recorded as an attempt.
    pub attempt: Attempt,
    /// Until when it is tried.
    pub deadline: Timestamp,
}

/// The time given for delivery is over, and the message is given up (RFC 2852 §4.1, RFC 3463 §3.5).
pub(crate) const TIME_OVER: &str = "5.4.7";
/// The same, and tries go on.
const LATE: &str = "4.4.7";

/// What follows from the results of attempts at one destination.
pub(crate) struct Judge<'a> {
    /// What holds for the destination.
    pub settings: &'a Settings,
    /// Whether delays are also reported to senders who gave no NOTIFY.
    pub delay_reports_unasked: bool,
    /// Where jitter comes from.
    pub random: &'a Random,
}

impl Judge<'_> {
    /// Judges one result at the time its attempt ended.
    pub fn judge(
        &self,
        message: &QueueMessage,
        recipient: &Recipient,
        result: &AttemptResult,
    ) -> Judged {
        let failed = || recipient.notify.failure().then_some(Action::Failed);
        let (verdict, report, status) = match &result.ended {
            Ended::Delivered {
                peer_reports,
                peer_keeps_time,
            } => {
                let told = reports_relay(message, recipient, *peer_reports, *peer_keeps_time);
                (Verdict::Delivered, told.then_some(Action::Relayed), None)
            }
            Ended::Temporary | Ended::NotNow { .. } => self.put_off(message, recipient, result),
            Ended::Permanent => (Verdict::Failed, failed(), None),
            Ended::Dropped => (Verdict::Failed, None, None),
            Ended::Held => {
                let said = &result.attempt;
                let reason = said.reply.as_ref().unwrap_or(&said.diagnostic);
                let reason = reason.as_str().into();
                (Verdict::Held { reason }, None, None)
            }
        };
        // What was only put off is no attempt; what is given up is shown with the reason.
        let is_attempt = !matches!(
            (&result.ended, &verdict),
            (Ended::NotNow { .. }, Verdict::Deferred { .. })
        );
        Judged {
            outcome: RecipientOutcome {
                index: result.index,
                verdict,
                attempt: is_attempt.then(|| result.attempt.clone()),
            },
            report,
            status,
            attempt: result.attempt.clone(),
            deadline: self.given_up(message),
        }
    }

    /// When `message` is given up, whatever its sender says.
    pub fn deadline(&self, message: &QueueMessage) -> Timestamp {
        let lifetime = match message.reverse_path.address() {
            Some(_) => self.settings.lifetime,
            None => self.settings.bounce_lifetime,
        };
        begun(message).plus_millis(millis(lifetime))
    }

    /// When `message` is given up: then, or sooner where its sender wants it back (RFC 2852).
    fn given_up(&self, message: &QueueMessage) -> Timestamp {
        let by = message.demands.deliver_by.filter(|by| !by.notify);
        let deadline = self.deadline(message);
        by.map_or(deadline, |by| by.deadline.min(deadline))
    }

    /// What follows from an attempt that is worth repeating: the next one, unless a deadline has passed.
    fn put_off(
        &self,
        message: &QueueMessage,
        recipient: &Recipient,
        result: &AttemptResult,
    ) -> (Verdict, Option<Action>, Option<&'static str>) {
        let now = result.attempt.at;
        let deadline = self.deadline(message);
        let time_over = is_time_over(message, now);
        if now >= deadline || time_over {
            let report = recipient.notify.failure().then_some(Action::Failed);
            return (Verdict::Failed, report, time_over.then_some(TIME_OVER));
        }
        let late = is_late(message, recipient, now);
        let delay_reported = late || self.reports_delay(message, recipient, now);
        let told = delay_reported || recipient.delay_reported;
        let (next, waiting) = self.next_attempt(recipient, result);
        let wanted = message.demands.deliver_by.map(|by| by.deadline);
        let warning = self.warning(message, recipient).filter(|_| !told);
        let is_wait = matches!(result.ended, Ended::NotNow { .. });
        let next_attempt = [next, Some(deadline), wanted, warning.filter(|_| is_wait)]
            .into_iter()
            .flatten()
            .filter(|at| *at > now)
            .min()
            .unwrap_or(deadline);
        let verdict = Verdict::Deferred {
            next_attempt,
            delay_reported,
            waiting,
        };
        let report = delay_reported.then_some(Action::Delayed);
        (verdict, report, late.then_some(LATE))
    }

    /// When it would be tried next, and what it waits for until then.
    fn next_attempt(
        &self,
        recipient: &Recipient,
        result: &AttemptResult,
    ) -> (Option<Timestamp>, Waiting) {
        match &result.ended {
            Ended::NotNow { until, waiting } => (*until, *waiting),
            _ if self.settings.on_request => (None, Waiting::Request),
            _ => {
                let attempts = recipient.attempts.saturating_add(1);
                let pause = self.settings.retry.pause(attempts, self.random.next());
                let next = result.attempt.at.plus_millis(millis(pause));
                (Some(next), Waiting::Retry)
            }
        }
    }

    /// When the sender is to hear of a delay; `None` where it is not.
    fn warning(&self, message: &QueueMessage, recipient: &Recipient) -> Option<Timestamp> {
        let wanted = match recipient.notify {
            Notify::Unspecified => self.delay_reports_unasked,
            notify => notify.delay(),
        };
        let after = self.settings.warn_after?;
        (wanted && message.reverse_path.address().is_some())
            .then(|| begun(message).plus_millis(millis(after)))
    }

    fn reports_delay(&self, message: &QueueMessage, recipient: &Recipient, now: Timestamp) -> bool {
        let warning = self.warning(message, recipient);
        !recipient.delay_reported && warning.is_some_and(|at| now >= at)
    }
}

/// Milliseconds of a duration.
pub(crate) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// When tries began: what was held back has not been tried before its time.
fn begun(message: &QueueMessage) -> Timestamp {
    let held = message.demands.hold_until;
    held.map_or(message.created, |until| until.max(message.created))
}

/// Whether the sender wants the message back rather than have it delivered now (RFC 2852, by-mode `R`).
pub(crate) fn is_time_over(message: &QueueMessage, now: Timestamp) -> bool {
    let by = message.demands.deliver_by;
    by.is_some_and(|by| !by.notify && now >= by.deadline)
}

/// Whether the sender is to be told that the time given is over while tries go on (by-mode `N`).
fn is_late(message: &QueueMessage, recipient: &Recipient, now: Timestamp) -> bool {
    let by = message.demands.deliver_by;
    by.is_some_and(|by| by.notify && now >= by.deadline)
        && recipient.notify != Notify::Never
        && !recipient.delay_reported
        && message.reverse_path.address().is_some()
}

/// Whether the sender hears that the message was passed on: to a host that will not report a delivery that is to be
/// reported, or not keep the time that was given, or because every step is to be traced (RFC 2852 §4.2).
fn reports_relay(
    message: &QueueMessage,
    recipient: &Recipient,
    peer_reports: bool,
    peer_keeps_time: bool,
) -> bool {
    let by = message.demands.deliver_by;
    let by_time = by.is_some_and(|by| by.trace || !peer_keeps_time);
    (recipient.notify.success() && !peer_reports) || (by_time && recipient.notify != Notify::Never)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightmail_core::{BlobId, ReversePath};
    use nightmail_queue::{BodyType, DeliverBy, Rank, RecipientState, Source};

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
                waiting: Waiting::Fresh,
                relay: None,
                hold: None,
            }],
            demands: Default::default(),
            unrouted: None,
            rank: Rank { band: 4, key: 0 },
        }
    }

    fn judge(message: &QueueMessage, ended: Ended, at_secs: i64) -> (Verdict, Option<Action>) {
        judge_under(&Settings::default(), message, ended, at_secs)
    }

    fn judge_under(
        settings: &Settings,
        message: &QueueMessage,
        ended: Ended,
        at_secs: i64,
    ) -> (Verdict, Option<Action>) {
        let attempt = Attempt::new(Timestamp::from_secs(at_secs), None, "4.0.0", None, "");
        let result = AttemptResult {
            index: 0,
            ended,
            attempt,
        };
        let random = Random::new(1);
        let judged = judge_of(settings, &random).judge(message, &message.recipients[0], &result);
        (judged.outcome.verdict, judged.report)
    }

    const fn judge_of<'a>(settings: &'a Settings, random: &'a Random) -> Judge<'a> {
        Judge {
            settings,
            delay_reports_unasked: false,
            random,
        }
    }

    #[test]
    fn what_is_put_off_waits_until_its_time_or_its_warning_and_is_given_up_in_the_end() {
        let asked = message(Notify::On {
            success: false,
            failure: true,
            delay: true,
        });
        let put_off = |until: Option<i64>| Ended::NotNow {
            until: until.map(Timestamp::from_secs),
            waiting: Waiting::Window,
        };
        let next = |ended, at| match judge(&asked, ended, at).0 {
            Verdict::Deferred {
                next_attempt,
                waiting,
                ..
            } => (next_attempt.millis() / 1_000, waiting),
            verdict => panic!("{verdict:?}"),
        };
        let (warning, end) = (4 * 3_600, 5 * 86_400);
        assert_eq!(next(put_off(Some(60)), 10), (60, Waiting::Window));
        assert_eq!(next(put_off(Some(86_400)), 10), (warning, Waiting::Window));
        assert_eq!(next(put_off(None), 10).0, warning);
        assert_eq!(next(put_off(None), warning).0, end);
        let told = judge(&asked, put_off(None), warning).1;
        assert_eq!(told, Some(Action::Delayed));
        let given_up = judge(&asked, put_off(None), end);
        assert_eq!(given_up, (Verdict::Failed, Some(Action::Failed)));
    }

    #[test]
    fn where_mail_waits_to_be_asked_for_a_failure_waits_for_the_next_request() {
        let settings = Settings {
            on_request: true,
            ..Settings::default()
        };
        let message = message(Notify::Unspecified);
        let (verdict, _) = judge_under(&settings, &message, Ended::Temporary, 10);
        assert!(matches!(
            verdict,
            Verdict::Deferred { next_attempt, waiting: Waiting::Request, .. }
                if next_attempt == Timestamp::from_secs(5 * 86_400)
        ));
    }

    #[test]
    fn reports_are_tried_for_a_shorter_time() {
        let mut report = message(Notify::Unspecified);
        report.reverse_path = ReversePath::Null;
        let day = 86_400;
        assert!(matches!(
            judge(&report, Ended::Temporary, day - 1).0,
            Verdict::Deferred { .. }
        ));
        assert_eq!(judge(&report, Ended::Temporary, day).0, Verdict::Failed);
    }

    #[test]
    fn a_temporary_failure_is_repeated_until_the_deadline_and_then_reported() {
        let message = message(Notify::Unspecified);
        let Verdict::Deferred { next_attempt, .. } = judge(&message, Ended::Temporary, 10).0 else {
            panic!()
        };
        assert!((250..=370).contains(&(next_attempt.millis() / 1_000)));
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
            peer_keeps_time: true,
        };
        assert_eq!(
            judge(&success, delivered, 1),
            (Verdict::Delivered, Some(Action::Relayed))
        );
        assert_eq!(
            judge(
                &success,
                Ended::Delivered {
                    peer_reports: true,
                    peer_keeps_time: true
                },
                1
            ),
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

    fn by(message: &mut QueueMessage, secs: i64, notify: bool, trace: bool) {
        message.demands.deliver_by = Some(DeliverBy {
            deadline: Timestamp::from_secs(secs),
            notify,
            trace,
        });
    }

    #[test]
    fn a_message_whose_time_is_over_is_returned() {
        let mut timed = message(Notify::Unspecified);
        by(&mut timed, 30, false, false);
        let Verdict::Deferred { next_attempt, .. } = judge(&timed, Ended::Temporary, 10).0 else {
            panic!()
        };
        assert_eq!(
            next_attempt,
            Timestamp::from_secs(30),
            "no later than asked"
        );
        let over = judge(&timed, Ended::Temporary, 30);
        assert_eq!(over, (Verdict::Failed, Some(Action::Failed)));
        let never = QueueMessage {
            demands: timed.demands,
            ..message(Notify::Never)
        };
        assert_eq!(judge(&never, Ended::Temporary, 30).1, None);
    }

    #[test]
    fn tries_end_when_the_sender_wants_the_message_back() {
        let (settings, random) = (Settings::default(), Random::new(1));
        let policy = judge_of(&settings, &random);
        let mut timed = message(Notify::Unspecified);
        assert_eq!(policy.given_up(&timed), policy.deadline(&timed));
        by(&mut timed, 30, true, false);
        assert_eq!(policy.given_up(&timed), policy.deadline(&timed));
        by(&mut timed, 30, false, false);
        assert_eq!(policy.given_up(&timed), Timestamp::from_secs(30));
    }

    #[test]
    fn a_late_message_is_reported_once_and_tried_on() {
        let mut late = message(Notify::Unspecified);
        by(&mut late, 30, true, false);
        assert_eq!(judge(&late, Ended::Temporary, 29).1, None);
        let (verdict, report) = judge(&late, Ended::Temporary, 30);
        assert_eq!(report, Some(Action::Delayed));
        assert!(matches!(
            verdict,
            Verdict::Deferred { delay_reported: true, next_attempt, .. } if next_attempt > Timestamp::from_secs(30)
        ));
        late.recipients[0].delay_reported = true;
        assert_eq!(judge(&late, Ended::Temporary, 60).1, None);
    }

    #[test]
    fn a_relay_is_reported_where_time_is_not_kept_or_every_step_is_traced() {
        let delivered = |peer_keeps_time| Ended::Delivered {
            peer_reports: true,
            peer_keeps_time,
        };
        let mut timed = message(Notify::Unspecified);
        by(&mut timed, 30, true, false);
        assert_eq!(judge(&timed, delivered(true), 1).1, None);
        assert_eq!(judge(&timed, delivered(false), 1).1, Some(Action::Relayed));
        by(&mut timed, 30, true, true);
        assert_eq!(judge(&timed, delivered(true), 1).1, Some(Action::Relayed));
        let mut never = message(Notify::Never);
        by(&mut never, 30, true, true);
        assert_eq!(judge(&never, delivered(false), 1).1, None);
    }

    #[test]
    fn what_was_held_back_is_given_up_that_long_after_its_time() {
        let mut held = message(Notify::Unspecified);
        let week = 7 * 86_400;
        held.demands.hold_until = Some(Timestamp::from_secs(week));
        assert!(matches!(
            judge(&held, Ended::Temporary, week + 1).0,
            Verdict::Deferred { .. }
        ));
    }
}
