//! Values of a definition: typed access that remembers where things stand.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use toml::Spanned;
use toml::de::{DeInteger, DeString, DeTable, DeValue};

use super::DefinitionError;

/// A key and its value, with their places in the text.
type Entry<'t> = (&'t Spanned<DeString<'t>>, &'t Spanned<DeValue<'t>>);

/// The keys of a definition, and which of them somebody has asked for.
pub struct Fields<'t> {
    file: &'t str,
    text: &'t str,
    table: &'t DeTable<'t>,
    known: Vec<&'static str>,
}

/// Makes an error for the byte offset `at` of `text`.
pub fn error(
    file: &str,
    text: &str,
    at: usize,
    key: Option<&str>,
    problem: String,
) -> DefinitionError {
    let before = text.as_bytes().get(..at).unwrap_or(text.as_bytes());
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    DefinitionError {
        file: file.to_owned(),
        line,
        key: key.map(ToOwned::to_owned),
        problem,
    }
}

impl<'t> Fields<'t> {
    /// The keys of `table`, which was parsed from `text`.
    pub fn new(file: &'t str, text: &'t str, table: &'t DeTable<'t>) -> Self {
        Self {
            file,
            text,
            table,
            known: Vec::new(),
        }
    }

    fn entry(&self, key: &str) -> Option<Entry<'t>> {
        self.table.iter().find(|(name, _)| name.get_ref() == key)
    }

    /// The value of `key`, if it is there, checked by `check`.
    pub fn optional<T>(
        &mut self,
        key: &'static str,
        check: impl FnOnce(&'t DeValue<'t>) -> Result<T, String>,
    ) -> Result<Option<T>, DefinitionError> {
        self.known.push(key);
        let Some((_, value)) = self.entry(key) else {
            return Ok(None);
        };
        let checked = check(value.get_ref());
        checked
            .map(Some)
            .map_err(|problem| error(self.file, self.text, value.span().start, Some(key), problem))
    }

    /// The value of `key`, which must be there; `example` shows how to write it.
    pub fn required<T>(
        &mut self,
        key: &'static str,
        example: &str,
        check: impl FnOnce(&'t DeValue<'t>) -> Result<T, String>,
    ) -> Result<T, DefinitionError> {
        self.optional(key, check)?
            .ok_or_else(|| self.missing(key, example))
    }

    /// An error for a key that has to be there; `example` shows how to write it.
    pub fn missing(&self, key: &str, example: &str) -> DefinitionError {
        let problem = format!("this key is missing; add for example: {example}");
        error(
            self.file,
            self.text,
            self.text.trim_end().len(),
            Some(key),
            problem,
        )
    }

    /// An error at `key`, if the key is there, else at the text's start.
    pub fn error(&self, key: &str, problem: &str) -> DefinitionError {
        let at = self.entry(key).map_or(0, |(name, _)| name.span().start);
        error(self.file, self.text, at, Some(key), problem.to_string())
    }

    /// Checks that every key is one that was asked for.
    pub fn finish(self) -> Result<(), DefinitionError> {
        // The table is sorted by name; the reader of a file expects its first mistake first.
        let unknown = self
            .table
            .iter()
            .filter(|(name, _)| !self.known.contains(&name.get_ref().as_ref()));
        let Some((name, _)) = unknown.min_by_key(|(name, _)| name.span().start) else {
            return Ok(());
        };
        let problem = format!(
            "there is no such key; the keys are {}",
            self.known.join(", ")
        );
        Err(error(
            self.file,
            self.text,
            name.span().start,
            Some(name.get_ref()),
            problem,
        ))
    }
}

/// What a value is, for an error.
pub fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A text in quotes.
pub fn string<'t>(value: &'t DeValue<'t>) -> Result<&'t str, String> {
    match value {
        DeValue::String(text) => Ok(text),
        other => Err(format!(
            "{} stands where a text in quotes is wanted",
            kind(other)
        )),
    }
}

/// `true` or `false`.
pub fn boolean(value: &DeValue<'_>) -> Result<bool, String> {
    match value {
        DeValue::Boolean(value) => Ok(*value),
        other => Err(format!(
            "{} stands where true or false is wanted; write true or false, without quotes",
            kind(other)
        )),
    }
}

/// A number in a range.
pub fn number(value: &DeValue<'_>, least: u32, most: u32) -> Result<u32, String> {
    let wanted = format!("write a number from {least} to {most}");
    match value {
        DeValue::Integer(number) => {
            let in_range = |value: &u32| (least..=most).contains(value);
            let value = integer(number)
                .and_then(|value| u32::try_from(value).ok())
                .filter(in_range);
            value.ok_or_else(|| format!("{number} is out of range; {wanted}"))
        }
        other => Err(format!(
            "{} stands where a number is wanted; {wanted}",
            kind(other)
        )),
    }
}

/// One of a few words.
pub fn choice<T: Copy>(value: &DeValue<'_>, choices: &[(&str, T)]) -> Result<T, String> {
    let words = choices
        .iter()
        .map(|(word, _)| format!("\"{word}\""))
        .collect::<Vec<_>>()
        .join(" or ");
    let text = string(value).map_err(|problem| format!("{problem}; write {words}"))?;
    let found = choices.iter().find(|(word, _)| *word == text);
    found
        .map(|(_, value)| *value)
        .ok_or_else(|| format!("{text:?} is not known; write {words}"))
}

/// A number that is not negative.
pub fn integer(number: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// A size like `256 MiB` in bytes.
pub fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start() {
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}
