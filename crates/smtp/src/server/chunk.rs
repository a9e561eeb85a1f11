//! BDAT (RFC 3030 §2).
//!
//! The octets of a chunk are read whatever becomes of the command: a refused chunk must not be taken for
//! commands. A failed message keeps its failure for all chunks up to the last, or up to RSET.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::data::Incoming;
use super::verbs::BDAT_NEEDS;
use super::{Answer, Ask, Limits, Phase, Question, Server};
use crate::body::Framing;
use crate::command::Bdat;
use crate::replies;
use crate::reply::Reply;

/// A chunk of which octets are still to come.
#[derive(Debug)]
pub(super) struct Chunk {
    incoming: Incoming,
    remaining: u64,
    octets: u64,
    last: bool,
}

/// A refused chunk of which octets are still to come, and its reply.
#[derive(Debug)]
pub(super) struct Drain {
    remaining: u64,
    reply: Reply,
}

impl Chunk {
    pub(super) fn patience(&self, now: Instant, limits: &Limits) -> Duration {
        self.incoming.patience(now, limits)
    }
}

impl Server {
    pub(super) fn bdat(&mut self, args: &[u8]) {
        let Ok(bdat) = Bdat::parse(args) else {
            // Nobody knows how many octets follow: they may not be read as commands.
            return self.close_with(&replies::ARGUMENTS);
        };
        if bdat.octets == 0 && self.is_too_idle() {
            return self.close_with(&replies::TOO_MANY_COMMANDS);
        }
        let refusal = match self.offered().chunking {
            true => self.unmet(BDAT_NEEDS),
            false => Some(replies::NOT_IMPLEMENTED),
        };
        if let Some(reply) = refusal {
            return self.drain(bdat, reply);
        }
        let begun = self
            .transaction
            .as_mut()
            .and_then(|open| open.chunks.take());
        match begun {
            Some(incoming) => self.begin_chunk(bdat, *incoming),
            None => self.ask(Ask::BeginMessage, Question::BeginChunk(bdat)),
        }
    }

    pub(super) fn begin_chunk_answered(&mut self, bdat: Bdat, answer: Answer) {
        let mut incoming = self.incoming(Framing::Chunk);
        match answer {
            Answer::Accept => self.body_open = true,
            other => {
                let reply = Self::refusal(other);
                if reply.closes() {
                    return self.close_with(&reply);
                }
                self.fail(&mut incoming, reply);
            }
        }
        self.begin_chunk(bdat, incoming);
    }

    fn begin_chunk(&mut self, bdat: Bdat, mut incoming: Incoming) {
        let octets = incoming.octets.saturating_add(bdat.octets);
        if incoming.failure.is_none() && octets > self.config.limits.message_octets_max {
            self.fail(&mut incoming, replies::MESSAGE_TOO_BIG);
        }
        let dropped = incoming.dropped.saturating_add(bdat.octets);
        if incoming.failure.is_some() && dropped > self.config.limits.discard_octets_max {
            return self.close_with(&replies::TOO_MUCH_DATA);
        }
        incoming.start(self.now);
        let chunk = Chunk {
            incoming,
            remaining: bdat.octets,
            octets: bdat.octets,
            last: bdat.last,
        };
        self.go_on(Box::new(chunk));
    }

    pub(super) fn chunk_step(&mut self, mut chunk: Box<Chunk>, rest: &[u8]) -> usize {
        self.rearm = true;
        let octets = front(rest, chunk.remaining);
        chunk.remaining -= octets.len() as u64;
        let mut content = BytesMut::with_capacity(octets.len());
        chunk.incoming.reader.read(octets, &mut content);
        chunk.incoming.read += octets.len() as u64;
        self.absorb(&mut chunk.incoming, octets.len(), content);
        self.go_on(chunk);
        octets.len()
    }

    /// Waits for more of a chunk, or ends it.
    fn go_on(&mut self, chunk: Box<Chunk>) {
        match (chunk.remaining, chunk.last) {
            (0, true) => self.end_chunks(chunk.incoming),
            (0, false) => self.end_chunk(*chunk),
            _ => self.phase = Phase::Chunk(chunk),
        }
    }

    fn end_chunk(&mut self, chunk: Chunk) {
        let failure = chunk.incoming.failure.clone();
        if let Some(open) = &mut self.transaction {
            open.chunks = Some(Box::new(chunk.incoming));
        }
        match failure {
            Some(reply) => self.refuse(&reply),
            None => {
                let text = format!("{} octets received", chunk.octets);
                self.reply(&replies::OK.with_text(text));
            }
        }
    }

    fn end_chunks(&mut self, mut incoming: Incoming) {
        let mut content = BytesMut::new();
        incoming.reader.finish(&mut content);
        self.absorb(&mut incoming, 0, content);
        self.end_of_message(incoming);
    }

    fn drain(&mut self, bdat: Bdat, reply: Reply) {
        if bdat.octets > self.config.limits.discard_octets_max {
            return self.close_with(&replies::TOO_MUCH_DATA);
        }
        let remaining = bdat.octets;
        match remaining {
            0 => self.refuse(&reply),
            _ => self.phase = Phase::Drain(Box::new(Drain { remaining, reply })),
        }
    }

    pub(super) fn drain_step(&mut self, mut drain: Box<Drain>, rest: &[u8]) -> usize {
        self.rearm = true;
        let octets = front(rest, drain.remaining).len();
        drain.remaining -= octets as u64;
        match drain.remaining {
            0 => self.refuse(&drain.reply),
            _ => self.phase = Phase::Drain(drain),
        }
        octets
    }
}

/// Up to `limit` octets from the front.
fn front(input: &[u8], limit: u64) -> &[u8] {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    input.get(..limit).unwrap_or(input)
}
