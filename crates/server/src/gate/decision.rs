//! What the gate decides, said to the log, to the metrics and to the client.

use nightmail_access::Stage;
use nightmail_core::{Address, SessionId};
use nightmail_smtp::{Reply, replies};
use tracing::info;

use crate::config::Consequence;
use crate::metrics;

/// What becomes of mail that is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes to its recipients.
    #[default]
    Ordinary,
    /// It is thrown away.
    Discard,
    /// It goes there instead.
    Route(Address),
}

impl Fate {
    /// The fate that was decided later, where one was.
    pub(super) fn or(self, earlier: &Self) -> Self {
        match self {
            Self::Ordinary => earlier.clone(),
            decided => decided,
        }
    }
}

/// Passes, or is refused with this reply.
pub(crate) type Gated<T> = Result<T, Reply>;

/// Counts what was decided.
pub(super) fn count(stage: Stage, decision: &'static str) {
    ::metrics::counter!(metrics::ACCESS_DECISIONS, "stage" => stage.as_str(), "decision" => decision)
        .increment(1);
}

/// Writes a refusal into the log, and counts it.
pub(super) fn refused(session: SessionId, stage: Stage, check: &str, reply: &Reply) {
    let decision = match reply.is_permanent() {
        true => "reject",
        false => "defer",
    };
    count(stage, decision);
    info!(%session, stage = stage.as_str(), check, %reply, "refused");
}

/// The reply to a client whom a check does not like, where that is to be told; `None` lets it go on, tagged or not.
pub(super) fn consequence(what: Consequence, permanent: Reply, temporary: Reply) -> Option<Reply> {
    match what {
        Consequence::Off | Consequence::Tag => None,
        Consequence::Defer => Some(temporary),
        Consequence::Reject => Some(permanent),
    }
}

/// The replies of a refusal at a stage, permanent and temporary. Before the greeting only those that close will do.
pub(super) fn replies_at(stage: Stage, text: &str) -> (Reply, Reply) {
    let (permanent, temporary) = match stage {
        Stage::Connect => (replies::CONTENT_REFUSED, replies::NOT_SMTP),
        Stage::Data => (replies::CONTENT_REFUSED, replies::TRY_LATER),
        Stage::Helo | Stage::Mail | Stage::Rcpt => (replies::POLICY, replies::RATE_LIMITED),
    };
    (permanent.with_text(text), temporary.with_text(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_has_the_codes_of_its_moment() {
        for (stage, permanent, temporary) in [
            (Stage::Connect, 554, 421),
            (Stage::Helo, 550, 450),
            (Stage::Rcpt, 550, 450),
            (Stage::Data, 554, 451),
        ] {
            let (hard, soft) = replies_at(stage, "No");
            assert_eq!((hard.code(), soft.code()), (permanent, temporary));
            assert_eq!(hard.text(), "No");
        }
    }

    #[test]
    fn only_defer_and_reject_are_told() {
        let said = |what| consequence(what, replies::POLICY, replies::TRY_LATER);
        assert_eq!(said(Consequence::Off), None);
        assert_eq!(said(Consequence::Tag), None);
        assert_eq!(said(Consequence::Defer), Some(replies::TRY_LATER));
        assert_eq!(said(Consequence::Reject), Some(replies::POLICY));
    }

    #[test]
    fn what_is_decided_later_counts() {
        let route = Fate::Route(Address::parse("q@a.test").unwrap());
        assert_eq!(Fate::Ordinary.or(&Fate::Discard), Fate::Discard);
        assert_eq!(route.clone().or(&Fate::Discard), route);
    }
}
