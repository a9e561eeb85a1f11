//! A POP3 client.

use std::io;
use std::net::SocketAddr;

use super::line::Lines;

/// A session that has logged in.
pub struct Pop3 {
    pub lines: Lines,
}

impl Pop3 {
    /// Connects and logs in.
    pub fn login(address: SocketAddr, user: &str, password: &str) -> io::Result<Self> {
        let mut pop3 = Self {
            lines: Lines::connect(address)?,
        };
        pop3.reply()?;
        pop3.say(&format!("USER {user}"))?;
        pop3.say(&format!("PASS {password}"))?;
        Ok(pop3)
    }

    fn reply(&mut self) -> io::Result<String> {
        let line = String::from_utf8_lossy(&self.lines.line()?).into_owned();
        match line.strip_prefix("+OK") {
            Some(text) => Ok(text.trim_start().to_owned()),
            None => Err(io::Error::other(line)),
        }
    }

    /// A command with an answer of one line, without `+OK`.
    pub fn say(&mut self, command: &str) -> io::Result<String> {
        self.lines.write(format!("{command}\r\n").as_bytes())?;
        self.reply()
    }

    /// A command with an answer of many lines: their content, dots unstuffed.
    pub fn read(&mut self, command: &str) -> io::Result<Vec<u8>> {
        self.say(command)?;
        let mut content = Vec::new();
        loop {
            let line = self.lines.line()?;
            if line == b"." {
                return Ok(content);
            }
            content.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
            content.extend_from_slice(b"\r\n");
        }
    }

    /// How many messages there are.
    pub fn count(&mut self) -> io::Result<usize> {
        let stat = self.say("STAT")?;
        let count = stat.split(' ').next().and_then(|count| count.parse().ok());
        count.ok_or_else(|| io::Error::other(stat))
    }
}
