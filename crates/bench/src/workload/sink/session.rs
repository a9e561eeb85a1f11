//! One connection to the sink.

use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::Shared;
use super::faults::{Point, SinkFault, Strike};
use crate::corpus::Rng;
use crate::error::BenchError;
use crate::run::Done;
use crate::wire::Wire;

const GREETING: &[u8] = b"220 sink.example.org ESMTP\r\n";
const TAKEN: &[u8] = b"250 2.0.0 Ok\r\n";

/// Whether a session goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    On,
    /// It is to be closed once the peer has read what was written.
    Part,
    /// It is to be closed at once.
    Cut,
}

/// One connection.
pub(super) struct Session {
    wire: Wire,
    shared: Arc<Shared>,
    rng: Rng,
    /// What goes wrong next.
    strike: Option<Strike>,
    /// Whether the TLS handshake is to fail.
    tls_fails: bool,
    lmtp: bool,
    /// Whether MAIL was granted.
    begun: bool,
    recipients: Vec<Box<str>>,
    /// When the message under way began, and its bytes so far.
    message: Option<(Instant, u64)>,
    replies: Vec<u8>,
}

impl Session {
    pub(super) fn new(stream: TcpStream, shared: Arc<Shared>, seed: u64) -> Self {
        // Without it replies may only come later.
        let _ = stream.set_nodelay(true);
        Self {
            wire: Wire::plain(stream),
            shared,
            rng: Rng::new(seed),
            strike: None,
            tls_fails: false,
            lmtp: false,
            begun: false,
            recipients: Vec::new(),
            message: None,
            replies: Vec::new(),
        }
    }

    pub(super) async fn serve(mut self) {
        match self.converse().await {
            Ok(Next::On | Next::Part) => self.wire.part().await,
            Ok(Next::Cut) | Err(BenchError::Closed) => {}
            // A sender that is killed, or that was cut off, resets the connection.
            Err(BenchError::Io(_)) if self.shared.faulty() => {}
            Err(error) => self.shared.run.failed(&error),
        }
    }

    /// Answers commands; answers to pipelined commands leave in one write.
    async fn converse(&mut self) -> Result<Next, BenchError> {
        let drawn = self.shared.odds.draw(&mut self.rng);
        self.tls_fails = drawn == Some(SinkFault::Tls);
        self.strike = drawn.and_then(Strike::at_greeting);
        let mut next = self.answer(Point::Greeting, GREETING).await?;
        while next == Next::On {
            if !self.wire.has_line() {
                self.flush().await?;
            }
            let line = self.wire.line().await?.to_vec();
            let verb = line.get(..4).unwrap_or(&line).to_ascii_uppercase();
            next = match verb.as_slice() {
                b"MAIL" => self.mail().await?,
                b"RCPT" => self.rcpt(&line).await?,
                b"DATA" if !self.recipients.is_empty() => self.data().await?,
                b"BDAT" => self.chunk(&line).await?,
                b"STAR" => self.starttls().await?,
                b"QUIT" => {
                    self.replies.extend_from_slice(b"221 2.0.0 Bye\r\n");
                    self.flush().await?;
                    Next::Part
                }
                verb => self.simple(verb),
            };
        }
        Ok(next)
    }

    async fn flush(&mut self) -> Result<(), BenchError> {
        let sent = self.wire.send(&self.replies).await;
        self.replies.clear();
        sent
    }

    fn simple(&mut self, verb: &[u8]) -> Next {
        let reply: &[u8] = match verb {
            b"EHLO" | b"LHLO" => {
                self.lmtp = verb == b"LHLO";
                self.reset();
                let offer = self.shared.offer(self.wire.is_encrypted());
                self.replies.extend_from_slice(&offer);
                return Next::On;
            }
            b"RSET" => {
                self.reset();
                b"250 2.0.0 Ok\r\n"
            }
            b"HELO" | b"NOOP" => b"250 2.0.0 Ok\r\n",
            b"DATA" => b"503 5.5.1 No recipient\r\n",
            _ => b"502 5.5.1 Not here\r\n",
        };
        self.replies.extend_from_slice(reply);
        Next::On
    }

    fn reset(&mut self) {
        self.begun = false;
        self.recipients.clear();
        self.message = None;
    }

    async fn mail(&mut self) -> Result<Next, BenchError> {
        self.reset();
        let drawn = self.shared.odds.draw(&mut self.rng);
        self.strike = drawn.and_then(|fault| Strike::in_transaction(fault, &mut self.rng));
        self.begun = !self.refuses(Point::Mail);
        self.answer(Point::Mail, b"250 2.1.0 Ok\r\n").await
    }

    async fn rcpt(&mut self, line: &[u8]) -> Result<Next, BenchError> {
        if !self.begun {
            self.replies.extend_from_slice(b"503 5.5.1 MAIL first\r\n");
            return Ok(Next::On);
        }
        if self.rng.below(100) < self.shared.defer_percent {
            self.replies.extend_from_slice(b"451 4.3.0 Later\r\n");
            return Ok(Next::On);
        }
        if !self.refuses(Point::Rcpt) {
            self.recipients.push(forward_path(line));
        }
        self.answer(Point::Rcpt, b"250 2.1.5 Ok\r\n").await
    }

    /// Whether the next reply there is to be a refusal.
    fn refuses(&self, at: Point) -> bool {
        self.strike.is_some_and(|strike| {
            strike.at == at && matches!(strike.fault, SinkFault::Temporary | SinkFault::Permanent)
        })
    }

    async fn data(&mut self) -> Result<Next, BenchError> {
        let began = Instant::now();
        let cut = self.cuts();
        if !cut {
            let next = self.answer(Point::Data, b"354 Go on\r\n").await?;
            if next != Next::On {
                return Ok(next);
            }
            self.flush().await?;
            let bytes = self.wire.skip_text().await?;
            return self.end(began, bytes).await;
        }
        self.replies.extend_from_slice(b"354 Go on\r\n");
        self.flush().await?;
        self.wire.skip(1).await?;
        Ok(Next::Cut)
    }

    /// A piece of a message (RFC 3030): `BDAT SIZE [LAST]`.
    async fn chunk(&mut self, line: &[u8]) -> Result<Next, BenchError> {
        let text = String::from_utf8_lossy(line);
        let mut words = text.split_ascii_whitespace().skip(1);
        let size: u64 = words
            .next()
            .and_then(|size| size.parse().ok())
            .ok_or_else(|| BenchError::unexpected(line))?;
        let last = words.next().is_some();
        if self.cuts() {
            self.flush().await?;
            self.wire.skip(size / 2).await?;
            return Ok(Next::Cut);
        }
        self.wire.skip(size).await?;
        if self.recipients.is_empty() {
            self.replies
                .extend_from_slice(b"503 5.5.1 No recipient\r\n");
            return Ok(Next::On);
        }
        let (began, before) = self.message.unwrap_or_else(|| (Instant::now(), 0));
        let bytes = before + size;
        if last {
            return self.end(began, bytes).await;
        }
        self.message = Some((began, bytes));
        self.answer(Point::Data, TAKEN).await
    }

    /// Whether the message that begins is to be cut off; counts it.
    fn cuts(&mut self) -> bool {
        let cut = Strike {
            fault: SinkFault::Cut,
            at: Point::Data,
        };
        let cuts = self.strike == Some(cut);
        if cuts {
            self.strike = None;
            self.shared.struck(SinkFault::Cut);
        }
        cuts
    }

    /// The message is whole: keeps it, unless a fault says otherwise, and answers.
    async fn end(&mut self, began: Instant, bytes: u64) -> Result<Next, BenchError> {
        let recipients = std::mem::take(&mut self.recipients);
        self.message = None;
        // What was to strike a reply to DATA, which BDAT has not, strikes here.
        let at_end = |strike: &Strike| matches!(strike.at, Point::Data | Point::End);
        let fault = self.strike.take().filter(at_end).map(|strike| strike.fault);
        if let Some(fault) = fault {
            self.shared.struck(fault);
        }
        let refused = match fault {
            Some(SinkFault::Temporary | SinkFault::Permanent | SinkFault::Closing) => true,
            Some(SinkFault::Stall) => self.rng.below(2) == 0,
            _ => false,
        };
        let places = match (&self.shared.ledger, refused) {
            (Some(ledger), false) => ledger.keep(&recipients),
            _ => 0..0,
        };
        let answers = if self.lmtp { recipients.len() } else { 1 };
        let reply = TAKEN.repeat(answers);
        let next = match fault {
            None => {
                self.replies.extend_from_slice(&reply);
                Next::On
            }
            Some(fault) => self.misbehave(fault, &reply).await?,
        };
        if next != Next::Cut {
            self.flush().await?;
        }
        self.wire.dawdle(None);
        if next != Next::Cut && !refused {
            if let Some(ledger) = &self.shared.ledger {
                ledger.answered(places);
            }
            self.shared.took(
                recipients.len(),
                Done {
                    began,
                    messages: 1,
                    bytes,
                },
            );
        }
        Ok(next)
    }

    /// Adds a reply, or does what is to go wrong there.
    async fn answer(&mut self, at: Point, reply: &[u8]) -> Result<Next, BenchError> {
        match self.strike {
            Some(strike) if strike.at == at => {
                self.strike = None;
                self.shared.struck(strike.fault);
                let next = self.misbehave(strike.fault, reply).await?;
                if strike.fault == SinkFault::Drip {
                    self.flush().await?;
                    self.wire.dawdle(None);
                }
                Ok(next)
            }
            _ => {
                self.replies.extend_from_slice(reply);
                Ok(Next::On)
            }
        }
    }

    /// Does something else than answering with `reply`, or does it in its own way.
    async fn misbehave(&mut self, fault: SinkFault, reply: &[u8]) -> Result<Next, BenchError> {
        match fault {
            SinkFault::Temporary => self.replies.extend_from_slice(b"451 4.3.0 Later\r\n"),
            SinkFault::Permanent => self.replies.extend_from_slice(b"550 5.1.1 Nobody\r\n"),
            SinkFault::Closing => {
                self.replies.extend_from_slice(b"421 4.3.2 Closing\r\n");
                self.flush().await?;
                return Ok(Next::Part);
            }
            SinkFault::Half => {
                let half = reply.get(..reply.len() / 2).unwrap_or_default();
                self.replies.extend_from_slice(half);
                self.flush().await?;
                return Ok(Next::Cut);
            }
            SinkFault::Stall => {
                self.flush().await?;
                sleep(self.shared.stall).await;
                return Ok(Next::Cut);
            }
            SinkFault::Drip => {
                self.flush().await?;
                self.wire.dawdle(Some(self.shared.drip));
                self.replies.extend_from_slice(reply);
            }
            SinkFault::Bye => {
                self.replies.extend_from_slice(reply);
                return Ok(Next::Part);
            }
            SinkFault::Drop | SinkFault::Tls | SinkFault::Cut | SinkFault::Unheard => {
                return Ok(Next::Cut);
            }
        }
        Ok(Next::On)
    }

    async fn starttls(&mut self) -> Result<Next, BenchError> {
        let shared = Arc::clone(&self.shared);
        let Some(acceptor) = &shared.acceptor else {
            self.replies.extend_from_slice(b"502 5.5.1 Not here\r\n");
            return Ok(Next::On);
        };
        self.replies.extend_from_slice(b"220 2.0.0 Go on\r\n");
        self.flush().await?;
        if self.tls_fails {
            self.shared.struck(SinkFault::Tls);
            self.wire.skip(1).await?;
            // No handshake record begins like this.
            self.wire.send(b"not what was agreed on\r\n").await?;
            return Ok(Next::Part);
        }
        self.wire.accept_tls(acceptor).await?;
        self.reset();
        Ok(Next::On)
    }
}

/// What stands between the angle brackets of a RCPT command.
fn forward_path(line: &[u8]) -> Box<str> {
    let text = String::from_utf8_lossy(line);
    let path = text
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'));
    path.map_or("", |(path, _)| path).into()
}
