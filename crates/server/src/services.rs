//! What the drivers of all protocols share: the layers below, logins, limits.

use std::io;
use std::sync::{Arc, OnceLock};

use nightmail_cluster::Cluster;
use nightmail_core::Domain;
use nightmail_delivery::Delivery;
use nightmail_directory::Directory;
use nightmail_journal::Journal;
use nightmail_queue::Queue;
use nightmail_store::Store;
use nightmail_switch::Switch;

use crate::auth::Logins;
use crate::config::{Config, Protocol};
use crate::drivers::pop3::MaildropLocks;
use crate::gate::Gate;
use crate::net::Transport;
use crate::tls::TlsContext;

/// What sends mail, once it runs on this node. Set once.
pub type DeliverySlot = Arc<OnceLock<Arc<Delivery>>>;

/// The layers below, as the drivers use them.
pub struct Services {
    /// Mailboxes.
    pub store: Store,
    /// Who is who.
    pub directory: Directory,
    /// Where messages go.
    pub switch: Switch,
    /// Mail for elsewhere.
    pub queue: Arc<Queue>,
    /// What sends mail, once it runs on this node.
    pub delivery: DeliverySlot,
    /// What became of messages.
    pub journal: Journal,
    /// Which mail is let in.
    pub gate: Gate,
    /// Who may log in, and how.
    pub logins: Logins,
    /// The server's certificate.
    pub tls: TlsContext,
    /// This server among the nodes.
    pub cluster: Arc<Cluster>,
    /// Maildrops that POP3 sessions hold.
    pub maildrops: MaildropLocks,
    /// The configuration in force.
    pub config: Config,
}

impl Services {
    /// The server's name.
    pub const fn hostname(&self) -> &Domain {
        &self.config.server.hostname
    }

    /// Answers the TLS handshake that a client of a listener of `protocol` begins, after what waits has been sent.
    pub async fn start_tls(&self, transport: &mut Transport, protocol: Protocol) -> io::Result<()> {
        let timeout = self.config.timeouts.tls_handshake;
        let config = self.tls.config_for(protocol);
        transport.start_tls(config, timeout).await
    }
}

/// Services are shared by every connection.
pub type SharedServices = Arc<Services>;
