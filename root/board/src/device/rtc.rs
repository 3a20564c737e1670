//! The CMOS clock at ports 0x70 and 0x71 (guest sheet 12.7): real time, no interrupts.

use super::TICKS_PER_SECOND;

/// Bytes of CMOS memory.
const SIZE: usize = 128;

const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const WEEKDAY: u8 = 0x06;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const REGISTER_A: u8 = 0x0A;
const REGISTER_B: u8 = 0x0B;
const REGISTER_C: u8 = 0x0C;
const REGISTER_D: u8 = 0x0D;
const CENTURY: u8 = 0x32;

/// 32.768 kHz, no periodic rate; "update in progress" is never seen.
const RUNNING: u8 = 0x26;
/// Register B: the clock is held while it is being set.
const SET: u8 = 1 << 7;
/// Register B: binary instead of BCD.
const BINARY: u8 = 1 << 2;
/// Register B: hours from 0 to 23.
const HOURS_24: u8 = 1 << 1;
/// Hours from 1 to 12 have this bit after noon.
const AFTERNOON: u8 = 1 << 7;
/// Register D: the battery is good.
const VALID: u8 = 1 << 7;

/// A moment as the clock shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fields {
    second: u8,
    minute: u8,
    hour: u8,
    /// 1 is Sunday.
    weekday: u8,
    day: u8,
    month: u8,
    year: i64,
}

/// A CMOS clock.
#[derive(Debug)]
pub struct Rtc {
    index: u8,
    memory: [u8; SIZE],
    mode: u8,
    /// Seconds since 1970 at reference time 0.
    base: i64,
    /// What the clock shows while it is being set.
    held: Option<Fields>,
}

impl Rtc {
    /// A clock that shows `wall_clock` (seconds since 1970, UTC) at reference time `now`.
    pub fn new(wall_clock: i64, now: u64) -> Self {
        Self {
            index: 0,
            memory: [0; SIZE],
            mode: HOURS_24,
            base: wall_clock.saturating_sub(seconds(now)),
            held: None,
        }
    }

    /// Write to port 0x70. Bit 7, the NMI gate, leads nowhere.
    pub fn select(&mut self, index: u8) {
        self.index = index & 0x7F;
    }

    /// Read of port 0x71.
    pub fn read(&self, now: u64) -> u8 {
        let fields = || self.held.unwrap_or_else(|| self.fields(now));
        match self.index {
            SECONDS => self.encode(fields().second),
            MINUTES => self.encode(fields().minute),
            HOURS => self.encode_hour(fields().hour),
            WEEKDAY => self.encode(fields().weekday),
            DAY => self.encode(fields().day),
            MONTH => self.encode(fields().month),
            YEAR => self.encode(fields().year.rem_euclid(100) as u8),
            CENTURY => self.encode(fields().year.div_euclid(100).rem_euclid(100) as u8),
            REGISTER_A => RUNNING,
            REGISTER_B => self.mode,
            REGISTER_C => 0,
            REGISTER_D => VALID,
            index => self.memory[usize::from(index & 0x7F)],
        }
    }

    /// Write to port 0x71.
    pub fn write(&mut self, value: u8, now: u64) {
        match self.index {
            SECONDS | MINUTES | HOURS | WEEKDAY | DAY | MONTH | YEAR | CENTURY => {
                self.set(value, now)
            }
            REGISTER_B => {
                if value & SET != 0 {
                    self.held = self.held.or_else(|| Some(self.fields(now)));
                } else if let Some(fields) = self.held.take() {
                    self.base = to_seconds(&fields) - seconds(now);
                }
                // Interrupts there are none, so their enable bits do not stick.
                self.mode = value & (SET | BINARY | HOURS_24);
            }
            REGISTER_A | REGISTER_C | REGISTER_D => {}
            index => self.memory[usize::from(index & 0x7F)] = value,
        }
    }

    fn set(&mut self, value: u8, now: u64) {
        let mut fields = self.held.unwrap_or_else(|| self.fields(now));
        let number = self.decode(value);
        match self.index {
            SECONDS => fields.second = number,
            MINUTES => fields.minute = number,
            HOURS => fields.hour = self.decode_hour(value),
            DAY => fields.day = number,
            MONTH => fields.month = number,
            YEAR => fields.year += i64::from(number) - fields.year.rem_euclid(100),
            CENTURY => fields.year = i64::from(number) * 100 + fields.year.rem_euclid(100),
            // The day of the week follows from the date.
            _ => {}
        }
        if self.held.is_some() {
            self.held = Some(fields);
        } else {
            self.base = to_seconds(&fields) - seconds(now);
        }
    }

    fn fields(&self, now: u64) -> Fields {
        from_seconds(self.base.saturating_add(seconds(now)))
    }

    fn encode(&self, number: u8) -> u8 {
        if self.mode & BINARY != 0 {
            number
        } else {
            ((number / 10 % 10) << 4) | (number % 10)
        }
    }

    fn decode(&self, value: u8) -> u8 {
        if self.mode & BINARY != 0 {
            value
        } else {
            (value >> 4) * 10 + (value & 0x0F)
        }
    }

    fn encode_hour(&self, hour: u8) -> u8 {
        if self.mode & HOURS_24 != 0 {
            return self.encode(hour);
        }
        let hour = hour % 24;
        let afternoon = if hour >= 12 { AFTERNOON } else { 0 };
        self.encode((hour + 11) % 12 + 1) | afternoon
    }

    fn decode_hour(&self, value: u8) -> u8 {
        if self.mode & HOURS_24 != 0 {
            return self.decode(value);
        }
        let afternoon = if value & AFTERNOON != 0 { 12 } else { 0 };
        self.decode(value & !AFTERNOON) % 12 + afternoon
    }
}

fn seconds(now: u64) -> i64 {
    (now / TICKS_PER_SECOND) as i64
}

/// Days from 1970-01-01 to a day of the proleptic Gregorian calendar. Counted in years that begin in March, so that
/// the leap day is a year's last; months and days out of range carry over.
fn days(year: i64, month: u8, day: u8) -> i64 {
    let months = year * 12 + i64::from(month) - 3;
    let (year, month) = (months.div_euclid(12), months.rem_euclid(12));
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    // 306 days are from 1 March of year 0 to its end, 719162 from there to 1970.
    year * 365 + leap_days + (month * 153 + 2) / 5 + i64::from(day) - 1 - 306 - 719_162
}

fn to_seconds(fields: &Fields) -> i64 {
    let clock = (i64::from(fields.hour) * 60 + i64::from(fields.minute)) * 60;
    days(fields.year, fields.month, fields.day) * 86_400 + clock + i64::from(fields.second)
}

fn from_seconds(seconds: i64) -> Fields {
    // Years of four digits; also keeps the arithmetic in range.
    let seconds = seconds.clamp(days(0, 1, 1) * 86_400, days(9999, 12, 31) * 86_400);
    let (day, clock) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // The average year gives a first guess that is at most one year late.
    let mut year = 1970 + (day * 400).div_euclid(146_097) + 1;
    while days(year, 1, 1) > day {
        year -= 1;
    }
    let month = (1..=12u8).rfind(|month| days(year, *month, 1) <= day);
    let month = month.unwrap_or(1);
    Fields {
        second: (clock % 60) as u8,
        minute: (clock / 60 % 60) as u8,
        hour: (clock / 3600) as u8,
        // 1970-01-01 was a Thursday.
        weekday: ((day + 4).rem_euclid(7) + 1) as u8,
        day: (day - days(year, month, 1) + 1) as u8,
        month,
        year,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn get(rtc: &mut Rtc, index: u8, now: u64) -> u8 {
        rtc.select(index);
        rtc.read(now)
    }

    fn put(rtc: &mut Rtc, index: u8, value: u8, now: u64) {
        rtc.select(index);
        rtc.write(value, now);
    }

    fn shown(rtc: &mut Rtc, now: u64) -> [u8; 8] {
        [CENTURY, YEAR, MONTH, DAY, WEEKDAY, HOURS, MINUTES, SECONDS]
            .map(|index| get(rtc, index, now))
    }

    #[test]
    fn it_shows_utc_in_bcd() {
        // 2024-02-29 23:59:58, a Thursday.
        let mut rtc = Rtc::new(1_709_251_198, 50 * TICKS_PER_SECOND);
        let now = 50 * TICKS_PER_SECOND;
        let leap_day = [0x20, 0x24, 0x02, 0x29, 5, 0x23, 0x59, 0x58];
        assert_eq!(shown(&mut rtc, now), leap_day);
        let next_day = [0x20, 0x24, 0x03, 0x01, 6, 0x00, 0x00, 0x00];
        assert_eq!(shown(&mut rtc, now + 2 * TICKS_PER_SECOND), next_day);
        assert_eq!(get(&mut rtc, REGISTER_A, 0) & 0x80, 0, "no update");
        assert_eq!(
            (get(&mut rtc, REGISTER_B, 0), get(&mut rtc, REGISTER_D, 0)),
            (2, 0x80)
        );
    }

    #[test]
    fn a_guest_can_set_it_while_it_is_held() {
        let mut rtc = Rtc::new(0, 0);
        put(&mut rtc, REGISTER_B, SET | HOURS_24 | BINARY, 0);
        for (index, value) in [
            (CENTURY, 19),
            (YEAR, 99),
            (MONTH, 12),
            (DAY, 31),
            (HOURS, 23),
            (MINUTES, 59),
            (SECONDS, 59),
        ] {
            put(&mut rtc, index, value, 0);
        }
        let later = 5 * TICKS_PER_SECOND;
        assert_eq!(get(&mut rtc, SECONDS, later), 59);
        put(&mut rtc, REGISTER_B, HOURS_24, later);
        let shown_later = shown(&mut rtc, later + TICKS_PER_SECOND);
        assert_eq!(shown_later, [0x20, 0x00, 0x01, 0x01, 7, 0, 0, 0]);
    }

    #[test]
    fn twelve_hour_mode_has_noon_and_midnight_right() {
        for (hour, code) in [(0u8, 0x12u8), (1, 0x01), (12, 0x92), (23, 0x91)] {
            let mut rtc = Rtc::new(i64::from(hour) * 3600, 0);
            put(&mut rtc, REGISTER_B, 0, 0);
            assert_eq!(get(&mut rtc, HOURS, 0), code);
            put(&mut rtc, HOURS, code, 0);
            put(&mut rtc, REGISTER_B, HOURS_24 | BINARY, 0);
            assert_eq!(get(&mut rtc, HOURS, 0), hour);
        }
    }

    #[test]
    fn other_cmos_bytes_are_memory() {
        let mut rtc = Rtc::new(0, 0);
        put(&mut rtc, 0x80 | 0x0F, 0x0A, 0);
        assert_eq!(get(&mut rtc, 0x0F, 0), 0x0A);
    }

    proptest! {
        #[test]
        fn dates_are_converted_there_and_back(seconds in -62_000_000_000i64..250_000_000_000) {
            prop_assert_eq!(to_seconds(&from_seconds(seconds)), seconds);
        }

        #[test]
        fn no_setting_makes_it_panic(
            wall in any::<i64>(),
            steps in proptest::collection::vec((any::<u8>(), any::<u8>(), any::<u64>()), 1..100),
        ) {
            let mut rtc = Rtc::new(wall, 0);
            for (index, value, now) in steps {
                put(&mut rtc, index, value, now);
                get(&mut rtc, index.wrapping_add(1), now);
            }
        }
    }
}
