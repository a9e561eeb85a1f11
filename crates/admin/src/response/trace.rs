//! What is shown of the life of messages.

use serde::{Deserialize, Serialize};

/// Something that happened to a message, or to one of its recipients.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EventView {
    /// When.
    pub at: String,
    /// What, in one word: `accepted`, `refused`, `queued`, `delivered`, `sent`, `deferred`, `failed`, `expanded`, `held`,
    /// `released`, `rerouted`, `dropped` or `reported`.
    pub event: String,
    /// The message in the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_id: Option<String>,
    /// The reverse-path; empty: `<>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// The recipient, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<String>,
    /// The client that the message came from, or the host that it was handed to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The enhanced status code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// The reply, the reason, or what else is to be said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// The life of one message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TracedView {
    /// Its Message-ID, or what stands in for it; absent where no event says it.
    pub message_id: Option<String>,
    /// What happened, the oldest first.
    pub events: Vec<EventView>,
}
