//! Reference time, the timer, and the wall clock.

use root_kernel::addr::Pfn;
use root_kernel::rtc::Registers;
use root_kernel::sched::{Alarm, NEVER, PROCESSORS};
use tlfs::{
    HV_REFERENCE_TIME_HZ, HV_X64_MSR_APIC_FREQUENCY, HV_X64_MSR_REFERENCE_TSC,
    HV_X64_MSR_TIME_REF_COUNT, HV_X64_MSR_TSC_FREQUENCY, HvPageMsr, HvReferenceTscPage,
};
use x86_64::instructions::port::Port;

use super::cell::Global;
use super::cpu::{read_msr, tsc, write_msr};
use super::hypervisor::Features;
use super::{apic, block, memory};

#[derive(Clone, Copy)]
enum Source {
    /// The hypervisor's reference TSC page.
    Page(*const HvReferenceTscPage),
    /// The hypervisor's MSR: right, but each reading is an exit.
    Msr,
    /// The TSC at a measured rate, without a hypervisor.
    Measured(HvReferenceTscPage),
}

struct Clock {
    source: Source,
    /// Hz of the local APIC's timer.
    timer_hz: u64,
    /// Each processor has a timer of its own.
    alarms: [Alarm; PROCESSORS],
}

impl Clock {
    /// The alarm of the processor that runs this.
    fn alarm(&mut self) -> Option<&mut Alarm> {
        self.alarms.get_mut(block::processor().index())
    }
}

static CLOCK: Global<Clock> = Global::new(Clock {
    source: Source::Msr,
    timer_hz: 0,
    alarms: [Alarm::NONE; PROCESSORS],
});

/// Finds the clock and the timer's rate.
pub fn init(features: &Features) {
    let (tsc_hz, timer_hz) = if features.frequencies {
        // SAFETY: the feature says that both MSRs exist.
        unsafe {
            (
                read_msr(HV_X64_MSR_TSC_FREQUENCY),
                read_msr(HV_X64_MSR_APIC_FREQUENCY),
            )
        }
    } else {
        measure()
    };
    let source = if features.reference_tsc {
        page_source()
    } else if features.reference_counter {
        Source::Msr
    } else {
        let tsc_scale = HvReferenceTscPage::scale_for(tsc_hz).unwrap_or(1 << 61);
        let page = HvReferenceTscPage {
            tsc_sequence: 1,
            reserved: 0,
            tsc_scale,
            tsc_offset: 0,
        };
        Source::Measured(page)
    };
    CLOCK.with(|clock| {
        clock.source = source;
        clock.timer_hz = timer_hz.max(1);
    });
}

fn page_source() -> Source {
    // SAFETY: the feature says that the MSR exists. The hypervisor chooses the page: what is read is written back with
    // the enable bit.
    let page = unsafe {
        let msr = HvPageMsr::from_bits(read_msr(HV_X64_MSR_REFERENCE_TSC)).with_enabled(true);
        write_msr(HV_X64_MSR_REFERENCE_TSC, msr.into_bits());
        msr
    };
    let place = memory::map_provided(Pfn(page.gpfn()));
    let place = place.unwrap_or_else(|error| panic!("reference TSC page: {error}"));
    Source::Page(place.cast_const().cast())
}

/// Reference time, 100 ns.
pub fn now() -> u64 {
    match CLOCK.with(|clock| clock.source) {
        Source::Page(page) => page_time(page).unwrap_or_else(msr_time),
        Source::Msr => msr_time(),
        Source::Measured(page) => page.reference_time(tsc()),
    }
}

fn msr_time() -> u64 {
    // SAFETY: a reference TSC page implies the reference counter (guest sheet 4.6), and so does `Source::Msr`.
    unsafe { read_msr(HV_X64_MSR_TIME_REF_COUNT) }
}

fn page_time(page: *const HvReferenceTscPage) -> Option<u64> {
    loop {
        // SAFETY: the page is the hypervisor's, in the direct map, and changes under us: each field is read once, and
        // the sequence tells whether they belong together. x86 keeps the order of loads.
        let copy = unsafe {
            HvReferenceTscPage {
                tsc_sequence: (&raw const (*page).tsc_sequence).read_volatile(),
                reserved: 0,
                tsc_scale: (&raw const (*page).tsc_scale).read_volatile(),
                tsc_offset: (&raw const (*page).tsc_offset).read_volatile(),
            }
        };
        let time = copy.reference_time(tsc());
        // SAFETY: as above.
        let after = unsafe { (&raw const (*page).tsc_sequence).read_volatile() };
        if copy.tsc_sequence == 0 {
            return None;
        }
        if after == copy.tsc_sequence {
            return Some(time);
        }
    }
}

/// Makes sure that this processor's timer rings at `time` or earlier.
pub fn wake_at(time: u64) {
    let timer_hz = CLOCK.with(|clock| {
        let earlier = clock.alarm()?.want(time);
        earlier.then_some(clock.timer_hz)
    });
    if let Some(timer_hz) = timer_hz {
        let left = u128::from(time.saturating_sub(now()));
        let ticks = left * u128::from(timer_hz) / u128::from(HV_REFERENCE_TIME_HZ);
        apic::start_timer(u64::try_from(ticks).unwrap_or(NEVER));
    }
}

/// This processor's timer rang.
pub fn rang() {
    CLOCK.with(|clock| {
        if let Some(alarm) = clock.alarm() {
            alarm.rang();
        }
    });
}

/// Rates of the TSC and of the local APIC's timer, measured against the PIT: for machines that do not tell.
fn measure() -> (u64, u64) {
    const PIT_HZ: u64 = 1_193_182;
    const COUNT: u64 = PIT_HZ / 50;
    let mut control = Port::<u8>::new(0x61);
    // SAFETY: the PIT's channel 2 and its gate, which nothing else uses. Speaker off, gate on, mode 0, then the count.
    unsafe {
        let gate = control.read() & !0b10 | 0b01;
        control.write(gate);
        Port::<u8>::new(0x43).write(0b1011_0000);
        Port::<u8>::new(0x42).write(COUNT as u8);
        Port::<u8>::new(0x42).write((COUNT >> 8) as u8);
    }
    apic::start_timer(u64::from(u32::MAX));
    let start = tsc();
    // SAFETY: reading the port shows channel 2's output in bit 5, high when the count has run out.
    while unsafe { control.read() } & (1 << 5) == 0 {
        core::hint::spin_loop();
    }
    let cycles = tsc().wrapping_sub(start);
    let ticks = u64::from(u32::MAX.wrapping_sub(apic::timer_left()));
    apic::start_timer(u64::from(u32::MAX));
    (cycles * PIT_HZ / COUNT, ticks * PIT_HZ / COUNT)
}

/// Seconds since 1970 from the CMOS clock; `None` if it makes no sense. `century` is the FADT's register, 0 for none.
pub fn wall_clock(century: u8) -> Option<u64> {
    let mut last = registers(century);
    // Two equal copies in a row cannot be torn by an update.
    for _ in 0..8 {
        let next = registers(century);
        if next == last {
            return next.unix_seconds();
        }
        last = next;
    }
    None
}

fn registers(century: u8) -> Registers {
    Registers {
        second: cmos(0x00),
        minute: cmos(0x02),
        hour: cmos(0x04),
        day: cmos(0x07),
        month: cmos(0x08),
        year: cmos(0x09),
        century: (century != 0).then(|| cmos(century)),
        status_b: cmos(0x0B),
    }
}

fn cmos(register: u8) -> u8 {
    // SAFETY: reading a CMOS register has no effect but the index; bit 7 of the index would mask NMIs.
    unsafe {
        Port::<u8>::new(0x70).write(register & 0x7F);
        Port::<u8>::new(0x71).read()
    }
}
