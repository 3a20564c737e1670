//! What a test of kvm-unit-tests says of itself: lines that begin with `PASS: `, `FAIL: `, `SKIP: ` or `ABORT: `, a last one with
//! `SUMMARY: `, and an exit status.

use crate::test::report::{Counts, Status};

/// The status of an end that all passed or were skipped, and of one that all were skipped.
const SUCCESS: u32 = 0;
const ALL_SKIPPED: u32 = 77 >> 1;

/// How a test ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Passed, failed or skipped.
    pub status: Status,
    /// Why, if it did not pass; of one that passed, what was skipped first.
    pub reason: String,
    /// Checks in it.
    pub counts: Counts,
    /// It ended by itself, for good. A VM that ends in another way may have started again.
    pub has_ended: bool,
    printed: String,
}

impl Verdict {
    /// A test that could not be run.
    pub fn failed(reason: String) -> Self {
        Self {
            status: Status::Failed,
            reason,
            counts: Counts::one(Status::Failed),
            has_ended: false,
            printed: String::new(),
        }
    }

    /// The last lines that it printed.
    pub fn tail(&self, lines: usize) -> String {
        let all: Vec<&str> = self.printed.lines().collect();
        let from = all.len().saturating_sub(lines);
        all.get(from..).unwrap_or_default().join("\n")
    }
}

/// Judges a test whose VM has ended with what the manager says of it.
pub fn judge(printed: &str, end: &str) -> Verdict {
    let lines = Lines::read(printed);
    let (status, reason) = match exit_status(end) {
        _ if lines.first_bad.is_some() => (Status::Failed, lines.first_bad.unwrap_or_default()),
        None => (Status::Failed, format!("the VM ended: {end}")),
        Some(_) if lines.is_silent() => (Status::Failed, "it said nothing".into()),
        Some(_) if !lines.summary => (Status::Failed, "it ended without a summary".into()),
        Some(ALL_SKIPPED) if lines.counts.passed == 0 => (Status::Skipped, lines.first_skip),
        Some(SUCCESS) if lines.counts.passed > 0 => (Status::Passed, lines.first_skip),
        Some(SUCCESS) if lines.counts.skipped > 0 => (Status::Skipped, lines.first_skip),
        Some(SUCCESS) => (Status::Failed, "it checked nothing".into()),
        Some(other) => (Status::Failed, format!("it ended with status {other}")),
    };
    Verdict {
        has_ended: exit_status(end).is_some(),
        ..verdict(printed, status, reason, lines.counts)
    }
}

/// Judges a test whose VM did not end; `why` is what was waited for in vain.
pub fn without_end(printed: &str, why: &str) -> Verdict {
    let lines = Lines::read(printed);
    let reason = match lines.first_bad {
        Some(bad) => bad,
        None if lines.is_silent() => format!("it said nothing: {why}"),
        None if lines.summary => format!("it did not end behind its summary: {why}"),
        None => format!("it did not come to its end: {why}"),
    };
    verdict(printed, Status::Failed, reason, lines.counts)
}

fn verdict(printed: &str, status: Status, reason: String, counts: Counts) -> Verdict {
    let mut counts = counts;
    // What fails by itself counts as well.
    if status == Status::Failed {
        counts.failed = counts.failed.max(1);
    }
    Verdict {
        status,
        reason,
        counts,
        has_ended: false,
        printed: printed.into(),
    }
}

/// The status in the manager's words for a payload's end.
fn exit_status(end: &str) -> Option<u32> {
    let status = end.rsplit("debug exit with status 0x").next();
    let status = status.filter(|rest| rest.len() < end.len())?;
    u32::from_str_radix(status.trim(), 16).ok()
}

/// What the lines say.
#[derive(Debug, Default)]
struct Lines {
    counts: Counts,
    summary: bool,
    any: bool,
    first_bad: Option<String>,
    first_skip: String,
}

impl Lines {
    fn read(printed: &str) -> Self {
        let mut all = Self::default();
        for line in printed.lines().map(str::trim) {
            let Some((kind, _)) = line.split_once(": ") else {
                continue;
            };
            all.any |= ["PASS", "FAIL", "SKIP", "ABORT", "SUMMARY"].contains(&kind);
            match kind {
                "PASS" => all.counts.passed += 1,
                "FAIL" | "ABORT" => {
                    all.counts.failed += 1;
                    all.first_bad.get_or_insert_with(|| line.into());
                }
                "SKIP" => {
                    all.counts.skipped += 1;
                    if all.first_skip.is_empty() {
                        all.first_skip = line.into();
                    }
                }
                "SUMMARY" => all.summary = true,
                _ => {}
            }
        }
        all
    }

    fn is_silent(&self) -> bool {
        !self.any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the manager says of a payload that ends with this status.
    fn ended(status: u32) -> String {
        format!("off: switched off by the guest: debug exit with status {status:#x}")
    }

    fn status(printed: &str, end: &str) -> (Status, String) {
        let verdict = judge(printed, end);
        (verdict.status, verdict.reason)
    }

    #[test]
    fn a_summary_and_a_good_end_are_a_pass() {
        let printed = "ncpus = 2\r\nPASS: a\r\nPASS: b\r\nSUMMARY: 2 tests\r\n";
        let verdict = judge(printed, &ended(0));
        assert_eq!(verdict.status, Status::Passed);
        assert_eq!((verdict.counts.passed, verdict.counts.failed), (2, 0));
    }

    #[test]
    fn a_check_that_failed_is_the_reason_whatever_the_status() {
        let printed = "PASS: a\nFAIL: b\nFAIL: c\nSUMMARY: 3 tests, 2 unexpected failures\n";
        for end in [&ended(1), &ended(0), "off: stopped"] {
            assert_eq!(status(printed, end), (Status::Failed, "FAIL: b".into()));
        }
        let aborted = "ABORT: no page\nSUMMARY: 0 tests\n";
        let reason = "ABORT: no page".to_owned();
        assert_eq!(status(aborted, &ended(127)), (Status::Failed, reason));
    }

    #[test]
    fn what_skips_all_is_skipped_with_its_reason() {
        let printed = "SKIP: not supported\nSUMMARY: 1 tests, 1 skipped\n";
        let skipped = (Status::Skipped, "SKIP: not supported".to_owned());
        assert_eq!(status(printed, &ended(38)), skipped);
        assert_eq!(status(printed, &ended(0)), skipped);
        let some = "PASS: a\nSKIP: b\nSUMMARY: 2 tests, 1 skipped\n";
        let verdict = judge(some, &ended(0));
        assert_eq!(
            (verdict.status, verdict.counts.skipped),
            (Status::Passed, 1)
        );
    }

    #[test]
    fn silence_and_half_a_test_are_failures() {
        let why = |printed, end: &str| {
            let (status, reason) = status(printed, end);
            assert_eq!(status, Status::Failed, "{printed:?} {end:?}");
            reason
        };
        assert_eq!(why("booting\n", &ended(0)), "it said nothing");
        assert_eq!(why("PASS: a\n", &ended(0)), "it ended without a summary");
        assert_eq!(why("SUMMARY: 0 tests\n", &ended(0)), "it checked nothing");
        let printed = "PASS: a\nSUMMARY: 1 tests\n";
        assert_eq!(why(printed, &ended(5)), "it ended with status 5");
        let fault = "off: triple fault of VP 0 at RIP 0x1234";
        assert_eq!(why(printed, fault), format!("the VM ended: {fault}"));
        assert_eq!(judge("", "failed").counts.failed, 1);
        assert!(judge(printed, &ended(5)).has_ended && !judge(printed, fault).has_ended);
    }

    #[test]
    fn a_test_without_an_end_says_how_far_it_came() {
        let reason = |printed| without_end(printed, "no end").reason;
        assert_eq!(reason("x\n"), "it said nothing: no end");
        assert_eq!(reason("PASS: a\n"), "it did not come to its end: no end");
        assert_eq!(reason("PASS: a\nFAIL: b\n"), "FAIL: b");
        let behind = "PASS: a\nSUMMARY: 1 tests\n";
        assert_eq!(reason(behind), "it did not end behind its summary: no end");
        assert_eq!(without_end(behind, "").status, Status::Failed);
    }
}
