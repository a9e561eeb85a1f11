//! SORT (RFC 5256 §3, RFC 5957): the order that is asked for. Asking and telling it is that of SEARCH.

use crate::parse::{ParseError, Parser, Result};

/// More criteria than there are say nothing more.
const CRITERIA_MAX: usize = 32;

/// One criterion of an order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SortKey {
    /// What is compared.
    pub by: SortBy,
    /// Greatest first.
    pub reverse: bool,
}

/// What messages are ordered by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SortBy {
    /// INTERNALDATE.
    Arrival,
    /// The mailbox of the first Cc address.
    Cc,
    /// When it was sent (RFC 5256 §2.2).
    Date,
    /// How the first From address is displayed (RFC 5957).
    DisplayFrom,
    /// How the first To address is displayed.
    DisplayTo,
    /// The mailbox of the first From address.
    From,
    /// RFC822.SIZE.
    Size,
    /// The base subject (RFC 5256 §2.1).
    Subject,
    /// The mailbox of the first To address.
    To,
}

/// Reads the parenthesized criteria.
pub(super) fn parse_order(parser: &mut Parser<'_>) -> Result<Vec<SortKey>> {
    parser.list(CRITERIA_MAX, "sort criteria", |parser| {
        let reverse = parser.eat_word("REVERSE");
        if reverse {
            parser.space()?;
        }
        let by = match parser.atom()?.to_ascii_uppercase().as_str() {
            "ARRIVAL" => SortBy::Arrival,
            "CC" => SortBy::Cc,
            "DATE" => SortBy::Date,
            "DISPLAYFROM" => SortBy::DisplayFrom,
            "DISPLAYTO" => SortBy::DisplayTo,
            "FROM" => SortBy::From,
            "SIZE" => SortBy::Size,
            "SUBJECT" => SortBy::Subject,
            "TO" => SortBy::To,
            _ => return Err(ParseError::Syntax("no such sort criterion")),
        };
        Ok(SortKey { by, reverse })
    })
}
