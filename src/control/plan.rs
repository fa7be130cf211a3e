//! What shall be and what is in, the steps that are missing out.
//! Invariant: no input or output and no clock; callers pass `now`. The same question has the same answer.
//!
//! A machine gets at most one step at a time, and none while one is under way. The next look sees what came of it, so
//! that a step that failed, or whose end nobody saw, needs no case of its own: what is still missing is planned again.

use jiff::Timestamp;
use uuid::Uuid;

use crate::types::step::{Action, Observed, QuarantineAction, Step};
use crate::types::vm::{BootPath, DesiredPower, ObservedPower, VmId};

/// A machine as it shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Desired {
    /// Which.
    pub vm: VmId,
    /// The state in which it shall be.
    pub power: DesiredPower,
    /// The path by which it is started.
    pub start_path: BootPath,
    /// Something in it may not run: what happens to it then.
    pub quarantine: Option<QuarantineAction>,
    /// It was refused or failed, and is left alone until somebody asks again.
    pub held: bool,
    /// It is not started before.
    pub not_before: Option<Timestamp>,
    /// It is on its way out.
    pub deleting: bool,
    /// Switching it off does not wait for the guest.
    pub force_stop: bool,
    /// The oldest thing that was asked for and not done.
    pub action: Option<(Uuid, Action)>,
}

/// The next step for each machine that needs one. `observed` is as its node saw it; nothing where it never was seen.
pub fn plan<'a>(
    machines: impl IntoIterator<Item = (&'a Desired, Option<&'a Observed>)>,
    now: Timestamp,
) -> Vec<(VmId, Step)> {
    machines
        .into_iter()
        .filter_map(|(desired, observed)| {
            let nothing = Observed::nothing();
            next(desired, observed.unwrap_or(&nothing), now).map(|step| (desired.vm, step))
        })
        .collect()
}

/// The next step for one machine.
pub fn next(desired: &Desired, observed: &Observed, now: Timestamp) -> Option<Step> {
    let up = is_up(observed.power);
    if desired.deleting {
        return Some(if up { Step::Stop { force: true } } else { Step::Forget });
    }
    if desired.power == DesiredPower::Stopped {
        return up.then_some(Step::Stop { force: desired.force_stop });
    }
    if let Some(action) = desired.quarantine {
        return quarantined(action, observed);
    }
    match observed.power {
        ObservedPower::Stopped | ObservedPower::Failed => {
            let may = !desired.held && desired.not_before.is_none_or(|at| at <= now);
            // What was saved goes on where it was, whoever starts it.
            let path = if observed.saved { BootPath::Restore } else { desired.start_path };
            may.then_some(Step::Start { path })
        }
        // It answers soon, or is found dead.
        ObservedPower::Starting => None,
        _ if observed.isolated => Some(Step::Reconnect),
        // Until then its processors cannot be let run, and nothing else can be done to it.
        _ if observed.awaits_reset && !desired.held => Some(Step::Reset),
        _ if observed.awaits_reset => None,
        power => act(desired).or_else(|| {
            let wanted =
                if desired.power == DesiredPower::Running { ObservedPower::Running } else { ObservedPower::Paused };
            (power != wanted).then_some(if wanted == ObservedPower::Running { Step::Resume } else { Step::Pause })
        }),
    }
}

/// Whether a process of it is there.
pub const fn is_up(power: ObservedPower) -> bool {
    matches!(power, ObservedPower::Running | ObservedPower::Paused | ObservedPower::Starting)
}

/// It is never started, resumed or changed; what runs of it is stilled.
fn quarantined(action: QuarantineAction, observed: &Observed) -> Option<Step> {
    match (action, observed.power) {
        (QuarantineAction::Stop, ObservedPower::Running | ObservedPower::Paused | ObservedPower::Starting) => {
            Some(Step::Stop { force: true })
        }
        (QuarantineAction::Pause, ObservedPower::Running) => Some(Step::Pause),
        (QuarantineAction::Isolate, ObservedPower::Running | ObservedPower::Paused) if !observed.isolated => {
            Some(Step::Isolate)
        }
        _ => None,
    }
}

fn act(desired: &Desired) -> Option<Step> {
    let (operation, action) = desired.action.as_ref()?;
    Some(Step::Act { operation: *operation, action: action.clone() })
}
