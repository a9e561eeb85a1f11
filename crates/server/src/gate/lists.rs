//! DNS lists, by what they are asked about.

use std::net::IpAddr;

use nightmail_access::{DnsListOptions, DnsLists, Score, Subject};
use nightmail_dns::Dns;

use crate::config::{DnsList, DnsListSubject};

/// The lists of a configuration, as they are asked.
pub fn dns_list_options(lists: &[DnsList]) -> Vec<DnsListOptions> {
    let options = lists.iter().filter_map(|list| {
        Some(DnsListOptions {
            zone: list.zone.clone()?,
            of: match list.of {
                DnsListSubject::Client => Subject::Client,
                DnsListSubject::ClientName => Subject::ClientName,
                DnsListSubject::Helo => Subject::Helo,
                DnsListSubject::Sender => Subject::Sender,
            },
            weight: list.weight,
            answers: list.answers.clone(),
        })
    });
    options.collect()
}

/// The lists of a server. What nothing is asked about costs no lookup.
pub(super) struct Lists(DnsLists);

impl Lists {
    pub(super) fn new(dns: &Dns, lists: &[DnsList]) -> Self {
        Self(DnsLists::new(dns.clone(), dns_list_options(lists)))
    }

    /// Whether a list is asked about the names of clients.
    pub(super) fn want_names(&self) -> bool {
        self.0.has(Subject::ClientName)
    }

    pub(super) async fn client(&self, ip: IpAddr) -> Score {
        self.0.score_client(ip).await
    }

    pub(super) async fn client_name(&self, name: &str) -> Score {
        self.0.score_name(Subject::ClientName, name).await
    }

    pub(super) async fn helo(&self, name: &str) -> Score {
        self.0.score_name(Subject::Helo, name).await
    }

    pub(super) async fn sender(&self, domain: &str) -> Score {
        self.0.score_name(Subject::Sender, domain).await
    }
}

/// Why a score refuses mail, in the words of the list that weighs most.
pub(super) fn explained(score: &Score) -> String {
    match score.worst() {
        None => "Refused by policy".to_owned(),
        Some(hit) => match &hit.text {
            Some(text) => format!("Listed by {}: {text}", hit.zone),
            None => format!("Listed by {}", hit.zone),
        },
    }
}
