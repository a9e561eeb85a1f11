//! The SMTP and LMTP client: a session and its mail transactions (RFC 5321, RFC 2033, RFC 2920).
//!
//! An envelope is one write and a message is one write; both buffers are reused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::args::TlsMode;
use crate::error::BenchError;
use crate::wire::{Endpoint, Wire};

/// How one mail transaction ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The code that decided: the first refusal, else the answer to the message.
    pub(crate) code: u16,
    /// Which recipients, in the order given, have the message.
    pub(crate) accepted: Vec<bool>,
}

/// One connection that mail is sent over.
pub(crate) struct SmtpClient {
    wire: Wire,
    lmtp: bool,
    pipelining: bool,
    commands: Vec<u8>,
    /// Where each command in `commands` ends.
    ends: Vec<usize>,
}

impl SmtpClient {
    /// Connects, greets and, where that is the mode, starts TLS.
    pub(crate) async fn open(endpoint: &Endpoint, lmtp: bool) -> Result<Self, BenchError> {
        let mut client = Self {
            wire: endpoint.connect().await?,
            lmtp,
            pipelining: false,
            commands: Vec::new(),
            ends: Vec::new(),
        };
        client.expect("greeting", 220).await?;
        client.hello().await?;
        if endpoint.tls == TlsMode::Starttls {
            client.ask("STARTTLS", 220).await?;
            client.wire = endpoint.encrypt(client.wire).await?;
            client.hello().await?;
        }
        Ok(client)
    }

    /// Authenticates with PLAIN (RFC 4616).
    pub(crate) async fn authenticate(
        &mut self,
        user: &str,
        password: &str,
    ) -> Result<(), BenchError> {
        let response = STANDARD.encode(format!("\0{user}\0{password}"));
        self.commands.clear();
        self.commands.extend_from_slice(b"AUTH PLAIN ");
        self.commands.extend_from_slice(response.as_bytes());
        self.commands.extend_from_slice(b"\r\n");
        self.wire.send(&self.commands).await?;
        self.expect("AUTH", 235).await
    }

    /// Ends the session.
    pub(crate) async fn quit(mut self) -> Result<(), BenchError> {
        self.ask("QUIT", 221).await
    }

    /// One mail transaction. `message` is dot-stuffed and ends with `CRLF . CRLF`.
    pub(crate) async fn transact(
        &mut self,
        from: &str,
        recipients: &[String],
        message: &[u8],
    ) -> Result<Outcome, BenchError> {
        let (mut outcome, ready) = self.envelope(from, recipients).await?;
        if !ready {
            return Ok(outcome);
        }
        if outcome.accepted.contains(&true) {
            self.wire.send(message).await?;
        } else {
            self.wire.send(b".\r\n").await?;
        }
        self.take_answers(&mut outcome).await?;
        Ok(outcome)
    }

    /// The commands of a mail transaction up to DATA, and whether the message is to follow now. Where it is not, the
    /// transaction is over.
    pub(crate) async fn envelope(
        &mut self,
        from: &str,
        recipients: &[String],
    ) -> Result<(Outcome, bool), BenchError> {
        self.write_envelope(from, recipients);
        let mut outcome = Outcome {
            code: 0,
            accepted: Vec::with_capacity(recipients.len()),
        };
        let data = self.send_envelope(recipients.len(), &mut outcome).await?;
        let ready = data == Some(354);
        if !ready {
            outcome.accepted.fill(false);
            self.reset().await?;
        }
        Ok((outcome, ready))
    }

    /// Ends a mail transaction before its message.
    pub(crate) async fn reset(&mut self) -> Result<(), BenchError> {
        self.ask("RSET", 250).await
    }

    /// Sends one command, whatever it is, and reads the reply's code.
    pub(crate) async fn say(&mut self, command: &str) -> Result<u16, BenchError> {
        self.wire.send(format!("{command}\r\n").as_bytes()).await?;
        read_reply(&mut self.wire, |_| ()).await
    }

    /// The connection, for what no client does.
    pub(crate) const fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    fn write_envelope(&mut self, from: &str, recipients: &[String]) {
        self.commands.clear();
        self.ends.clear();
        self.command(["MAIL FROM:<", from, ">\r\n"]);
        for recipient in recipients {
            self.command(["RCPT TO:<", recipient, ">\r\n"]);
        }
        self.command(["DATA\r\n", "", ""]);
    }

    fn command(&mut self, parts: [&str; 3]) {
        for part in parts {
            self.commands.extend_from_slice(part.as_bytes());
        }
        self.ends.push(self.commands.len());
    }

    /// Sends MAIL, each RCPT and DATA and notes the answers; the one to DATA, unless DATA was not sent.
    async fn send_envelope(
        &mut self,
        recipients: usize,
        outcome: &mut Outcome,
    ) -> Result<Option<u16>, BenchError> {
        if self.pipelining {
            self.wire.send(&self.commands).await?;
        }
        let mut start = 0;
        for index in 0..self.ends.len() {
            let end = self.ends.get(index).copied().unwrap_or_default();
            if !self.pipelining {
                let command = self.commands.get(start..end).unwrap_or_default();
                self.wire.send(command).await?;
            }
            start = end;
            let code = read_reply(&mut self.wire, |_| ()).await?;
            if (1..=recipients).contains(&index) {
                outcome.accepted.push(code / 100 == 2);
            } else if index > recipients {
                note_refusal(outcome, code, 354);
                return Ok(Some(code));
            }
            note_refusal(outcome, code, 250);
            if !self.pipelining && index == 0 && outcome.code != 0 {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Reads the answer to the message: in LMTP one for each accepted recipient.
    pub(crate) async fn take_answers(&mut self, outcome: &mut Outcome) -> Result<(), BenchError> {
        let any = outcome.accepted.contains(&true);
        let answers = if self.lmtp && any {
            outcome.accepted.iter().filter(|yes| **yes).count()
        } else {
            1
        };
        let mut granted = Vec::with_capacity(answers);
        for _ in 0..answers {
            let code = read_reply(&mut self.wire, |_| ()).await?;
            granted.push(code / 100 == 2);
            if outcome.code == 0 {
                outcome.code = code;
            }
        }
        let last = granted.last().copied().unwrap_or_default();
        let mut granted = granted.into_iter();
        for yes in outcome.accepted.iter_mut().filter(|yes| **yes) {
            *yes = granted.next().unwrap_or(last);
        }
        Ok(())
    }

    async fn hello(&mut self) -> Result<(), BenchError> {
        let verb = if self.lmtp { "LHLO" } else { "EHLO" };
        self.wire
            .send(format!("{verb} bench.example.org\r\n").as_bytes())
            .await?;
        let mut pipelining = false;
        let code = read_reply(&mut self.wire, |text| {
            pipelining |= text.eq_ignore_ascii_case(b"PIPELINING");
        })
        .await?;
        self.pipelining = pipelining;
        if code == 250 {
            return Ok(());
        }
        Err(BenchError::refused("EHLO", code.to_string().as_bytes()))
    }

    async fn ask(&mut self, command: &'static str, code: u16) -> Result<(), BenchError> {
        self.wire.send(format!("{command}\r\n").as_bytes()).await?;
        self.expect(command, code).await
    }

    async fn expect(&mut self, command: &'static str, wanted: u16) -> Result<(), BenchError> {
        let mut last = Vec::new();
        let code = read_reply(&mut self.wire, |text| text.clone_into(&mut last)).await?;
        if code == wanted {
            return Ok(());
        }
        let mut line = format!("{code} ").into_bytes();
        line.extend_from_slice(&last);
        Err(BenchError::refused(command, &line))
    }
}

fn note_refusal(outcome: &mut Outcome, code: u16, wanted: u16) {
    if code / 100 != wanted / 100 && outcome.code == 0 {
        outcome.code = code;
    }
}

/// Reads one reply of one or more lines; `each` sees every line's text.
pub(crate) async fn read_reply(
    wire: &mut Wire,
    mut each: impl FnMut(&[u8]),
) -> Result<u16, BenchError> {
    loop {
        let line = wire.line().await?;
        let (code, rest) = line
            .split_at_checked(3)
            .ok_or_else(|| BenchError::unexpected(line))?;
        let code = std::str::from_utf8(code)
            .ok()
            .and_then(|digits| digits.parse::<u16>().ok())
            .filter(|code| (200..=599).contains(code))
            .ok_or_else(|| BenchError::unexpected(line))?;
        each(rest.get(1..).unwrap_or_default());
        if rest.first() != Some(&b'-') {
            return Ok(code);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::scripted;

    async fn client(answers: &'static [&'static [u8]], lmtp: bool) -> SmtpClient {
        let address = scripted(answers).await;
        let endpoint = Endpoint::resolve(&address, TlsMode::None).await.unwrap();
        SmtpClient::open(&endpoint, lmtp).await.unwrap()
    }

    async fn outcome(client: &mut SmtpClient) -> Outcome {
        let to = ["a@example.test".to_owned(), "b@example.test".to_owned()];
        client
            .transact("s@example.org", &to, b"x\r\n.\r\n")
            .await
            .unwrap()
    }

    // `scripted` answers one line with one element: without PIPELINING that is one command each, and the
    // message's two lines get an empty answer and the final one.
    #[tokio::test]
    async fn a_message_is_accepted_without_pipelining() {
        let mut client = client(
            &[
                b"220-two\r\n220 lines\r\n",
                b"250-mx\r\n250 SIZE\r\n",
                b"250 ok\r\n",
                b"250 ok\r\n",
                b"550 no\r\n",
                b"354 go\r\n",
                b"",
                b"250 kept\r\n",
            ],
            false,
        )
        .await;
        let outcome = outcome(&mut client).await;
        assert_eq!(outcome.code, 550);
        assert_eq!(outcome.accepted, [true, false]);
    }

    #[tokio::test]
    async fn pipelined_refusals_of_all_recipients_end_with_a_lone_dot() {
        let mut client = client(
            &[
                b"220 mx\r\n",
                b"250-mx\r\n250 PIPELINING\r\n",
                b"250 ok\r\n",
                b"451 later\r\n",
                b"550 no\r\n",
                b"354 go\r\n",
                b"554 none\r\n",
            ],
            false,
        )
        .await;
        assert!(client.pipelining);
        let outcome = outcome(&mut client).await;
        assert_eq!(outcome.code, 451);
        assert_eq!(outcome.accepted, [false, false]);
    }

    #[tokio::test]
    async fn lmtp_answers_count_for_each_recipient() {
        let mut client = client(
            &[
                b"220 mx\r\n",
                b"250 mx\r\n",
                b"250 ok\r\n",
                b"250 ok\r\n",
                b"250 ok\r\n",
                b"354 go\r\n",
                b"",
                b"250 one\r\n452 full\r\n",
            ],
            true,
        )
        .await;
        let outcome = outcome(&mut client).await;
        assert_eq!(outcome.accepted, [true, false]);
    }

    #[tokio::test]
    async fn a_refused_sender_resets_the_session() {
        let mut client = client(
            &[
                b"220 mx\r\n",
                b"250 mx\r\n",
                b"452 full\r\n",
                b"250 reset\r\n",
                b"221 bye\r\n",
            ],
            false,
        )
        .await;
        let outcome = outcome(&mut client).await;
        assert_eq!((outcome.code, outcome.accepted.len()), (452, 0));
        client.quit().await.unwrap();
    }

    #[tokio::test]
    async fn what_is_not_a_reply_is_an_error() {
        let address = scripted(&[b"+OK pop\r\n"]).await;
        let endpoint = Endpoint::resolve(&address, TlsMode::None).await.unwrap();
        let error = SmtpClient::open(&endpoint, false).await.err().unwrap();
        assert!(matches!(error, BenchError::Unexpected(_)), "{error}");
    }
}
