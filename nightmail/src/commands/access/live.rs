//! What DNS says of a client now: its name, the lists that it is on and those that do not work, and whether SPF lets it
//! send.

use std::net::IpAddr;

use nightmail_access::{ClientName, DnsLists, ReverseDns, Score, Subject, tag};
use nightmail_core::ReversePath;
use nightmail_dns::Dns;
use nightmail_server::config::{Config, Consequence};
use nightmail_server::gate;
use nightmail_trust::{SpfQuery, SpfResult, Trust, TrustOptions};

use crate::error::CommandError;
use crate::operator::dns_options;

/// What was found.
pub(super) struct Found {
    /// The client's name, where it leads back.
    pub(super) client_name: Option<String>,
    /// The tags that the checks give for it.
    pub(super) tags: Vec<&'static str>,
    /// What was found, in words.
    pub(super) seen: Vec<String>,
}

/// Looks a client up. Fails where there is no name server to ask.
pub(super) async fn look(
    config: &Config,
    client: IpAddr,
    helo: Option<&str>,
    sender: Option<&ReversePath>,
) -> Result<Found, CommandError> {
    let dns = Dns::new(&dns_options(config))
        .map_err(|error| CommandError::Usage(format!("`dns_servers` in [delivery]: {error}")))?;
    let mut found = Found {
        client_name: None,
        tags: Vec::new(),
        seen: Vec::new(),
    };
    let reverse_dns = config.receiving.reverse_dns;
    found.name(&dns, client, reverse_dns).await;
    found.lists(&dns, config, client, helo, sender).await;
    if let Some(sender) = sender
        && config.authentication.spf != Consequence::Off
    {
        found.spf(dns, config, client, helo, sender).await;
    }
    Ok(found)
}

impl Found {
    async fn name(&mut self, dns: &Dns, client: IpAddr, reverse_dns: Consequence) {
        let (says, tagged) = match ReverseDns::confirm(dns, client).await {
            ClientName::Confirmed(name) => {
                self.client_name = Some(name.clone());
                (name, false)
            }
            ClientName::Unconfirmed(Some(name)) => {
                (format!("{name}, which does not lead back"), true)
            }
            ClientName::Unconfirmed(None) | ClientName::None => ("none".to_owned(), true),
            ClientName::TempFail => ("DNS does not say now".to_owned(), false),
        };
        self.seen.push(format!("client name: {says}"));
        if tagged && reverse_dns != Consequence::Off {
            self.tags.push(tag::REVERSE_DNS);
        }
    }

    async fn lists(
        &mut self,
        dns: &Dns,
        config: &Config,
        client: IpAddr,
        helo: Option<&str>,
        sender: Option<&ReversePath>,
    ) {
        let lists = DnsLists::new(dns.clone(), gate::dns_list_options(&config.dns_lists));
        let sender = sender.and_then(ReversePath::address);
        let names = [
            (Subject::ClientName, self.client_name.as_deref()),
            (Subject::Helo, helo),
            (
                Subject::Sender,
                sender.map(|sender| sender.domain().as_str()),
            ),
        ];
        let mut score: Score = lists.score_client(client).await;
        for (subject, name) in names {
            if let Some(name) = name {
                score.add(lists.score_name(subject, name).await);
            }
        }
        for hit in &score.hits {
            let text = hit.text.as_deref().unwrap_or_default();
            let line = format!("{}: {} points, {} {text}", hit.zone, hit.points, hit.answer);
            self.seen.push(line.trim_end().to_owned());
        }
        for tested in lists.test().await {
            if let Some(problem) = tested.problem {
                self.seen
                    .push(format!("{} does not work: {problem}", tested.zone));
            }
        }
        let suspect = config.receiving.dns_list_suspect;
        if suspect > 0 && i64::from(score.points) >= i64::from(suspect) {
            self.tags.push(tag::DNS_LIST);
        }
    }

    async fn spf(
        &mut self,
        dns: Dns,
        config: &Config,
        client: IpAddr,
        helo: Option<&str>,
        sender: &ReversePath,
    ) {
        let options = TrustOptions {
            authserv_id: config.server.hostname.to_string(),
            ..TrustOptions::default()
        };
        let query = SpfQuery {
            client,
            helo: helo.unwrap_or_default(),
            sender: sender.address(),
        };
        let spf = Trust::new(dns, options)
            .spf(&query, nightmail_commit::now())
            .await;
        self.seen
            .push(format!("SPF of {}: {}", spf.domain, spf.result.as_str()));
        match spf.result {
            SpfResult::Fail => self.tags.push(tag::SPF_FAIL),
            SpfResult::SoftFail => self.tags.push(tag::SPF_SOFTFAIL),
            _ => {}
        }
    }
}
