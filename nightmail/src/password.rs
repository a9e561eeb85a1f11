//! Where a new password comes from: the command line, a file, or the operator's fingers.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Args;
use nightmail_admin::Password;
use nightmail_server::config::read_secret;

use crate::error::CommandError;

/// Where a password comes from. Without any of these it is asked for, or read from the first line of standard input.
#[derive(Debug, Args)]
pub(crate) struct PasswordArgs {
    /// The password. Other users of this machine can see it in the process list.
    #[arg(long, group = "password-source")]
    password: Option<String>,
    /// A file whose first line is the password.
    #[arg(long, group = "password-source", value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// No password: nobody can log in.
    #[arg(long, group = "password-source")]
    no_password: bool,
}

impl PasswordArgs {
    /// The password; `None` where there is to be none.
    pub(crate) fn get(self) -> Result<Option<Password>, CommandError> {
        if self.no_password {
            return Ok(None);
        }
        if let Some(password) = self.password {
            return sound(&password);
        }
        if let Some(path) = self.password_file {
            let says = format!("cannot read the password from {}", path.display());
            let secret = read_secret(&path).map_err(CommandError::io(says))?;
            return sound(secret.expose());
        }
        let stdin = io::stdin();
        match stdin.is_terminal() {
            true => ask(),
            false => sound(&read_line()?),
        }
    }
}

fn sound(password: &str) -> Result<Option<Password>, CommandError> {
    match password {
        "" => Err(CommandError::Usage(
            "the password is empty; give one, or --no-password for an account that nobody logs in to"
                .to_owned(),
        )),
        password => Ok(Some(Password::new(password))),
    }
}

fn ask() -> Result<Option<Password>, CommandError> {
    let echo = NoEcho::begin();
    let first = prompt("Password: ")?;
    let second = prompt("Once more: ")?;
    drop(echo);
    if first != second {
        return Err(CommandError::Usage(
            "the two passwords differ; try again".to_owned(),
        ));
    }
    sound(&first)
}

fn prompt(text: &str) -> Result<String, CommandError> {
    let mut terminal = io::stderr();
    let _ = write!(terminal, "{text}").and_then(|()| terminal.flush());
    let line = read_line();
    let _ = writeln!(terminal);
    line
}

fn read_line() -> Result<String, CommandError> {
    let mut line = String::new();
    let read = io::stdin().lock().read_line(&mut line);
    read.map_err(CommandError::io(
        "cannot read the password from standard input",
    ))?;
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

/// Keeps the terminal from showing what is typed, until dropped.
struct NoEcho;

impl NoEcho {
    fn begin() -> Self {
        stty("-echo");
        Self
    }
}

impl Drop for NoEcho {
    fn drop(&mut self) {
        stty("echo");
    }
}

/// A terminal that cannot be set only shows the password.
fn stty(mode: &str) {
    let _ = Command::new("stty")
        .arg(mode)
        .stderr(Stdio::null())
        .status();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> PasswordArgs {
        PasswordArgs {
            password: None,
            password_file: None,
            no_password: false,
        }
    }

    #[test]
    fn the_password_is_the_argument_or_the_first_line_of_the_file() {
        let given = PasswordArgs {
            password: Some("a b".into()),
            ..args()
        };
        assert_eq!(given.get().unwrap(), Some(Password::new("a b")));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "first\nsecond\n").unwrap();
        let given = PasswordArgs {
            password_file: Some(file.path().to_owned()),
            ..args()
        };
        assert_eq!(given.get().unwrap(), Some(Password::new("first")));
        assert_eq!(
            PasswordArgs {
                no_password: true,
                ..args()
            }
            .get()
            .unwrap(),
            None
        );
    }

    #[test]
    fn an_empty_password_is_refused() {
        let given = PasswordArgs {
            password: Some(String::new()),
            ..args()
        };
        assert_eq!(given.get().unwrap_err().exit_code(), 2);
    }
}
