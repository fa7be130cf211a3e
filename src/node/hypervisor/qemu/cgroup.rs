//! Limits in, files of the kernel's control groups out: version 2 where it has the controllers, else version 1.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::node::hypervisor::Limits;
use crate::types::vm::VmId;

const ROOT: &str = "/sys/fs/cgroup";
/// The period in which processor time is counted, in microseconds; the kernel's default.
const PERIOD_US: u64 = 100_000;

/// The control groups of one machine.
#[derive(Debug)]
pub(super) struct Cgroup {
    /// The group for processor time and the one for memory; in version 2 they are the same.
    cpu: PathBuf,
    memory: PathBuf,
    unified: bool,
}

impl Cgroup {
    /// Where a machine's groups are on this host, if it has controllers that can be used.
    pub(super) fn of(vm: VmId) -> Option<Self> {
        let below = |controller: &str| Path::new(ROOT).join(controller).join("debvisor").join(vm.to_string());
        let controllers = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers")).unwrap_or_default();
        if controllers.split_ascii_whitespace().any(|name| name == "cpu") {
            return Some(Self { cpu: below(""), memory: below(""), unified: true });
        }
        let there = |controller: &str| Path::new(ROOT).join(controller).join("tasks").is_file();
        (there("cpu") && there("memory")).then(|| Self { cpu: below("cpu"), memory: below("memory"), unified: false })
    }

    /// Puts the process under these limits.
    pub(super) fn limit(&self, pid: u32, limits: Limits) -> io::Result<()> {
        for group in [&self.cpu, &self.memory] {
            fs::create_dir_all(group)?;
        }
        if self.unified {
            // Each level above passes the controllers on.
            for above in [Path::new(ROOT).to_owned(), Path::new(ROOT).join("debvisor")] {
                fs::write(above.join("cgroup.subtree_control"), "+cpu +memory")?;
            }
        }
        let quota = limits.cpu_percent.map(|percent| u64::from(percent) * PERIOD_US / 100);
        if self.unified {
            let quota = quota.map_or("max".to_owned(), |quota| quota.to_string());
            fs::write(self.cpu.join("cpu.max"), format!("{quota} {PERIOD_US}"))?;
            let memory = limits.memory_bytes.map_or("max".to_owned(), |bytes| bytes.to_string());
            fs::write(self.memory.join("memory.max"), memory)?;
        } else {
            let quota = quota.map_or("-1".to_owned(), |quota| quota.to_string());
            fs::write(self.cpu.join("cpu.cfs_quota_us"), quota)?;
            let memory = limits.memory_bytes.map_or("-1".to_owned(), |bytes| bytes.to_string());
            fs::write(self.memory.join("memory.limit_in_bytes"), memory)?;
        }
        for group in [&self.cpu, &self.memory] {
            fs::write(group.join("cgroup.procs"), pid.to_string())?;
        }
        Ok(())
    }

    /// Takes the groups away once nothing is in them.
    pub(super) fn remove(&self) {
        for group in [&self.cpu, &self.memory] {
            // A group that is not there, or not empty yet, is found again the next time.
            let _ = fs::remove_dir(group);
        }
    }
}
