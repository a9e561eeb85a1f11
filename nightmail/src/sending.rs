//! The channel that sends mail, as operators ask it.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use nightmail_admin::{AdminError, Sending, Whom};
use nightmail_core::QueueId;
use nightmail_delivery::DeliveryError;
use nightmail_queue::{Destination, QueueError};
use nightmail_server::services::DeliverySlot;

/// The channel of this process, once it runs.
pub(crate) struct Channel(pub(crate) DeliverySlot);

impl Sending for Channel {
    fn is_running(&self) -> bool {
        self.0.get().is_some()
    }

    fn explain(&self, id: QueueId) -> BoxFuture<'_, Result<Vec<(usize, String)>, AdminError>> {
        async move {
            match self.0.get() {
                Some(delivery) => Ok(delivery.explain(id).await.map_err(failed)?),
                None => Ok(Vec::new()),
            }
        }
        .boxed()
    }

    fn destinations(&self) -> Vec<(Destination, String)> {
        let delivery = self.0.get();
        delivery.map_or_else(Vec::new, |delivery| delivery.destinations())
    }

    fn run_now(&self, destination: &Destination) {
        if let Some(delivery) = self.0.get() {
            delivery.run_now(destination);
        }
    }

    fn bounce(
        &self,
        id: QueueId,
        reason: String,
        whom: Whom,
    ) -> BoxFuture<'_, Result<u64, AdminError>> {
        async move {
            let Some(delivery) = self.0.get() else {
                return Ok(0);
            };
            // Of a message that has gone meanwhile nobody is left to be given up.
            match Box::pin(delivery.bounce(id, &reason, whom)).await {
                Err(DeliveryError::Queue(QueueError::NoSuchMessage)) => Ok(0),
                given_up => given_up.map_err(failed),
            }
        }
        .boxed()
    }
}

fn failed(error: impl ToString) -> AdminError {
    AdminError::failed(error.to_string())
}
