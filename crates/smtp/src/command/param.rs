//! Parameters of MAIL and RCPT (RFC 5321 §4.1.2 `esmtp-param`).

use super::{CommandError, words};

/// One parameter: its keyword in capitals and its value.
pub(super) struct Param<'a> {
    pub(super) keyword: String,
    pub(super) value: Option<&'a str>,
}

impl<'a> Param<'a> {
    /// The value of a parameter that needs one.
    pub(super) fn value(&self) -> Result<&'a str, CommandError> {
        self.value.ok_or(CommandError::ParameterValue)
    }

    /// Fails where a parameter that has no value comes with one.
    pub(super) fn no_value(&self) -> Result<(), CommandError> {
        match self.value {
            None => Ok(()),
            Some(_) => Err(CommandError::ParameterValue),
        }
    }
}

/// Reads all parameters, each keyword at most once.
pub(super) fn params(rest: &[u8]) -> Result<Vec<Param<'_>>, CommandError> {
    let mut params: Vec<Param<'_>> = Vec::new();
    for word in words(rest) {
        let param = param(word)?;
        if params.iter().any(|known| known.keyword == param.keyword) {
            return Err(CommandError::ParameterTwice);
        }
        params.push(param);
    }
    Ok(params)
}

fn param(word: &[u8]) -> Result<Param<'_>, CommandError> {
    let text = std::str::from_utf8(word).map_err(|_| CommandError::ParameterValue)?;
    let (keyword, value) = match text.split_once('=') {
        Some((keyword, value)) => (keyword, Some(value)),
        None => (text, None),
    };
    let is_keyword = keyword.starts_with(|c: char| c.is_ascii_alphanumeric())
        && keyword
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if !is_keyword {
        return Err(CommandError::Arguments);
    }
    if value.is_some_and(|value| value.is_empty() || value.contains('=')) {
        return Err(CommandError::ParameterValue);
    }
    Ok(Param {
        keyword: keyword.to_ascii_uppercase(),
        value,
    })
}
