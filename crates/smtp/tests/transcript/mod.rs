//! A transcript and the form it is written in.

mod play_client;
mod play_server;

/// Where the octets sent to the machine are cut into separate inputs.
#[derive(Clone, Copy, Debug)]
pub enum Cut {
    Nowhere,
    Everywhere,
    /// Once, this many octets after the start of the whole transcript.
    At(usize),
}

/// One line.
#[derive(Clone, Debug)]
pub enum Line {
    Client(Vec<u8>),
    Server(Vec<u8>),
    Never(String),
    Question { ask: String, answer: String },
    Body(Vec<u8>),
    Event(String),
    Input(String),
    Time(u64),
    Length(u64),
}

/// A transcript.
#[derive(Debug)]
pub struct Script {
    pub client: bool,
    pub settings: Vec<(String, String)>,
    pub lines: Vec<Line>,
}

impl Script {
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut script = Self {
            client: false,
            settings: Vec::new(),
            lines: Vec::new(),
        };
        for line in text.lines() {
            script.take(line).ok_or(format!("cannot read {line:?}"))?;
        }
        Ok(script)
    }

    fn take(&mut self, line: &str) -> Option<()> {
        if line.is_empty() || line.starts_with('#') {
            return Some(());
        }
        let (tag, rest) = line.split_once(' ').unwrap_or((line, ""));
        let with_crlf = || unescape(rest).map(|octets| [octets, b"\r\n".to_vec()].concat());
        let line = match tag {
            "@" if rest == "client" => {
                self.client = true;
                return Some(());
            }
            "@" => {
                let (key, value) = rest.split_once(' ')?;
                self.settings.push((key.into(), value.into()));
                return Some(());
            }
            "C:" => Line::Client(with_crlf()?),
            "C-" => Line::Client(unescape(rest)?),
            "S:" => Line::Server(with_crlf()?),
            "S-" => Line::Server(unescape(rest)?),
            "B:" => Line::Body(with_crlf()?),
            "B-" => Line::Body(unescape(rest)?),
            "!S:" | "!C:" => Line::Never(rest.into()),
            "E:" => Line::Event(rest.into()),
            "I:" => Line::Input(rest.into()),
            "T:" => Line::Time(rest.strip_prefix('+')?.strip_suffix('s')?.parse().ok()?),
            "L:" => Line::Length(rest.parse().ok()?),
            "?:" => {
                let (ask, answer) = rest.split_once(" -> ")?;
                Line::Question {
                    ask: ask.into(),
                    answer: answer.into(),
                }
            }
            _ => return None,
        };
        self.lines.push(line);
        Some(())
    }

    /// All that is sent to the machine.
    pub fn sent(&self) -> Vec<u8> {
        let sent = self.lines.iter().filter_map(|line| match line {
            Line::Client(octets) if !self.client => Some(octets.as_slice()),
            Line::Server(octets) if self.client => Some(octets.as_slice()),
            _ => None,
        });
        sent.collect::<Vec<_>>().concat()
    }

    pub fn sent_octets(&self) -> usize {
        self.sent().len()
    }

    pub fn replay(&self, cut: Cut) -> Result<(), String> {
        match self.client {
            true => play_client::play(self, cut),
            false => play_server::play(self, cut),
        }
    }
}

/// Octets of one run of lines, as separate inputs. `before` octets were sent earlier.
pub fn inputs(run: &[u8], before: usize, cut: Cut) -> Vec<&[u8]> {
    match cut {
        Cut::Nowhere => vec![run],
        Cut::Everywhere => run.chunks(1).collect(),
        Cut::At(at) if at > before && at < before + run.len() => {
            let (head, tail) = run.split_at(at - before);
            vec![head, tail]
        }
        Cut::At(_) => vec![run],
    }
}

/// Compares what came with what the transcript says, and forgets both.
pub fn settle(what: &str, expected: &mut Vec<u8>, found: &mut Vec<u8>) -> Result<(), String> {
    if expected != found {
        return Err(format!(
            "{what}: expected {:?}, found {:?}",
            expected.escape_ascii().to_string(),
            found.escape_ascii().to_string()
        ));
    }
    expected.clear();
    found.clear();
    Ok(())
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (octets, width) = match c {
            '\\' => escape(rest)?,
            '{' if rest.contains('*') => repeat(rest)?,
            c => (c.to_string().into_bytes(), c.len_utf8()),
        };
        out.extend(octets);
        rest = rest.get(width..)?;
    }
    Some(out)
}

fn escape(rest: &str) -> Option<(Vec<u8>, usize)> {
    match rest.as_bytes().get(1)? {
        b'r' => Some((vec![b'\r'], 2)),
        b'n' => Some((vec![b'\n'], 2)),
        b't' => Some((vec![b'\t'], 2)),
        b'\\' => Some((vec![b'\\'], 2)),
        b'x' => Some((vec![u8::from_str_radix(rest.get(2..4)?, 16).ok()?], 4)),
        _ => None,
    }
}

fn repeat(rest: &str) -> Option<(Vec<u8>, usize)> {
    let (inside, _) = rest.get(1..)?.split_once('}')?;
    let (text, count) = inside.rsplit_once('*')?;
    Some((
        unescape(text)?.repeat(count.parse().ok()?),
        inside.len() + 2,
    ))
}
