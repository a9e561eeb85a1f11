//! ATRN (RFC 2645): whose waiting mail an authenticated customer takes over the turned connection.

use std::fmt;

use nightmail_core::Domain;

use super::{CommandError, words};

/// Parses what follows the verb: domains parted by commas, or nothing for all that the customer may ask for.
pub(crate) fn parse(args: &[u8]) -> Result<Vec<Domain>, CommandError> {
    let bad = CommandError::Arguments;
    let mut words = words(args);
    let Some(list) = words.next() else {
        return Ok(Vec::new());
    };
    let list = std::str::from_utf8(list).map_err(|_| bad)?;
    if words.next().is_some() {
        return Err(bad);
    }
    list.split(',')
        .map(|name| Domain::parse(name).map_err(|_| bad))
        .collect()
}

/// Writes the command without its CRLF.
pub(super) fn write(f: &mut fmt::Formatter<'_>, domains: &[Domain]) -> fmt::Result {
    f.write_str("ATRN")?;
    for (index, domain) in domains.iter().enumerate() {
        let separator = if index == 0 { ' ' } else { ',' };
        write!(f, "{separator}{domain}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::command::{Command, Syntax};

    fn domain() -> impl Strategy<Value = nightmail_core::Domain> {
        "[a-z]{1,8}(\\.[a-z]{2,5}){1,2}".prop_map(|name| name.parse().unwrap())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(domains in proptest::collection::vec(domain(), 0..5)) {
            let command = Command::Atrn(domains);
            let line = command.to_string();
            prop_assert_eq!(Command::parse(line.as_bytes(), &Syntax::ALL), Ok(command));
        }
    }
}
