//! Messages by core NATS: nothing is stored, and nothing waits for anybody.
//!
//! The client library reconnects by itself and asks for the subject again. Sending means handing over to it: what is
//! lost with a connection shows in the numbers of the next messages.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerAddr, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::bus::{Bus, BusError, Connectivity, Inlet, Received};
use crate::channel::Channel;

/// How often the server is asked for a sign of life. The library gives up at the third without an answer, so that a
/// silent loss is noticed within 12 s at most, and mostly within 9 s.
const PING_INTERVAL: Duration = Duration::from_secs(3);
/// How long a message may wait for the connection.
const SEND_MAX: Duration = Duration::from_secs(5);
/// How long the server may take to answer on a new connection.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long connecting to one server may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Between two attempts to connect: this at first, doubled up to the other.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Events of the connection that wait to be handled.
const EVENTS_MAX: usize = 128;

/// Who the node is to the server.
#[derive(Clone, Debug, Default)]
pub enum NatsLogin {
    /// Anybody.
    #[default]
    Anonymous,
    /// Who knows the token.
    Token(String),
    /// A user with a password.
    User {
        /// The user's name.
        name: String,
        /// The password.
        password: String,
    },
}

/// How connections to NATS are protected.
#[derive(Clone, Debug, Default)]
pub enum NatsTls {
    /// By TLS where the server asks for it.
    #[default]
    Offered,
    /// By TLS always; the server's certificate must be valid under the authorities of this PEM file, or under those
    /// of the machine where there is none.
    Required(Option<PathBuf>),
}

/// Where NATS is and how it is used.
#[derive(Clone, Debug)]
pub struct NatsOptions {
    servers: Vec<ServerAddr>,
    channel: Channel,
    /// Who the node is to the server.
    pub login: NatsLogin,
    /// How connections are protected.
    pub tls: NatsTls,
}

/// An address that no server can have.
#[derive(Debug, Error)]
pub enum NatsAddressError {
    /// No address at all.
    #[error("a NATS bus needs the address of one server at least")]
    None,
    /// Not `host`, `host:port`, `nats://host:port` or `tls://host:port`.
    #[error("{address:?} is no address of a NATS server: {reason}")]
    Malformed {
        /// The address.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl NatsOptions {
    /// Options for servers of one NATS cluster, each `host`, `host:port`, `nats://host:port` or `tls://host:port`.
    pub fn new(
        servers: impl IntoIterator<Item = impl AsRef<str>>,
        channel: Channel,
    ) -> Result<Self, NatsAddressError> {
        let parse = |address: &str| {
            address
                .parse()
                .map_err(|error: std::io::Error| NatsAddressError::Malformed {
                    address: address.into(),
                    reason: error.to_string(),
                })
        };
        let servers: Vec<ServerAddr> = servers
            .into_iter()
            .map(|address| parse(address.as_ref()))
            .collect::<Result<_, _>>()?;
        if servers.is_empty() {
            return Err(NatsAddressError::None);
        }
        Ok(Self {
            servers,
            channel,
            login: NatsLogin::default(),
            tls: NatsTls::default(),
        })
    }

    fn connecting(&self, events: mpsc::Sender<Event>) -> ConnectOptions {
        let mut options = ConnectOptions::new()
            .name("nightmail")
            .no_echo()
            .retry_on_initial_connect()
            .ping_interval(PING_INTERVAL)
            .connection_timeout(CONNECT_MAX)
            .reconnect_delay_callback(backoff)
            .event_callback(move |event| {
                let events = events.clone();
                async move {
                    let _ = events.send(event).await;
                }
            });
        options = match self.login.clone() {
            NatsLogin::Anonymous => options,
            NatsLogin::Token(token) => options.token(token),
            NatsLogin::User { name, password } => options.user_and_password(name, password),
        };
        match self.tls.clone() {
            NatsTls::Offered => options,
            NatsTls::Required(None) => options.require_tls(true),
            NatsTls::Required(Some(file)) => options.require_tls(true).add_root_certificates(file),
        }
    }
}

/// A bus over NATS. Ends when it is dropped.
pub struct NatsBus {
    inlet: Arc<Inlet>,
    client: Arc<OnceLock<Client>>,
    channel: Channel,
    lane: AbortHandle,
}

impl NatsBus {
    /// Starts on the current tokio runtime and connects when it can, again and again.
    pub fn start(options: NatsOptions) -> Self {
        let inlet = Arc::new(Inlet::new());
        let client = Arc::new(OnceLock::new());
        let channel = options.channel.clone();
        let lane = Lane {
            options,
            inlet: Arc::clone(&inlet),
            client: Arc::clone(&client),
        };
        Self {
            inlet,
            client,
            channel,
            lane: tokio::spawn(Box::pin(lane.run())).abort_handle(),
        }
    }
}

impl Drop for NatsBus {
    fn drop(&mut self) {
        self.lane.abort();
    }
}

impl Bus for NatsBus {
    fn send(&self, message: Bytes) -> BoxFuture<'_, Result<(), BusError>> {
        Box::pin(async move {
            let client = self.client.get().ok_or(BusError::Away)?;
            if !self.connectivity().connected {
                return Err(BusError::Away);
            }
            let subject = self.channel.as_str().to_owned();
            match timeout(SEND_MAX, client.publish(subject, message)).await {
                Ok(sent) => sent.map_err(|error| BusError::Failed(error.to_string())),
                Err(late) => Err(BusError::Failed(late.to_string())),
            }
        })
    }

    fn incoming(&self) -> mpsc::Receiver<Received> {
        self.inlet.open()
    }

    fn connectivity(&self) -> Connectivity {
        self.inlet.connectivity()
    }
}

struct Lane {
    options: NatsOptions,
    inlet: Arc<Inlet>,
    client: Arc<OnceLock<Client>>,
}

impl Lane {
    async fn run(self) {
        let (happened, mut events) = mpsc::channel(EVENTS_MAX);
        let (client, mut messages) = match self.open(happened).await {
            Ok(opened) => opened,
            Err(error) => {
                tracing::error!(%error, "events cannot go over NATS");
                return;
            }
        };
        let client = self.client.get_or_init(|| client);
        loop {
            tokio::select! {
                Some(event) = events.recv() => self.handle(client, event).await,
                Some(message) = messages.next() => {
                    self.inlet.deliver(Received::Message(message.payload));
                }
                else => return,
            }
        }
    }

    /// Prepares the client; the library connects when it can.
    async fn open(&self, events: mpsc::Sender<Event>) -> Result<(Client, Subscriber), BusError> {
        let options = self.options.connecting(events);
        let failed = |error: &dyn std::fmt::Display| BusError::Failed(error.to_string());
        let client = options
            .connect(self.options.servers.clone())
            .await
            .map_err(|error| failed(&error))?;
        let messages = client
            .subscribe(self.options.channel.as_str().to_owned())
            .await
            .map_err(|error| failed(&error))?;
        Ok((client, messages))
    }

    /// Returns when the server has read what the library wrote before, the subscription among it: it says so by
    /// refusing a request that nobody answers. Without that it is the heartbeats that heal what is missed.
    async fn round_trip(&self, client: &Client) {
        let nobody = format!("{}.nobody", self.options.channel.as_str());
        let _ = timeout(ANSWER_MAX, client.request(nobody, Bytes::new())).await;
    }

    async fn handle(&self, client: &Client, event: Event) {
        match event {
            Event::Connected => {
                self.round_trip(client).await;
                tracing::info!("events go over NATS");
                self.inlet.connected();
            }
            Event::Disconnected | Event::Closed => {
                self.inlet.disconnected();
                tracing::warn!("the connection for events is lost");
            }
            other => tracing::warn!(event = %other, "the connection for events reports"),
        }
    }
}

fn backoff(attempt: usize) -> Duration {
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    BACKOFF_FIRST
        .saturating_mul(2_u32.saturating_pow(doublings))
        .min(BACKOFF_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_less_often_up_to_a_bound() {
        assert_eq!(backoff(1), BACKOFF_FIRST);
        assert_eq!(backoff(2), BACKOFF_FIRST * 2);
        assert_eq!(backoff(usize::MAX), BACKOFF_MAX);
    }

    #[test]
    fn addresses_are_read_before_anything_starts() {
        let channel = Channel::parse("test").unwrap();
        let options = |servers: &[&str]| NatsOptions::new(servers, channel.clone());
        assert!(options(&["127.0.0.1:4222", "nats://mx.test"]).is_ok());
        assert!(matches!(options(&[]), Err(NatsAddressError::None)));
        assert!(matches!(
            options(&["nats://[::1"]),
            Err(NatsAddressError::Malformed { .. })
        ));
    }
}
