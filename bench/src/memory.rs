//! Memory of a virtual machine that the host has given already.
//!
//! A host takes back what its machines have freed some seconds ago, and the first touch of each such page waits for it: that
//! can take longer than to write the page to a file. Who measures writing would measure the host, and the one that comes
//! first after a pause would be the slower one. So right before each clock starts, more memory is touched and freed than files
//! grow by meanwhile. A machine with less to spare loses its cached files by that, for both sides.

/// More than the largest file of the benchmarks.
const BYTES: usize = 1 << 30;
const PAGE_BYTES: usize = 4096;

/// Touches 1 GiB and frees it.
pub(crate) fn warm() {
    let mut memory = vec![0_u8; BYTES];
    memory.iter_mut().step_by(PAGE_BYTES).for_each(|byte| *byte = 1);
    std::hint::black_box(&memory);
}
