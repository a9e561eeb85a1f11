//! Making a connection to a site: its hosts in turn, from the right address, under the right protection, and without
//! getting in the way of others.
//!
//! Hosts that nothing is known of wait for their turn to be connected to; one that has not answered for a while gives
//! its turn away and goes on beside. So hosts that never answer hold up only each other, and hosts that have answered
//! before need no turn.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nightmail_core::Domain;
use nightmail_smtp::client::{Config, Login, Protocol, TlsPolicy};
use nightmail_smtp::command::HelloName;
use nightmail_smtp::sasl::Password;
use nightmail_tlspolicy::ResultType;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::attempt::{Undecided, Wanted};
use crate::channel::Channel;
use crate::connection::{Connection, Unopened};
use crate::options::SmarthostTls;
use crate::route::{Candidate, Target};
use crate::secure::Secured;
use crate::site::Site;
use crate::tls::{Protection, Tls};
use crate::trouble::Trouble;
use crate::wire::Wire;
use crate::work::Worker;

/// The addresses of a site that have not been tried.
pub(crate) type Hosts = std::vec::IntoIter<Candidate>;

/// The rights to connections.
pub(crate) struct Gates {
    /// To one that mail may be sent over.
    pub connections: Arc<Semaphore>,
    /// To make one to a site that nothing is known of.
    connecting: Semaphore,
    /// To go on making one that is slow.
    slow: Semaphore,
    connections_max: usize,
}

impl Gates {
    pub fn new(limits: &crate::options::DeliveryLimits) -> Self {
        let gate = |max: usize| Semaphore::new(max.clamp(1, Semaphore::MAX_PERMITS));
        Self {
            connections: Arc::new(gate(limits.connections_max)),
            connecting: gate(limits.connecting_max),
            slow: gate(limits.slow_max),
            connections_max: limits.connections_max.max(1),
        }
    }

    /// The part of a time that connections without mail may take of it: the fewer others there may be, the less.
    pub fn share_of(&self, time: Duration) -> Duration {
        let free = self
            .connections
            .available_permits()
            .min(self.connections_max);
        let share = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        time.saturating_mul(share(free)) / share(self.connections_max).max(1)
    }
}

impl Worker {
    /// A connection to the first of the hosts that takes mail. `hosts` are looked up when nobody has; `undecided` takes
    /// note of what is wrong with those that do not.
    pub(crate) async fn connect(
        &mut self,
        hosts: &mut Option<Hosts>,
        domain: Option<&Domain>,
        wanted: Wanted,
        undecided: &mut Undecided,
    ) -> Option<Connection> {
        if hosts.is_none() {
            match self.channel.candidates(&self.site.route).await {
                Ok(candidates) => *hosts = Some(candidates.into_iter()),
                Err(why) => {
                    undecided.note(why.into(), "");
                    return None;
                }
            }
        }
        for candidate in hosts.as_mut()? {
            let host = candidate.host.clone();
            let secured = self
                .channel
                .secure(&self.site, candidate, domain, wanted)
                .await;
            let opened = match secured {
                Ok(secured) => self.open_secured(secured).await,
                Err(trouble) => Err(Unopened::of(trouble)),
            };
            match opened {
                Ok(mut connection) => {
                    // One that only some mail may use says nothing of those for all mail.
                    if !connection.target().relaxed {
                        connection.link(&self.site);
                        // A site that has answered may have more connections.
                        self.ask_for_help();
                    }
                    return Some(connection);
                }
                Err(unopened) => {
                    let trouble = match wanted == Wanted::Proof && unopened.lacks_tls {
                        true => unopened.trouble.for_tls_only(),
                        false => unopened.trouble,
                    };
                    self.note_unopened(undecided, trouble, &host, domain);
                }
            }
        }
        None
    }

    fn note_unopened(
        &self,
        undecided: &mut Undecided,
        mut trouble: Trouble,
        host: &str,
        domain: Option<&Domain>,
    ) {
        tracing::info!(
            site = %self.site.name,
            host,
            status = %trouble.status,
            reply = trouble.reply.as_deref().unwrap_or_default(),
            "no connection: {}",
            trouble.text
        );
        self.channel
            .apply_rules_to_trouble(&self.site, domain, host, &mut trouble);
        undecided.note(trouble, host);
    }

    /// The other addresses of the site.
    pub(crate) async fn hosts_but(&self, address: SocketAddr) -> Option<Hosts> {
        let mut candidates = self.channel.candidates(&self.site.route).await.ok()?;
        candidates.retain(|candidate| candidate.address != address);
        Some(candidates.into_iter())
    }

    /// Once more with less where TLS was only a bonus and the handshake failed.
    async fn open_secured(&self, secured: Secured) -> Result<Connection, Unopened> {
        let Secured {
            mut target,
            mut watched,
        } = secured;
        loop {
            let opened = self.channel.reach(&self.site, target.clone()).await;
            let unopened = match opened {
                Ok(connection) => {
                    watched.peering = connection.peering();
                    match connection.tls() {
                        Some(_) => self.channel.note_tls(&mut watched, Ok(())),
                        None if target.protection.guard().is_some() => {
                            let text = "STARTTLS is not offered".to_owned();
                            let kind = ResultType::StarttlsNotSupported;
                            self.channel.note_tls(&mut watched, Err((kind, text)));
                        }
                        None => {}
                    }
                    return Ok(connection);
                }
                Err(unopened) => unopened,
            };
            if let Some(kind) = unopened.tls_result {
                let text = unopened.trouble.text.clone();
                watched.peering = unopened.peering.clone();
                self.channel.note_tls(&mut watched, Err((kind, text)));
            }
            target.protection = match target.protection {
                Protection::Opportunistic(guard) if unopened.tls_failed && guard.verified => {
                    Protection::Opportunistic(self.channel.tls.unverified(None))
                }
                Protection::Opportunistic(_) if unopened.tls_failed => Protection::None,
                _ => return Err(watched.explain(unopened)),
            };
        }
    }
}

impl Channel {
    /// Connects to `target` and talks until the host is ready for mail, within the bounds.
    async fn reach(self: &Arc<Self>, site: &Site, target: Target) -> Result<Connection, Unopened> {
        if site.is_proven() {
            let permit = self.permit().await?;
            return self.open(site, target, permit).await;
        }
        let Ok(turn) = self.gates.connecting.acquire().await else {
            return Err(Unopened::of(stopping()));
        };
        let wire = async {
            let mut opening = Box::pin(self.open_without(site, target));
            let time = self.options.limits.connecting_slow;
            if let Ok(opened) = tokio::time::timeout(time, &mut opening).await {
                return opened;
            }
            drop(turn);
            match self.gates.slow.try_acquire() {
                Ok(_slow) => opening.await,
                Err(_) => Err(Unopened::of(Trouble::temporary(
                    "4.4.1",
                    "no answer yet, and too many other hosts do not answer either",
                ))),
            }
        };
        let mut connection = wire.await?;
        connection.hold(self.permit().await?);
        Ok(connection)
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Unopened> {
        let permit = Arc::clone(&self.gates.connections).acquire_owned().await;
        permit.map_err(|_| Unopened::of(stopping()))
    }

    async fn open(
        self: &Arc<Self>,
        site: &Site,
        target: Target,
        permit: OwnedSemaphorePermit,
    ) -> Result<Connection, Unopened> {
        let mut connection = Box::pin(self.open_without(site, target)).await?;
        connection.hold(permit);
        Ok(connection)
    }

    async fn open_without(
        self: &Arc<Self>,
        site: &Site,
        target: Target,
    ) -> Result<Connection, Unopened> {
        let config = self.session_config(site, &target);
        let stream = self
            .connect(site, target.address)
            .await
            .map_err(Unopened::of)?;
        if !matches!(target.protection, Protection::Implicit(_)) {
            let wire = Wire::Plain(stream);
            return Connection::open(Arc::clone(self), target, config, wire, None).await;
        }
        let limit = self.options.limits.tls_timeout;
        let trouble = match tokio::time::timeout(limit, Tls::connect(&target, stream)).await {
            Ok(Ok((stream, facts))) => {
                let wire = Wire::Tls(stream);
                return Connection::open(Arc::clone(self), target, config, wire, Some(facts)).await;
            }
            Ok(Err(error)) => {
                Trouble::temporary("4.7.5", format!("TLS with {}: {error}", target.host))
            }
            Err(_) => Trouble::temporary("4.4.2", format!("TLS with {}: timed out", target.host)),
        };
        Err(Unopened {
            lacks_tls: true,
            tls_result: Some(ResultType::ValidationFailure),
            ..Unopened::of(trouble)
        })
    }

    async fn connect(&self, site: &Site, address: SocketAddr) -> Result<TcpStream, Trouble> {
        let failed = |why: &dyn std::fmt::Display| {
            Trouble::temporary("4.4.1", format!("connect to {address}: {why}"))
        };
        let connecting = async {
            match source_for(&site.settings.source_addresses, address.ip())? {
                None => TcpStream::connect(address).await,
                Some(source) => {
                    let socket = match source {
                        IpAddr::V4(_) => TcpSocket::new_v4()?,
                        IpAddr::V6(_) => TcpSocket::new_v6()?,
                    };
                    socket.bind(SocketAddr::new(source, 0))?;
                    socket.connect(address).await
                }
            }
        };
        let limit = self.options.limits.connect_timeout;
        match tokio::time::timeout(limit, connecting).await {
            Ok(Ok(stream)) => {
                // Pieces are sent whole; waiting for more only costs time. A socket that cannot do it works all the
                // same.
                let _ = stream.set_nodelay(true);
                Ok(stream)
            }
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(failed(&"timed out")),
        }
    }

    fn session_config(&self, site: &Site, target: &Target) -> Arc<Config> {
        let own = site.settings.helo.as_deref();
        let hello = own.and_then(|name| HelloName::parse(name.as_bytes()).ok());
        let mut config = Config::new(Protocol::Smtp, hello.unwrap_or_else(|| self.hello.clone()));
        config.timeouts = self.options.timeouts.clone();
        config.tls = match target.protection {
            Protection::None | Protection::Implicit(_) => TlsPolicy::Never,
            Protection::Opportunistic(_) => TlsPolicy::Opportunistic,
            Protection::Required(_) => TlsPolicy::Required,
        };
        let relay = site.route.relay();
        let relay = relay.and_then(|name| self.options.relays.get(name));
        config.login = relay.and_then(|relay| {
            let login = relay.login.as_ref()?;
            Some(Login {
                identity: login.user.clone(),
                password: Password::new(login.password.as_str()),
                // Whoever configures a login without any TLS means it: a relay on the same machine.
                without_tls: relay.tls == SmarthostTls::None,
            })
        });
        Arc::new(config)
    }
}

fn stopping() -> Trouble {
    Trouble::temporary("4.3.2", "the channel stops")
}

/// The address to connect from; an error when there are some, and none of the right family.
fn source_for(sources: &[IpAddr], to: IpAddr) -> std::io::Result<Option<IpAddr>> {
    let fitting = sources.iter().find(|ip| ip.is_ipv4() == to.is_ipv4());
    match fitting {
        None if !sources.is_empty() => Err(std::io::Error::other(
            "no source address of that family is configured",
        )),
        found => Ok(found.copied()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_address_is_of_the_family_that_it_connects_to() {
        let four: IpAddr = "192.0.2.1".parse().unwrap();
        let six: IpAddr = "2001:db8::1".parse().unwrap();
        assert_eq!(source_for(&[], four).unwrap(), None);
        assert_eq!(source_for(&[six, four], four).unwrap(), Some(four));
        assert_eq!(source_for(&[four, six], six).unwrap(), Some(six));
        assert!(source_for(&[four], six).is_err());
    }
}
