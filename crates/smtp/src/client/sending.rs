//! What a transaction sends: its commands as the server understands them, and the content.
//!
//! Content goes by BDAT (RFC 3030) to a server with CHUNKING and PIPELINING: all of it in one flight with MAIL and RCPT
//! where it is given with the delivery, otherwise in chunks, some of them ahead of their replies. It goes by DATA to
//! every other server.

use std::mem;

use bytes::{Bytes, BytesMut};

use super::transaction::{Chunks, Progress, Step, Transaction};
use super::{Client, FailureKind, Output, Phase};
use crate::command::{
    BodyType, MailParams, OriginalRecipient, RcptParams, Xtext, write_bdat, write_mail, write_rcpt,
};
use crate::stuff::DotStuffer;

/// Room for the commands of a transaction with one recipient.
const FLIGHT_OCTETS: usize = 256;

impl Client {
    /// Sends as many commands as may be under way, in one piece.
    pub(super) fn send_commands(&mut self, transaction: &mut Transaction) {
        let ahead_max = match self.capabilities.pipelining {
            true => self.config.pipeline_commands_max.max(1),
            false => 1,
        };
        let mut out = BytesMut::new();
        while transaction.awaited.len() < ahead_max {
            let Some(step) = transaction.script.pop_front() else {
                break;
            };
            if out.is_empty() {
                out.reserve(FLIGHT_OCTETS);
            }
            self.write_step(step, transaction, &mut out);
            transaction.awaited.push_back(step);
        }
        if !out.is_empty() {
            self.outputs.push_back(Output::Send(out.freeze()));
        }
    }

    fn write_step(&self, step: Step, transaction: &mut Transaction, out: &mut BytesMut) {
        let Transaction { delivery, utf8, .. } = transaction;
        match step {
            Step::Rset => out.extend_from_slice(b"RSET\r\n"),
            Step::Data => out.extend_from_slice(b"DATA\r\n"),
            Step::Mail => {
                let params = self.mail_params(&delivery.params, *utf8);
                // Writing to memory cannot fail.
                let _ = write_mail(out, &delivery.reverse_path, &params);
                out.extend_from_slice(b"\r\n");
            }
            Step::Rcpt(index) => {
                if let Some(recipient) = delivery.recipients.get(index) {
                    let params = self.rcpt_params(&recipient.params, *utf8);
                    let _ = write_rcpt(out, &recipient.forward_path, &params);
                    out.extend_from_slice(b"\r\n");
                }
            }
            Step::Chunk { last } => {
                let pieces = mem::take(&mut delivery.content);
                let octets = pieces.iter().map(Bytes::len).sum();
                write_bdat(out, octets, last);
                out.reserve(octets);
                for piece in pieces {
                    out.extend_from_slice(&piece);
                }
                transaction.end_sent |= last;
            }
        }
    }

    /// The parameters of MAIL that the server offers. Without 8BITMIME the octets go as they are.
    fn mail_params(&self, params: &MailParams, utf8: bool) -> MailParams {
        let offered = &self.capabilities;
        MailParams {
            size: params.size.filter(|_| offered.size.is_some()),
            body: match params.body {
                BodyType::EightBitMime if !offered.eightbitmime => BodyType::SevenBit,
                body => body,
            },
            smtputf8: utf8,
            auth: self.submitter(params),
            ret: params.ret.filter(|_| offered.dsn),
            envid: params.envid.as_ref().filter(|_| offered.dsn).cloned(),
            require_tls: params.require_tls && offered.requiretls,
            mt_priority: params.mt_priority.filter(|_| offered.mt_priority),
            deliver_by: params.deliver_by.filter(|_| offered.deliver_by.is_some()),
            hold: None,
        }
    }

    /// To a server that we have authenticated to: who has submitted the message, or that nobody vouches for that
    /// (RFC 4954 §5).
    fn submitter(&self, params: &MailParams) -> Option<Xtext> {
        let nobody = || Xtext::parse("<>");
        match self.capabilities.auth && self.config.login.is_some() {
            true => params.auth.clone().or_else(nobody),
            false => None,
        }
    }

    /// The parameters of RCPT that the server offers.
    fn rcpt_params(&self, params: &RcptParams, utf8: bool) -> RcptParams {
        let offered = &self.capabilities;
        let orcpt = params.orcpt.as_ref().filter(|_| offered.dsn);
        RcptParams {
            notify: params.notify.filter(|_| offered.dsn),
            orcpt: match utf8 {
                true => orcpt.cloned(),
                false => orcpt.and_then(OriginalRecipient::to_ascii),
            },
        }
    }

    /// DATA was accepted: sends the content, or asks for it.
    pub(super) fn start_content(&mut self, mut transaction: Box<Transaction>) {
        let mut stuffer = DotStuffer::default();
        if self.reader.unread().contains(&b'\n') {
            // The server has said more before it could have read the content: that is heard first.
            transaction.progress = Progress::Content(stuffer);
            self.phase = Phase::Transaction(transaction);
            return;
        }
        let pieces = mem::take(&mut transaction.delivery.content);
        if pieces.is_empty() {
            transaction.progress = Progress::Content(stuffer);
            self.phase = Phase::Transaction(transaction);
            return self.want_body();
        }
        let octets: usize = pieces.iter().map(Bytes::len).sum();
        let mut out = BytesMut::with_capacity(octets + octets / 32 + 8);
        for piece in &pieces {
            out.extend_from_slice(&stuffer.push(piece));
        }
        out.extend_from_slice(stuffer.finish());
        self.outputs.push_back(Output::Send(out.freeze()));
        transaction.progress = Progress::Final(transaction.accepted());
        transaction.end_sent = true;
        self.phase = Phase::Transaction(transaction);
        self.wait(self.config.timeouts.data_end);
    }

    fn want_body(&mut self) {
        self.outputs.push_back(Output::WantBody);
        self.wait(self.config.timeouts.data_block);
    }

    /// Asks for the next chunk where fewer are under way than may be.
    pub(super) fn ask_for_chunk(&mut self, transaction: &mut Transaction) {
        let ahead_max = match self.capabilities.pipelining {
            true => self.config.pipeline_chunks_max.max(1),
            false => 1,
        };
        let Progress::Chunks(chunks) = &mut transaction.progress else {
            return;
        };
        if !chunks.asked && transaction.awaited.len() < ahead_max {
            chunks.asked = true;
            self.outputs.push_back(Output::WantBody);
        }
    }

    pub(super) fn body(&mut self, chunk: Bytes) {
        let Some(mut transaction) = self.sending() else {
            return;
        };
        match &mut transaction.progress {
            Progress::Chunks(chunks) => {
                chunks.asked = false;
                let earlier = match chunk.is_empty() {
                    true => None,
                    false => chunks.held.replace(chunk),
                };
                if let Some(earlier) = earlier {
                    self.send_chunk(&mut transaction, earlier, false);
                }
                self.go_on(transaction);
            }
            Progress::Content(stuffer) => {
                let wire = stuffer.push(&chunk);
                if !wire.is_empty() {
                    self.outputs.push_back(Output::Send(wire));
                }
                self.phase = Phase::Transaction(transaction);
                self.want_body();
            }
            _ => self.phase = Phase::Transaction(transaction),
        }
    }

    pub(super) fn body_end(&mut self) {
        let Some(mut transaction) = self.sending() else {
            return;
        };
        match &mut transaction.progress {
            Progress::Chunks(chunks) => {
                let rest = chunks.held.take().unwrap_or_default();
                transaction.progress = Progress::Commands;
                self.send_chunk(&mut transaction, rest, true);
                return self.go_on(transaction);
            }
            Progress::Content(stuffer) => {
                let end = Bytes::from_static(stuffer.finish());
                self.outputs.push_back(Output::Send(end));
                transaction.progress = Progress::Final(transaction.accepted());
                transaction.end_sent = true;
                self.wait(self.config.timeouts.data_end);
            }
            _ => {}
        }
        self.phase = Phase::Transaction(transaction);
    }

    fn send_chunk(&mut self, transaction: &mut Transaction, chunk: Bytes, last: bool) {
        let mut line = BytesMut::with_capacity(32);
        write_bdat(&mut line, chunk.len(), last);
        self.outputs.push_back(Output::Send(line.freeze()));
        if !chunk.is_empty() {
            self.outputs.push_back(Output::Send(chunk));
        }
        transaction.awaited.push_back(Step::Chunk { last });
        transaction.end_sent |= last;
    }

    pub(super) fn body_failed(&mut self) {
        if let Some(transaction) = self.sending() {
            self.phase = Phase::Transaction(transaction);
            self.fail(FailureKind::BodyFailed, None);
        }
    }

    /// The transaction, taken out of its phase, while content is wanted.
    fn sending(&mut self) -> Option<Box<Transaction>> {
        match mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Transaction(transaction)
                if matches!(
                    transaction.progress,
                    Progress::Content(_) | Progress::Chunks(Chunks { asked: true, .. })
                ) =>
            {
                Some(transaction)
            }
            other => {
                self.phase = other;
                None
            }
        }
    }
}
