//! What whoever supervises the process is told (sd_notify): that it is up, that it ends, and that it is well.
//! Where nobody supervises it, nothing is told.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;

use crate::control::Control;

/// It answers.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It ends.
pub(super) fn ending() {
    tell(&[NotifyState::Stopping]);
}

/// Tells again and again that it is well, as long as the reconciler looks; when it is not told, it is ended and
/// started anew.
pub(super) async fn watch(control: Control, mut stop: watch::Receiver<bool>) {
    let Some(within) = sd_notify::watchdog_enabled() else { return };
    // Half of the time, so that one that comes late is not the last.
    let pause = (within / 2).max(Duration::from_millis(10));
    loop {
        match control.reconciler_looks() {
            Ok(()) => tell(&[NotifyState::Watchdog]),
            Err(detail) => {
                tracing::error!(%detail, "the reconciler is stuck; the supervisor is not told that all is well")
            }
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = stop.changed() => return,
        }
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "whoever supervises this process could not be told of it");
    }
}
