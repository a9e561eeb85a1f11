//! The moment of connecting: rules, rate, the client's name, lists of addresses, and who speaks too early.

use std::net::IpAddr;
use std::time::Instant;

use nightmail_access::{ClientName, ReverseDns, Score, Stage, tag};
use nightmail_core::SessionId;
use nightmail_smtp::{Reply, replies};

use super::decision::{Fate, Gated, consequence, count, refused, replies_at};
use super::rules::Ruled;
use super::visit::{Paths, Seen, Visit};
use super::{Gate, MINUTE};
use crate::config::Consequence;

/// What is seen of a client that has said nothing.
const NOTHING_SAID: Seen<'static> = Seen {
    hello: None,
    tls: false,
    authenticated: false,
    early_talker: false,
    pipelined_early: false,
};

impl Gate {
    /// A client connects. `None`: neither a rule nor a check concerns it. `known_name`: the name that XCLIENT has given
    /// it, which is believed. A refusal closes the connection.
    pub(crate) async fn connect(
        &self,
        session: SessionId,
        ip: IpAddr,
        known_name: Option<ClientName>,
        tls: bool,
    ) -> Gated<Option<Box<Visit>>> {
        let trusted = self.trusts(ip);
        if trusted && self.rules.is_empty() {
            return Ok(None);
        }
        let mut visit = Box::new(Visit::new(session, ip));
        visit.exempt = trusted || self.is_buffer(ip);
        if !visit.exempt {
            self.shedder.look(Stage::Connect)?;
        }
        visit.name = known_name;
        // Rules may speak of the name; a client that is over its rate costs no lookup unless they do.
        if self.rules_want_names {
            self.learn_name(&mut visit).await;
        }
        let seen = Seen {
            tls,
            ..NOTHING_SAID
        };
        self.connect_rules(&mut visit, &seen)?;
        if !visit.exempt {
            self.connection_rate(&visit)?;
            Box::pin(self.connect_lookups(&mut visit)).await?;
            count(Stage::Connect, "pass");
        }
        Ok(Some(visit))
    }

    /// The visit of a client of a submission listener. `None`: no rule concerns it.
    pub(crate) fn submission_visit(&self, session: SessionId, ip: IpAddr) -> Option<Box<Visit>> {
        if self.rules.is_empty() {
            return None;
        }
        let mut visit = Box::new(Visit::new(session, ip));
        visit.exempt = true;
        visit.inside = true;
        Some(visit)
    }

    fn connect_rules(&self, visit: &mut Visit, seen: &Seen<'_>) -> Gated<()> {
        match self.ruled(visit, Stage::Connect, seen, Paths::default())? {
            Ruled::Pass => {}
            Ruled::Accept => visit.exempt = true,
            Ruled::Discard => visit.fate = Fate::Discard,
            Ruled::Route(to) => visit.fate = Fate::Route(to),
        }
        Ok(())
    }

    fn connection_rate(&self, visit: &Visit) -> Gated<()> {
        let most = self.settings.connections_per_minute;
        // A proxy has as many clients as it has.
        if most == 0 || self.takes_xclient(visit.ip) {
            return Ok(());
        }
        let taken = self
            .connections
            .take(&visit.net, 1, most, MINUTE, Instant::now());
        taken.map_err(|_| {
            let reply = replies::TOO_MANY_CONNECTIONS;
            let check = "connections_per_minute";
            refused(visit.session, Stage::Connect, check, &reply);
            reply
        })
    }

    async fn learn_name(&self, visit: &mut Visit) {
        if visit.name.is_none() {
            visit.name = Some(ReverseDns::confirm(&self.dns, visit.ip).await);
        }
    }

    /// The client's name and the lists of addresses, asked at the same time; then the lists of names.
    async fn connect_lookups(&self, visit: &mut Visit) -> Gated<()> {
        let ip = visit.ip;
        let name = async {
            match &visit.name {
                None if self.wants_names => Some(ReverseDns::confirm(&self.dns, ip).await),
                known => known.clone(),
            }
        };
        let (name, score) = tokio::join!(name, self.lists.client(ip));
        visit.name = name;
        visit.score = score;
        if let Some(name) = visit.client_name().map(str::to_owned) {
            let named: Score = self.lists.client_name(&name).await;
            visit.score.add(named);
        }
        if i64::from(visit.score.points) >= i64::from(self.settings.dns_list_suspect)
            && self.settings.dns_list_suspect > 0
        {
            visit.tag(tag::DNS_LIST);
        }
        self.reverse_dns(visit)
    }

    fn reverse_dns(&self, visit: &mut Visit) -> Gated<()> {
        let what = self.settings.reverse_dns;
        let fits = matches!(
            visit.name,
            None | Some(ClientName::Confirmed(_) | ClientName::TempFail)
        );
        if what == Consequence::Off || fits {
            return Ok(());
        }
        visit.tag(tag::REVERSE_DNS);
        let text = format!("{} has no name that leads back to it", visit.ip);
        let (permanent, temporary) = replies_at(Stage::Connect, &text);
        told(
            visit,
            Stage::Connect,
            "reverse_dns",
            consequence(what, permanent, temporary),
        )
    }

    /// The client has spoken before its greeting, or has sent commands ahead before EHLO had allowed it.
    pub(crate) fn early(&self, visit: &mut Visit, seen: &Seen<'_>, stage: Stage) -> Gated<()> {
        let what = self.settings.early_talker;
        if visit.is_exempt() || what == Consequence::Off {
            return Ok(());
        }
        let given = match (seen.early_talker, seen.pipelined_early) {
            (true, _) => tag::EARLY_TALKER,
            (false, true) => tag::PIPELINING,
            (false, false) => return Ok(()),
        };
        visit.tag(given);
        let (permanent, temporary) = replies_at(stage, "You spoke before your turn");
        told(
            visit,
            stage,
            "early_talker",
            consequence(what, permanent, temporary),
        )
    }
}

/// Refuses with `reply`, where there is one.
pub(super) fn told(visit: &Visit, stage: Stage, check: &str, reply: Option<Reply>) -> Gated<()> {
    match reply {
        None => Ok(()),
        Some(reply) => {
            refused(visit.session, stage, check, &reply);
            Err(reply)
        }
    }
}
