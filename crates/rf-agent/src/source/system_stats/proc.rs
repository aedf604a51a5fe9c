//! Where the numbers come from. What a machine does not tell (an old kernel, a container) is left out.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use procfs::prelude::*;
use procfs::process::{MountInfo, Process};
use procfs::{DiskStat, LoadAverage, Meminfo, ProcResult, parse_pressure_record};

use crate::machine::{CpuTicks, DiskRoom, own_memory, percent, real};

/// Sectors of `/proc/diskstats` have this size, whatever the disk's own is.
const SECTOR_BYTES: u64 = 512;

/// Series and their values.
pub(super) type Series = Vec<(String, f64)>;

/// Takes samples; keeps what the next one is compared with.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    cpu: Option<CpuTicks>,
}

impl Sampler {
    /// The series of now.
    pub(super) fn sample(&mut self) -> Series {
        let mut series = Series::new();
        let groups = [
            ("memory", memory(&mut series)),
            ("cpu", self.cpu(&mut series)),
            ("load", load(&mut series)),
            ("disks", disks(&mut series)),
            ("network", network(&mut series)),
            ("processes", processes(&mut series)),
            ("pressure", pressure(&mut series)),
        ];
        for (group, outcome) in groups {
            if let Err(error) = outcome {
                tracing::debug!(group, %error, "machine statistics cannot be read");
            }
        }
        series
    }

    /// The share of time that was not idle since the sample before; the first sample has none.
    fn cpu(&mut self, series: &mut Series) -> ProcResult<()> {
        let now = CpuTicks::now()?;
        let before = self.cpu.replace(now);
        series.extend(
            before
                .and_then(|before| now.percent_since(before))
                .map(|used| ("cpu_percent".to_owned(), used)),
        );
        Ok(())
    }
}

fn push(series: &mut Series, name: impl Into<String>, value: u64) {
    series.push((name.into(), real(value)));
}

/// `NAME_total`, `NAME_free` in bytes, and `NAME_used` in percent.
fn push_space(series: &mut Series, name: &str, total: u64, free: u64, available: u64) {
    push(series, format!("{name}_total"), total);
    push(series, format!("{name}_free"), free);
    series.push((format!("{name}_used"), percent(total.saturating_sub(available), total)));
}

fn memory(series: &mut Series) -> ProcResult<()> {
    push(series, "memory_process", own_memory()?);
    let memory = Meminfo::current()?;
    let available = memory.mem_available.unwrap_or(memory.mem_free);
    push_space(series, "memory_host", memory.mem_total, memory.mem_free, available);
    push_space(series, "swap", memory.swap_total, memory.swap_free, memory.swap_free);
    Ok(())
}

fn load(series: &mut Series) -> ProcResult<()> {
    let load = LoadAverage::current()?;
    for (name, value) in [("load_1", load.one), ("load_5", load.five), ("load_15", load.fifteen)] {
        series.push((name.to_owned(), rounded(value)));
    }
    Ok(())
}

/// The kernel tells two digits; as a double the number would have many more.
fn rounded(value: f32) -> f64 {
    (f64::from(value) * 100.0).round() / 100.0
}

fn disks(series: &mut Series) -> ProcResult<()> {
    space(series, "disk", Path::new("/"));
    for place in places_of_disks(Process::myself()?.mountinfo()?) {
        space(series, &format!("disk_{}", flat(&place)), &place);
    }
    procfs::diskstats()?.iter().filter(|disk| is_whole(disk)).for_each(|disk| io(series, disk));
    Ok(())
}

/// Where file systems of disks are mounted; of one that is mounted in many places the first.
fn places_of_disks(mounts: impl IntoIterator<Item = MountInfo>) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let mut places = Vec::new();
    for mount in mounts {
        let is_local = mount.mount_source.as_deref().is_some_and(is_disk);
        if is_local && seen.insert(mount.majmin) {
            places.push(unescaped(&mount.mount_point));
        }
    }
    places
}

/// In a list of the kernel's, three octal digits stand for a blank, a tab, a line break or a backslash of a path.
fn unescaped(path: &Path) -> PathBuf {
    let mut rest = path.as_os_str().as_bytes();
    let mut bytes = Vec::with_capacity(rest.len());
    while let Some((&first, behind)) = rest.split_first() {
        let digits = if first == b'\\' { behind.split_at_checked(3) } else { None };
        let escaped = digits.and_then(|(digits, behind)| Some((octal(digits)?, behind)));
        let (byte, behind) = escaped.unwrap_or((first, behind));
        bytes.push(byte);
        rest = behind;
    }
    OsString::from_vec(bytes).into()
}

fn octal(digits: &[u8]) -> Option<u8> {
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

/// Partitions have no folder there.
fn is_whole(disk: &DiskStat) -> bool {
    Path::new("/sys/block").join(&disk.name).exists()
}

/// Of a disk that was used.
fn io(series: &mut Series, disk: &DiskStat) {
    if disk.reads + disk.writes == 0 {
        return;
    }
    let name = format!("diskio_{}", disk.name);
    push(series, format!("{name}_reads"), disk.reads);
    push(series, format!("{name}_writes"), disk.writes);
    push(series, format!("{name}_read_bytes"), disk.sectors_read * SECTOR_BYTES);
    push(series, format!("{name}_written_bytes"), disk.sectors_written * SECTOR_BYTES);
}

/// A file system of a disk cannot hang as one of a network can; loop devices are files of another one.
fn is_disk(source: &str) -> bool {
    source.starts_with("/dev/")
        && !source.starts_with("/dev/loop")
        && !source.starts_with("/dev/fuse")
}

/// `/` is `root`, `/var/lib` is `var_lib`.
fn flat(mount: &Path) -> String {
    let path = mount.to_string_lossy();
    let name: String = path
        .trim_matches('/')
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' })
        .collect();
    if name.is_empty() { "root".to_owned() } else { name }
}

fn space(series: &mut Series, name: &str, path: &Path) {
    // Not allowed to look, or unmounted since.
    let Some(disk) = DiskRoom::at(path) else { return };
    push(series, format!("{name}_total"), disk.total);
    push(series, format!("{name}_free"), disk.free);
    series.push((format!("{name}_used"), disk.used_percent));
}

fn network(series: &mut Series) -> ProcResult<()> {
    let mut interfaces: Vec<_> = procfs::net::dev_status()?.into_values().collect();
    interfaces.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    for interface in interfaces {
        let values = [
            ("bytes_sent", interface.sent_bytes),
            ("bytes_recv", interface.recv_bytes),
            ("packets_sent", interface.sent_packets),
            ("packets_recv", interface.recv_packets),
            ("errin", interface.recv_errs),
            ("errout", interface.sent_errs),
            ("dropin", interface.recv_drop),
            ("dropout", interface.sent_drop),
        ];
        for (name, value) in values {
            push(series, format!("network_{}_{name}", interface.name), value);
        }
    }
    Ok(())
}

fn processes(series: &mut Series) -> ProcResult<()> {
    let is_process = |entry: &std::fs::DirEntry| {
        entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit)
    };
    let count = std::fs::read_dir("/proc")?.filter_map(Result::ok).filter(is_process).count();
    push(series, "process_count", count as u64);
    let files = procfs::sys::fs::file_nr()?;
    push(series, "open_files", files.allocated.saturating_sub(files.free));
    Ok(())
}

fn pressure(series: &mut Series) -> ProcResult<()> {
    for what in ["cpu", "memory", "io"] {
        let told = std::fs::read_to_string(Path::new("/proc/pressure").join(what))?;
        push_pressure(series, what, &told)?;
    }
    Ok(())
}

/// Percent of the last 10 and 60 s in which some, or all, had to wait. Before 5.13 the kernel does not tell the latter of
/// processors.
fn push_pressure(series: &mut Series, what: &str, told: &str) -> ProcResult<()> {
    for line in told.lines() {
        let Some((kind, _)) = line.split_once(' ') else { continue };
        let record = parse_pressure_record(line)?;
        series.push((format!("pressure_{what}_{kind}_avg10"), rounded(record.avg10)));
        series.push((format!("pressure_{what}_{kind}_avg60"), rounded(record.avg60)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_busy_time_is_between_nothing_and_all() {
        let check = |before: (u64, u64), now: (u64, u64), expected: Option<f64>| {
            let ticks = |(all, idle)| CpuTicks { all, idle };
            assert_eq!(ticks(now).percent_since(ticks(before)), expected);
        };
        check((100, 50), (200, 125), Some(25.0));
        check((100, 50), (200, 150), Some(0.0));
        check((100, 50), (200, 50), Some(100.0));
        check((100, 50), (200, 49), Some(100.0));
        check((100, 50), (100, 50), None);
        check((100, 50), (90, 50), None);
    }

    #[test]
    fn pressure_is_told_as_far_as_the_kernel_tells_it() {
        let check = |told: &str, expected: &[(&str, f64)]| {
            let mut series = Series::new();
            push_pressure(&mut series, "cpu", told).expect("records");
            let found: Vec<_> = series.iter().map(|(name, value)| (&**name, *value)).collect();
            assert_eq!(found, expected);
        };
        let some = "some avg10=1.50 avg60=0.25 avg300=0.00 total=391926\n";
        let told = [("pressure_cpu_some_avg10", 1.5), ("pressure_cpu_some_avg60", 0.25)];
        check(some, &told);
        let all = [("pressure_cpu_full_avg10", 0.0), ("pressure_cpu_full_avg60", 0.5)];
        let full = "full avg10=0.00 avg60=0.50 avg300=0.00 total=7\n";
        check(&format!("{some}{full}"), &[told, all].concat());
    }

    #[test]
    fn file_systems_of_disks_are_found_once_where_they_are_mounted() {
        let mounts = [
            r"22 27 0:21 / /proc rw,relatime - proc proc rw",
            r"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard",
            r"28 27 254:0 /srv /srv rw - ext4 /dev/vda rw",
            r"29 27 254:16 / /mnt/my\040disk\134x rw,relatime shared:1 - ext4 /dev/vdb rw",
            r"30 27 0:50 / /mnt/nas rw - nfs4 nas:/x rw",
            r"31 27 7:1 / /snap/x ro - squashfs /dev/loop1 ro",
        ];
        let mounts = mounts.map(|line| MountInfo::from_line(line).expect(line));
        let expected = ["/", r"/mnt/my disk\x"].map(PathBuf::from);
        assert_eq!(places_of_disks(mounts), expected);
    }

    #[test]
    fn what_a_disk_did_is_told_if_it_did_anything() {
        let check = |line: &str, expected: &[(&str, f64)]| {
            let mut series = Series::new();
            io(&mut series, &DiskStat::from_line(line).expect(line));
            let found: Vec<_> = series.iter().map(|(name, value)| (&**name, *value)).collect();
            assert_eq!(found, expected);
        };
        let expected = [
            ("diskio_vda_reads", 10.0),
            ("diskio_vda_writes", 3.0),
            ("diskio_vda_read_bytes", 20.0 * 512.0),
            ("diskio_vda_written_bytes", 8.0 * 512.0),
        ];
        check("254 0 vda 10 1 20 5 3 2 8 6 0 7 11", &expected);
        check("7 0 loop0 0 0 0 0 0 0 0 0 0 0 0", &[]);
    }

    #[test]
    fn the_disks_of_this_machine_are_told() {
        let mounts = Process::myself().expect("this process").mountinfo().expect("its mounts");
        let places = places_of_disks(mounts).into_iter();
        let places = places.filter(|place| DiskRoom::at(place).is_some());
        let mut expected: Vec<String> =
            places.map(|place| format!("disk_{}_used", flat(&place))).collect();
        let stats = procfs::diskstats().expect("what disks did");
        let used = stats.iter().filter(|disk| is_whole(disk) && disk.reads + disk.writes > 0);
        expected.extend(used.map(|disk| format!("diskio_{}_read_bytes", disk.name)));
        let mut series = Series::new();
        disks(&mut series).expect("the kernel tells of disks");
        for name in ["disk_used".to_owned()].iter().chain(&expected) {
            assert!(series.iter().any(|(known, _)| known == name), "no {name} in {series:?}");
        }
    }

    #[test]
    fn a_mount_is_a_name() {
        for (mount, name) in [("/", "root"), ("/var/lib", "var_lib"), ("/mnt/a b", "mnt_a_b")] {
            assert_eq!(flat(Path::new(mount)), name);
        }
    }
}
