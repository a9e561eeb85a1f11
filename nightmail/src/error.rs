//! Why a command did not do its work, and what the process exits with.

use std::io;

use nightmail_admin::{AdminError, ClientError, ErrorKind};
use nightmail_bench::BenchError;
use nightmail_server::ServerError;
use nightmail_server::auth::AuthError;
use nightmail_server::config::ConfigError;
use thiserror::Error;

/// Exit code of what was refused or failed.
const FAILED: u8 = 1;
/// Exit code of a command, a configuration or a machine that is to be mended first.
const TO_MEND: u8 = 2;

/// Why a command did not do its work.
#[derive(Debug, Error)]
pub(crate) enum CommandError {
    /// The command cannot be carried out as given.
    #[error("{0}")]
    Usage(String),
    /// The server or the store refused.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The server could not be asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The server cannot run, or its store not be opened.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A load could not be put on.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// Reading or writing failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system says.
        source: io::Error,
    },
}

impl CommandError {
    /// Wraps an I/O error with what was being done.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// What the process exits with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => TO_MEND,
            Self::Admin(error) | Self::Client(ClientError::Answered(error)) => match error.kind {
                ErrorKind::Usage => TO_MEND,
                ErrorKind::Refused | ErrorKind::Failed => FAILED,
            },
            Self::Client(ClientError::Denied { .. } | ClientError::NotRunning { .. }) => TO_MEND,
            Self::Client(ClientError::Broken(_)) => FAILED,
            Self::Server(error) => error.exit_code(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => TO_MEND,
            Self::Bench(_) | Self::Io { .. } => FAILED,
        }
    }

    /// The error for a person, or as a JSON object with `error` and `exit_code`.
    pub(crate) fn render(&self, json: bool) -> String {
        match json {
            false => format!("nightmail: {self}"),
            true => serde_json::json!({ "error": self.to_string(), "exit_code": self.exit_code() })
                .to_string(),
        }
    }
}

impl From<ConfigError> for CommandError {
    fn from(error: ConfigError) -> Self {
        Self::Server(error.into())
    }
}

impl From<AuthError> for CommandError {
    fn from(error: AuthError) -> Self {
        Self::Server(error.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_mended_exits_with_2_and_what_is_refused_with_1() {
        let codes = [
            (CommandError::Usage("x".into()), 2),
            (AdminError::usage("x").into(), 2),
            (AdminError::refused("x").into(), 1),
            (ClientError::Answered(AdminError::failed("x")).into(), 1),
            (
                CommandError::io("x")(io::ErrorKind::PermissionDenied.into()),
                2,
            ),
            (CommandError::io("x")(io::ErrorKind::BrokenPipe.into()), 1),
        ];
        for (error, code) in codes {
            assert_eq!(error.exit_code(), code, "{error:?}");
        }
    }

    #[test]
    fn an_error_is_one_json_object_where_json_is_asked_for() {
        let rendered = CommandError::Usage("a \"b\"".into()).render(true);
        let value: serde_json::Value = serde_json::from_str(&rendered).unwrap();
        assert_eq!(value["error"], "a \"b\"");
        assert_eq!(value["exit_code"], 2);
    }
}
