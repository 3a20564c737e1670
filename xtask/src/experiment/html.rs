//! The report: one file of HTML that needs nothing else.

use std::fmt::Write;

use anyhow::{Result, ensure};

use super::chart;
use super::record::Record;

/// What the file may take, bytes.
const MOST: usize = 500_000;

const HEAD: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Partita: watching Dynamic Memory</title>
<style>
body { font: 16px/1.5 sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; width: 100%; }
td, th { border-bottom: 1px solid #ddd; padding: .3rem .6rem; text-align: left; vertical-align: top; }
.good { color: #00694c; } .bad { color: #b00020; font-weight: bold; }
svg { width: 100%; height: auto; margin: .5rem 0; } code { background: #f3f3f3; }
</style>
<h1>Watching Dynamic Memory</h1>
<p>Stock kernels of Debian run as guests of Partita, with their own driver <code>hv_balloon</code>. Each reports once a second how
much memory its programs have committed; the balancer in the root partition moves machine memory to where it is needed, by the
guests' balloons and by hot add. What is drawn here are the root's own counters, one sample a second of the machine's time.</p>
"#;

/// The report on these scenes, made by `command`.
///
/// # Errors
/// If a chart cannot be drawn, or the file would be too large to be kept.
pub fn report(records: &[Record], command: &str) -> Result<String> {
    let mut text = HEAD.to_owned();
    text.push_str(&summary(records, command));
    for record in records {
        text.push_str(&words(record)?);
        for chart in record.charts() {
            text.push_str(&chart::svg(&chart)?);
        }
    }
    ensure!(text.len() <= MOST, "the report has {} bytes", text.len());
    Ok(text)
}

fn summary(records: &[Record], command: &str) -> String {
    let verdicts = || records.iter().flat_map(|record| &record.verdicts);
    let good = verdicts().filter(|verdict| verdict.good).count();
    format!(
        "<p><code>{}</code> made this page: {good} of {} observations are as they should be.</p>\n",
        escape(command),
        verdicts().count()
    )
}

/// A scene without its charts.
fn words(record: &Record) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "<h2>{}</h2>", escape(&record.title))?;
    writeln!(
        text,
        "<p>In this scene {}.</p>\n<ul>",
        escape(&record.about)
    )?;
    for line in &record.setting {
        writeln!(text, "<li>{}</li>", escape(line))?;
    }
    writeln!(text, "</ul>\n<table>\n<tr><th>To be seen<th>Seen<th></tr>")?;
    for verdict in &record.verdicts {
        let (class, word) = match verdict.good {
            true => ("good", "yes"),
            false => ("bad", "NO"),
        };
        let (expected, seen) = (escape(&verdict.expected), escape(&verdict.seen));
        writeln!(
            text,
            "<tr><td>{expected}<td>{seen}<td class=\"{class}\">{word}</tr>"
        )?;
    }
    writeln!(text, "</table>")?;
    Ok(text)
}

/// A text as HTML shows it.
fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{Record, escape, summary, words};
    use crate::experiment::verdict::Verdict;

    #[test]
    fn text_cannot_be_taken_for_markup() {
        assert_eq!(escape("a < b & c"), "a &lt; b &amp; c");
    }

    #[test]
    fn the_report_counts_what_is_as_it_should_be() {
        let verdict = |good| Verdict {
            expected: "much".into(),
            seen: "little".into(),
            good,
        };
        let record = Record {
            title: "scene".into(),
            verdicts: vec![verdict(true), verdict(false)],
            ..Record::default()
        };
        assert!(words(&record).unwrap().contains("class=\"bad\""));
        assert!(summary(&[record], "cargo").contains("1 of 2 observations"));
    }
}
