//! The IMAP client: sends a command, reads answers up to its tagged one, and keeps only what loads need
//! (RFC 3501, RFC 9051, RFC 7888). Literals are counted and passed over, never held.

use std::net::IpAddr;

use crate::args::TlsMode;
use crate::error::BenchError;
use crate::wire::{Endpoint, Wire};

/// What the answers to one command told.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The last `* n EXISTS`.
    pub(crate) exists: Option<u64>,
    /// MESSAGES of the last `* STATUS`.
    pub(crate) messages: Option<u64>,
    /// Literals, and their bytes.
    pub(crate) literals: u64,
    pub(crate) literal_bytes: u64,
    /// Untagged FETCH answers.
    pub(crate) fetches: u64,
    /// A CAPABILITY answer or code that holds LITERAL+ or LITERAL-.
    literal_plus: bool,
    literal_minus: bool,
}

/// One IMAP session.
pub(crate) struct ImapClient {
    wire: Wire,
    tag: u32,
    out: Vec<u8>,
    literal_plus: bool,
    literal_minus: bool,
}

/// Longest literal that LITERAL- lets be sent at once, in bytes (RFC 7888 §5).
const LITERAL_MINUS_MAX: usize = 4096;

impl ImapClient {
    /// Connects, reads the greeting and, where that is the mode, starts TLS.
    pub(crate) async fn open(endpoint: &Endpoint) -> Result<Self, BenchError> {
        Self::open_from(endpoint, None).await
    }

    /// The same from an address of this machine.
    pub(crate) async fn open_from(
        endpoint: &Endpoint,
        from: Option<IpAddr>,
    ) -> Result<Self, BenchError> {
        let mut client = Self {
            wire: endpoint.connect_from(from).await?,
            tag: 0,
            out: Vec::new(),
            literal_plus: false,
            literal_minus: false,
        };
        let greeting = client.wire.line().await?;
        if !greeting.starts_with(b"* OK") {
            return Err(BenchError::refused("greeting", greeting));
        }
        if endpoint.tls == TlsMode::Starttls {
            client.command("STARTTLS", "").await?;
            client.wire = endpoint.encrypt(client.wire).await?;
        }
        Ok(client)
    }

    /// LOGIN; asks for the capabilities when the answer did not tell them.
    pub(crate) async fn login(&mut self, user: &str, password: &str) -> Result<(), BenchError> {
        let arguments = format!(" \"{user}\" \"{password}\"");
        let seen = self.command("LOGIN", &arguments).await?;
        self.literal_plus = seen.literal_plus;
        self.literal_minus = seen.literal_minus;
        Ok(())
    }

    /// SELECT INBOX; how many messages are in it.
    pub(crate) async fn select(&mut self) -> Result<u64, BenchError> {
        let seen = self.command("SELECT", " INBOX").await?;
        Ok(seen.exists.unwrap_or(0))
    }

    /// STATUS INBOX (MESSAGES).
    pub(crate) async fn inbox_messages(&mut self) -> Result<u64, BenchError> {
        let seen = self.command("STATUS", " INBOX (MESSAGES)").await?;
        seen.messages
            .ok_or_else(|| BenchError::Unexpected("STATUS told no MESSAGES".into()))
    }

    /// LOGOUT.
    pub(crate) async fn logout(mut self) -> Result<(), BenchError> {
        self.command("LOGOUT", "").await.map(drop)
    }

    /// Sends a command and reads to its end. `arguments` starts with a space, or is empty.
    pub(crate) async fn command(
        &mut self,
        name: &'static str,
        arguments: &str,
    ) -> Result<Seen, BenchError> {
        self.start(name, arguments);
        self.out.extend_from_slice(b"\r\n");
        self.wire.send(&self.out).await?;
        self.completion(name).await
    }

    /// APPEND to INBOX: at once when the server takes such literals, else after its continuation.
    pub(crate) async fn append(&mut self, message: &[u8]) -> Result<(), BenchError> {
        let size = message.len();
        let at_once = self.literal_plus || self.literal_minus && size <= LITERAL_MINUS_MAX;
        let plus = if at_once { "+" } else { "" };
        self.start("APPEND", &format!(" INBOX {{{size}{plus}}}"));
        self.out.extend_from_slice(b"\r\n");
        if !at_once {
            self.wire.send(&self.out).await?;
            self.out.clear();
            self.continuation("APPEND").await?;
        }
        self.out.extend_from_slice(message);
        self.out.extend_from_slice(b"\r\n");
        self.wire.send(&self.out).await?;
        self.completion("APPEND").await.map(drop)
    }

    /// Enters IDLE (RFC 2177) and stays there.
    pub(crate) async fn idle(&mut self) -> Result<(), BenchError> {
        self.start("IDLE", "");
        self.out.extend_from_slice(b"\r\n");
        self.wire.send(&self.out).await?;
        self.continuation("IDLE").await
    }

    /// Waits, in IDLE, until the server tells of a message that came.
    pub(crate) async fn told_of_message(&mut self) -> Result<(), BenchError> {
        loop {
            let line = self.wire.line().await?;
            if line.starts_with(b"* ") && line.ends_with(b" EXISTS") {
                return Ok(());
            }
        }
    }

    /// Gives back the memory that an idle connection does not need.
    pub(crate) fn shrink(&mut self) {
        self.out = Vec::new();
    }

    fn start(&mut self, name: &str, arguments: &str) {
        use std::io::Write as _;
        self.tag += 1;
        self.out.clear();
        // Writing to a vector does not fail.
        let _ = write!(self.out, "a{} {name}{arguments}", self.tag);
    }

    async fn continuation(&mut self, command: &'static str) -> Result<(), BenchError> {
        loop {
            let line = self.wire.line().await?;
            match line.first() {
                Some(b'+') => return Ok(()),
                Some(b'*') => {}
                _ => return Err(BenchError::refused(command, line)),
            }
        }
    }

    /// Reads answers up to the tagged one, which must be OK.
    async fn completion(&mut self, command: &'static str) -> Result<Seen, BenchError> {
        let tag = format!("a{} ", self.tag);
        let mut seen = Seen::default();
        let mut continues_literal = false;
        loop {
            let line = self.wire.line().await?;
            let size = literal_size(line);
            if !continues_literal {
                if let Some(status) = line.strip_prefix(tag.as_bytes()) {
                    seen.note_capabilities(status);
                    return match status.starts_with(b"OK") {
                        true => Ok(seen),
                        false => Err(BenchError::refused(command, status)),
                    };
                }
                seen.note(line);
            }
            continues_literal = size.is_some();
            if let Some(size) = size {
                seen.literals += 1;
                seen.literal_bytes += size;
                self.wire.skip(size).await?;
            }
        }
    }
}

impl Seen {
    fn note(&mut self, line: &[u8]) {
        let mut words = line.split(|byte| *byte == b' ').skip(1);
        let (Some(first), Some(second)) = (words.next(), words.next()) else {
            return;
        };
        if second.eq_ignore_ascii_case(b"EXISTS") {
            self.exists = number(first);
        } else if second.eq_ignore_ascii_case(b"FETCH") {
            self.fetches += 1;
        } else if first.eq_ignore_ascii_case(b"STATUS") {
            let at = line.windows(9).position(|nine| nine == b"MESSAGES ");
            let rest = at.and_then(|at| line.get(at + 9..)).unwrap_or_default();
            self.messages = number(rest);
        } else {
            self.note_capabilities(line);
        }
    }

    fn note_capabilities(&mut self, line: &[u8]) {
        for word in line.split(|byte| matches!(byte, b' ' | b']')) {
            self.literal_plus |= word.eq_ignore_ascii_case(b"LITERAL+");
            self.literal_minus |= word.eq_ignore_ascii_case(b"LITERAL-");
        }
    }
}

/// The number that `text` starts with.
fn number(text: &[u8]) -> Option<u64> {
    let end = text.iter().position(|byte| !byte.is_ascii_digit());
    let digits = text.get(..end.unwrap_or(text.len()))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The size of the literal that a line announces at its end.
fn literal_size(line: &[u8]) -> Option<u64> {
    let inner = line.strip_suffix(b"}")?;
    let open = inner.iter().rposition(|byte| *byte == b'{')?;
    let digits = inner.get(open + 1..)?;
    match digits.iter().all(u8::is_ascii_digit) {
        true => number(digits),
        false => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::tests::scripted;

    async fn client(answers: &'static [&'static [u8]]) -> Result<ImapClient, BenchError> {
        let address = scripted(answers).await;
        let endpoint = Endpoint::resolve(&address, TlsMode::None).await?;
        let mut client = ImapClient::open(&endpoint).await?;
        client.login("u", "p").await?;
        Ok(client)
    }

    #[tokio::test]
    async fn a_session_is_read_past_literals_that_look_like_answers() {
        let mut client = client(&[
            b"* OK ready\r\n",
            b"a1 OK [CAPABILITY IMAP4rev1 LITERAL+] in\r\n",
            b"* FLAGS (\\Seen)\r\n* 23 EXISTS\r\na2 OK [READ-WRITE] done\r\n",
            b"* 1 FETCH (BODY[] {9}\r\na3 BAD \r\n FLAGS ())\r\n* 2 FETCH (BODY[] {0}\r\n)\r\na3 OK\r\n",
            b"* STATUS INBOX (MESSAGES 42)\r\na4 OK\r\n",
        ])
        .await
        .unwrap();
        assert!(client.literal_plus);
        assert_eq!(client.select().await.unwrap(), 23);
        let seen = client.command("FETCH", " 1:2 BODY[]").await.unwrap();
        assert_eq!((seen.literals, seen.literal_bytes, seen.fetches), (2, 9, 2));
        assert_eq!(client.inbox_messages().await.unwrap(), 42);
    }

    #[tokio::test]
    async fn append_waits_for_the_continuation_without_literal_plus() {
        let mut client = client(&[
            b"* OK ready\r\n",
            b"a1 OK in\r\n",
            b"* 5 EXISTS\r\n+ go\r\n",
            b"",
            b"a2 OK [APPENDUID 1 6] done\r\n",
        ])
        .await
        .unwrap();
        client.append(b"x\r\n").await.unwrap();
    }

    #[tokio::test]
    async fn a_refused_login_quotes_the_answer() {
        let error = client(&[b"* OK ready\r\n", b"a1 NO [AUTHENTICATIONFAILED] no\r\n"])
            .await
            .err()
            .unwrap();
        assert_eq!(
            error.to_string(),
            "LOGIN was answered: NO [AUTHENTICATIONFAILED] no"
        );
    }

    #[test]
    fn literal_sizes_are_read_at_the_end_only() {
        assert_eq!(literal_size(b"* 1 FETCH (BODY[] {120}"), Some(120));
        assert_eq!(literal_size(b"* OK {12} x"), None);
        assert_eq!(literal_size(b"* OK {x}"), None);
    }
}
