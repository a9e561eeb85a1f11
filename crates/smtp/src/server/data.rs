//! DATA (RFC 5321 §4.1.1.4), and what DATA and BDAT share: content on its way in, and its end.
//!
//! A message whose refusal is certain is read to its end all the same, its content dropped, so that the
//! reply comes where the client awaits it.
//!
//! **Invariant:** 250 follows only the driver's word that the message is on stable storage.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::{Answer, Ask, EndOfMessage, Limits, Output, Phase, Question, Role, Server};
use crate::body::{BareNewline, BodyReader, Framing};
use crate::command::{BodyType, no_arguments};
use crate::replies;
use crate::reply::Reply;

/// The content of a message on its way in.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) reader: BodyReader,
    /// Octets of content so far.
    pub(super) octets: u64,
    /// Octets read since the refusal.
    pub(super) dropped: u64,
    /// Why the message will be refused.
    pub(super) failure: Option<Reply>,
    /// When the DATA or the chunk under way began.
    pub(super) began: Instant,
    /// Octets read since.
    pub(super) read: u64,
}

impl Incoming {
    /// Begins a DATA or a chunk.
    pub(super) const fn start(&mut self, now: Instant) {
        self.began = now;
        self.read = 0;
    }

    /// How long to wait for more: the whole has its time, and what has come by a moment must have come fast enough.
    pub(super) fn patience(&self, now: Instant, limits: &Limits) -> Duration {
        let earned = match limits.data_rate_min {
            0 => limits.transfer_timeout,
            rate => limits.data_timeout + Duration::from_secs(self.read / u64::from(rate)),
        };
        let until = self.began + earned.min(limits.transfer_timeout);
        limits
            .data_timeout
            .min(until.saturating_duration_since(now))
    }
}

impl Server {
    pub(super) fn data(&mut self, args: &[u8]) {
        if let Err(error) = no_arguments(args) {
            return self.refuse_command(error);
        }
        if self.body_type() == BodyType::BinaryMime {
            return self.refuse(&replies::BINARY_NEEDS_BDAT);
        }
        self.ask(Ask::BeginMessage, Question::BeginData);
    }

    pub(super) fn begin_data_answered(&mut self, answer: Answer) {
        match answer {
            Answer::Accept => {
                self.body_open = true;
                self.reply(&replies::START_DATA);
                self.phase = Phase::Data(Box::new(self.incoming(Framing::Dot)));
            }
            other => self.decline(&Self::refusal(other)),
        }
    }

    /// A message of which nothing has come yet.
    pub(super) fn incoming(&self, framing: Framing) -> Incoming {
        let policy = match (framing, self.body_type(), self.config.bare_newline) {
            (Framing::Chunk, BodyType::BinaryMime, _) => BareNewline::Keep,
            (_, _, BareNewline::Normalize) => BareNewline::Normalize,
            (_, _, BareNewline::Reject | BareNewline::Keep) => BareNewline::Reject,
        };
        Incoming {
            reader: BodyReader::new(framing, policy),
            octets: 0,
            dropped: 0,
            failure: None,
            began: self.now,
            read: 0,
        }
    }

    fn body_type(&self) -> BodyType {
        self.envelope()
            .map_or(BodyType::SevenBit, |open| open.mail.params.body)
    }

    pub(super) fn data_step(&mut self, mut incoming: Box<Incoming>, rest: &[u8]) -> usize {
        self.rearm = true;
        let mut content = BytesMut::with_capacity(rest.len());
        let progress = incoming.reader.read(rest, &mut content);
        incoming.read += progress.consumed as u64;
        self.absorb(&mut incoming, progress.consumed, content);
        if progress.ended {
            self.end_of_message(*incoming);
        } else if incoming.dropped > self.config.limits.discard_octets_max {
            self.close_with(&replies::TOO_MUCH_DATA);
        } else {
            self.phase = Phase::Data(incoming);
        }
        progress.consumed
    }

    /// Passes content on, unless the message is refused or this is where that becomes certain.
    pub(super) fn absorb(&mut self, incoming: &mut Incoming, read: usize, content: BytesMut) {
        if incoming.failure.is_some() {
            incoming.dropped += read as u64;
            return;
        }
        let octets = incoming.octets + content.len() as u64;
        let rejects = self.config.bare_newline != BareNewline::Normalize;
        if incoming.reader.saw_bare_newline() && rejects {
            self.fail(incoming, replies::BARE_NEWLINE);
        } else if octets > self.config.limits.message_octets_max {
            self.fail(incoming, replies::MESSAGE_TOO_BIG);
        } else if !content.is_empty() {
            incoming.octets = octets;
            self.outputs.push_back(Output::Body(content.freeze()));
        }
    }

    /// The message will be refused, whatever still comes.
    pub(super) fn fail(&mut self, incoming: &mut Incoming, reply: Reply) {
        incoming.failure = Some(reply);
        incoming.reader.mute();
        self.discard_body();
    }

    /// All of the content has come.
    pub(super) fn end_of_message(&mut self, incoming: Incoming) {
        let envelope = self.transaction.take().map(|open| open.envelope);
        let envelope = envelope.unwrap_or_default();
        let recipients = envelope.recipients.len();
        match incoming.failure {
            Some(reply) => {
                self.final_replies(recipients, |_| reply.clone());
                self.counters.errors += 1;
            }
            None => {
                let end = EndOfMessage {
                    envelope,
                    octets: incoming.octets,
                    facts: self.facts.clone(),
                };
                self.body_open = false;
                self.ask(
                    Ask::EndOfMessage(Box::new(end)),
                    Question::EndOfMessage { recipients },
                );
            }
        }
    }

    pub(super) fn message_answered(&mut self, recipients: usize, answer: Answer) {
        match answer {
            Answer::Accept => self.accepted(recipients, &replies::OK),
            Answer::Accepted { id } => {
                let reply = replies::OK.with_text(format!("Ok: queued as {id}"));
                self.accepted(recipients, &reply);
            }
            Answer::Reply(reply) if reply.is_success() => self.accepted(recipients, &reply),
            Answer::PerRecipient(given) if self.config.role == Role::Lmtp => {
                self.counters.idle_commands = 0;
                self.final_replies(recipients, |index| {
                    let reply = given.get(index).cloned();
                    reply.unwrap_or(replies::LOCAL_ERROR)
                });
            }
            other => {
                let reply = Self::refusal(other);
                self.final_replies(recipients, |_| reply.clone());
            }
        }
    }

    fn accepted(&mut self, recipients: usize, reply: &Reply) {
        self.counters.idle_commands = 0;
        self.final_replies(recipients, |_| reply.clone());
    }

    /// One reply, or under LMTP one for each recipient (RFC 2033 §4.2). 421 among them closes.
    fn final_replies(&mut self, recipients: usize, reply: impl Fn(usize) -> Reply) {
        let count = match self.config.role {
            Role::Lmtp => recipients,
            Role::Mta | Role::Msa | Role::Odmr => 1,
        };
        let mut closes = false;
        for reply in (0..count).map(reply) {
            closes |= reply.closes();
            self.reply(&reply);
        }
        if closes {
            self.close();
        }
    }
}
