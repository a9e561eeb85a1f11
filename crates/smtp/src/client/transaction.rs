//! One delivery: MAIL, RCPT, DATA or BDAT, content, and the replies to each.
//!
//! With PIPELINING (RFC 2920) the commands go out together, up to the configured number ahead of their replies;
//! without, one at a time. What a server cannot take is refused before anything is sent. Each recipient's fate is
//! decided once.
//!
//! **Invariant:** a recipient is delivered only by a positive reply to the end of a content that was sent whole, to a
//! server that had accepted that recipient, in a dialogue where every reply had a command that it answers.

use std::collections::VecDeque;
use std::mem;

use bytes::Bytes;

use super::{Client, Delivery, FailureKind, Fate, Outcome, Output, Phase, Protocol, Stage};
use crate::command::BodyType;
use crate::replies;
use crate::reply::{EnhancedCode, Reply};
use crate::stuff::DotStuffer;

/// The enhanced code of a positive reply to RCPT (RFC 3463 §3.2), which no other command has.
const RECIPIENT_OK: Option<EnhancedCode> = Some(EnhancedCode::new(2, 1, 5));

/// A command of the transaction; RCPT by the recipient's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ends what an earlier transaction has left behind.
    Rset,
    Mail,
    Rcpt(usize),
    Data,
    /// BDAT with its octets.
    Chunk {
        last: bool,
    },
}

#[derive(Debug)]
pub(super) enum Progress {
    /// Commands and their replies, chunks of content among them.
    Commands,
    /// Content is being sent after DATA.
    Content(DotStuffer),
    /// Content is being sent by BDAT.
    Chunks(Chunks),
    /// Content is sent; the recipients whose reply is still to come.
    Final(VecDeque<usize>),
    /// DATA was answered 354 though no recipient was accepted; an empty message was sent.
    Void,
}

/// Content on its way by BDAT. One chunk is held back, so that the last one can say that it is.
#[derive(Debug, Default)]
pub(super) struct Chunks {
    pub(super) held: Option<Bytes>,
    /// A chunk has been asked for and not yet given.
    pub(super) asked: bool,
}

/// A delivery under way.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) delivery: Delivery,
    fates: Vec<Option<Fate>>,
    /// Commands not yet sent.
    pub(super) script: VecDeque<Step>,
    /// Commands sent whose reply is to come.
    pub(super) awaited: VecDeque<Step>,
    accepted: Vec<usize>,
    pub(super) progress: Progress,
    /// The content goes by BDAT.
    chunked: bool,
    /// MAIL says SMTPUTF8.
    pub(super) utf8: bool,
    /// MAIL was accepted and no message has ended since: the server needs RSET before the next.
    open: bool,
    /// The end of the content has been sent.
    pub(super) end_sent: bool,
    /// The enhanced code of the first reply to RCPT.
    first_code: Option<Option<EnhancedCode>>,
}

impl Transaction {
    fn new(delivery: Delivery, fates: Vec<Option<Fate>>, way: Way) -> Self {
        let mut script = VecDeque::with_capacity(fates.len() + 3);
        script.extend(way.reset.then_some(Step::Rset));
        script.push_back(Step::Mail);
        let undecided = fates.iter().enumerate().filter(|(_, fate)| fate.is_none());
        script.extend(undecided.map(|(index, _)| Step::Rcpt(index)));
        if !matches!(script.back(), Some(Step::Rcpt(_))) {
            script.clear();
        } else if !way.chunked {
            script.push_back(Step::Data);
        } else if !delivery.content.is_empty() {
            script.push_back(Step::Chunk { last: true });
        }
        Self {
            awaited: VecDeque::with_capacity(script.len()),
            accepted: Vec::with_capacity(fates.len()),
            delivery,
            fates,
            script,
            progress: Progress::Commands,
            chunked: way.chunked,
            utf8: way.utf8,
            open: false,
            end_sent: false,
            first_code: None,
        }
    }

    fn decide(&mut self, index: usize, fate: Fate) {
        if let Some(slot) = self.fates.get_mut(index) {
            slot.get_or_insert(fate);
        }
    }

    fn decide_all(&mut self, fate: &Fate) {
        for slot in &mut self.fates {
            slot.get_or_insert_with(|| fate.clone());
        }
    }

    fn is_undecided(&self, index: usize) -> bool {
        self.fates.get(index).is_some_and(Option::is_none)
    }

    /// The recipients that a reply to the end of the content decides on.
    pub(super) fn accepted(&self) -> VecDeque<usize> {
        self.accepted.iter().copied().collect()
    }

    /// Takes the reply to RSET, MAIL or RCPT.
    fn command_reply(&mut self, step: Step, reply: Reply) {
        match step {
            Step::Mail if reply.is_success() => self.open = true,
            Step::Mail => {
                self.decide_all(&Fate::refused(reply, Stage::Mail));
                self.script.clear();
            }
            Step::Rcpt(index) => {
                self.first_code.get_or_insert(reply.enhanced());
                if !reply.is_success() {
                    self.decide(index, recipient_refused(reply));
                } else if self.is_undecided(index) {
                    self.accepted.push(index);
                }
            }
            Step::Rset | Step::Data | Step::Chunk { .. } => {}
        }
        let only_content_left = matches!(
            self.script.front(),
            Some(Step::Data | Step::Chunk { last: true })
        );
        if only_content_left && self.awaited.is_empty() && self.accepted.is_empty() {
            self.script.clear();
        }
    }

    fn is_over(&self) -> bool {
        match &self.progress {
            Progress::Commands => self.script.is_empty() && self.awaited.is_empty(),
            Progress::Final(waiting) => waiting.is_empty(),
            Progress::Content(_) | Progress::Chunks(_) | Progress::Void => false,
        }
    }

    /// Whether all commands are answered and content may follow by BDAT.
    fn may_send_chunks(&self) -> bool {
        let answered = matches!(self.progress, Progress::Commands) && self.is_over();
        answered
            && self.chunked
            && !self.end_sent
            && self.accepted.iter().any(|index| self.is_undecided(*index))
    }

    /// Whether a positive reply to the end of the content is rather one to RCPT: the dialogue is out of step by one. A
    /// reply to DATA shows that; BDAT has none of a kind of its own.
    fn is_out_of_step(&self, reply: &Reply) -> bool {
        let first = self.first_code.flatten();
        self.chunked && reply.enhanced() == RECIPIENT_OK && first != RECIPIENT_OK
    }

    fn into_outcome(self, in_doubt: bool) -> Outcome {
        let lost = || Fate::connection_lost(None);
        let fates = self.fates.into_iter();
        Outcome {
            recipients: fates.map(|fate| fate.unwrap_or_else(lost)).collect(),
            in_doubt,
        }
    }
}

/// How a transaction goes about it.
#[derive(Clone, Copy, Debug)]
struct Way {
    reset: bool,
    chunked: bool,
    utf8: bool,
}

/// 552 to RCPT once meant too many recipients (RFC 5321 §4.5.3.1.10); only an enhanced code of another
/// meaning makes it final.
fn recipient_refused(reply: Reply) -> Fate {
    let too_many = reply.code() == replies::MESSAGE_TOO_BIG.code()
        && reply
            .enhanced()
            .is_none_or(|enhanced| enhanced.subject() == 5);
    match too_many {
        true => Fate::Temporary(super::Refusal {
            reply,
            stage: Stage::Recipient,
        }),
        false => Fate::refused(reply, Stage::Recipient),
    }
}

impl Client {
    /// Starts a delivery in a session that is ready. Where a server has begun to say what nobody asked for, no reply
    /// could be told from it.
    pub(super) fn begin(&mut self, delivery: Box<Delivery>) {
        if !self.reader.is_empty() {
            self.queued = Some(delivery);
            return self.fail(FailureKind::Unexpected, None);
        }
        let fates = self.refused_locally(&delivery);
        let way = Way {
            reset: self.stale,
            chunked: self.uses_chunks(&delivery),
            utf8: self.capabilities.smtputf8 && delivery.needs_utf8(),
        };
        let transaction = Transaction::new(*delivery, fates, way);
        self.stale &= transaction.script.is_empty();
        self.go_on(Box::new(transaction));
    }

    /// Whether the content goes by BDAT: binary content only so, other where it saves a round trip.
    fn uses_chunks(&self, delivery: &Delivery) -> bool {
        let offered = &self.capabilities;
        let saves = self.config.chunking && offered.chunking && offered.pipelining;
        saves || delivery.params.body == BodyType::BinaryMime
    }

    /// The recipients that this server cannot serve, and why.
    fn refused_locally(&self, delivery: &Delivery) -> Vec<Option<Fate>> {
        let offered = &self.capabilities;
        let size = delivery.params.size.unwrap_or(0);
        let limit = offered.size.filter(|limit| *limit > 0).unwrap_or(u64::MAX);
        let whole = if size > limit {
            Some(replies::MESSAGE_TOO_BIG)
        } else if delivery.params.body == BodyType::BinaryMime
            && !(offered.chunking && offered.binarymime)
        {
            Some(replies::BINARY_NOT_SUPPORTED)
        } else if delivery.insists_on_tls() && !self.keeps_tls() {
            Some(replies::REQUIRETLS_NEEDED)
        } else if !offered.smtputf8 && !delivery.has_ascii_sender() {
            Some(replies::UTF8_NOT_SUPPORTED)
        } else {
            None
        };
        let recipients = delivery.recipients.iter();
        recipients
            .map(|recipient| {
                let alone = (!offered.smtputf8 && !recipient.is_ascii())
                    .then_some(replies::UTF8_NOT_SUPPORTED);
                let reply = whole.clone().or(alone)?;
                Some(Fate::refused(reply, Stage::Local))
            })
            .collect()
    }

    /// Whether the server promises TLS for the rest of the way (RFC 8689 §4.2.1). An LMTP server is its end.
    fn keeps_tls(&self) -> bool {
        self.capabilities.requiretls || self.config.protocol == Protocol::Lmtp
    }

    pub(super) fn transaction_reply(&mut self, mut transaction: Box<Transaction>, reply: Reply) {
        if reply.closes() {
            return self.break_off(transaction, FailureKind::ClosedByPeer, reply);
        }
        match &transaction.progress {
            Progress::Void => return self.finish(*transaction),
            Progress::Content(_) => return self.early_reply(transaction, reply),
            Progress::Final(_) => return self.final_reply(transaction, reply),
            Progress::Commands | Progress::Chunks(_) => {}
        }
        match transaction.awaited.pop_front() {
            None => self.early_reply(transaction, reply),
            Some(Step::Data) => self.data_reply(transaction, reply),
            Some(_) if reply.is_intermediate() => self.unexpected(transaction, reply),
            Some(Step::Rset) if !reply.is_success() => self.unexpected(transaction, reply),
            Some(Step::Chunk { last: true }) if !transaction.accepted.is_empty() => {
                transaction.progress = Progress::Final(transaction.accepted());
                self.final_reply(transaction, reply);
            }
            Some(Step::Chunk { last }) => self.chunk_reply(transaction, last, reply),
            Some(step) => {
                transaction.command_reply(step, reply);
                self.go_on(transaction);
            }
        }
    }

    /// The reply to a chunk that decides nothing, or to content that nobody was to get.
    fn chunk_reply(&mut self, mut transaction: Box<Transaction>, last: bool, reply: Reply) {
        if !reply.is_success() {
            // What is under way already is refused as well; more would be for nothing.
            transaction.decide_all(&Fate::refused(reply, Stage::Content));
            transaction.progress = Progress::Commands;
        } else if last {
            transaction.open = false;
        }
        self.go_on(transaction);
    }

    /// A reply to the end of the content: for all recipients, or for the next one under LMTP.
    fn final_reply(&mut self, mut transaction: Box<Transaction>, reply: Reply) {
        let lmtp = self.config.protocol == Protocol::Lmtp;
        let Progress::Final(waiting) = &mut transaction.progress else {
            return self.unexpected(transaction, reply);
        };
        let decided: VecDeque<usize> = match lmtp {
            false => mem::take(waiting),
            true => waiting.pop_front().into_iter().collect(),
        };
        let astray =
            !lmtp && (transaction.is_out_of_step(&reply) || self.more_follows(&transaction));
        if reply.is_intermediate() || (astray && reply.is_success()) {
            return self.unexpected(transaction, reply);
        }
        // A chunk that is refused leaves the server in a state that nobody knows (RFC 3030 §2).
        transaction.open &= transaction.chunked && !reply.is_success();
        let fate = Fate::at_end(reply);
        for index in decided {
            transaction.decide(index, fate.clone());
        }
        self.go_on(transaction);
    }

    /// Whether another reply follows that nothing awaits, and that does not close the connection: which of them was
    /// meant for the end of the content cannot be told.
    fn more_follows(&self, transaction: &Transaction) -> bool {
        let rest = self.reader.unread();
        let closing = rest
            .iter()
            .zip(b"421")
            .all(|(found, wanted)| found == wanted);
        transaction.chunked && !closing
    }

    /// A reply in the midst of the content: it holds for all, but the dialogue is lost.
    fn early_reply(&mut self, mut transaction: Box<Transaction>, reply: Reply) {
        let sending = matches!(
            transaction.progress,
            Progress::Content(_) | Progress::Chunks(_)
        );
        if sending && (reply.is_temporary() || reply.is_permanent()) {
            transaction.decide_all(&Fate::refused(reply.clone(), Stage::Content));
        }
        self.unexpected(transaction, reply);
    }

    /// Says of DATA what its refusal decides; its acceptance lets the content follow.
    fn data_reply(&mut self, mut transaction: Box<Transaction>, reply: Reply) {
        let lmtp = self.config.protocol == Protocol::Lmtp;
        match (reply.is_intermediate(), transaction.accepted.is_empty()) {
            (true, false) => self.start_content(transaction),
            (true, true) if !lmtp => {
                let end = Bytes::from_static(DotStuffer::default().finish());
                self.outputs.push_back(Output::Send(end));
                transaction.progress = Progress::Void;
                transaction.open = false;
                self.phase = Phase::Transaction(transaction);
                self.wait(self.config.timeouts.data_end);
            }
            (false, _) if reply.is_temporary() || reply.is_permanent() => {
                transaction.decide_all(&Fate::refused(reply, Stage::Data));
                self.go_on(transaction);
            }
            _ => self.unexpected(transaction, reply),
        }
    }

    pub(super) fn unexpected(&mut self, transaction: Box<Transaction>, reply: Reply) {
        self.break_off(transaction, FailureKind::Unexpected, reply);
    }

    fn break_off(&mut self, transaction: Box<Transaction>, kind: FailureKind, reply: Reply) {
        self.phase = Phase::Transaction(transaction);
        self.fail(kind, Some(reply));
    }

    /// Ends the delivery where all is decided; otherwise sends what may be sent and waits.
    pub(super) fn go_on(&mut self, mut transaction: Box<Transaction>) {
        if transaction.may_send_chunks() {
            transaction.progress = Progress::Chunks(Chunks::default());
        }
        if transaction.is_over() {
            return self.finish(*transaction);
        }
        self.send_commands(&mut transaction);
        self.ask_for_chunk(&mut transaction);
        let timeouts = &self.config.timeouts;
        let time = match (&transaction.progress, transaction.awaited.front()) {
            (Progress::Chunks(_), _) | (_, Some(Step::Chunk { last: false })) => {
                timeouts.data_block
            }
            (Progress::Commands, Some(Step::Rset)) => timeouts.hello,
            (Progress::Commands, Some(Step::Mail)) => timeouts.mail,
            (Progress::Commands, Some(Step::Rcpt(_))) => timeouts.rcpt,
            (Progress::Commands, Some(Step::Data)) => timeouts.data_start,
            _ => timeouts.data_end,
        };
        self.phase = Phase::Transaction(transaction);
        self.wait(time);
    }

    fn finish(&mut self, transaction: Transaction) {
        self.stale |= transaction.open;
        self.outputs
            .push_back(Output::Done(transaction.into_outcome(false)));
        self.ready();
    }

    /// Ends a delivery whose connection failed. A server that closes by 421 has not taken the message.
    pub(super) fn abandon(&mut self, mut transaction: Transaction, reply: Option<Reply>) {
        let refused = reply.as_ref().is_some_and(Reply::closes);
        let open = (0..transaction.fates.len()).any(|index| transaction.is_undecided(index));
        let in_doubt = transaction.end_sent && open && !refused;
        transaction.decide_all(&Fate::connection_lost(reply));
        self.outputs
            .push_back(Output::Done(transaction.into_outcome(in_doubt)));
    }
}
