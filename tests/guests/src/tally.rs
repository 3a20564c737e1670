//! How often each call came back with each status, as a table.

use core::fmt;

use tlfs::{HvCallCode, HvStatus};

/// Counts of (call, status) pairs, at most `N` different ones; further pairs are counted as one row of their own.
///
/// Calls without a name are counted together, as call 0xFFFF: which of them was made does not matter.
#[derive(Clone, Debug)]
pub struct Tally<const N: usize> {
    rows: [(u16, u16, u64); N],
    used: usize,
    overflow: u64,
}

/// Under which number calls without a name are counted.
pub const UNNAMED: u16 = 0xFFFF;

impl<const N: usize> Default for Tally<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Tally<N> {
    /// Nothing counted.
    pub const fn new() -> Self {
        Self {
            rows: [(0, 0, 0); N],
            used: 0,
            overflow: 0,
        }
    }

    /// Counts one answer.
    pub fn count(&mut self, code: HvCallCode, status: HvStatus) {
        let code = code.name().map_or(UNNAMED, |_| code.0);
        let key = (code, status.0);
        let place = self.rows[..self.used].binary_search_by_key(&key, |row| (row.0, row.1));
        match place {
            Ok(at) => self.rows[at].2 += 1,
            Err(_) if self.used == N => self.overflow += 1,
            Err(at) => {
                self.rows.copy_within(at..self.used, at + 1);
                self.rows[at] = (code, status.0, 1);
                self.used += 1;
            }
        }
    }

    /// How often a call came back with a status.
    pub fn of(&self, code: HvCallCode, status: HvStatus) -> u64 {
        let key = (code.0, status.0);
        self.rows[..self.used]
            .binary_search_by_key(&key, |row| (row.0, row.1))
            .map_or(0, |at| self.rows[at].2)
    }

    /// How often a call was made.
    pub fn calls(&self, code: HvCallCode) -> u64 {
        self.statuses(code).map(|(_, count)| count).sum()
    }

    /// The statuses that a call came back with, and how often.
    pub fn statuses(&self, code: HvCallCode) -> impl Iterator<Item = (HvStatus, u64)> {
        self.rows[..self.used]
            .iter()
            .filter(move |row| row.0 == code.0)
            .map(|row| (HvStatus(row.1), row.2))
    }

    /// All answers counted.
    pub fn total(&self) -> u64 {
        self.rows[..self.used].iter().map(|row| row.2).sum::<u64>() + self.overflow
    }

    /// The calls counted, ascending.
    pub fn codes(&self) -> impl Iterator<Item = HvCallCode> {
        let rows = &self.rows[..self.used];
        let starts = rows
            .iter()
            .enumerate()
            .filter(|(at, row)| *at == 0 || rows[at - 1].0 != row.0);
        starts.map(|(_, row)| HvCallCode(row.0))
    }
}

impl<const N: usize> fmt::Display for Tally<N> {
    /// One line a call: its number, its name, and `STATUS=COUNT` for every status.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for code in self.codes() {
            match code.name() {
                Some(name) => write!(f, "{:#06x} {name}", code.0)?,
                None => f.write_str("other  calls without a name")?,
            }
            for (status, count) in self.statuses(code) {
                match status.name() {
                    Some(name) => write!(f, " {}={count}", name.trim_start_matches("HV_STATUS_"))?,
                    None => write!(f, " {:#x}={count}", status.0)?,
                }
            }
            writeln!(f)?;
        }
        if self.overflow > 0 {
            writeln!(f, "further pairs: {}", self.overflow)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::ToString;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_has_every_status_of_its_call() {
        let mut tally = Tally::<8>::new();
        tally.count(HvCallCode::SIGNAL_EVENT, HvStatus::INVALID_CONNECTION_ID);
        tally.count(HvCallCode::GET_PARTITION_ID, HvStatus::SUCCESS);
        tally.count(HvCallCode::SIGNAL_EVENT, HvStatus::SUCCESS);
        tally.count(HvCallCode::SIGNAL_EVENT, HvStatus::SUCCESS);
        tally.count(HvCallCode(0x7123), HvStatus(0x1234));
        assert_eq!(
            tally.to_string(),
            "0x0046 HvCallGetPartitionId SUCCESS=1\n\
             0x005d HvCallSignalEvent SUCCESS=2 INVALID_CONNECTION_ID=1\n\
             other  calls without a name 0x1234=1\n"
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost_whatever_the_order(pairs in prop::collection::vec((0u16..0x80, 0u16..4), 0..200)) {
            let mut tally = Tally::<32>::new();
            for (code, status) in &pairs {
                tally.count(HvCallCode(*code), HvStatus(*status));
            }
            prop_assert_eq!(tally.total(), pairs.len() as u64);
            let codes: std::vec::Vec<_> = tally.codes().collect();
            prop_assert!(codes.is_sorted());
        }
    }
}
