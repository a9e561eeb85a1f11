//! One attempt: a message to the recipients of one destination, over the destination's hosts in turn.

use std::sync::Arc;

use nightmail_cluster::LeaseHold;
use nightmail_core::{QueueId, Timestamp};
use nightmail_queue::{Attempt, QueueMessage};
use nightmail_smtp::client::{Config, Fate, Login, Protocol, Stage, TlsPolicy};
use nightmail_smtp::command::HelloName;
use nightmail_smtp::reply::Reply;
use nightmail_smtp::sasl::Password;

use crate::channel::Channel;
use crate::dns::NoRoute;
use crate::options::SmarthostTls;
use crate::retry::{AttemptResult, Ended};
use crate::route::{Destination, Protection, Target};
use crate::session::{Peer, Sent, Trouble};

/// A message that is being worked on.
#[derive(Clone)]
pub(crate) struct Job {
    pub id: QueueId,
    pub message: Arc<QueueMessage>,
    /// What it is worked on under.
    pub hold: LeaseHold,
}

/// The recipients an attempt has not decided yet, and the weightiest reason why.
struct Undecided {
    indexes: Vec<usize>,
    reason: Option<(Trouble, String)>,
}

impl Undecided {
    /// A trouble that may pass outweighs one that will not: as long as one host may take the message later, it waits.
    fn note(&mut self, trouble: Option<Trouble>, target: &Target) {
        let Some(trouble) = trouble else { return };
        let outweighed = self
            .reason
            .as_ref()
            .is_none_or(|(known, _)| known.permanent || !trouble.permanent);
        if outweighed {
            self.reason = Some((trouble, target.host.clone()));
        }
    }

    fn results(self, at: Timestamp) -> Vec<AttemptResult> {
        let (trouble, host) = match self.reason {
            Some((trouble, host)) => (trouble, Some(host)),
            None => (
                Trouble::temporary("4.4.1", "no host could be reached"),
                None,
            ),
        };
        let ended = if trouble.permanent {
            Ended::Permanent
        } else {
            Ended::Temporary
        };
        let attempt = Attempt::new(
            at,
            host.as_deref(),
            &trouble.status,
            trouble.reply.as_deref(),
            &trouble.text,
        );
        let result = |index| AttemptResult {
            index,
            ended,
            attempt: attempt.clone(),
        };
        self.indexes.into_iter().map(result).collect()
    }
}

impl Channel {
    /// Tries to hand the message over for the recipients at `indexes`. Every one of them gets a result.
    pub(crate) async fn attempt(
        &self,
        job: &Job,
        destination: &Destination,
        indexes: &[usize],
    ) -> Vec<AttemptResult> {
        let targets = match self.route(destination, insists_on_tls(&job.message)).await {
            Ok(targets) => targets,
            Err(no_route) => return unrouted(&no_route, indexes),
        };
        let mut results = Vec::new();
        let mut undecided = Undecided {
            indexes: indexes.to_vec(),
            reason: None,
        };
        let mut hosts = targets.iter();
        let mut next = hosts.next();
        while let Some(target) = next {
            let sent = self
                .send_to(job, destination, target, &undecided.indexes)
                .await;
            let at = nightmail_commit::now();
            results.extend(
                sent.decided
                    .into_iter()
                    .map(|(index, fate)| decided(index, fate, &target.host, sent.peer, at)),
            );
            undecided.indexes = sent.undecided;
            undecided.note(sent.trouble, target);
            if undecided.indexes.is_empty() || sent.unreadable {
                break;
            }
            // Each session that is full has decided on somebody.
            next = if sent.full { next } else { hosts.next() };
        }
        results.extend(undecided.results(nightmail_commit::now()));
        results
    }

    /// One host; once more without TLS where TLS was only a bonus and the handshake failed.
    async fn send_to(
        &self,
        job: &Job,
        destination: &Destination,
        target: &Target,
        indexes: &[usize],
    ) -> Sent {
        let config = self.session_config(destination, target.protection);
        let sent = Box::pin(self.send(target, config, &job.message, indexes)).await;
        log_trouble(job, target, &sent);
        if !sent.tls_failed || target.protection != Protection::Opportunistic {
            return sent;
        }
        let plain = Target {
            protection: Protection::None,
            ..target.clone()
        };
        let config = self.session_config(destination, plain.protection);
        let again = Box::pin(self.send(&plain, config, &job.message, &sent.undecided)).await;
        log_trouble(job, &plain, &again);
        again
    }

    fn session_config(&self, destination: &Destination, protection: Protection) -> Arc<Config> {
        let mut config = Config::new(Protocol::Smtp, self.hello.clone());
        config.timeouts = self.options.timeouts.clone();
        config.tls = match protection {
            Protection::None | Protection::Implicit => TlsPolicy::Never,
            Protection::Opportunistic => TlsPolicy::Opportunistic,
            Protection::StartTls => TlsPolicy::Required,
        };
        if *destination == Destination::Smarthost {
            config.login = self.options.smarthost.as_ref().and_then(|smarthost| {
                let login = smarthost.login.as_ref()?;
                Some(Login {
                    identity: login.user.clone(),
                    password: Password::new(login.password.as_str()),
                    // Whoever configures a login without any TLS means it: a relay on the same machine.
                    without_tls: smarthost.tls == SmarthostTls::None,
                })
            });
        }
        Arc::new(config)
    }
}

/// Whether the message goes nowhere without TLS. A report goes on all the same (RFC 8689 §5).
pub(crate) fn insists_on_tls(message: &QueueMessage) -> bool {
    message.demands.require_tls && message.reverse_path.address().is_some()
}

/// The name for EHLO. An address literal and every domain fit.
pub(crate) fn hello_name(host: &nightmail_core::Domain) -> Option<HelloName> {
    HelloName::parse(host.as_str().as_bytes()).ok()
}

fn unrouted(no_route: &NoRoute, indexes: &[usize]) -> Vec<AttemptResult> {
    let attempt = Attempt::new(
        nightmail_commit::now(),
        None,
        no_route.status,
        None,
        &no_route.text,
    );
    let ended = if no_route.permanent {
        Ended::Permanent
    } else {
        Ended::Temporary
    };
    indexes
        .iter()
        .map(|index| AttemptResult {
            index: *index,
            ended,
            attempt: attempt.clone(),
        })
        .collect()
}

fn decided(index: usize, fate: Fate, host: &str, peer: Peer, at: Timestamp) -> AttemptResult {
    let (ended, reply, stage) = match fate {
        Fate::Delivered(reply) => (peer.delivered(), reply, Stage::Content),
        Fate::Temporary(refusal) => (Ended::Temporary, refusal.reply, refusal.stage),
        Fate::Permanent(refusal) => (Ended::Permanent, refusal.reply, refusal.stage),
    };
    let class = match ended {
        Ended::Delivered { .. } => 2,
        Ended::Temporary => 4,
        Ended::Permanent => 5,
    };
    let status = status_of(&reply, class);
    let text = reply.to_string();
    // What was decided here without asking is no reply of the host.
    let said = !matches!(stage, Stage::Local | Stage::Connection) || reply.closes();
    let attempt = Attempt::new(
        at,
        Some(host),
        &status,
        said.then_some(text.as_str()),
        &text,
    );
    AttemptResult {
        index,
        ended,
        attempt,
    }
}

/// The enhanced code of a reply, where its class is the one that counts; otherwise the class alone.
fn status_of(reply: &Reply, class: u8) -> String {
    match reply
        .enhanced()
        .filter(|enhanced| enhanced.class() == class)
    {
        Some(enhanced) => enhanced.to_string(),
        None => format!("{class}.0.0"),
    }
}

fn log_trouble(job: &Job, target: &Target, sent: &Sent) {
    if let Some(trouble) = &sent.trouble {
        tracing::info!(
            queue_id = %job.id,
            host = %target.host,
            address = %target.address,
            status = %trouble.status,
            reply = trouble.reply.as_deref().unwrap_or_default(),
            "session ended early: {}",
            trouble.text
        );
    }
}
