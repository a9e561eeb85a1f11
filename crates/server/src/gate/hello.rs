//! The moment of EHLO and HELO: rules, and whether the name can be the client's.

use nightmail_access::{Stage, tag};

use super::Gate;
use super::connect::told;
use super::decision::{Fate, Gated, consequence, replies_at};
use super::rules::Ruled;
use super::visit::{Paths, Seen, Visit};
use crate::config::Consequence;

impl Gate {
    /// The client says its name, which is not in `seen` yet.
    pub(crate) fn hello(&self, visit: &mut Visit, name: &str, seen: &Seen<'_>) -> Gated<()> {
        let seen = Seen {
            hello: Some(name),
            ..*seen
        };
        // A new EHLO ends the transaction (RFC 5321 §4.1.4).
        visit.mail = None;
        match self.ruled(visit, Stage::Helo, &seen, Paths::default())? {
            Ruled::Pass => {}
            Ruled::Accept => visit.exempt = true,
            Ruled::Discard => visit.fate = Fate::Discard,
            Ruled::Route(to) => visit.fate = Fate::Route(to),
        }
        if visit.exempt || self.settings.helo == Consequence::Off {
            return Ok(());
        }
        let own: Vec<&str> = self.own_names.iter().map(String::as_str).collect();
        let Some(problem) = nightmail_access::helo_problem(name, visit.ip, &own) else {
            return Ok(());
        };
        visit.tag(tag::HELO);
        let (permanent, temporary) = replies_at(Stage::Helo, &problem.to_string());
        let reply = consequence(self.settings.helo, permanent, temporary);
        told(visit, Stage::Helo, "helo", reply)
    }
}
