//! Who may hand mail in: ordered rules, rates, greylisting, DNS lists.
