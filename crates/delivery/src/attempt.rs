//! One attempt: a message to the recipients of one site, over the site's hosts in turn.

use std::sync::Arc;

use bytes::Bytes;
use nightmail_cluster::LeaseHold;
use nightmail_core::{Domain, QueueId, Timestamp};
use nightmail_queue::{Attempt, QueueMessage};
use nightmail_smtp::client::{Fate, Stage};
use nightmail_smtp::reply::Reply;

use crate::connection::{Peer, Sent};
use crate::retry::{AttemptResult, Ended};
use crate::trouble::Trouble;
use crate::work::Worker;

/// A message that is being worked on.
#[derive(Clone)]
pub(crate) struct Job {
    pub id: QueueId,
    pub message: Arc<QueueMessage>,
    /// What it is worked on under.
    pub hold: LeaseHold,
}

/// The recipients an attempt has not decided yet, and the weightiest reason why.
pub(crate) struct Undecided {
    pub indexes: Vec<usize>,
    reason: Option<(Trouble, String)>,
    /// Whether a host was passed over only because its TLS is not as it has to be.
    lacks_tls: bool,
}

impl Undecided {
    pub const fn new(indexes: Vec<usize>) -> Self {
        Self {
            indexes,
            reason: None,
            lacks_tls: false,
        }
    }

    /// A trouble that may pass outweighs one that will not: as long as one host may take the message later, it waits.
    pub fn note(&mut self, trouble: Trouble, host: &str) {
        self.lacks_tls |= trouble.about_tls;
        let outweighed = self
            .reason
            .as_ref()
            .is_none_or(|(known, _)| known.permanent || !trouble.permanent);
        if outweighed {
            self.reason = Some((trouble, host.to_owned()));
        }
    }

    /// Why nobody else was decided, and the host that it was about.
    pub fn reason(&self) -> (Trouble, Option<String>) {
        match &self.reason {
            Some((trouble, host)) => {
                let host = Some(host.clone()).filter(|host| !host.is_empty());
                let trouble = Trouble {
                    about_tls: self.lacks_tls,
                    ..trouble.clone()
                };
                (trouble, host)
            }
            None => (
                Trouble::temporary("4.4.1", "no host could be reached"),
                None,
            ),
        }
    }

    pub fn results(self, at: Timestamp) -> Vec<AttemptResult> {
        let (trouble, host) = self.reason();
        results_of(&trouble, host.as_deref(), &self.indexes, at)
    }
}

/// The same result for each of these recipients.
pub(crate) fn results_of(
    trouble: &Trouble,
    host: Option<&str>,
    indexes: &[usize],
    at: Timestamp,
) -> Vec<AttemptResult> {
    let reply = trouble.reply.as_deref();
    let attempt = Attempt::new(at, host, &trouble.status, reply, &trouble.text);
    let ended = match trouble.permanent {
        true => Ended::Permanent,
        false => Ended::Temporary,
    };
    let result = |index: &usize| AttemptResult {
        index: *index,
        ended,
        attempt: attempt.clone(),
    };
    indexes.iter().map(result).collect()
}

/// What an attempt came to.
pub(crate) struct Attempted {
    /// What is decided.
    pub results: Vec<AttemptResult>,
    /// Whom nothing is decided about.
    pub undecided: Undecided,
    /// Whether any host was ready for mail.
    pub reached: bool,
}

impl Worker {
    /// Tries to hand the message over for the recipients at `indexes`, over the open connection where there is one, and
    /// over as many others as it takes.
    pub(crate) async fn attempt(
        &mut self,
        job: &Job,
        content: Option<&[Bytes]>,
        indexes: Vec<usize>,
    ) -> Attempted {
        let mut attempted = Attempted {
            results: Vec::new(),
            undecided: Undecided::new(indexes),
            reached: false,
        };
        let domain = domain_of(job, &attempted.undecided.indexes);
        let wanted = Wanted::of(&job.message);
        let mut hosts = None;
        while !attempted.undecided.indexes.is_empty() {
            let open = self.open_connection(wanted).await;
            let is_used = open.is_some();
            let connection = match open {
                Some(connection) => Some(connection),
                None => {
                    let undecided = &mut attempted.undecided;
                    self.connect(&mut hosts, domain.as_ref(), wanted, undecided)
                        .await
                }
            };
            let Some(mut connection) = connection else {
                break;
            };
            attempted.reached = true;
            let indexes = &attempted.undecided.indexes;
            let usual_max = self.site.settings.recipients_per_transaction;
            let sent = connection.deliver(&job.message, content, indexes, usual_max);
            let sent = Box::pin(sent).await;
            let is_open = connection.is_open();
            let host = connection.target().host.clone();
            let address = connection.target().address;
            let verdict = self.sort(&mut attempted, job, domain.as_ref(), &host, sent, is_used);
            match verdict {
                // What the host has said is about this message: the connection is of use for others.
                Next::Done if is_open => self.keep(connection),
                Next::Done => Box::pin(connection.close()).await,
                Next::Again => {
                    Box::pin(connection.close()).await;
                    hosts = None;
                }
                Next::OtherHost => {
                    Box::pin(connection.close()).await;
                    if is_used && is_open {
                        hosts = self.hosts_but(address).await;
                    }
                }
            }
            if verdict == Next::Done {
                break;
            }
        }
        attempted
    }

    /// Takes in what a host has decided, and says where to go on.
    fn sort(
        &self,
        attempted: &mut Attempted,
        job: &Job,
        domain: Option<&Domain>,
        host: &str,
        sent: Sent,
        is_used: bool,
    ) -> Next {
        let at = nightmail_commit::now();
        let has_decided = !sent.decided.is_empty();
        let mut undecided = sent.undecided;
        for (index, fate) in sent.decided {
            let stage = stage_of(&fate);
            let mut result = decided_of(index, fate, host, sent.peer, at);
            if self
                .channel
                .apply_rules(&self.site, domain, stage, &mut result)
            {
                let said = result.attempt.reply.clone().unwrap_or_default();
                let trouble = Trouble {
                    reply: result.attempt.reply,
                    permanent: result.ended == Ended::Permanent,
                    ..Trouble::temporary(&result.attempt.status, said)
                };
                attempted.undecided.note(trouble, host);
                undecided.push(index);
            } else {
                attempted.results.push(result);
            }
        }
        attempted.undecided.indexes = undecided;
        if attempted.undecided.indexes.is_empty() {
            return Next::Done;
        }
        if sent.full {
            return Next::Again;
        }
        let Some(mut trouble) = sent.trouble else {
            return Next::OtherHost;
        };
        log_trouble(job, host, &trouble);
        // A connection that has carried mail may have come to its end meanwhile: that says nothing of the message.
        if is_used && !has_decided && sent.ended_early {
            return Next::Again;
        }
        self.channel
            .apply_rules_to_trouble(&self.site, domain, host, &mut trouble);
        attempted.undecided.note(trouble, host);
        match sent.unreadable {
            true => Next::Done,
            false => Next::OtherHost,
        }
    }
}

impl Sent {
    /// What it means where there is no other host.
    pub(crate) fn into_results(self, host: &str) -> Vec<AttemptResult> {
        let at = nightmail_commit::now();
        let peer = self.peer;
        let mut undecided = Undecided::new(self.undecided);
        if let Some(trouble) = self.trouble {
            undecided.note(trouble, host);
        }
        let decided = self.decided.into_iter();
        let decided = decided.map(|(index, fate)| decided_of(index, fate, host, peer, at));
        decided.chain(undecided.results(at)).collect()
    }
}

/// Where an attempt goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// Nowhere.
    Done,
    /// On a new connection, to the hosts from the first.
    Again,
    /// At the next host.
    OtherHost,
}

/// The domain of the first of these recipients: the one that policies and rules are asked about.
fn domain_of(job: &Job, indexes: &[usize]) -> Option<Domain> {
    let recipient = job.message.recipients.get(*indexes.first()?)?;
    Some(recipient.address.domain().clone())
}

/// What a message wants of TLS beside what its recipient's site and this one do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// Nothing.
    Usual,
    /// That the host has proven who it is.
    Proof,
    /// That nothing is made of what the recipient's site promises (`TLS-Required: No`, RFC 8689 §3).
    Nothing,
}

impl Wanted {
    pub fn of(message: &QueueMessage) -> Self {
        match message.demands.tls_optional {
            _ if insists_on_tls(message) => Self::Proof,
            true => Self::Nothing,
            false => Self::Usual,
        }
    }
}

/// Whether the message goes nowhere without TLS. A report goes on all the same (RFC 8689 §5).
pub(crate) fn insists_on_tls(message: &QueueMessage) -> bool {
    message.demands.require_tls && message.reverse_path.address().is_some()
}

const fn stage_of(fate: &Fate) -> Stage {
    match fate {
        Fate::Delivered(_) => Stage::Content,
        Fate::Temporary(refusal) | Fate::Permanent(refusal) => refusal.stage,
    }
}

fn decided_of(index: usize, fate: Fate, host: &str, peer: Peer, at: Timestamp) -> AttemptResult {
    let (ended, reply, stage) = match fate {
        Fate::Delivered(reply) => (peer.delivered(), reply, Stage::Content),
        Fate::Temporary(refusal) => (Ended::Temporary, refusal.reply, refusal.stage),
        Fate::Permanent(refusal) => (Ended::Permanent, refusal.reply, refusal.stage),
    };
    let class = match ended {
        Ended::Delivered { .. } => 2,
        Ended::Permanent => 5,
        _ => 4,
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

fn log_trouble(job: &Job, host: &str, trouble: &Trouble) {
    tracing::info!(
        queue_id = %job.id,
        host,
        status = %trouble.status,
        reply = trouble.reply.as_deref().unwrap_or_default(),
        "session ended early: {}",
        trouble.text
    );
}
