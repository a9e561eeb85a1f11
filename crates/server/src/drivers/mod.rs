//! Drivers join a protocol machine to its connection and to the layers below.
//!
//! Owns the loop that all of them share: carry out what the machine wants, write it, wait. While it waits, a
//! connection holds its socket, its machine and the few hundred octets of this loop: carrying out is boxed, so
//! that the futures of the layers below take no room in an idle task.

pub mod imap;
pub(crate) mod incoming;
pub mod pop3;
pub mod smtp;

use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

use crate::net::{Ready, Received, Transport};
use crate::shutdown::Shutdown;

/// What wakes a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wake<'a> {
    /// Octets came: at most 64 KiB at once.
    Bytes(&'a [u8]),
    /// The machine's deadline passed.
    Timeout,
    /// The peer will send no more.
    PeerClosed,
    /// The server is stopping; told once.
    Shutdown,
    /// [`Session::event`] came.
    Event,
}

/// What a session does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// Wait for what comes.
    Continue,
    /// End the connection, after what is queued has been written.
    Close,
    /// Leave the connection, after what is queued has been written, to somebody else.
    HandOver,
}

/// A protocol machine with what it needs to be answered.
pub trait Session: Send {
    /// Carries out every output of the machine, answers what it asks, and returns once it can do nothing without
    /// more input. May flush when [`Transport::is_full`]; what is still queued afterwards is flushed by the loop.
    fn advance(
        &mut self,
        transport: &mut Transport,
    ) -> impl Future<Output = io::Result<Flow>> + Send;

    /// Hands the machine what came. Does no work beyond that.
    fn wake(&mut self, now: Instant, wake: Wake<'_>);

    /// When the machine wants [`Wake::Timeout`].
    fn deadline(&self) -> Option<Instant>;

    /// Until when nothing is read and nothing more is sent, where the peer is made to wait.
    fn pause(&self) -> Option<Instant> {
        None
    }

    /// Something besides the connection that the session waits for, such as a change in a mailbox. It is dropped
    /// and made anew with every wake, so it must not lose what it has seen.
    fn event(&mut self) -> impl Future<Output = ()> + Send {
        pending()
    }
}

/// Serves one connection until the session closes it, the connection fails or the task is dropped. A session that
/// leaves its connection to somebody else has it closed.
pub async fn run<S: Session>(
    session: &mut S,
    transport: Box<Transport>,
    shutdown: Shutdown,
) -> io::Result<()> {
    match serve(session, transport, shutdown).await? {
        None => Ok(()),
        Some(mut transport) => Box::pin(transport.shutdown()).await,
    }
}

/// Serves one connection as [`run`] does. Returns it where the session leaves it to somebody else.
pub async fn serve<S: Session>(
    session: &mut S,
    mut transport: Box<Transport>,
    mut shutdown: Shutdown,
) -> io::Result<Option<Box<Transport>>> {
    let mut told = false;
    loop {
        match Box::pin(session.advance(&mut transport)).await? {
            Flow::Continue => transport.flush().await?,
            Flow::Close => {
                Box::pin(transport.shutdown()).await?;
                return Ok(None);
            }
            Flow::HandOver => {
                transport.flush().await?;
                return Ok(Some(transport));
            }
        }
        // A peer that sends without pause must not keep the other sessions of this thread from running.
        tokio::task::coop::consume_budget().await;
        if let Some(until) = session.pause() {
            sit_out(until, &mut shutdown).await;
            continue;
        }
        if !told && shutdown.is_draining() {
            told = true;
            session.wake(Instant::now(), Wake::Shutdown);
            continue;
        }
        wait(session, &mut transport, &mut shutdown, told).await?;
    }
}

/// Lets a peer wait; a server that is stopping does not wait along.
async fn sit_out(until: Instant, shutdown: &mut Shutdown) {
    tokio::select! {
        () = tokio::time::sleep_until(until.into()) => {}
        () = shutdown.draining() => {}
    }
}

/// Waits until the session has been woken, except by [`Wake::Shutdown`], which the caller sees to.
async fn wait<S: Session>(
    session: &mut S,
    transport: &mut Transport,
    shutdown: &mut Shutdown,
    told: bool,
) -> io::Result<()> {
    loop {
        match transport.try_recv(|octets| session.wake(Instant::now(), Wake::Bytes(octets)))? {
            Received::Bytes(_) => return Ok(()),
            Received::Eof => {
                session.wake(Instant::now(), Wake::PeerClosed);
                return Ok(());
            }
            Received::Nothing => {}
        }
        let deadline = session.deadline();
        let mut stopping = pin!(async {
            match told {
                true => pending().await,
                false => shutdown.draining().await,
            }
        });
        let woken = {
            let mut event = pin!(session.event());
            let either = poll_fn(|context| {
                if stopping.as_mut().poll(context).is_ready() {
                    return Poll::Ready(None);
                }
                event.as_mut().poll(context).map(|()| Some(Wake::Event))
            });
            transport.ready_or(deadline, either).await?
        };
        let wake = match woken {
            Ready::Input => continue,
            Ready::Event(None) => return Ok(()),
            Ready::Event(Some(wake)) => wake,
            Ready::Timeout => Wake::Timeout,
        };
        session.wake(Instant::now(), wake);
        return Ok(());
    }
}
