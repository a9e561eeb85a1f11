//! A match expression as text that parses to the same again.

use std::fmt::{self, Display, Formatter, Write};

use super::test::{Field, SourceKind, Test, Value};
use super::{Expression, Selection};

impl Display for Selection {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Display for Expression {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Test(test) => test.fmt(f),
            Self::Not(inner) => {
                f.write_str("not ")?;
                inner.show(f, matches!(**inner, Self::And(_) | Self::Or(_)))
            }
            Self::And(parts) => join(f, parts, "and", |part| {
                matches!(part, Self::And(_) | Self::Or(_))
            }),
            Self::Or(parts) => join(f, parts, "or", |part| matches!(part, Self::Or(_))),
        }
    }
}

impl Expression {
    fn show(&self, f: &mut Formatter<'_>, parentheses: bool) -> fmt::Result {
        match parentheses {
            true => write!(f, "({self})"),
            false => self.fmt(f),
        }
    }
}

fn join(
    f: &mut Formatter<'_>,
    parts: &[Expression],
    word: &str,
    parentheses: impl Fn(&Expression) -> bool,
) -> fmt::Result {
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            write!(f, " {word} ")?;
        }
        part.show(f, parentheses(part))?;
    }
    Ok(())
}

impl Display for Test {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ", self.field.name(), self.operator.sign())?;
        match (&self.value, self.field) {
            (Value::Text(text), _) => quoted(f, text),
            (Value::Domain(domain), _) => quoted(f, domain.as_str()),
            (Value::Address(address), _) => quoted(f, &address.to_string()),
            (Value::Source(source), _) => {
                let name = SourceKind::ALL.iter().find(|(kind, _)| kind == source);
                f.write_str(name.map_or("", |(_, name)| name))
            }
            (Value::Number(seconds), Field::Age) => in_units(f, *seconds, &AGE_UNITS),
            (Value::Number(octets), Field::Size) => in_units(f, *octets, &SIZE_UNITS),
            (Value::Number(number), _) => number.fmt(f),
            (Value::Id(id), _) => id.fmt(f),
            (Value::Flag(flag), _) => f.write_str(if *flag { "yes" } else { "no" }),
        }
    }
}

/// Units of age in seconds, the largest first.
pub(super) const AGE_UNITS: [(&str, i64); 5] = [
    ("w", 7 * 86_400),
    ("d", 86_400),
    ("h", 3_600),
    ("m", 60),
    ("s", 1),
];

/// Units of size in octets, the largest first.
pub(super) const SIZE_UNITS: [(&str, i64); 4] =
    [("G", 1 << 30), ("M", 1 << 20), ("k", 1 << 10), ("", 1)];

/// In the largest unit of which it is a whole number.
fn in_units(f: &mut Formatter<'_>, value: i64, units: &[(&str, i64)]) -> fmt::Result {
    let fitting = units.iter().find(|(_, unit)| value % unit == 0);
    let (name, unit) = fitting.copied().unwrap_or(("", 1));
    write!(f, "{}{name}", value / unit)
}

/// In quotes, where a bare word would be read otherwise.
fn quoted(f: &mut Formatter<'_>, text: &str) -> fmt::Result {
    let special = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | '"' | '\\');
    if !text.is_empty() && !text.contains(special) {
        return f.write_str(text);
    }
    f.write_char('"')?;
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            f.write_char('\\')?;
        }
        f.write_char(c)?;
    }
    f.write_char('"')
}
