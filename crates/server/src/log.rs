//! The log: one line per event on standard error, as text or JSON, with session ids that tie lines together.
//!
//! A connection carries no span: its lines name the session explicitly (`session = %transport.session()`), so
//! that an idle connection costs no memory here. Passwords never reach a line: they travel as [`Secret`].

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use nightmail_core::SessionId;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Log, LogFormat};

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `level` is not a filter.
    #[error("`level` in [log] is not a log filter: {0}")]
    Filter(String),
    /// This process logs already.
    #[error("the log is set up already")]
    Twice,
}

/// Libraries that report each of their retries; what comes of it is reported here.
const QUIET: &str = "object_store=error,async_nats=error";

/// Sends the log of the whole process to standard error. Works once in a process.
pub fn init(config: &Log) -> Result<(), LogError> {
    // What the operator says of a part stands last and counts.
    let level = format!("{QUIET},{}", config.level);
    let filter = EnvFilter::try_new(level).map_err(|error| LogError::Filter(error.to_string()))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match config.format {
        LogFormat::Text => builder.with_ansi(false).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    started.map_err(|_| LogError::Twice)
}

/// Whether text is a log filter.
pub fn is_filter(level: &str) -> bool {
    !level.trim().is_empty() && EnvFilter::try_new(level).is_ok()
}

/// A new session id: larger than every one given before, also by earlier runs of the server.
///
/// The upper bits are the second at which the process started, the lower 24 count sessions; a run that has
/// more sessions than that since its start has lasted long enough not to meet the ids of the next.
pub fn next_session() -> SessionId {
    static START: OnceLock<u64> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let start = START.get_or_init(|| {
        let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
        elapsed.map_or(0, |elapsed| elapsed.as_secs()) << 24
    });
    SessionId::new(start.wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed)))
}

/// A password or other secret, which neither `Debug` nor `Display` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps a secret.
    pub fn new(secret: &str) -> Self {
        Self(secret.into())
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Longest part of a client's line that is shown.
const SHOWN_OCTETS_MAX: usize = 200;

/// A client's line fit for the log: control characters escaped, cut to length, and everything after a word that
/// introduces credentials (AUTH, AUTHENTICATE, LOGIN, PASS, APOP) left out.
pub fn redact_line(line: &[u8]) -> String {
    let line = line.get(..SHOWN_OCTETS_MAX).unwrap_or(line);
    let text = String::from_utf8_lossy(line);
    let mut shown = String::new();
    for word in text.split_whitespace() {
        if !shown.is_empty() {
            shown.push(' ');
        }
        shown.extend(word.chars().flat_map(char::escape_debug));
        let introduces = ["AUTH", "AUTHENTICATE", "LOGIN", "PASS", "APOP"];
        if introduces
            .iter()
            .any(|verb| verb.eq_ignore_ascii_case(word))
        {
            shown.push_str(" [secret]");
            break;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_only_grow() {
        let first = next_session();
        let second = next_session();
        assert!(second > first);
        assert!(first.get() > 1 << 24);
    }

    #[test]
    fn credentials_do_not_reach_the_log() {
        assert_eq!(redact_line(b"AUTH PLAIN AGFubgBwdw=="), "AUTH [secret]");
        assert_eq!(redact_line(b"a1 login ann pw"), "a1 login [secret]");
        assert_eq!(redact_line(b"PASS pw"), "PASS [secret]");
        assert_eq!(redact_line(b"MAIL FROM:<a@b>\0"), "MAIL FROM:<a@b>\\0");
        assert!(redact_line(&[b'x'; 10_000]).len() <= SHOWN_OCTETS_MAX);
        assert_eq!(format!("{:?} {0}", Secret::new("pw")), "[secret] [secret]");
    }

    #[test]
    fn filters_are_levels_or_lists() {
        assert!(is_filter("info") && is_filter("warn,nightmail_smtp=debug"));
        assert!(!is_filter("") && !is_filter("a=b=c"));
    }
}
