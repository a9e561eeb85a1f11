//! An IMAP client that keeps responses as they come.

use std::io;
use std::net::SocketAddr;

use super::line::Lines;

/// A connection.
pub struct Imap {
    pub lines: Lines,
    tag: u32,
}

/// A response: its lines joined with what literals held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The text, literals left out: `* 1 FETCH (BODY[] {12})`.
    pub text: String,
    /// The literals in order.
    pub literals: Vec<Vec<u8>>,
}

/// What a command came to.
#[derive(Debug, Clone)]
pub struct Answer {
    /// `OK …`, `NO …` or `BAD …`.
    pub status: String,
    /// Untagged responses.
    pub untagged: Vec<Response>,
}

impl Answer {
    /// The untagged responses that hold a word.
    pub fn with(&self, word: &str) -> Vec<&Response> {
        self.untagged
            .iter()
            .filter(|response| response.text.contains(word))
            .collect()
    }

    /// The command must have been carried out.
    pub fn ok(self) -> Self {
        assert!(self.status.starts_with("OK"), "{}", self.status);
        self
    }
}

impl Imap {
    /// Connects and reads the greeting.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::over(Lines::connect(address)?)
    }

    /// Reads the greeting on a connection.
    pub fn over(lines: Lines) -> io::Result<Self> {
        let mut imap = Self { lines, tag: 0 };
        let greeting = imap.response()?;
        match greeting.text.starts_with("* OK") {
            true => Ok(imap),
            false => Err(io::Error::other(greeting.text)),
        }
    }

    /// Connects, logs in and selects a mailbox.
    pub fn open(
        address: SocketAddr,
        user: &str,
        password: &str,
        mailbox: &str,
    ) -> io::Result<Self> {
        let mut imap = Self::connect(address)?;
        imap.enter(user, password, mailbox)?;
        Ok(imap)
    }

    /// Logs in and selects a mailbox.
    pub fn enter(&mut self, user: &str, password: &str, mailbox: &str) -> io::Result<()> {
        for command in [
            format!("LOGIN {user} {password}"),
            format!("SELECT \"{mailbox}\""),
        ] {
            let answer = self.say(&command)?;
            if !answer.status.starts_with("OK") {
                return Err(io::Error::other(answer.status));
            }
        }
        Ok(())
    }

    /// Sends a command without waiting; gives its tag.
    pub fn start(&mut self, command: &str) -> io::Result<String> {
        self.tag += 1;
        let tag = format!("t{}", self.tag);
        self.lines
            .write(format!("{tag} {command}\r\n").as_bytes())?;
        Ok(tag)
    }

    /// Sends a command and reads to its end.
    pub fn say(&mut self, command: &str) -> io::Result<Answer> {
        let tag = self.start(command)?;
        self.finish(&tag)
    }

    /// Reads up to the tagged response.
    pub fn finish(&mut self, tag: &str) -> io::Result<Answer> {
        let mut untagged = Vec::new();
        loop {
            let response = self.response()?;
            match response.text.strip_prefix(tag) {
                Some(status) => {
                    let status = status.trim_start().to_owned();
                    return Ok(Answer { status, untagged });
                }
                None => untagged.push(response),
            }
        }
    }

    /// One response with its literals.
    pub fn response(&mut self) -> io::Result<Response> {
        let (mut text, mut literals) = (String::new(), Vec::new());
        loop {
            let line = String::from_utf8_lossy(&self.lines.line()?).into_owned();
            text.push_str(&line);
            let literal = line
                .strip_suffix('}')
                .and_then(|line| line.rsplit_once('{'));
            match literal.and_then(|(_, count)| count.parse().ok()) {
                Some(count) => literals.push(self.lines.octets(count)?),
                None => return Ok(Response { text, literals }),
            }
        }
    }

    /// Appends a message.
    pub fn append(&mut self, mailbox: &str, flags: &str, message: &[u8]) -> io::Result<Answer> {
        let tag = self.start(&format!(
            "APPEND \"{mailbox}\" ({flags}) {{{}}}",
            message.len()
        ))?;
        let ready = self.response()?;
        if !ready.text.starts_with('+') {
            return Err(io::Error::other(ready.text));
        }
        self.lines.write(message)?;
        self.lines.write(b"\r\n")?;
        self.finish(&tag)
    }

    /// UID and one body section of every message in the selected mailbox, by sequence number.
    pub fn bodies(&mut self, section: &str) -> io::Result<Vec<(u32, Vec<u8>)>> {
        let answer = self.say(&format!("FETCH 1:* (UID BODY.PEEK[{section}])"))?;
        sections(&answer)
    }

    /// UID and the one body section that a FETCH command asks for, of every message that it names. Fails where the
    /// server does not carry the command out.
    pub fn bodies_of(&mut self, command: &str) -> io::Result<Vec<(u32, Vec<u8>)>> {
        let answer = self.say(command)?;
        match answer.status.starts_with("OK") {
            true => sections(&answer),
            false => Err(io::Error::other(answer.status)),
        }
    }
}

fn sections(answer: &Answer) -> io::Result<Vec<(u32, Vec<u8>)>> {
    let mut bodies = Vec::new();
    for response in answer.with(" FETCH ") {
        // A change of flags may be told in between.
        if !response.text.contains("BODY[") {
            continue;
        }
        let uid = number_after(&response.text, "UID ")
            .ok_or_else(|| io::Error::other(response.text.clone()))?;
        let body = match response.literals.first() {
            Some(body) => body.clone(),
            None => quoted(&response.text),
        };
        bodies.push((uid, body));
    }
    Ok(bodies)
}

/// The number that follows a word.
pub fn number_after(text: &str, word: &str) -> Option<u32> {
    let (_, after) = text.split_once(word)?;
    let digits = after.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// The last quoted string of a response.
fn quoted(text: &str) -> Vec<u8> {
    let inner = text.trim_end_matches(')').strip_suffix('"');
    let start = text.find("] \"").map(|at| at + 3);
    match (inner, start) {
        (Some(inner), Some(start)) => inner
            .get(start..)
            .unwrap_or_default()
            .replace("\\\"", "\"")
            .replace("\\\\", "\\")
            .into_bytes(),
        _ => Vec::new(),
    }
}
