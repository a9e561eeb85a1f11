//! The command line's vocabulary: what every workload takes.

use std::str::FromStr;

use clap::{Args, Subcommand, ValueEnum};

use crate::workload::hole::HoleArgs;
use crate::workload::imap::ImapArgs;
use crate::workload::mailbox::MailboxArgs;
use crate::workload::pop3::Pop3Args;
use crate::workload::relay::RelayArgs;
use crate::workload::sink::SinkArgs;
use crate::workload::smtp::SmtpArgs;
use crate::workload::source::SourceArgs;

/// The kinds of load.
#[derive(Debug, Clone, Subcommand)]
pub enum BenchCommand {
    /// Send messages over SMTP or LMTP.
    Smtp(SmtpArgs),
    /// Read, store and append over IMAP.
    Imap(ImapArgs),
    /// Time what one client does to a large mailbox.
    Mailbox(MailboxArgs),
    /// Empty maildrops, or only log in, over POP3.
    Pop3(Pop3Args),
    /// Send messages for other sites over SMTP, doing wrong what is wanted.
    Source(SourceArgs),
    /// Accept every message sent to a port, and count them, doing wrong what is wanted.
    Sink(SinkArgs),
    /// Send messages for other sites, and take them in again from the server that relays them.
    Relay(RelayArgs),
    /// Listen on many addresses and never say anything.
    Hole(HoleArgs),
}

impl BenchCommand {
    /// Whether the report is wanted as JSON.
    pub fn json(&self) -> bool {
        match self {
            Self::Smtp(args) => args.load.json,
            Self::Imap(args) => args.load.json,
            Self::Mailbox(args) => args.load.json,
            Self::Pop3(args) => args.load.json,
            Self::Source(args) => args.load.json,
            Self::Sink(args) => args.json,
            Self::Relay(args) => args.source.load.json,
            Self::Hole(_) => false,
        }
    }
}

/// How much load, from whom, and what to watch meanwhile.
#[derive(Debug, Clone, Args)]
pub struct LoadArgs {
    /// Connections held at once.
    #[arg(short = 'c', long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub connections: u32,
    /// Operations at most (messages, or what the workload repeats).
    #[arg(short = 'n', long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub count: u64,
    /// Seconds at most.
    #[arg(short = 't', long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// Users the load is spread over.
    #[arg(short = 'u', long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub users: u32,
    /// A user's name: `{}` stands for the number from 1, `{:04}` for it in four digits.
    #[arg(
        long,
        visible_alias = "recipient-template",
        default_value = "u{:04}@example.test"
    )]
    pub user_template: UserTemplate,
    /// Encryption of the connection; any certificate is accepted.
    #[arg(long, value_enum, default_value_t = TlsMode::None)]
    pub tls: TlsMode,
    /// Seed of the message corpus and of every random choice.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Server process to watch: memory, processor time and bytes written (repeatable).
    #[arg(long, value_name = "PID")]
    pub server_pid: Vec<u32>,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Show no progress on standard error.
    #[arg(long)]
    pub quiet: bool,
}

impl LoadArgs {
    /// The name of the user that the `turn`-th of an endless round falls on.
    pub fn user(&self, turn: u64) -> String {
        self.user_template.render(self.user_index(turn) + 1)
    }

    /// Which user, from 0, the `turn`-th of an endless round falls on.
    pub fn user_index(&self, turn: u64) -> u64 {
        turn % u64::from(self.users.max(1))
    }
}

/// How a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TlsMode {
    /// In the clear.
    None,
    /// By STARTTLS or STLS after the greeting.
    Starttls,
    /// From the first byte.
    Implicit,
}

/// A user name with one numbered place, such as `u{:04}@example.test`, or one user's name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserTemplate {
    prefix: String,
    /// Digits of the number at least; none where there is no place for it.
    width: Option<usize>,
    suffix: String,
}

impl UserTemplate {
    /// The name of user `number`.
    pub fn render(&self, number: u64) -> String {
        let Self {
            prefix,
            width,
            suffix,
        } = self;
        match *width {
            Some(width) => format!("{prefix}{number:0width$}{suffix}"),
            None => prefix.clone(),
        }
    }
}

impl FromStr for UserTemplate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text
            .bytes()
            .any(|b| b.is_ascii_control() || matches!(b, b'"' | b'\\'))
        {
            return Err("control characters, quotes and backslashes cannot be used".to_owned());
        }
        let Some((prefix, rest)) = text.split_once('{') else {
            return Ok(Self {
                prefix: text.to_owned(),
                width: None,
                suffix: String::new(),
            });
        };
        let (inner, suffix) = rest
            .split_once('}')
            .ok_or_else(|| "`{` without `}`".to_owned())?;
        let digits = inner.strip_prefix(':').unwrap_or(inner);
        let width = match digits {
            "" => 0,
            _ => digits
                .parse()
                .ok()
                .filter(|width| *width <= 20)
                .ok_or_else(|| format!("`{{{inner}}}` is not `{{}}` or `{{:04}}`"))?,
        };
        Ok(Self {
            prefix: prefix.to_owned(),
            width: Some(width),
            suffix: suffix.to_owned(),
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        command: BenchCommand,
    }

    pub(crate) fn parse<'a>(words: impl IntoIterator<Item = &'a str>) -> BenchCommand {
        let line = ["bench"].into_iter().chain(words);
        Line::try_parse_from(line).unwrap().command
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Line::command().debug_assert();
    }

    #[test]
    fn a_template_numbers_its_users() {
        let template: UserTemplate = "u{:04}@example.test".parse().unwrap();
        assert_eq!(template.render(7), "u0007@example.test");
        assert_eq!("box{}".parse::<UserTemplate>().unwrap().render(7), "box7");
        let one: UserTemplate = "one@example.test".parse().unwrap();
        assert_eq!(one.render(7), "one@example.test");
    }

    #[test]
    fn a_broken_template_is_refused() {
        for text in ["u{", "u{:x}", "u\r\n{}", "\"{}"] {
            assert!(text.parse::<UserTemplate>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn load_is_bounded_in_count_and_time() {
        let BenchCommand::Smtp(args) = parse(["smtp", "127.0.0.1:25"]) else {
            panic!("not smtp");
        };
        assert_eq!((args.load.count, args.load.seconds), (10_000, 30));
        let zero = Line::try_parse_from(["bench", "smtp", "127.0.0.1:25", "-t", "0"]);
        assert!(zero.is_err());
    }
}
