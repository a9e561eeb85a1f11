//! What is wrong with the tables about mail that goes out although each of their keys is well-formed.

use std::ops::Range;

use toml::de::DeTable;

use super::super::define::TableReader;
use super::super::report::Report;
use super::super::{Config, suggest};
use super::{Destination, OutboundRate, OutboundTls, Relay, RelayTls, ReplyRule, Route, Schedule};
use crate::outbound::{SMARTHOST, rate_of};

/// A `[[destination]]` that fits nobody, or whose keys do not fit each other.
pub(in crate::config) fn destination((table, reader): (&Destination, &mut TableReader<'_, '_>)) {
    if is_lacking(table.r#match.as_ref(), "match", reader) {
        reader.problem("give the destinations that it is about in `match`");
    }
    if table.route == Some(Route::Direct) && table.relay.is_some() {
        reader.problem("route = \"direct\" uses no `relay`; leave it out");
    }
    let waits = table.retry_waits.iter().flatten();
    if waits.into_iter().any(|wait| wait.is_zero()) {
        reader.problem("each of `retry_waits` must be longer than zero");
    }
}

/// Whether a list that must hold something is absent or empty. One that cannot be read has been told of.
fn is_lacking<T>(list: Option<&Vec<T>>, name: &str, reader: &TableReader<'_, '_>) -> bool {
    list.map_or(!reader.has(name), Vec::is_empty)
}

/// A `[[relay]]` that cannot be reached, or whose keys do not fit each other.
pub(in crate::config) fn relay((table, reader): (&Relay, &mut TableReader<'_, '_>)) {
    if table.name.is_empty() {
        reader.problem("give its `name`");
    }
    if is_lacking(table.hosts.as_ref(), "hosts", reader) {
        reader.problem("give its `hosts`");
    }
    if table.user.is_some() != table.password_file.is_some() {
        reader.problem("give both `user` and `password_file`, or neither for no login");
    }
    if table.client_certificate.is_some() != table.client_key.is_some() {
        reader.problem("give both `client_certificate` and `client_key`, or neither");
    }
    if table.client_certificate.is_some() && table.tls == RelayTls::None {
        reader.problem("`client_certificate` is shown over TLS only; tls = \"none\" uses none");
    }
}

/// A `[[schedule]]` that nothing can name.
pub(in crate::config) fn schedule((table, reader): (&Schedule, &mut TableReader<'_, '_>)) {
    if table.name.is_empty() {
        reader.problem("give its `name`");
    }
    if table.weekdays.is_empty() && table.weekend.is_empty() {
        reader.problem("it is never open: give windows in `weekdays` or `weekend`");
    }
}

/// A `[[reply_rule]]` that every reply would fit.
pub(in crate::config) fn reply_rule((_, reader): (&ReplyRule, &mut TableReader<'_, '_>)) {
    let conditions = ["code", "enhanced", "text"];
    if !conditions.iter().any(|name| reader.has(name)) {
        reader.problem("give at least one of `code`, `enhanced` and `text`");
    }
}

/// An `[[outbound_rate]]` without a rate, or about nobody.
pub(in crate::config) fn outbound_rate((table, reader): (&OutboundRate, &mut TableReader<'_, '_>)) {
    if table.rate.is_none() && !reader.has("rate") {
        reader.problem("give its `rate`");
    }
    if let Err(wrong) = rate_of(table) {
        reader.problem(&format!("`match` with of = \"{}\": {wrong}", table.of));
    }
}

/// A table whose keys always fit each other.
pub(in crate::config) const fn nothing<S>(_: (&S, &mut TableReader<'_, '_>)) {}

impl Config {
    /// What is wrong with the sections about mail that goes out.
    pub(in crate::config) fn validate_sending(&self, refuse: &mut impl FnMut(bool, &str)) {
        let (delivery, smarthost) = (&self.delivery, &self.smarthost);
        refuse(
            smarthost.user.is_some() != smarthost.password_file.is_some(),
            "[smarthost]: give both `user` and `password_file`, or neither for no login",
        );
        refuse(
            smarthost.user.is_some() && smarthost.address.is_none(),
            "[smarthost]: `user` needs an `address`",
        );
        refuse(
            delivery.retry_waits.iter().any(|wait| wait.is_zero()),
            "`retry_waits` in [delivery]: each wait must be longer than zero",
        );
        refuse(
            delivery.retry_first > delivery.retry_max,
            "[delivery]: `retry_max` must be at least `retry_first`",
        );
        refuse(
            delivery.route == Some(Route::Direct) && delivery.relay.is_some(),
            "[delivery]: route = \"direct\" uses no `relay`; leave it out",
        );
        let is_dane = |tls| tls == OutboundTls::Dane;
        let mut wanted = self.destinations.iter().filter_map(|table| table.tls);
        refuse(
            !delivery.dnssec && (is_dane(delivery.tls) || wanted.any(is_dane)),
            "tls = \"dane\" needs dnssec = true in [delivery]",
        );
        let delimiters = &self.queue.verp_delimiters;
        refuse(
            delimiters.chars().count() != 2
                || !delimiters
                    .chars()
                    .all(|it| it.is_ascii_punctuation() && it != '@'),
            "`verp_delimiters` in [queue]: expected two punctuation characters such as \"+=\"",
        );
    }
}

/// Names that stand twice, and names of relays and schedules that there are not.
pub(in crate::config) fn names(root: &DeTable<'_>, config: &Config, report: &mut Report) {
    let mut relays: Vec<&str> = config.relays.iter().map(|it| it.name.as_str()).collect();
    if config.smarthost.address.is_some() {
        relays.push(SMARTHOST);
    }
    let schedules: Vec<&str> = config.schedules.iter().map(|it| it.name.as_str()).collect();
    let mut names = Names { root, report };
    names.refuse_repeated("relay", &relays);
    names.refuse_repeated("schedule", &schedules);
    let delivery = &config.delivery;
    let needed = |route: Option<Route>| !matches!(route, None | Some(Route::Direct));
    let usual = delivery.relay.as_deref();
    let wanted = usual.or(needed(delivery.route).then_some(SMARTHOST));
    names.refuse_unknown(None, "relay", wanted, &relays);
    for (index, table) in config.destinations.iter().enumerate() {
        let own = table.relay.as_deref();
        let wanted = own.or(needed(table.route).then_some(usual.unwrap_or(SMARTHOST)));
        names.refuse_unknown(Some(index), "relay", wanted, &relays);
        names.refuse_unknown(
            Some(index),
            "schedule",
            table.schedule.as_deref(),
            &schedules,
        );
    }
}

/// Looks names up, and tells where they stand.
struct Names<'a> {
    root: &'a DeTable<'a>,
    report: &'a mut Report,
}

impl Names<'_> {
    /// Tables of this kind must have names of their own. A smarthost comes last and stands in no such table.
    fn refuse_repeated(&mut self, table: &str, names: &[&str]) {
        for (index, name) in names.iter().enumerate() {
            let earlier = names.iter().take(index);
            if !name.is_empty() && earlier.into_iter().any(|other| other == name) {
                let span = self.span(table, Some(index), "name");
                let text = match *name == SMARTHOST && table == "relay" {
                    true => format!("two relays are named \"{name}\"; [smarthost] is one of them"),
                    false => format!("two [[{table}]] tables are named \"{name}\""),
                };
                self.report.problem(span, text);
            }
        }
    }

    /// The name that `[delivery]`, or the `[[destination]]` of this index, has for a relay or schedule must be known.
    fn refuse_unknown(
        &mut self,
        destination: Option<usize>,
        kind: &str,
        name: Option<&str>,
        known: &[&str],
    ) {
        let Some(name) = name.filter(|name| !known.contains(name)) else {
            return;
        };
        let (table, heading) = match destination {
            Some(_) => ("destination", "[[destination]]"),
            None => ("delivery", "[delivery]"),
        };
        let given = self.span(table, destination, kind);
        let span = given.or_else(|| self.span(table, destination, "route"));
        let hint = match known.is_empty() {
            true => String::new(),
            false => suggest::hint(name, known),
        };
        let text = match name == SMARTHOST && kind == "relay" {
            true => format!("`relay` in {heading}: [smarthost] has no `address`"),
            false => {
                format!("`{kind}` in {heading}: there is no [[{kind}]] named \"{name}\"{hint}")
            }
        };
        self.report.problem(span, text);
    }

    /// Where the value of a key stands.
    fn span(&self, table: &str, index: Option<usize>, key: &str) -> Option<Range<usize>> {
        let value = self.root.get(table)?.get_ref();
        let table = match index {
            Some(index) => value.as_array()?.get(index)?.get_ref(),
            None => value,
        };
        table
            .as_table()
            .and_then(|table: &DeTable<'_>| Some(table.get(key)?.span()))
    }
}
