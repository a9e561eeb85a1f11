//! Signing automatic replies: they leave in the name of an account, as what it submits does.

use std::sync::{Arc, Weak};

use nightmail_core::Address;
use nightmail_engine::BoxFuture;
use nightmail_switch::SignReply;

use crate::services::{Services, SharedServices};

/// Signs with the keys of the gate. The services hold the switch that holds this, so this does not hold them.
struct Signer(Weak<Services>);

/// Lets the replies of the switch be signed.
pub(crate) fn sign_replies(services: &SharedServices) {
    let signer = Signer(Arc::downgrade(services));
    services.switch.sign_replies(Arc::new(signer));
}

impl SignReply for Signer {
    fn sign<'a>(&'a self, author: &'a Address, message: &'a [u8]) -> BoxFuture<'a, Vec<u8>> {
        Box::pin(async move {
            let Some(services) = self.0.upgrade() else {
                return Vec::new();
            };
            services.gate.sign(author, message).await
        })
    }
}
