//! The CMOS clock's registers as a time.

/// A consistent copy of the registers (MC146818; the century register is where the FADT says, usually 0x32).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// 0x00.
    pub second: u8,
    /// 0x02.
    pub minute: u8,
    /// 0x04; bit 7 is "afternoon" in 12 hour mode.
    pub hour: u8,
    /// 0x07.
    pub day: u8,
    /// 0x08.
    pub month: u8,
    /// 0x09: year of the century.
    pub year: u8,
    /// Century, if the machine has such a register.
    pub century: Option<u8>,
    /// Status register B: bit 1 = 24 hours, bit 2 = binary instead of BCD.
    pub status_b: u8,
}

const HOURS_24: u8 = 1 << 1;
const BINARY: u8 = 1 << 2;
const AFTERNOON: u8 = 1 << 7;

impl Registers {
    /// Seconds since 1970-01-01 (the clock is taken as UTC); `None` if a register holds no sensible value.
    pub fn unix_seconds(&self) -> Option<u64> {
        let hour = self.hour()?;
        let (minute, second) = (self.number(self.minute)?, self.number(self.second)?);
        let (day, month) = (self.number(self.day)?, self.number(self.month)?);
        let year = self.full_year()?;
        let length = month_length(year, month)?;
        if hour > 23 || minute > 59 || second > 59 || day == 0 || day > length {
            return None;
        }
        let days = days_to_year(year) + days_to_month(year, month) + u64::from(day) - 1;
        let seconds = (u64::from(hour) * 60 + u64::from(minute)) * 60 + u64::from(second);
        Some(days * 86_400 + seconds)
    }

    fn hour(&self) -> Option<u8> {
        if self.status_b & HOURS_24 != 0 {
            return self.number(self.hour);
        }
        let twelve = self.number(self.hour & !AFTERNOON)?;
        let afternoon = if self.hour & AFTERNOON != 0 { 12 } else { 0 };
        (1..=12).contains(&twelve).then(|| twelve % 12 + afternoon)
    }

    fn full_year(&self) -> Option<u64> {
        let year = u64::from(self.number(self.year).filter(|year| *year < 100)?);
        let century = self
            .century
            .and_then(|raw| self.number(raw))
            .filter(|century| (19..=29).contains(century));
        let century = u64::from(century.unwrap_or(20));
        (century * 100 + year)
            .checked_sub(1970)
            .map(|since| since + 1970)
    }

    fn number(&self, raw: u8) -> Option<u8> {
        if self.status_b & BINARY != 0 {
            return Some(raw);
        }
        let (tens, ones) = (raw >> 4, raw & 0xF);
        (tens < 10 && ones < 10).then(|| tens * 10 + ones)
    }
}

fn leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_to_year(year: u64) -> u64 {
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    (year - 1970) * 365 + leaps(year - 1) - leaps(1969)
}

fn month_length(year: u64, month: u8) -> Option<u8> {
    match month {
        2 => Some(if leap(year) { 29 } else { 28 }),
        4 | 6 | 9 | 11 => Some(30),
        1..=12 => Some(31),
        _ => None,
    }
}

fn days_to_month(year: u64, month: u8) -> u64 {
    (1..month)
        .filter_map(|month| month_length(year, month))
        .map(u64::from)
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BCD: Registers = Registers {
        second: 0x56,
        minute: 0x34,
        hour: 0x12,
        day: 0x29,
        month: 0x02,
        year: 0x24,
        century: Some(0x20),
        status_b: HOURS_24,
    };

    #[test]
    fn a_leap_day_in_bcd_and_binary() {
        assert_eq!(BCD.unix_seconds(), Some(1_709_210_096));
        let binary = Registers {
            second: 56,
            minute: 34,
            hour: 12,
            day: 29,
            month: 2,
            year: 24,
            century: None,
            status_b: HOURS_24 | BINARY,
        };
        assert_eq!(binary.unix_seconds(), Some(1_709_210_096));
    }

    #[test]
    fn twelve_hour_clocks_know_midnight_and_noon() {
        let at = |hour| {
            Registers {
                hour,
                status_b: 0,
                ..BCD
            }
            .unix_seconds()
        };
        let midnight = at(0x12).unwrap();
        assert_eq!(at(0x92), Some(midnight + 12 * 3600));
        assert_eq!(at(0x81), Some(midnight + 13 * 3600));
        assert_eq!((at(0x00), at(0x13)), (None, None));
    }

    #[test]
    fn nonsense_is_refused() {
        for broken in [
            Registers { day: 0x30, ..BCD },
            Registers { day: 0, ..BCD },
            Registers { month: 0x13, ..BCD },
            Registers { month: 0, ..BCD },
            Registers {
                second: 0x60,
                ..BCD
            },
            Registers {
                minute: 0xFF,
                ..BCD
            },
            Registers { hour: 0x24, ..BCD },
        ] {
            assert_eq!(broken.unix_seconds(), None, "{broken:?}");
        }
    }

    #[test]
    fn the_epoch_and_a_common_century_year() {
        let epoch = Registers {
            second: 0,
            minute: 0,
            hour: 0,
            day: 1,
            month: 1,
            year: 0x70,
            century: Some(0x19),
            ..BCD
        };
        assert_eq!(epoch.unix_seconds(), Some(0));
        let y2100 = Registers {
            day: 0x29,
            year: 0,
            century: Some(0x21),
            ..BCD
        };
        assert_eq!(y2100.unix_seconds(), None, "2100 has no 29 February");
    }
}
