//! One delivery: MAIL, RCPT, DATA or BDAT, content, and the replies to each.
//!
//! Binary content goes by BDAT (RFC 3030), each chunk after the reply to the one before; everything else by DATA.
//!
//! With PIPELINING (RFC 2920) the commands go out together, DATA among them, up to the configured number
//! ahead of their replies; without, one at a time. What a server cannot take is refused before anything is
//! sent. Each recipient's fate is decided once.

use std::collections::VecDeque;
use std::mem;

use bytes::{Bytes, BytesMut};

use super::{Client, Delivery, FailureKind, Fate, Outcome, Output, Phase, Protocol, Stage};
use crate::command::{
    Bdat, BodyType, Command, Mail, MailParams, OriginalRecipient, Rcpt, RcptParams, Xtext,
};
use crate::replies;
use crate::reply::Reply;
use crate::stuff::DotStuffer;

/// A command of the transaction; RCPT by the recipient's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Mail,
    Rcpt(usize),
    Data,
}

#[derive(Debug)]
enum Progress {
    /// Commands and their replies.
    Commands,
    /// Content is being sent after DATA.
    Content(DotStuffer),
    /// A chunk of content is awaited, to be sent by BDAT.
    Chunks,
    /// A chunk was sent; its reply is to come.
    Chunk,
    /// Content is sent; the recipients whose reply is still to come.
    Final(VecDeque<usize>),
    /// DATA was answered 354 though no recipient was accepted; an empty message was sent.
    Void,
}

/// A delivery under way.
#[derive(Debug)]
pub(super) struct Transaction {
    delivery: Delivery,
    fates: Vec<Option<Fate>>,
    /// Commands not yet sent.
    script: VecDeque<Step>,
    /// Commands sent whose reply is to come.
    awaited: VecDeque<Step>,
    accepted: Vec<usize>,
    progress: Progress,
    /// MAIL says SMTPUTF8.
    utf8: bool,
    /// MAIL was accepted and no message has ended since: the server needs RSET before the next.
    open: bool,
}

impl Transaction {
    fn new(delivery: Delivery, fates: Vec<Option<Fate>>, utf8: bool) -> Self {
        let undecided = fates.iter().enumerate().filter(|(_, fate)| fate.is_none());
        let rcpts: Vec<Step> = undecided.map(|(index, _)| Step::Rcpt(index)).collect();
        let binary = delivery.params.body == BodyType::BinaryMime;
        let data = (!binary).then_some(Step::Data);
        let script = match rcpts.is_empty() {
            true => VecDeque::new(),
            false => [Step::Mail].into_iter().chain(rcpts).chain(data).collect(),
        };
        Self {
            delivery,
            fates,
            script,
            awaited: VecDeque::new(),
            accepted: Vec::new(),
            progress: Progress::Commands,
            utf8,
            open: false,
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

    /// Takes the reply to MAIL or RCPT.
    fn command_reply(&mut self, step: Step, reply: Reply) {
        match step {
            Step::Mail if reply.is_success() => self.open = true,
            Step::Mail => {
                self.decide_all(&Fate::refused(reply, Stage::Mail));
                self.script.clear();
            }
            Step::Rcpt(index) if reply.is_success() => {
                if self.is_undecided(index) {
                    self.accepted.push(index);
                }
            }
            Step::Rcpt(index) => self.decide(index, recipient_refused(reply)),
            Step::Data => {}
        }
        let only_data_left = self.script.front() == Some(&Step::Data);
        if only_data_left && self.awaited.is_empty() && self.accepted.is_empty() {
            self.script.clear();
        }
    }

    fn is_over(&self) -> bool {
        match &self.progress {
            Progress::Commands => self.script.is_empty() && self.awaited.is_empty(),
            Progress::Final(waiting) => waiting.is_empty(),
            Progress::Content(_) | Progress::Chunks | Progress::Chunk | Progress::Void => false,
        }
    }

    /// Whether all commands are answered and content may follow by BDAT.
    fn may_send_chunks(&self) -> bool {
        let answered = matches!(self.progress, Progress::Commands) && self.is_over();
        let binary = self.delivery.params.body == BodyType::BinaryMime;
        answered && binary && self.accepted.iter().any(|index| self.is_undecided(*index))
    }

    fn into_outcome(self) -> Outcome {
        let lost = Fate::connection_lost(None);
        let fates = self.fates.into_iter();
        Outcome {
            recipients: fates
                .map(|fate| fate.unwrap_or_else(|| lost.clone()))
                .collect(),
        }
    }
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
    /// Starts a delivery in a session that is ready.
    pub(super) fn begin(&mut self, delivery: Box<Delivery>) {
        let fates = self.refused_locally(&delivery);
        let utf8 = self.capabilities.smtputf8 && delivery.needs_utf8();
        let transaction = Transaction::new(*delivery, fates, utf8);
        self.go_on(Box::new(transaction));
    }

    /// The recipients that this server cannot serve, and why.
    fn refused_locally(&self, delivery: &Delivery) -> Vec<Option<Fate>> {
        let offered = &self.capabilities;
        let size = delivery.params.size.unwrap_or(0);
        let limit = offered.size.filter(|limit| *limit > 0).unwrap_or(u64::MAX);
        let utf8 = |path: &str| !offered.smtputf8 && !path.is_ascii();
        let whole = if size > limit {
            Some(replies::MESSAGE_TOO_BIG)
        } else if delivery.params.body == BodyType::BinaryMime
            && !(offered.chunking && offered.binarymime)
        {
            Some(replies::BINARY_NOT_SUPPORTED)
        } else if delivery.insists_on_tls() && !self.keeps_tls() {
            Some(replies::REQUIRETLS_NEEDED)
        } else if utf8(&delivery.reverse_path.to_string()) {
            Some(replies::UTF8_NOT_SUPPORTED)
        } else {
            None
        };
        let recipients = delivery.recipients.iter();
        recipients
            .map(|recipient| {
                let alone = utf8(&recipient.forward_path.to_string())
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
            self.phase = Phase::Transaction(transaction);
            return self.fail(FailureKind::ClosedByPeer, Some(reply));
        }
        match &mut transaction.progress {
            Progress::Commands => self.commands_reply(transaction, reply),
            Progress::Content(_) | Progress::Chunks => self.early_reply(transaction, reply),
            Progress::Chunk => self.chunk_reply(transaction, reply),
            Progress::Void => self.finish(*transaction),
            Progress::Final(waiting) => {
                let decided: Vec<usize> = match self.config.protocol {
                    Protocol::Smtp => mem::take(waiting).into(),
                    Protocol::Lmtp => waiting.pop_front().into_iter().collect(),
                };
                let fate = Fate::at_end(reply);
                for index in decided {
                    transaction.decide(index, fate.clone());
                }
                transaction.open = false;
                self.go_on(transaction);
            }
        }
    }

    fn commands_reply(&mut self, mut transaction: Box<Transaction>, reply: Reply) {
        match transaction.awaited.pop_front() {
            Some(Step::Data) => self.data_reply(transaction, reply),
            Some(_) if reply.is_intermediate() => {
                self.phase = Phase::Transaction(transaction);
                self.fail(FailureKind::Unexpected, Some(reply));
            }
            Some(step) => {
                transaction.command_reply(step, reply);
                self.go_on(transaction);
            }
            None => {
                self.phase = Phase::Transaction(transaction);
                self.fail(FailureKind::Unexpected, Some(reply));
            }
        }
    }

    fn data_reply(&mut self, mut transaction: Box<Transaction>, reply: Reply) {
        let lmtp = self.config.protocol == Protocol::Lmtp;
        match (reply.is_intermediate(), transaction.accepted.is_empty()) {
            (true, false) => {
                transaction.progress = Progress::Content(DotStuffer::default());
                self.phase = Phase::Transaction(transaction);
                self.want_body();
            }
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
            _ => {
                self.phase = Phase::Transaction(transaction);
                self.fail(FailureKind::Unexpected, Some(reply));
            }
        }
    }

    fn chunk_reply(&mut self, mut transaction: Box<Transaction>, reply: Reply) {
        if reply.is_success() {
            transaction.progress = Progress::Chunks;
            self.phase = Phase::Transaction(transaction);
            return self.want_body();
        }
        transaction.decide_all(&Fate::refused(reply, Stage::Content));
        self.finish(*transaction);
    }

    /// A reply in the midst of the content: it holds for all, but the dialogue is lost.
    fn early_reply(&mut self, mut transaction: Box<Transaction>, reply: Reply) {
        if reply.is_temporary() || reply.is_permanent() {
            transaction.decide_all(&Fate::refused(reply.clone(), Stage::Content));
        }
        self.phase = Phase::Transaction(transaction);
        self.fail(FailureKind::Unexpected, Some(reply));
    }

    fn want_body(&mut self) {
        self.outputs.push_back(Output::WantBody);
        self.wait(self.config.timeouts.data_block);
    }

    pub(super) fn body(&mut self, chunk: &Bytes) {
        match self.sending() {
            None => {}
            Some(Progress::Content(stuffer)) => {
                let wire = stuffer.push(chunk);
                if !wire.is_empty() {
                    self.outputs.push_back(Output::Send(wire));
                }
                self.want_body();
            }
            Some(_) if chunk.is_empty() => self.want_body(),
            Some(progress) => {
                *progress = Progress::Chunk;
                self.send(&Command::Bdat(Bdat {
                    octets: chunk.len() as u64,
                    last: false,
                }));
                self.outputs.push_back(Output::Send(chunk.clone()));
                self.wait(self.config.timeouts.data_block);
            }
        }
    }

    pub(super) fn body_end(&mut self) {
        match self.sending() {
            None => return,
            Some(Progress::Content(stuffer)) => {
                let end = Bytes::from_static(stuffer.finish());
                self.outputs.push_back(Output::Send(end));
            }
            Some(_) => self.send(&Command::Bdat(Bdat {
                octets: 0,
                last: true,
            })),
        }
        if let Phase::Transaction(transaction) = &mut self.phase {
            let accepted = transaction.accepted.iter().copied().collect();
            transaction.progress = Progress::Final(accepted);
        }
        self.wait(self.config.timeouts.data_end);
    }

    pub(super) fn body_failed(&mut self) {
        if self.sending().is_some() {
            self.fail(FailureKind::BodyFailed, None);
        }
    }

    /// The progress of the transaction, while content is wanted.
    fn sending(&mut self) -> Option<&mut Progress> {
        match &mut self.phase {
            Phase::Transaction(transaction) => match &mut transaction.progress {
                wanted @ (Progress::Content(_) | Progress::Chunks) => Some(wanted),
                _ => None,
            },
            _ => None,
        }
    }

    /// Ends the delivery where all is decided; otherwise sends what may be sent and waits.
    fn go_on(&mut self, mut transaction: Box<Transaction>) {
        if transaction.may_send_chunks() {
            transaction.progress = Progress::Chunks;
            self.phase = Phase::Transaction(transaction);
            return self.want_body();
        }
        if transaction.is_over() {
            return self.finish(*transaction);
        }
        self.send_commands(&mut transaction);
        let timeouts = &self.config.timeouts;
        let time = match (&transaction.progress, transaction.awaited.front()) {
            (Progress::Commands, Some(Step::Mail)) => timeouts.mail,
            (Progress::Commands, Some(Step::Rcpt(_))) => timeouts.rcpt,
            (Progress::Commands, _) => timeouts.data_start,
            _ => timeouts.data_end,
        };
        self.phase = Phase::Transaction(transaction);
        self.wait(time);
    }

    /// Sends as many commands as may be under way, in one piece.
    fn send_commands(&mut self, transaction: &mut Transaction) {
        let ahead_max = match self.capabilities.pipelining {
            true => self.config.pipeline_commands_max.max(1),
            false => 1,
        };
        let mut out = BytesMut::new();
        while transaction.awaited.len() < ahead_max {
            let Some(step) = transaction.script.pop_front() else {
                break;
            };
            if let Some(command) = self.command(step, transaction) {
                out.extend_from_slice(format!("{command}\r\n").as_bytes());
                transaction.awaited.push_back(step);
            }
        }
        if !out.is_empty() {
            self.outputs.push_back(Output::Send(out.freeze()));
        }
    }

    fn command(&self, step: Step, transaction: &Transaction) -> Option<Command> {
        let Transaction { delivery, utf8, .. } = transaction;
        match step {
            Step::Data => Some(Command::Data),
            Step::Mail => Some(Command::Mail(Mail {
                reverse_path: delivery.reverse_path.clone(),
                params: self.mail_params(&delivery.params, *utf8),
            })),
            Step::Rcpt(index) => {
                let recipient = delivery.recipients.get(index)?;
                Some(Command::Rcpt(Rcpt {
                    forward_path: recipient.forward_path.clone(),
                    params: self.rcpt_params(&recipient.params, *utf8),
                }))
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
            envid: params.envid.clone().filter(|_| offered.dsn),
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

    fn finish(&mut self, transaction: Transaction) {
        let open = transaction.open;
        self.outputs
            .push_back(Output::Done(transaction.into_outcome()));
        if open {
            self.send(&Command::Rset);
            self.phase = Phase::Resetting;
            self.wait(self.config.timeouts.hello);
        } else {
            self.ready();
        }
    }

    /// Ends a delivery whose connection failed.
    pub(super) fn abandon(&mut self, mut transaction: Transaction, reply: Option<Reply>) {
        transaction.decide_all(&Fate::connection_lost(reply));
        self.outputs
            .push_back(Output::Done(transaction.into_outcome()));
    }
}
