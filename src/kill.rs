//! The places at which the process may die in a test: named by the code itself, so that none is picked by hand.
//!
//! Whatever changes state on disk, in the database or of a machine passes [`here`] between two steps. It costs one
//! atomic load. Only the hidden `DEBVISOR_KILL_AT=NAME` or `NAME:N` arms a point; the process then kills itself there
//! with SIGKILL, the Nth time that it comes by. A test that walks [`KillPoint::ALL`] needs no list of its own.
//!
//! Invariant: a point is armed by the process's own environment at its start, or never.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

macro_rules! points {
    ($($(#[doc = $text:literal])+ $variant:ident $name:literal,)*) => {
        /// One place at which the process may die.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum KillPoint {
            $($(#[doc = $text])+ $variant,)*
        }

        impl KillPoint {
            /// Every point, act by act, in the order in which one act passes them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name: the act, then where in it.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

points! {
    /// The upload's folder is there, and nothing in it.
    ImportBegun "import-begun",
    /// Its space is reserved.
    ImportReserved "import-reserved",
    /// Some bytes are written; passed once a chunk.
    ImportCopying "import-copying",
    /// All bytes are written.
    ImportCopied "import-copied",
    /// They are on the disk.
    ImportSynced "import-synced",
    /// The tree is beside them.
    ImportTreed "import-treed",
    /// The kernel has sealed the bytes, where it can.
    ImportSealed "import-sealed",
    /// The signed receipt is beside them.
    ImportSigned "import-signed",
    /// The image has its final name.
    ImportRenamed "import-renamed",
    /// It can no longer be changed.
    ImportFrozen "import-frozen",
    /// A mark or document is written under another name.
    ImageNoteWritten "image-note-written",
    /// An image that is deleted has lost its name, and its bytes are still there.
    ImageDeleteUnnamed "image-delete-unnamed",
    /// A step is about to be handed to the node.
    StepBegun "step-begun",
    /// A machine may start, and nothing of it is there yet.
    StartPermitted "start-permitted",
    /// A simulated machine runs, and nobody was told.
    SimulatedStarted "simulated-started",
    /// It has ended, and nobody was told.
    SimulatedStopped "simulated-stopped",
    /// It has a snapshot, and nobody was told.
    SimulatedSnapshot "simulated-snapshot",
    /// The node took it, and nobody has written that down.
    StepTaken "step-taken",
    /// Changes, audit records and events are applied, and the commit is still to come.
    StoreBeforeCommit "store-before-commit",
    /// They are on the disk, and nobody was told.
    StoreAfterCommit "store-after-commit",
    /// A checkpoint of the audit log is signed, and not kept yet.
    CheckpointSigned "checkpoint-signed",
    /// Everything of one migration is done, and its commit is still to come.
    MigrationBeforeCommit "migration-before-commit",
    /// The database is copied, and nothing of the backup is written.
    BackupSnapshot "backup-snapshot",
    /// All of it is written under another name.
    BackupWritten "backup-written",
    /// It was read back and found right.
    BackupChecked "backup-checked",
    /// A backup is unpacked beside the folder that it becomes.
    RestoreUnpacked "restore-unpacked",
    /// Its database and audit log are found right.
    RestoreChecked "restore-checked",
    /// It is written into it that it was restored.
    RestoreFenced "restore-fenced",
    /// The folder has its name.
    RestoreMoved "restore-moved",
    /// A machine is admitted, and nothing of its start is written.
    MachineStartAdmitted "machine-start-admitted",
    /// The record says that it is being started.
    MachineStartRecorded "machine-start-recorded",
    /// Its overlays are there.
    MachineStartOverlays "machine-start-overlays",
    /// So are its sockets, its TPM and its tap devices.
    MachineStartResources "machine-start-resources",
    /// Its process is there, halted.
    MachineStartSpawned "machine-start-spawned",
    /// The record has the process.
    MachineStartIdentified "machine-start-identified",
    /// It runs, and nobody was told.
    MachineStartRunning "machine-start-running",
    /// The record says that it is to end.
    MachineStopRecorded "machine-stop-recorded",
    /// Its process is gone, and nothing is cleared away.
    MachineStopGone "machine-stop-gone",
    /// Its images have the snapshot, and the record does not.
    MachineSnapshotTaken "machine-snapshot-taken",
}

/// The point that is armed, and how often it is still passed before.
static ARMED: OnceLock<(KillPoint, AtomicU32)> = OnceLock::new();

/// Arms the point that `NAME` or `NAME:N` names.
///
/// # Errors
/// The text of the mistake where there is no such point, or one is armed already.
pub fn arm(text: &str) -> Result<(), String> {
    let (name, count) = match text.split_once(':') {
        Some((name, count)) => (name, count.parse().map_err(|_| format!("`{count}` is no count"))?),
        None => (text, 1_u32),
    };
    let point = KillPoint::ALL.iter().copied().find(|point| point.name() == name);
    let point = point.ok_or_else(|| format!("there is no kill point `{name}`"))?;
    ARMED.set((point, AtomicU32::new(count))).map_err(|_| "a kill point is armed already".to_owned())
}

/// Comes by a point. Returns unless it is armed and its turn has come; then nothing of this process returns.
pub fn here(point: KillPoint) {
    let Some((armed, left)) = ARMED.get() else { return };
    if *armed == point && left.fetch_sub(1, Ordering::SeqCst) == 1 {
        // As `kill -9` does it: no destructor, no handler, no flush.
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn points_have_names_of_their_own_and_an_unknown_one_is_refused() {
        let names: BTreeSet<&str> = KillPoint::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), KillPoint::ALL.len());
        assert!(arm("import-nowhere").unwrap_err().contains("no kill point"));
        assert!(arm("import-begun:x").unwrap_err().contains("no count"));
        for point in KillPoint::ALL {
            here(*point);
        }
    }
}
