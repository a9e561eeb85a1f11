//! How a section of the configuration is declared, read and printed.
//!
//! [`section!`](section) takes each key once, with its documentation, type, default and range, and makes from
//! it the struct, its `Default`, its reader and its lines of the example. Nothing about a key is said twice.

use std::ops::{Range, RangeInclusive};

use toml::de::{DeTable, DeValue};

use super::report::Report;
use super::suggest;
use super::value::Setting;

/// One key as the example prints it.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static [&'static str],
    pub(crate) range: Option<String>,
    /// The value as TOML; `None` when the key is absent.
    pub(crate) value: Option<String>,
    /// What to show, commented out, where there is no value.
    pub(crate) sample: Option<&'static str>,
}

/// One table of the configuration.
pub(crate) trait Section: Sized + Default {
    /// The names of its keys, in the order they are declared.
    const KEYS: &'static [&'static str];
    /// What the section is for.
    const DOC: &'static [&'static str];
    /// Reads it from a table, putting what is wrong into the reader's report.
    fn read(reader: &mut TableReader<'_, '_>) -> Self;
    /// Its keys with the values held.
    fn rows(&self) -> Vec<Row>;
}

/// Declares a section: `/// doc`, `key: Type = default`, then optionally `, within min..=max` and
/// `, sample "toml"` for keys that are absent by default.
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $key:ident: $type:ty = $default:expr $(, within $range:expr)? $(, sample $sample:literal)?;
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $( $(#[doc = $doc])* pub $key: $type, )*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $( $key: $default, )* }
            }
        }

        impl $crate::config::define::Section for $name {
            const KEYS: &'static [&'static str] =
                &[$( $crate::config::define::key_name(stringify!($key)) ),*];
            const DOC: &'static [&'static str] = &[$( $about ),*];

            fn read(reader: &mut $crate::config::define::TableReader<'_, '_>) -> Self {
                let default = Self::default();
                Self {
                    $( $key: reader
                        .key($crate::config::define::key_name(stringify!($key)), default.$key)
                        $( .within($range) )?
                        .take(),
                    )*
                }
            }

            fn rows(&self) -> Vec<$crate::config::define::Row> {
                vec![$( $crate::config::define::Row {
                    name: $crate::config::define::key_name(stringify!($key)),
                    doc: &[$( $doc ),*],
                    range: [$( $crate::config::define::show_range::<$type>(&$range) )?].into_iter().next(),
                    value: $crate::config::Setting::write(&self.$key),
                    sample: [$( $sample )?].into_iter().next(),
                } ),*]
            }
        }
    };
}
pub(crate) use section;

/// The key of a field: words that Rust has for itself stand behind `r#` there.
pub(crate) const fn key_name(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

/// A range as prose: `100 to 1000`.
pub(crate) fn show_range<T: Setting>(range: &RangeInclusive<T>) -> String {
    let shown = |bound: &T| bound.write().unwrap_or_default();
    format!("{} to {}", shown(range.start()), shown(range.end()))
}

/// Reads the keys of one table.
pub(crate) struct TableReader<'t, 'r> {
    /// How the operator knows the table, such as `[limits]`.
    name: String,
    table: &'t DeTable<'t>,
    span: Range<usize>,
    pub(crate) report: &'r mut Report,
}

impl<'t, 'r> TableReader<'t, 'r> {
    pub(crate) fn new(
        name: String,
        table: &'t DeTable<'t>,
        span: Range<usize>,
        report: &'r mut Report,
    ) -> Self {
        Self {
            name,
            table,
            span,
            report,
        }
    }

    /// Reads a whole section, and reports every key in the table that the section does not have.
    pub(crate) fn section<S: Section>(&mut self) -> S {
        let section = S::read(self);
        for (key, _) in self.table {
            if !S::KEYS.contains(&key.get_ref().as_ref()) {
                let hint = suggest::hint(key.get_ref(), S::KEYS);
                self.report.problem(
                    Some(key.span()),
                    format!("unknown key `{}` in {}{hint}", key.get_ref(), self.name),
                );
            }
        }
        section
    }

    /// Looks one key up; it is `default` when absent or wrong.
    pub(crate) fn key<T: Setting>(
        &mut self,
        name: &'static str,
        default: T,
    ) -> Found<'_, 't, 'r, T> {
        let mut found = Found {
            name,
            value: default,
            span: None,
            reader: self,
        };
        let Some(value) = found.reader.table.get(name) else {
            return found;
        };
        match T::read(value.get_ref()) {
            Some(read) => {
                found.value = read;
                found.span = Some(value.span());
            }
            None => found.reader.report.problem(
                Some(value.span()),
                format!(
                    "`{name}` in {}: expected {}, found {}",
                    found.reader.name,
                    T::expected(),
                    describe(value.get_ref())
                ),
            ),
        }
        found
    }

    /// Whether the table has a key, be its value right or wrong.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.table.get(name).is_some()
    }

    /// Reports something wrong with the table as a whole.
    pub(crate) fn problem(&mut self, text: &str) {
        let text = format!("{}: {text}", self.name);
        self.report.problem(Some(self.span.clone()), text);
    }
}

/// A key's value, before its range is checked.
pub(crate) struct Found<'a, 't, 'r, T> {
    name: &'static str,
    value: T,
    /// Where the value stands; `None` when it is the default.
    span: Option<Range<usize>>,
    reader: &'a mut TableReader<'t, 'r>,
}

impl<T: Setting + PartialOrd> Found<'_, '_, '_, T> {
    /// Reports a value that lies outside `range`.
    pub(crate) fn within(self, range: RangeInclusive<T>) -> Self {
        if self.span.is_some() && !range.contains(&self.value) {
            let text = format!(
                "`{}` in {}: expected a value from {}, found {}",
                self.name,
                self.reader.name,
                show_range(&range),
                self.value.write().unwrap_or_default()
            );
            self.reader.report.problem(self.span.clone(), text);
        }
        self
    }
}

impl<T> Found<'_, '_, '_, T> {
    /// The value.
    pub(crate) fn take(self) -> T {
        self.value
    }
}

/// What stands in the file, to end the sentence "found …".
pub(crate) fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {:?}", text.as_ref()),
        DeValue::Integer(number) => format!("the number {number}"),
        DeValue::Float(number) => format!("the number {number}"),
        DeValue::Boolean(value) => value.to_string(),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(_) => "a list".to_owned(),
        DeValue::Table(_) => "a table".to_owned(),
    }
}
