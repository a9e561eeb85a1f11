//! Access rules: from the configuration to `crates/access`, and what they decide.

use nightmail_access::{Action, Decision, Rule, RuleError, Rules, Stage};
use nightmail_core::Address;
use tracing::info;

use super::Gate;
use super::decision::{Gated, count, refused, replies_at};
use super::visit::{Paths, Seen, Visit, facts};
use crate::config::{Access, AccessAction, AccessStage, Config};

/// The rules of a configuration, in its order. Fails on the first that cannot be understood, and names it.
pub fn rules(config: &Config) -> Result<Rules, RuleError> {
    let rules = config.access_rules.iter().enumerate();
    Rules::new(rules.map(|(index, rule)| rule_of(index, rule)).collect())
}

fn rule_of(index: usize, from: &Access) -> Rule {
    Rule {
        name: match from.name.is_empty() {
            true => format!("#{}", index + 1),
            false => from.name.clone(),
        },
        stage: match from.stage {
            AccessStage::Connect => Stage::Connect,
            AccessStage::Helo => Stage::Helo,
            AccessStage::Mail => Stage::Mail,
            AccessStage::Rcpt => Stage::Rcpt,
            AccessStage::Data => Stage::Data,
        },
        client: from.client.clone(),
        client_name: from.client_name.clone(),
        helo: from.helo.clone(),
        sender: from.sender.clone(),
        recipient: from.recipient.clone(),
        tls: from.tls,
        // What is written about other sites is not meant for our own users.
        authenticated: Some(from.authenticated.unwrap_or(false)),
        tagged: from.tagged.clone(),
        action: action_of(from),
    }
}

/// A rule that lacks what its action needs is refused with its line by the configuration.
fn action_of(from: &Access) -> Action {
    let text = || from.text.clone().unwrap_or_default();
    match from.action {
        AccessAction::Accept => Action::Accept,
        AccessAction::Reject => Action::Reject(text()),
        AccessAction::Defer => Action::Defer(text()),
        AccessAction::Discard => Action::Discard,
        AccessAction::Tag => from.tag.clone().map_or(Action::Accept, Action::Tag),
        AccessAction::Route => from.route.clone().map_or(Action::Accept, Action::Route),
    }
}

/// What a rule has decided, where it has not refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ruled {
    Pass,
    Accept,
    Discard,
    Route(Address),
}

impl Gate {
    /// Asks the rules of a moment. Tags that they give go to the transaction, or to the session before there is one.
    pub(super) fn ruled(
        &self,
        visit: &mut Visit,
        stage: Stage,
        seen: &Seen<'_>,
        paths: Paths<'_>,
    ) -> Gated<Ruled> {
        // Who is about to log in is no stranger: nothing is asked before that.
        let too_soon = visit.inside && matches!(stage, Stage::Connect | Stage::Helo);
        if too_soon || self.rules.is_empty_at(stage) {
            return Ok(Ruled::Pass);
        }
        let given = visit.tags().clone();
        let mut tags = given.clone();
        let decision = self
            .rules
            .decide(stage, &facts(visit, seen, paths, &given), &mut tags);
        match &mut visit.mail {
            Some(mail) => mail.tags = tags,
            None => visit.tags = tags,
        }
        let (ruled, word, rule) = match decision {
            Decision::Pass => return Ok(Ruled::Pass),
            Decision::Reject { rule, text } => {
                let (reply, _) = replies_at(stage, &text);
                refused(visit.session, stage, &rule, &reply);
                return Err(reply);
            }
            Decision::Defer { rule, text } => {
                let (_, reply) = replies_at(stage, &text);
                refused(visit.session, stage, &rule, &reply);
                return Err(reply);
            }
            Decision::Accept { rule } => (Ruled::Accept, "accept", rule),
            Decision::Discard { rule } => (Ruled::Discard, "discard", rule),
            Decision::Route { to, rule } => (Ruled::Route(to), "route", rule),
        };
        count(stage, word);
        info!(session = %visit.session, stage = stage.as_str(), rule = &*rule, decision = word, "a rule decides");
        Ok(ruled)
    }
}
