//! Lists of lines that a command is to print: each of them, and no others.
//!
//! A list is a file beside the scenario. Lines that begin with `#` say why the line below is there, without which it may not
//! be; `*` stands for any text. A line behind `? ` is not always printed.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::paths;

/// Most lines of a list: who gets used to more does not see the next one.
const MOST: usize = 10;

/// Compares what was printed with the list in `file`.
///
/// # Errors
/// With the lines that are not in it, or that were not printed; or if it is no list.
pub fn compare(printed: &str, file: &Path) -> Result<()> {
    let text = String::from_utf8(paths::read(file)?)
        .with_context(|| format!("{} is no text", file.display()))?;
    let known = parse(&text).with_context(|| format!("{} is no list", file.display()))?;
    let printed: Vec<&str> = (printed.lines().map(str::trim))
        .filter(|line| !line.is_empty())
        .collect();
    let new: Vec<_> = (printed.iter())
        .filter(|line| !known.iter().any(|known| fits(known.pattern, line)))
        .collect();
    let missing: Vec<_> = (known.iter())
        .filter(|known| known.always)
        .map(|known| known.pattern)
        .filter(|pattern| !printed.iter().any(|line| fits(pattern, line)))
        .collect();
    if new.is_empty() && missing.is_empty() {
        return Ok(());
    }
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    bail!("not in {name}: {new:#?}\nnot printed: {missing:#?}")
}

/// A line of a list.
#[derive(Debug, PartialEq, Eq)]
struct Known<'a> {
    pattern: &'a str,
    /// It has to be printed.
    always: bool,
}

fn parse(text: &str) -> Result<Vec<Known<'_>>> {
    let mut known = Vec::new();
    let mut reason = false;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with('#') {
            reason = true;
        } else {
            ensure!(reason, "no line with # says why there is {line:?}");
            let rare = line.strip_prefix("? ");
            known.push(Known {
                pattern: rare.unwrap_or(line),
                always: rare.is_none(),
            });
            reason = false;
        }
    }
    ensure!(known.len() <= MOST, "it has more than {MOST} lines");
    Ok(known)
}

/// Whether a line is what a pattern with `*` stands for.
fn fits(pattern: &str, line: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        let Some(at) = rest.find(part) else {
            return false;
        };
        rest = &rest[at + part.len()..];
        last = Some(part);
    }
    match last {
        // Without a star all of it was the beginning.
        None => rest.is_empty(),
        Some(part) => line.ends_with(part),
    }
}

#[cfg(test)]
mod tests {
    use super::{Known, fits, parse};

    #[test]
    fn stars_stand_for_any_text() {
        assert!(fits("a*c", "abc") && fits("a*c", "ac") && fits("a*c*e", "a--c--e"));
        assert!(fits("abc", "abc") && fits("*", "") && fits("a*", "a b"));
        assert!(!fits("a*c", "abcd") && !fits("abc", "abcd") && !fits("a*c", "bc"));
        assert!(!fits("a*c*e", "a--e--c"));
    }

    #[test]
    fn each_line_of_a_list_has_its_reason() {
        let known = |pattern, always| Known { pattern, always };
        assert_eq!(
            parse("# why\na\n\n# and why\n#   indeed\n? b\n").unwrap(),
            [known("a", true), known("b", false)]
        );
        assert!(parse("# why\na\nb\n").is_err());
        assert!(parse(&"# why\na\n".repeat(11)).is_err());
    }
}
