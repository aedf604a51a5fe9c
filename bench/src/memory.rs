//! Memory of a virtual machine that the host has given already.
//!
//! A host takes back what its machines have freed a second or two ago, and the first touch of each such page waits for it: that
//! can take longer than to write the page to a file. Who measures writing would measure the host. So more memory than the
//! files grow by is touched before each clock starts, held, and freed only when it does. A machine with less to spare loses
//! its cached files by that, for both sides.

use anyhow::Context;
use memmap2::{Advice, MmapMut};

/// More than the largest file of the benchmarks.
const BYTES: usize = 1 << 30;
const PAGE_BYTES: usize = 4096;

/// 1 GiB that the host has given; freed when it is dropped, which takes no time worth counting where its pages are large ones.
pub(crate) struct Warm {
    _touched: MmapMut,
}

impl Warm {
    pub(crate) fn take() -> anyhow::Result<Self> {
        let mut memory = MmapMut::map_anon(BYTES).context("1 GiB of memory cannot be had")?;
        // A system without large pages has small ones, which take longer to free.
        drop(memory.advise(Advice::HugePage));
        memory.iter_mut().step_by(PAGE_BYTES).for_each(|byte| *byte = 1);
        Ok(Self { _touched: memory })
    }
}
