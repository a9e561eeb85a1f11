//! Who may hand mail in: ordered rules, rates, greylisting, DNS lists, and what the names of a client are worth.
//!
//! Owns the judgements, one module each, and the rows of [`nightmail_engine::Space::Access`]. In which order they are
//! asked, and what follows from them, is the business of whoever drives a session.

mod client_net;
mod dns_lists;
mod greylist;
mod helo;
mod rates;
mod reverse;
mod rules;
mod sender_domain;
mod tags;

pub use client_net::ClientNet;
pub use dns_lists::{DnsListOptions, DnsLists, Hit, ListTest, Score, Subject};
pub use greylist::{Greylist, GreylistEntry, GreylistOptions, GreylistState, Swept, Verdict};
pub use helo::{HeloProblem, helo_problem};
pub use rates::{Rates, Wait};
pub use reverse::{ClientName, ReverseDns};
pub use rules::{Action, Decision, Explained, Facts, Rule, RuleError, Rules, Stage};
pub use sender_domain::SenderDomain;
pub use tags::{Tags, tag};
