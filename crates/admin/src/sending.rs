//! What an operator asks of the channel that sends mail, where one runs in this process.

use futures_util::future::BoxFuture;
use nightmail_core::QueueId;
use nightmail_queue::{Destination, QueueMessage, Recipient};

use crate::error::AdminError;

/// Picks recipients of a message.
pub type Whom = Box<dyn Fn(&QueueMessage, &Recipient) -> bool + Send + Sync>;

/// The channel that sends mail.
pub trait Sending: Send + Sync {
    /// Whether it runs. It does not before the server is ready, and on nodes that send nothing.
    fn is_running(&self) -> bool;

    /// What it knows of why recipients of a message wait: their places in the message, and texts.
    fn explain(&self, id: QueueId) -> BoxFuture<'_, Result<Vec<(usize, String)>, AdminError>>;

    /// What it knows of the destinations that it has work for, in words.
    fn destinations(&self) -> Vec<(Destination, String)>;

    /// Tries a destination at once, however it has failed so far.
    fn run_now(&self, destination: &Destination);

    /// Gives up the pending recipients that `whom` picks and tells the sender `reason`. Returns how many they were.
    fn bounce(
        &self,
        id: QueueId,
        reason: String,
        whom: Whom,
    ) -> BoxFuture<'_, Result<u64, AdminError>>;
}
