//! What follows from replies beside what they say: the operator's rules, and the built-in ones.

use std::time::Duration;

use nightmail_core::Domain;
use nightmail_pace::{Facts, ReplyAction, Stage};
use nightmail_smtp::client::Stage as SentStage;

use crate::channel::Channel;
use crate::retry::{AttemptResult, Ended};
use crate::site::Site;
use crate::trouble::Trouble;

/// The code, the enhanced code and the text of a reply on one line.
fn parts(reply: &str) -> (u16, Option<&str>, &str) {
    let (code, rest) = reply.split_at_checked(3).unwrap_or((reply, ""));
    let rest = rest.trim_start_matches([' ', '-']);
    let (first, after) = rest.split_once(' ').unwrap_or((rest, ""));
    let is_enhanced = first.split('.').count() == 3
        && first
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    let (enhanced, text) = match is_enhanced {
        true => (Some(first), after),
        false => (None, rest),
    };
    (code.parse().unwrap_or(0), enhanced, text)
}

const fn stage_of(stage: SentStage) -> Stage {
    match stage {
        SentStage::Local | SentStage::Connection => Stage::Connection,
        SentStage::Mail => Stage::Mail,
        SentStage::Recipient => Stage::Recipient,
        SentStage::Data | SentStage::Content => Stage::Content,
    }
}

impl Channel {
    /// The rule's action for a reply.
    fn action(
        &self,
        domain: Option<&Domain>,
        host: &str,
        stage: Stage,
        reply: &str,
    ) -> Option<ReplyAction> {
        let (code, enhanced, text) = parts(reply);
        let facts = Facts {
            domain: domain.map_or("", Domain::as_str),
            host,
            stage,
            code,
            enhanced,
            text,
        };
        let rule = self.options.reply_rules.decide(&facts)?;
        Some(rule.action)
    }

    /// Applies the rules to what a host has decided about a recipient. Returns whether another host is to be asked.
    pub(crate) fn apply_rules(
        &self,
        site: &Site,
        domain: Option<&Domain>,
        stage: SentStage,
        result: &mut AttemptResult,
    ) -> bool {
        if !matches!(result.ended, Ended::Temporary | Ended::Permanent) {
            return false;
        }
        let (Some(reply), Some(host)) = (&result.attempt.reply, &result.attempt.host) else {
            return false;
        };
        match self.action(domain, host, stage_of(stage), reply) {
            Some(ReplyAction::Defer) => result.ended = Ended::Temporary,
            Some(ReplyAction::Fail) => result.ended = Ended::Permanent,
            Some(ReplyAction::Hold) => result.ended = Ended::Held,
            Some(ReplyAction::NextHost) => return true,
            Some(ReplyAction::Usual) | None => {}
            Some(action) => self.apply_to_site(site, &action, reply, host),
        }
        false
    }

    /// Applies the rules to why a session ended.
    pub(crate) fn apply_rules_to_trouble(
        &self,
        site: &Site,
        domain: Option<&Domain>,
        host: &str,
        trouble: &mut Trouble,
    ) {
        let Some(reply) = trouble.reply.clone() else {
            return;
        };
        match self.action(domain, host, Stage::Connection, &reply) {
            Some(ReplyAction::Defer) => trouble.permanent = false,
            Some(ReplyAction::Fail) => trouble.permanent = true,
            Some(ReplyAction::NextHost | ReplyAction::Hold | ReplyAction::Usual) | None => {}
            Some(action) => self.apply_to_site(site, &action, &reply, host),
        }
    }

    fn apply_to_site(&self, site: &Site, action: &ReplyAction, reply: &str, host: &str) {
        let log = |what: &str, time: &Duration| {
            metrics::counter!("nightmail_delivery_slowed_total").increment(1);
            tracing::info!(site = %site.name, host, reply, secs = time.as_secs(), "{what}");
        };
        match action {
            ReplyAction::Slow(time) => {
                log("the site gets nothing new for a while", time);
                site.slow(*time);
            }
            ReplyAction::OneAtATime(time) => {
                log("the site gets one connection for a while", time);
                site.keep_single(*time);
            }
            ReplyAction::Pause(time) => {
                log("the site is left alone for a while", time);
                let trouble = Trouble {
                    reply: Some(reply.to_owned()),
                    ..Trouble::temporary("4.3.2", "the site is left alone for a while")
                };
                site.pause(&trouble, Some(host), *time);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_taken_apart() {
        assert_eq!(
            parts("421 4.7.0 Too many connections"),
            (421, Some("4.7.0"), "Too many connections")
        );
        assert_eq!(parts("450 busy 4.2.1"), (450, None, "busy 4.2.1"));
        assert_eq!(parts("250"), (250, None, ""));
        assert_eq!(parts(""), (0, None, ""));
    }
}
