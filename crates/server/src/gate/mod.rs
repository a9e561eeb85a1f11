//! The gate: which mail from other sites is let in, and what our own users may hand in.
//!
//! Owns the order of rules and checks, one file for each moment of a session; rules, rates, lists and sender
//! authentication themselves are those of `crates/access` and `crates/trust`. A client that is trusted and that no rule
//! concerns costs nothing here.
//!
//! **Invariant:** a check that cannot be made (DNS, the store) refuses nothing for good.

mod connect;
mod data;
mod decision;
mod hello;
mod lists;
mod mail;
mod rcpt;
mod reporting;
mod rules;
mod shed;
mod sign;
mod submission;
mod tarpit;
mod upkeep;
mod visit;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use nightmail_access::{ClientNet, Greylist, GreylistOptions, Rates, Rules, Stage};
use nightmail_core::net::IpNetwork;
use nightmail_dns::{Dns, DnsOptions};
use nightmail_pace::{Policies, Precedences};
use nightmail_trust::{Trust, TrustOptions};

use crate::backend::{Backend, OpenError};
use crate::config::{self, Authentication, Config, Consequence, Receiving};
use crate::error::ServerError;
use crate::outbound::{policies, precedences};

pub(crate) use data::Judged;
pub(crate) use decision::{Fate, Gated};
pub use lists::dns_list_options;
pub use rules::rules;
pub(crate) use sign::Signers;
pub(crate) use submission::{SubmissionGate, Submitter, held_until};
pub(crate) use tarpit::{Pace, Tarpit};
pub(crate) use upkeep::upkeep;
pub(crate) use visit::{Seen, Visit};

/// Client networks whose rates are remembered.
const RATES_MAX: usize = 100_000;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// What a server lets in. One for all of its listeners.
pub struct Gate {
    settings: Receiving,
    authentication: Authentication,
    own_names: Vec<String>,
    rules: Rules,
    /// Whether something asks for the names of clients.
    wants_names: bool,
    /// Whether a rule asks for them as soon as they connect.
    rules_want_names: bool,
    dns: Dns,
    lists: lists::Lists,
    greylist: Option<Greylist>,
    trust: Trust,
    shedder: shed::Shedder,
    connections: Rates<ClientNet>,
    messages: Rates<ClientNet>,
    unknown: Rates<ClientNet>,
    etrns: Rates<ClientNet>,
    /// For which domains mail waits to be asked for.
    destinations: Policies,
    /// How urgent mail is that goes on to other sites.
    pub(crate) precedences: Precedences,
    pub(crate) submission: SubmissionGate,
    pub(crate) signers: Signers,
    reporting: reporting::Reporting,
}

impl Gate {
    /// The gate that a configuration asks for.
    pub fn new(config: &Config, backend: &Backend) -> Result<Self, ServerError> {
        let dns = resolver(config)?;
        let settings = config.receiving.clone();
        let authentication = config.authentication.clone();
        let rules = rules(config).map_err(|error| OpenError::Settings(error.to_string()))?;
        let lists = lists::Lists::new(&dns, &config.dns_lists);
        let greylist = (settings.greylist != config::Greylist::Off)
            .then(|| Greylist::new(Arc::clone(&backend.engine), greylist_options(&settings)));
        let committer = backend.directory.committer().clone();
        let trust = Trust::new(dns.clone(), trust_options(config));
        Ok(Self {
            own_names: vec![config.server.hostname.as_str().to_owned()],
            wants_names: settings.reverse_dns != Consequence::Off
                || lists.want_names()
                || Stage::ALL
                    .iter()
                    .any(|stage| rules.wants_client_name_at(*stage)),
            rules_want_names: rules.wants_client_name_at(Stage::Connect),
            rules,
            lists,
            greylist,
            shedder: shed::Shedder::new(committer, settings.shed_load_after),
            connections: Rates::new(RATES_MAX),
            messages: Rates::new(RATES_MAX),
            unknown: Rates::new(RATES_MAX),
            etrns: Rates::new(RATES_MAX),
            destinations: policies(config),
            precedences: precedences(config),
            submission: SubmissionGate::new(config.submission.clone(), backend.directory.clone()),
            signers: Signers::new(&authentication, backend.directory.clone()),
            reporting: reporting::Reporting::new(config, Arc::clone(&backend.engine)),
            trust,
            dns,
            settings,
            authentication,
        })
    }

    /// The resolver: one for receiving and sending, so that an answer is asked for once.
    pub(crate) const fn dns(&self) -> &Dns {
        &self.dns
    }

    /// Whether clients from there pass every check and may relay.
    pub(crate) fn trusts(&self, ip: IpAddr) -> bool {
        holds(&self.settings.trusted, ip)
    }

    /// Whether all mail from other sites comes through there: what such a host lets through has passed its checks.
    pub(crate) fn is_buffer(&self, ip: IpAddr) -> bool {
        holds(&self.settings.only_from, ip)
    }

    /// Whether XCLIENT and XFORWARD are taken from there.
    pub(crate) fn takes_xclient(&self, ip: IpAddr) -> bool {
        holds(&self.settings.xclient_from, ip)
    }

    /// How long a client waits for its greeting.
    pub(crate) const fn greeting_delay(&self) -> Duration {
        self.settings.greeting_delay
    }

    /// How late the replies to errors come.
    pub(crate) const fn pace(&self) -> Pace {
        Pace {
            free: self.settings.tarpit_after,
            step: self.settings.tarpit_step,
            max: self.settings.tarpit_max,
        }
    }
}

fn holds(networks: &[IpNetwork], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(ip))
}

/// The resolver that a configuration asks for.
fn resolver(config: &Config) -> Result<Dns, ServerError> {
    let delivery = &config.delivery;
    let anchors = delivery
        .trust_anchors
        .as_deref()
        .map(std::fs::read_to_string);
    let trust_anchors = anchors.transpose().map_err(|source| ServerError::Io {
        what: "`trust_anchors` in [delivery] cannot be read",
        source,
    })?;
    let options = DnsOptions {
        name_servers: delivery.dns_servers.clone(),
        dnssec: delivery.dnssec,
        trust_anchors,
        ..DnsOptions::default()
    };
    let made = Dns::new(&options);
    Ok(made.map_err(|error| {
        OpenError::Settings(format!(
            "`dns_servers` or `trust_anchors` in [delivery]: {error}"
        ))
    })?)
}

/// How long greylisting waits and remembers, as configured.
pub fn greylist_options(settings: &Receiving) -> GreylistOptions {
    GreylistOptions {
        delay: settings.greylist_delay,
        window: settings.greylist_window,
        lifetime: settings.greylist_lifetime,
        auto_allow: settings.greylist_auto_allow,
    }
}

fn trust_options(config: &Config) -> TrustOptions {
    let settings = &config.authentication;
    TrustOptions {
        authserv_id: config.server.hostname.as_str().to_owned(),
        signatures_max: settings.signatures_max,
        dkim: settings.dkim,
        arc: settings.arc,
        arc_trusted: settings.arc_trusted.clone(),
        ..TrustOptions::default()
    }
}
