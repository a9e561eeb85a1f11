//! What an error of the server means for what was asked.

use std::fmt;

use nightmail_engine::EngineError;
use tokio_postgres::error::SqlState;

use crate::connect::{ConnectError, describe};

/// What went wrong, by what can be done about it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The connection or the server is gone. What was under way may have been done or not.
    Lost(String),
    /// A condition that a statement states does not hold: a row is not as expected, or there is one already.
    Unmet(String),
    /// The server gave up for the sake of others; the same may work when asked again.
    Again(String),
    /// No space is left.
    Full(String),
    /// The server will not do it, now or later.
    Refused(String),
    /// What the server read is not what it wrote.
    Corrupt(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Lost(text)
        | Self::Unmet(text)
        | Self::Again(text)
        | Self::Full(text)
        | Self::Refused(text)
        | Self::Corrupt(text)) = self;
        f.write_str(text)
    }
}

/// Codes of appendix A of PostgreSQL's documentation; a whole class where it ends with its two characters.
fn classify(code: &str) -> fn(String) -> Fault {
    match code {
        "22012" | "23505" => Fault::Unmet,
        "40001" | "40P01" | "55P03" | "57014" => Fault::Again,
        "53100" => Fault::Full,
        "XX001" | "XX002" => Fault::Corrupt,
        // A standby; a statement that a pooler has forgotten; a plan that a migration has outdated; timeouts.
        "25006" | "26000" | "0A000" | "25P03" | "25P04" => Fault::Lost,
        _ if ["08", "53", "57"]
            .iter()
            .any(|class| code.starts_with(class)) =>
        {
            Fault::Lost
        }
        _ => Fault::Refused,
    }
}

impl From<&tokio_postgres::Error> for Fault {
    fn from(error: &tokio_postgres::Error) -> Self {
        let kind = error.code().map_or(Self::Lost as fn(_) -> _, |code| {
            classify(SqlState::code(code))
        });
        kind(describe(error))
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::from(&error)
    }
}

impl From<ConnectError> for Fault {
    fn from(error: ConnectError) -> Self {
        match &error {
            ConnectError::Server(server) => Self::from(server),
            ConnectError::Tls(_) => Self::Refused(error.to_string()),
            ConnectError::Silent(_) => Self::Lost(error.to_string()),
        }
    }
}

impl From<Fault> for EngineError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Lost(text) | Fault::Again(text) => Self::Unavailable(text),
            Fault::Full(text) => Self::Full(text),
            Fault::Corrupt(text) => Self::Corrupt(text),
            Fault::Unmet(text) | Fault::Refused(text) => Self::Io(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_mean_what_can_be_done_about_them() {
        let kinds = [
            ("22012", Fault::Unmet(String::new())),
            ("40P01", Fault::Again(String::new())),
            ("53100", Fault::Full(String::new())),
            ("53300", Fault::Lost(String::new())),
            ("57014", Fault::Again(String::new())),
            ("57P01", Fault::Lost(String::new())),
            ("08006", Fault::Lost(String::new())),
            ("25006", Fault::Lost(String::new())),
            ("42P01", Fault::Refused(String::new())),
            ("28P01", Fault::Refused(String::new())),
            ("XX001", Fault::Corrupt(String::new())),
        ];
        for (code, fault) in kinds {
            assert_eq!(classify(code)(String::new()), fault, "{code}");
        }
    }
}
