//! Processes: a command line and descriptors in, a QEMU that outlives the agent out; and how one is found again.
//!
//! A process is known by its number and its start time together, and by the machine's UUID on its command line. It runs
//! as a user of its own, in a process group of its own, without a core dump, with the descriptors that it was given.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tokio::process::Child;

use crate::types::vm::VmId;

/// Descriptors that a child gets, each under a number of its own. Numbers begin where no program has its own.
#[derive(Debug, Default)]
pub(super) struct Handover {
    fds: Vec<(i32, OwnedFd)>,
}

/// The first number.
const FIRST_FD: i32 = 64;

impl Handover {
    /// Adds a descriptor and says under which number the child has it.
    pub(super) fn add(&mut self, fd: OwnedFd) -> i32 {
        let number = FIRST_FD + i32::try_from(self.fds.len()).unwrap_or(i32::MAX - FIRST_FD);
        self.fds.push((number, fd));
        number
    }
}

/// What a process is started with.
pub(super) struct Spawn<'a> {
    pub(super) program: &'a Path,
    pub(super) arguments: Vec<OsString>,
    pub(super) handover: Handover,
    /// User and group, where they are others than ours.
    pub(super) owner: Option<(u32, u32)>,
    /// A network namespace to start in.
    pub(super) netns: Option<&'a Path>,
    /// Where it complains.
    pub(super) log: &'a Path,
}

impl Spawn<'_> {
    /// Starts it.
    pub(super) fn run(self) -> io::Result<Child> {
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(self.log)?;
        // A log of an earlier run is of no use any more; one that would grow for ever is none either.
        log.set_len(0)?;
        let mut command = match (self.netns, self.owner) {
            (Some(netns), owner) => {
                // nsenter enters as root and gives the rights up itself; the process keeps its number.
                let mut command = Command::new("nsenter");
                let mut option = OsString::from("--net=");
                option.push(netns);
                command.arg(option);
                if let Some((user, group)) = owner {
                    command.arg(format!("--setuid={user}")).arg(format!("--setgid={group}"));
                }
                command.arg("--").arg(self.program);
                command
            }
            (None, owner) => {
                let mut command = Command::new(self.program);
                if let Some((user, group)) = owner {
                    command.uid(user).gid(group);
                }
                command
            }
        };
        command.args(self.arguments).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let mappings =
            self.handover.fds.into_iter().map(|(child_fd, parent_fd)| FdMapping { parent_fd, child_fd }).collect();
        command.fd_mappings(mappings).map_err(io::Error::other)?;
        let child = tokio::process::Command::from(command).spawn()?;
        if let Some(pid) = child.id().and_then(as_pid) {
            // A process that is gone already has no limits, and is found to be gone by whoever waits for it.
            let _ = prlimit(Some(pid), Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
            let _ = prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(4096), maximum: Some(4096) });
        }
        Ok(child)
    }
}

/// A process that may not be our child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// The kernel's ticks since boot at which it was started (proc(5), field 22 of `stat`).
    pub(super) started: u64,
}

impl Process {
    /// The process with this number, as it is now. A zombie is none.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name is in parentheses and may hold anything, so fields are counted after the last of them.
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let started = fields.nth(18)?.parse().ok()?;
        (state != "Z" && state != "X").then_some(Self { pid, started })
    }

    /// The process that runs a machine, looked for among all: by the UUID on its command line.
    pub(super) fn find(vm: VmId) -> Option<Self> {
        let uuid = vm.to_string();
        let entries = fs::read_dir("/proc").ok()?;
        entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
            .find(|pid| {
                let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
                words.windows(2).any(|pair| matches!(pair, [b"-uuid", value] if *value == uuid.as_bytes()))
            })
            .and_then(Self::of)
    }

    /// Whether it is still the same one.
    pub(super) fn lives(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Ends it at once; one that is gone is no failure.
    pub(super) fn kill(self) -> io::Result<()> {
        match (self.lives(), as_pid(self.pid)) {
            (true, Some(pid)) => match kill_process(pid, Signal::KILL) {
                Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
                Err(error) => Err(error.into()),
            },
            _ => Ok(()),
        }
    }

    /// Waits until it is gone. It is not our child, so it is looked at again and again.
    pub(super) async fn gone(self) {
        while self.lives() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The last line of a log, for a message.
pub(super) fn last_line(log: &Path) -> String {
    let text = tail(log, 4096).unwrap_or_default();
    String::from_utf8_lossy(&text).lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

/// The last bytes of a file, at most `limit`.
pub(super) fn tail(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit as u64)))?;
    let mut bytes = Vec::new();
    file.take(limit as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Runs a program of the host's to its end, without a shell, and gives what it printed.
pub(super) async fn host_program(program: &str, arguments: &[&str], netns: Option<&Path>) -> io::Result<Vec<u8>> {
    let mut command = match netns {
        Some(netns) => {
            let mut command = tokio::process::Command::new("nsenter");
            let mut option = OsString::from("--net=");
            option.push(netns);
            command.arg(option).arg("--").arg(program);
            command
        }
        None => tokio::process::Command::new(program),
    };
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await??;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(io::Error::other(format!("{program}: {}: {words}", output.status)));
    }
    Ok(output.stdout)
}

/// The program of this name, on the usual path.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.is_file())
}

fn as_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}
