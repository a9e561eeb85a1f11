//! An SMTP or LMTP client that says what it is told.

use std::io;
use std::net::SocketAddr;

use super::line::Lines;

/// A connection that has been greeted.
pub struct Smtp {
    pub lines: Lines,
}

/// A reply: its code and its text lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    pub text: String,
}

impl Smtp {
    /// Connects, reads the greeting and says EHLO.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::greet(address, "EHLO client.test")
    }

    /// The same for LMTP.
    pub fn lmtp(address: SocketAddr) -> io::Result<Self> {
        Self::greet(address, "LHLO client.test")
    }

    fn greet(address: SocketAddr, hello: &str) -> io::Result<Self> {
        Self::over(Lines::connect(address)?, hello)
    }

    /// Reads the greeting on a connection and answers it.
    pub fn over(lines: Lines, hello: &str) -> io::Result<Self> {
        let mut smtp = Self { lines };
        let greeting = smtp.reply()?;
        if greeting.code != 220 {
            return Err(io::Error::other(format!("{greeting:?}")));
        }
        smtp.say(hello)?;
        Ok(smtp)
    }

    /// The next reply.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut text = String::new();
        loop {
            let line = String::from_utf8_lossy(&self.lines.line()?).into_owned();
            let (code, rest) = line
                .split_at_checked(3)
                .ok_or_else(|| io::Error::other(line.clone()))?;
            let code = code.parse().map_err(|_| io::Error::other(line.clone()))?;
            text.push_str(rest.get(1..).unwrap_or_default());
            if !rest.starts_with('-') {
                return Ok(Reply { code, text });
            }
            text.push('\n');
        }
    }

    /// Sends a command and gives its reply.
    pub fn say(&mut self, command: &str) -> io::Result<Reply> {
        self.lines.write(format!("{command}\r\n").as_bytes())?;
        self.reply()
    }

    /// Sends a message with DATA. Gives the reply that ended it: to its end, or to what was refused before.
    pub fn send(&mut self, from: &str, to: &[&str], message: &[u8]) -> io::Result<Reply> {
        self.send_with(from, "BODY=8BITMIME", to, message)
    }

    /// The same with parameters of MAIL.
    pub fn send_with(
        &mut self,
        from: &str,
        params: &str,
        to: &[&str],
        message: &[u8],
    ) -> io::Result<Reply> {
        let begun = self.begin(from, params, to)?;
        if begun.code != 354 {
            return Ok(begun);
        }
        self.lines.write(&stuff(message))?;
        self.reply()
    }

    /// Everything up to the reply to DATA; a refusal is followed by RSET.
    pub fn begin(&mut self, from: &str, params: &str, to: &[&str]) -> io::Result<Reply> {
        let mail = format!("MAIL FROM:<{from}> {params}");
        let rcpts = to.iter().map(|to| format!("RCPT TO:<{to}>"));
        for command in [mail].into_iter().chain(rcpts) {
            let reply = self.say(command.trim_end())?;
            if reply.code >= 300 {
                self.say("RSET")?;
                return Ok(reply);
            }
        }
        self.say("DATA")
    }

    /// Sends a message of any octets with BDAT.
    pub fn send_binary(&mut self, from: &str, to: &str, message: &[u8]) -> io::Result<Reply> {
        for command in [
            format!("MAIL FROM:<{from}> BODY=BINARYMIME"),
            format!("RCPT TO:<{to}>"),
        ] {
            let reply = self.say(&command)?;
            if reply.code >= 300 {
                self.say("RSET")?;
                return Ok(reply);
            }
        }
        self.lines
            .write(format!("BDAT {} LAST\r\n", message.len()).as_bytes())?;
        self.lines.write(message)?;
        self.reply()
    }
}

/// The message as DATA carries it, with its end.
pub fn stuff(message: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(message.len() + 64);
    for line in message.split_inclusive(|octet| *octet == b'\n') {
        if line.starts_with(b".") {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line);
    }
    if !stuffed.ends_with(b"\r\n") && !stuffed.is_empty() {
        stuffed.extend_from_slice(b"\r\n");
    }
    stuffed.extend_from_slice(b".\r\n");
    stuffed
}
