//! What is shown of mail waiting to be sent elsewhere.

use serde::{Deserialize, Serialize};

/// A recipient of a message in the queue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecipientView {
    /// The address.
    pub address: String,
    /// `pending`, `held`, `delivered` or `failed`.
    pub state: String,
    /// When it is tried next; absent while it is held.
    pub next_attempt: Option<String>,
    /// Attempts that ended.
    pub attempts: u32,
    /// What came of the last one.
    pub last: Option<String>,
    /// Why it is held; only while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<String>,
    /// The relay that an operator has rerouted it to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relay: Option<String>,
}

/// A message in the queue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QueueView {
    /// Its id.
    pub id: String,
    /// When it was accepted.
    pub created: String,
    /// The reverse-path; empty: `<>`.
    pub from: String,
    /// Bytes.
    pub size: u64,
    /// When it is tried next.
    pub due: Option<String>,
    /// Whether it is being worked on now.
    pub active: bool,
    /// How urgent it is, from -9 to 9.
    #[serde(default)]
    pub priority: i8,
    /// Until when it is held back; only while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<String>,
    /// Whether it goes over TLS only.
    #[serde(default)]
    pub require_tls: bool,
    /// Whether it goes on although the TLS that a site promises is not to be had.
    #[serde(default)]
    pub tls_optional: bool,
    /// By when it is to be delivered, and what happens then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver_by: Option<String>,
    /// Its recipients.
    pub recipients: Vec<RecipientView>,
}

/// What was done with recipients of messages in the queue, or would have been.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct QueueAlteredView {
    /// Messages concerned.
    pub messages: u64,
    /// Recipients of those that were changed.
    pub recipients: u64,
    /// Whether they were only counted.
    pub dry_run: bool,
}

/// What a message waits for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QueueWhyView {
    /// Its id.
    pub id: String,
    /// The node that sends it; absent where one has the queue to itself, or none holds its lease now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its recipients, retired ones included.
    pub recipients: Vec<RecipientWhyView>,
}

/// What a recipient of a message waits for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct RecipientWhyView {
    /// The address.
    pub address: String,
    /// Where its mail goes: a domain, or `relay NAME`.
    pub destination: String,
    /// `pending`, `held`, `delivered` or `failed`.
    pub state: String,
    /// What is known, the most important first.
    pub because: Vec<String>,
}

/// A destination of queued mail.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DestinationView {
    /// A domain, `relay NAME`, or `held back`.
    pub destination: String,
    /// Messages that have not been tried.
    pub pending: u64,
    /// Messages that wait for a later time.
    pub deferred: u64,
    /// When the oldest of them was accepted.
    pub oldest: String,
    /// When the next is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_due: Option<String>,
    /// What the node that answers is doing about it; empty: nothing.
    #[serde(default)]
    pub state: String,
}

/// A standing rule of the queue.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct QueueRuleView {
    /// Its name.
    pub name: String,
    /// Whom it is about.
    pub matching: String,
    /// What is done.
    pub action: String,
    /// Since when it stands.
    pub created: String,
}
