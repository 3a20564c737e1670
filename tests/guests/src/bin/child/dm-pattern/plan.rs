//! What the command line says.

use guests::metal::Boot;

/// Sizes that a plan has at most.
const MOST: usize = 8;

/// What a guest is to do.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// `name=vm1`: what its pages are called.
    pub name: &'static str,
    /// `commit=40,150`: how much it needs, in MiB, one after the other.
    sizes: [u64; MOST],
    count: usize,
    /// `each=60`: for how many seconds.
    pub each: u64,
    /// `times=6`: after how many such times it looks at all of its memory and says what it did.
    pub times: Option<u64>,
    /// `unit=2`: new memory comes in units of 2 to this power MiB.
    pub unit: u32,
    /// `touch=8`: how many pages it touches after it has given some away.
    pub touch: u64,
    /// `seed=1`: what it does at random.
    pub seed: u64,
    /// `mischief=8`: how many of its answers are whole for one that is broken off, by a reset or by closing the channel.
    pub mischief: Option<u64>,
    /// `pause=100`: milliseconds that it may take, at random, for each part of an answer.
    pub pause: u64,
}

impl Plan {
    /// Of a command line.
    pub fn of(boot: &Boot) -> Self {
        let mut sizes = [0; MOST];
        let list = boot.value("commit").unwrap_or("32").split(',');
        let list = list.map(|size| size.parse().expect("commit=MiB,MiB"));
        let count = sizes
            .iter_mut()
            .zip(list)
            .map(|(place, size)| *place = size);
        let count = count.count();
        Self {
            name: boot.value("name").expect("name=NAME"),
            sizes,
            count,
            each: boot.number("each").unwrap_or(60),
            times: boot.number("times"),
            unit: boot.number("unit").unwrap_or(2) as u32,
            touch: boot.number("touch").unwrap_or(0),
            seed: boot.number("seed").unwrap_or(1),
            mischief: boot.number("mischief"),
            pause: boot.number("pause").unwrap_or(0),
        }
    }

    /// How much it needs the time with this number, MiB.
    pub fn size(&self, time: u64) -> u64 {
        self.sizes[(time % self.count as u64) as usize]
    }
}
