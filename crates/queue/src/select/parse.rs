//! Reading match expressions.

use nightmail_core::{Address, Domain, QueueId};

use super::show::{AGE_UNITS, SIZE_UNITS};
use super::test::{Field, Operator, SourceKind, Test, Value};
use super::{Expression, SELECTION_OCTETS_MAX, SelectionError};

/// How deep parentheses and `not` may be nested.
const DEPTH_MAX: usize = 50;

type Parsed<T> = Result<T, SelectionError>;

/// Reads a whole expression.
pub(super) fn parse(text: &str) -> Parsed<Expression> {
    let mut reader = Reader { text, at: 0 };
    if text.len() > SELECTION_OCTETS_MAX {
        let problem = format!("the expression is longer than {SELECTION_OCTETS_MAX} octets");
        return reader.fail(problem);
    }
    let expression = reader.either(0)?;
    reader.skip_space();
    match reader.peek() {
        None => Ok(expression),
        Some(')') => reader.fail("there is no `(` to this `)`"),
        Some(_) => reader.fail("expected `and`, `or` or the end"),
    }
}

/// The queue id that stands alone for its message. No field's name reads as one.
fn bare_id(text: &str) -> Option<QueueId> {
    text.starts_with('q').then(|| QueueId::parse(text))?
}

/// The text and how far it has been read, in octets.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    fn fail<T>(&self, problem: impl Into<String>) -> Parsed<T> {
        self.fail_at(self.at, problem)
    }

    fn fail_at<T>(&self, at: usize, problem: impl Into<String>) -> Parsed<T> {
        let before = self.text.get(..at).unwrap_or_default();
        Err(SelectionError {
            place: before.chars().count() + 1,
            problem: problem.into(),
        })
    }

    /// Takes the characters before the first that ends a word.
    fn take_until(&mut self, ends: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let word = rest.split(ends).next().unwrap_or_default();
        self.at += word.len();
        word
    }

    /// Takes a name or keyword.
    fn word(&mut self) -> &'a str {
        self.skip_space();
        self.take_until(|c| !(c.is_alphanumeric() || c == '-' || c == '_'))
    }

    /// Takes this keyword, if it comes next.
    fn keyword(&mut self, wanted: &str) -> bool {
        let before = self.at;
        let found = self.word().eq_ignore_ascii_case(wanted);
        if !found {
            self.at = before;
        }
        found
    }

    fn either(&mut self, depth: usize) -> Parsed<Expression> {
        let first = self.both(depth)?;
        let mut parts = vec![first];
        while self.keyword("or") {
            parts.push(self.both(depth)?);
        }
        Ok(joined(parts, Expression::Or))
    }

    fn both(&mut self, depth: usize) -> Parsed<Expression> {
        let first = self.single(depth)?;
        let mut parts = vec![first];
        while self.keyword("and") {
            parts.push(self.single(depth)?);
        }
        Ok(joined(parts, Expression::And))
    }

    fn single(&mut self, depth: usize) -> Parsed<Expression> {
        self.skip_space();
        if depth > DEPTH_MAX {
            return self.fail(format!("more than {DEPTH_MAX} levels are too deep"));
        }
        if self.keyword("not") {
            return Ok(Expression::Not(Box::new(self.single(depth + 1)?)));
        }
        if self.keyword("all") {
            return Ok(Expression::All);
        }
        if self.peek() == Some('(') {
            self.at += 1;
            let inner = self.either(depth + 1)?;
            self.skip_space();
            if self.peek() != Some(')') {
                return self.fail("expected `)`");
            }
            self.at += 1;
            return Ok(inner);
        }
        self.test().map(Expression::Test)
    }

    fn test(&mut self) -> Parsed<Test> {
        let before = self.at;
        if let Some(id) = bare_id(self.word()) {
            return Ok(Test {
                field: Field::Id,
                operator: Operator::Is,
                value: Value::Id(id),
            });
        }
        self.at = before;
        let field = self.field()?;
        self.skip_space();
        let Some((operator, sign)) = self.operator() else {
            if field == Field::Held {
                return Ok(Test {
                    field,
                    operator: Operator::Is,
                    value: Value::Flag(true),
                });
            }
            return self.fail(format!(
                "expected one of {} after `{}`",
                signs(field),
                field.name()
            ));
        };
        if !field.takes(operator) {
            return self.fail(format!(
                "`{}` is not compared by `{sign}`; take one of {}",
                field.name(),
                signs(field)
            ));
        }
        self.at += sign.len();
        self.skip_space();
        let at = self.at;
        let text = self.value()?;
        match value(field, operator, &text) {
            Ok(value) => Ok(Test {
                field,
                operator,
                value,
            }),
            Err(problem) => self.fail_at(at, problem),
        }
    }

    fn field(&mut self) -> Parsed<Field> {
        self.skip_space();
        let at = self.at;
        let name = self.word();
        let known = Field::ALL
            .iter()
            .find(|(_, known)| known.eq_ignore_ascii_case(name));
        if let Some((field, _)) = known {
            return Ok(*field);
        }
        let fields: Vec<&str> = Field::ALL.iter().map(|(_, name)| *name).collect();
        let fields = fields.join(", ");
        if name.is_empty() {
            return self.fail_at(at, format!("expected a field: {fields}"));
        }
        self.fail_at(
            at,
            format!("there is no field `{name}`; there are {fields}"),
        )
    }

    fn operator(&self) -> Option<(Operator, &'static str)> {
        let rest = self.rest();
        let found = Operator::ALL
            .iter()
            .find(|(_, sign)| rest.starts_with(sign));
        found.copied()
    }

    fn value(&mut self) -> Parsed<String> {
        if self.peek() == Some('"') {
            return self.quoted();
        }
        let word = self.take_until(|c| c.is_whitespace() || matches!(c, '(' | ')' | '"'));
        if word.is_empty() {
            return self.fail("a value is missing; write \"\" for an empty one");
        }
        Ok(word.to_owned())
    }

    fn quoted(&mut self) -> Parsed<String> {
        let mut text = String::new();
        let mut escaped = false;
        for (index, c) in self.rest().char_indices().skip(1) {
            match c {
                _ if escaped => {
                    escaped = false;
                    text.push(c);
                }
                '\\' => escaped = true,
                '"' => {
                    self.at += index + 1;
                    return Ok(text);
                }
                _ => text.push(c),
            }
        }
        self.fail("this quote is not closed")
    }
}

fn joined(parts: Vec<Expression>, join: impl Fn(Vec<Expression>) -> Expression) -> Expression {
    let mut parts = parts;
    match parts.pop() {
        Some(only) if parts.is_empty() => only,
        last => {
            parts.extend(last);
            join(parts)
        }
    }
}

/// The operators that a field takes.
fn signs(field: Field) -> String {
    let taken = Operator::ALL
        .iter()
        .filter(|(operator, _)| field.takes(*operator));
    let signs: Vec<String> = taken.map(|(_, sign)| format!("`{sign}`")).collect();
    signs.join(" ")
}

/// What the text means for that field; or what is wrong with it.
fn value(field: Field, operator: Operator, text: &str) -> Result<Value, String> {
    if operator == Operator::Like && field != Field::Relay {
        return Ok(Value::Text(text.to_lowercase()));
    }
    match field {
        Field::Domain => Domain::parse(text)
            .map(Value::Domain)
            .map_err(|error| format!("{text:?}: {error}; for several domains write `~`")),
        Field::Sender if matches!(text, "" | "<>") => Ok(Value::Text(String::new())),
        Field::Sender | Field::Recipient => Address::parse(text)
            .map(Value::Address)
            .map_err(|error| format!("{text:?}: {error}; for a part of an address write `~`")),
        Field::Reply | Field::Status => Ok(Value::Text(text.to_lowercase())),
        Field::Relay => Ok(Value::Text(text.to_owned())),
        Field::Source => of_table(&SourceKind::ALL, text).map(Value::Source),
        Field::Age => in_units(text, &AGE_UNITS, "a time, such as 30m, 12h or 2d"),
        Field::Size => in_units(text, &SIZE_UNITS, "a size, such as 500, 20k or 10M"),
        Field::Attempts | Field::Priority => text
            .parse()
            .map(Value::Number)
            .map_err(|_| format!("{text:?} is not a whole number")),
        Field::Id => QueueId::parse(text)
            .map(Value::Id)
            .ok_or_else(|| format!("{text:?} is not a queue id; see `queue list`")),
        Field::Held => of_table(&[(true, "yes"), (false, "no")], text).map(Value::Flag),
    }
}

fn of_table<T: Copy>(table: &[(T, &str)], text: &str) -> Result<T, String> {
    let found = table
        .iter()
        .find(|(_, name)| name.eq_ignore_ascii_case(text));
    found.map(|(value, _)| *value).ok_or_else(|| {
        let names: Vec<&str> = table.iter().map(|(_, name)| *name).collect();
        format!("{text:?} is none of {}", names.join(", "))
    })
}

/// A whole number of a unit. Time needs its unit; a size without one is in octets.
fn in_units(text: &str, units: &[(&str, i64)], wanted: &str) -> Result<Value, String> {
    let wrong = || format!("{text:?} is not {wanted}");
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let name = text.get(digits.len()..).unwrap_or_default();
    let unit = units
        .iter()
        .find(|(unit, _)| unit.eq_ignore_ascii_case(name));
    let (_, unit) = unit.ok_or_else(wrong)?;
    let number: i64 = digits.parse().map_err(|_| wrong())?;
    let value = number.checked_mul(*unit).ok_or_else(wrong)?;
    Ok(Value::Number(value))
}
