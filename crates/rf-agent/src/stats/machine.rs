//! What the machine and the process are doing: read when somebody asks, some milliseconds of work a minute.

use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use procfs::{Current, Meminfo, ProcResult};
use rf_core::node_info::NodeInfo;

use crate::machine::{CpuTicks, DiskRoom, own_memory, percent};

/// Reads what the operating system tells; what it does not tell stays 0.
pub(super) struct Machine {
    data_dir: PathBuf,
    /// At the last look; the share of the processors is that since then.
    cpu: Mutex<Option<CpuTicks>>,
}

impl Machine {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned(), cpu: Mutex::new(CpuTicks::now().ok()) }
    }

    /// Fills in what is measured.
    pub(super) fn measure(&self, info: &mut NodeInfo) {
        for outcome in [self.cpu(info), memory(info)] {
            if let Err(error) = outcome {
                tracing::debug!(%error, "machine statistics cannot be read");
            }
        }
        if let Some(disk) = DiskRoom::at(&self.data_dir) {
            info.disk_total = disk.total;
            info.disk_free = disk.free;
            info.disk_used_pct = disk.used_percent;
        }
    }

    fn cpu(&self, info: &mut NodeInfo) -> ProcResult<()> {
        let now = CpuTicks::now()?;
        let before = self.cpu.lock().replace(now);
        let used = before.and_then(|before| now.percent_since(before));
        info.cpu_percent_host = used.unwrap_or_default();
        Ok(())
    }
}

fn memory(info: &mut NodeInfo) -> ProcResult<()> {
    info.memory_process = own_memory()?;
    let memory = Meminfo::current()?;
    let free = memory.mem_available.unwrap_or(memory.mem_free);
    info.memory_host_total = memory.mem_total;
    info.memory_host_free = free;
    info.memory_host_used_pct = percent(memory.mem_total.saturating_sub(free), memory.mem_total);
    Ok(())
}
