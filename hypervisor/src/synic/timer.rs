//! The synthetic timers of a VP (TLFS, "Timers"; guest sheet 4.10).
//!
//! Times are of the partition. A timer never expires early: the caller says what time it is, and takes what has expired.
//! What expires in direct mode is an interrupt at once; what expires in message mode is kept here until its slot is free,
//! so it takes no memory and none gets lost. A periodic timer whose last message waits does not expire again before that is
//! delivered, as the TLFS allows: periods that were missed are not made up for.

use tlfs::{
    HV_SYNIC_SINT_MIN_VECTOR, HV_SYNIC_STIMER_COUNT, HvStimerConfig, HvStimerState,
    HvSyntheticTimersState, StimerRegister, stimer_of_msr,
};

use super::Sint;
use crate::apic::GeneralProtection;
use crate::time::{RefTime, earlier};

/// A timer that has expired in direct mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectInterrupt {
    /// Vector of the edge interrupt, 16 or more.
    pub vector: u8,
}

/// A message that a timer has for a SINT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerMessage {
    /// Number of the timer, 0 to 3.
    pub timer: usize,
    /// Where it goes.
    pub sint: Sint,
    /// When the timer expired.
    pub expired: RefTime,
}

/// One timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Timer {
    config: HvStimerConfig,
    count: u64,
    /// When it expires, if it runs.
    due: Option<RefTime>,
    /// When it expired, if its message has not been delivered.
    message: Option<RefTime>,
}

impl Timer {
    const RESET: Self = Self {
        config: HvStimerConfig::new(),
        count: 0,
        due: None,
        message: None,
    };

    /// CONFIG: an enabled timer starts anew. One whose notification could not be delivered is not enabled.
    fn configure(&mut self, config: HvStimerConfig, now: RefTime) {
        self.config = config;
        self.enable(config.enable());
        self.message = None;
        self.start(now);
    }

    fn enable(&mut self, wanted: bool) {
        let config = self.config;
        let somewhere = if config.direct_mode() {
            config.apic_vector() >= HV_SYNIC_SINT_MIN_VECTOR
        } else {
            config.sintx() != 0
        };
        self.config.set_enable(wanted && somewhere);
    }

    /// COUNT: zero stops the timer; anything else starts it if it is enabled, or enables itself.
    fn set_count(&mut self, count: u64, now: RefTime) {
        self.count = count;
        if count == 0 {
            self.enable(false);
        } else if self.config.auto_enable() {
            self.enable(true);
        }
        self.message = None;
        self.start(now);
    }

    /// When it expires first: a one-shot timer's count is that time, a periodic one's the period.
    fn start(&mut self, now: RefTime) {
        let runs = self.config.enable() && self.count != 0;
        let count = RefTime::from_units(self.count);
        self.due = runs.then(|| match self.config.periodic() {
            true => now.saturating_add(count),
            false => count,
        });
    }

    /// Its deadline, unless nothing would come of it.
    fn deadline(&self) -> Option<RefTime> {
        self.due.filter(|_| self.message.is_none())
    }

    /// Expires if it is due. `Some` with the vector in direct mode.
    fn expire(&mut self, now: RefTime) -> Option<DirectInterrupt> {
        let due = self.deadline().filter(|due| *due <= now)?;
        if self.config.periodic() {
            self.due = Some(next_period(due, self.count, now));
        } else {
            // Before the notification: the guest's handler may set it anew (guest sheet, trap 29).
            self.config.set_enable(false);
            self.due = None;
        }
        if self.config.direct_mode() {
            let vector = self.config.apic_vector();
            return Some(DirectInterrupt { vector });
        }
        self.message = Some(due);
        None
    }

    fn state(&self) -> HvStimerState {
        HvStimerState {
            flags: u32::from(self.message.is_some()),
            reserved: 0,
            config: self.config,
            count: self.count,
            adjustment: self.due.map_or(0, RefTime::units),
            undelivered_expiration_time: self.message.map_or(0, RefTime::units),
        }
    }
}

/// The first end of a period behind `now`, on the grid that `due` is on.
fn next_period(due: RefTime, period: u64, now: RefTime) -> RefTime {
    let late = now.saturating_sub(due).units();
    // The period of a timer that runs is not zero.
    let missed = late.checked_div(period).unwrap_or(0);
    let ahead = missed.saturating_add(1).saturating_mul(period);
    due.saturating_add(RefTime::from_units(ahead))
}

/// The four timers of a VP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntheticTimers {
    timers: [Timer; HV_SYNIC_STIMER_COUNT],
    /// The earliest deadline: asked for at each turn.
    deadline: Option<RefTime>,
}

impl SyntheticTimers {
    /// After reset: all off.
    pub const fn new() -> Self {
        Self {
            timers: [Timer::RESET; HV_SYNIC_STIMER_COUNT],
            deadline: None,
        }
    }

    /// RDMSR.
    ///
    /// # Errors
    /// #GP for an MSR that is no timer's.
    pub fn read(&self, msr: u32) -> Result<u64, GeneralProtection> {
        let (timer, config) = place(msr)?;
        let timer = self.timers.get(timer).ok_or(GeneralProtection)?;
        Ok(if config {
            timer.config.into_bits()
        } else {
            timer.count
        })
    }

    /// WRMSR at `now`. [`next_deadline`](Self::next_deadline) may be another one then.
    ///
    /// # Errors
    /// #GP for an MSR that is no timer's, and for a reserved bit; nothing has changed then.
    pub fn write(&mut self, msr: u32, value: u64, now: RefTime) -> Result<(), GeneralProtection> {
        let (timer, config) = place(msr)?;
        let timer = self.timers.get_mut(timer).ok_or(GeneralProtection)?;
        if config {
            let config = HvStimerConfig::from_bits(value);
            if config.has_reserved_bits() {
                return Err(GeneralProtection);
            }
            timer.configure(config, now);
        } else {
            timer.set_count(value, now);
        }
        self.look_for_deadline();
        Ok(())
    }

    /// When the next timer expires.
    pub const fn next_deadline(&self) -> Option<RefTime> {
        self.deadline
    }

    /// Lets expire what is due at `now`. The interrupts of timers in direct mode; messages are [`messages`](Self::messages).
    pub fn expire(&mut self, now: RefTime) -> [Option<DirectInterrupt>; HV_SYNIC_STIMER_COUNT] {
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return [None; HV_SYNIC_STIMER_COUNT];
        }
        let expired = self.timers.each_mut().map(|timer| timer.expire(now));
        self.look_for_deadline();
        expired
    }

    /// Messages that wait for the slots of these SINTs (bit n: SINTn).
    pub fn messages(&self, sints: u16) -> impl Iterator<Item = TimerMessage> + use<> {
        let waiting = move |(timer, state): (usize, Timer)| {
            let sint = Sint::new(state.config.sintx().into())?;
            let wanted = sints & sint.bit() != 0;
            let expired = state.message.filter(|_| wanted)?;
            Some(TimerMessage {
                timer,
                sint,
                expired,
            })
        };
        (0..).zip(self.timers).filter_map(waiting)
    }

    /// The message of a timer is in its slot. A periodic one goes on at `now`.
    pub fn delivered(&mut self, timer: usize, now: RefTime) {
        let Some(timer) = self.timers.get_mut(timer) else {
            return;
        };
        timer.message = None;
        if let Some(due) = timer.due.filter(|due| *due <= now) {
            timer.due = Some(next_period(due, timer.count, now));
        }
        self.look_for_deadline();
    }

    /// All of it, as HvCallGetVpState has it.
    pub fn save(&self) -> HvSyntheticTimersState {
        HvSyntheticTimersState {
            timers: self.timers.each_ref().map(Timer::state),
            reserved: [0; 5],
        }
    }

    /// What [`save`](Self::save) gave.
    ///
    /// # Errors
    /// #GP for a reserved bit; nothing has changed then.
    pub fn restore(&mut self, state: &HvSyntheticTimersState) -> Result<(), GeneralProtection> {
        let mut timers = [Timer::RESET; HV_SYNIC_STIMER_COUNT];
        for (timer, saved) in timers.iter_mut().zip(&state.timers) {
            if saved.config.has_reserved_bits() {
                return Err(GeneralProtection);
            }
            timer.configure(saved.config, RefTime::ZERO);
            timer.count = saved.count;
            let time = RefTime::from_units;
            let runs = timer.config.enable() && saved.count != 0;
            timer.due = runs.then_some(time(saved.adjustment));
            let waits = saved.flags & 1 != 0 && !timer.config.direct_mode();
            timer.message = waits.then_some(time(saved.undelivered_expiration_time));
        }
        self.timers = timers;
        self.look_for_deadline();
        Ok(())
    }

    fn look_for_deadline(&mut self) {
        let deadlines = self.timers.iter().map(Timer::deadline);
        self.deadline = deadlines.fold(None, earlier);
    }
}

impl Default for SyntheticTimers {
    fn default() -> Self {
        Self::new()
    }
}

/// Number of the timer, and whether the register is its CONFIG.
fn place(msr: u32) -> Result<(usize, bool), GeneralProtection> {
    match stimer_of_msr(msr) {
        Some(StimerRegister::Config(timer)) => Ok((timer, true)),
        Some(StimerRegister::Count(timer)) => Ok((timer, false)),
        None => Err(GeneralProtection),
    }
}
