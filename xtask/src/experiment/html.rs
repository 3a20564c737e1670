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
    let verdicts = || records.iter().flat_map(|record| &record.verdicts);
    let good = verdicts().filter(|verdict| verdict.good).count();
    writeln!(
        text,
        "<p><code>{}</code> made this page: {good} of {} observations are as they should be.</p>",
        escape(command),
        verdicts().count()
    )?;
    for record in records {
        scene(record, &mut text)?;
    }
    ensure!(text.len() <= MOST, "the report has {} bytes", text.len());
    Ok(text)
}

fn scene(record: &Record, text: &mut String) -> Result<()> {
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
    for chart in record.charts() {
        text.push_str(&chart::svg(&chart)?);
    }
    Ok(())
}

/// A text as HTML shows it.
fn escape(text: &str) -> String {
    let text = text.replace('&', "&amp;");
    text.replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{Record, escape, report};
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
        crate::experiment::chart::load_font().unwrap();
        let text = report(&[record], "cargo").unwrap();
        assert!(text.contains("1 of 2 observations"));
        assert!(text.contains("class=\"bad\""));
    }
}
