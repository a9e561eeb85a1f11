//! Placeholder until the driver stands.
use crate::config;
use crate::net::{self, Service, Transport};
use crate::services::SharedServices;
use crate::shutdown::Shutdown;
use std::sync::Arc;
/// Sessions of one IMAP listener.
pub struct ImapService {}
impl ImapService {
    /// A service for a listener.
    pub fn new(_services: SharedServices, _listener: &config::Listener) -> Self {
        Self {}
    }
}
impl Service for ImapService {
    fn refusal(&self, _: net::Refusal) -> &'static [u8] {
        b"* BYE Too many connections\r\n"
    }
    async fn serve(self: Arc<Self>, _transport: Box<Transport>, _shutdown: Shutdown) {}
}
