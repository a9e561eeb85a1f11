//! Flags (RFC 3501 §9 `flag`, `flag-list`).

use nightmail_core::Flags;

use super::{ParseError, Parser, Result};
use crate::flag::{FlagList, Keyword};

impl Parser<'_> {
    /// A keyword.
    pub fn keyword(&mut self) -> Result<Keyword> {
        let text = self.atom()?;
        if text.len() > self.limits().keyword_octets_max {
            return Err(ParseError::Syntax("the keyword is too long"));
        }
        Keyword::new(text).ok_or(ParseError::Syntax("expected a keyword"))
    }

    /// Adds one flag to a list. `\Recent` cannot be named: it is the server's.
    fn flag(&mut self, list: &mut FlagList) -> Result<()> {
        if self.eat(b'\\') {
            let flag = Flags::parse(&format!("\\{}", self.atom()?));
            list.flags = list.flags | flag.ok_or(ParseError::Syntax("no such system flag"))?;
        } else {
            let keyword = self.keyword()?;
            list.add_keyword(keyword);
        }
        Ok(())
    }

    /// Flags in parentheses, possibly none.
    pub fn flag_list(&mut self) -> Result<FlagList> {
        self.expect(b'(', "expected a list of flags")?;
        let mut list = FlagList::default();
        if !self.eat(b')') {
            self.flags_until(&mut list, |parser| parser.eat(b')'))?;
        }
        Ok(list)
    }

    /// Flags to the end of the command, at least one, with or without parentheses.
    pub fn final_flags(&mut self) -> Result<FlagList> {
        if self.peek() == Some(b'(') {
            return self.flag_list();
        }
        let mut list = FlagList::default();
        self.flags_until(&mut list, |parser| parser.is_at_end())?;
        Ok(list)
    }

    fn flags_until(&mut self, list: &mut FlagList, ended: fn(&mut Self) -> bool) -> Result<()> {
        self.flag(list)?;
        let mut count = 1;
        while !ended(self) {
            self.space()?;
            self.flag(list)?;
            count += 1;
            if count > self.limits().flags_count_max {
                return Err(ParseError::TooMany("flags"));
            }
        }
        Ok(())
    }
}
