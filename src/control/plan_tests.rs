//! Whatever happens between the steps, a plan converges, does no more than it must, and starts nothing twice.

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use uuid::Uuid;

use super::plan::{Desired, is_up, next, plan};
use crate::types::step::{Action, Observed, QuarantineAction, Step};
use crate::types::vm::{BootPath, DesiredPower, ObservedPower, VmId};

/// A hypervisor with one machine, as the real ones behave: each act may be told to fail, before or after it took.
#[derive(Debug, Clone)]
struct Model {
    seen: Observed,
    /// Processes that run: more than one is the disaster.
    processes: u32,
    starts: u32,
    steps: u32,
    forgotten: bool,
}

/// What befalls a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Luck {
    Works,
    FailsBefore,
    /// It is done, and the agent dies before it can say so.
    LosesTheAnswer,
    /// It is done, and then the machine dies.
    MachineDies,
}

impl Model {
    fn at(power: ObservedPower, isolated: bool) -> Self {
        let mut seen = Observed::nothing().with_power(power);
        seen.isolated = isolated && is_up(power);
        Self { processes: u32::from(is_up(power)), seen, starts: 0, steps: 0, forgotten: false }
    }

    fn take(&mut self, step: &Step, luck: Luck) {
        self.steps += 1;
        if luck == Luck::FailsBefore {
            return;
        }
        match step {
            Step::Start { .. } => {
                // As a hypervisor that does not notice what runs already.
                self.processes += 1;
                self.starts += 1;
                self.seen = Observed::nothing().with_power(ObservedPower::Running);
            }
            Step::Stop { .. } => {
                self.processes = 0;
                self.seen = Observed::nothing();
            }
            Step::Pause => self.seen.power = ObservedPower::Paused,
            Step::Resume => self.seen.power = ObservedPower::Running,
            Step::Isolate => self.seen.isolated = true,
            Step::Reconnect => self.seen.isolated = false,
            Step::Reset => self.seen.awaits_reset = false,
            Step::Act { .. } => {}
            Step::Forget => self.forgotten = true,
        }
        if luck == Luck::MachineDies && self.processes > 0 {
            self.processes = 0;
            self.seen = Observed::nothing().with_power(ObservedPower::Failed);
        }
    }
}

fn desired() -> impl Strategy<Value = Desired> {
    let power = prop_oneof![Just(DesiredPower::Stopped), Just(DesiredPower::Running), Just(DesiredPower::Paused)];
    let quarantine = prop_oneof![
        3 => Just(None),
        1 => Just(Some(QuarantineAction::Pause)),
        1 => Just(Some(QuarantineAction::Isolate)),
        1 => Just(Some(QuarantineAction::Stop)),
    ];
    (
        power,
        quarantine,
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.2),
        prop::option::of(-5_i64..5),
        any::<bool>(),
    )
        .prop_map(|(power, quarantine, deleting, held, pause, acts)| Desired {
            vm: VmId::new(Uuid::from_u128(1)),
            power,
            start_path: BootPath::Start,
            quarantine,
            held,
            not_before: pause.map(|seconds| NOW + SignedDuration::from_secs(seconds)),
            deleting,
            force_stop: false,
            action: acts.then(|| (Uuid::from_u128(7), Action::Reset)),
        })
}

fn model() -> impl Strategy<Value = Model> {
    let power = prop_oneof![
        Just(ObservedPower::Stopped),
        Just(ObservedPower::Running),
        Just(ObservedPower::Paused),
        Just(ObservedPower::Failed),
    ];
    (power, any::<bool>(), prop::bool::weighted(0.2)).prop_map(|(power, isolated, awaits_reset)| {
        let mut model = Model::at(power, isolated);
        model.seen.awaits_reset = awaits_reset && power == ObservedPower::Paused;
        model
    })
}

fn luck() -> impl Strategy<Value = Vec<Luck>> {
    let one =
        prop_oneof![Just(Luck::Works), Just(Luck::FailsBefore), Just(Luck::LosesTheAnswer), Just(Luck::MachineDies),];
    prop::collection::vec(one, 0..12)
}

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// Whether the machine is as it shall be, said without the planner.
fn has_arrived(desired: &Desired, model: &Model) -> bool {
    let power = model.seen.power;
    let up = is_up(power);
    if desired.deleting {
        return model.forgotten && !up;
    }
    let may_start = !desired.held && desired.not_before.is_none_or(|at| at <= NOW);
    match (desired.power, desired.quarantine) {
        (DesiredPower::Stopped, _) => !up,
        (_, Some(QuarantineAction::Stop)) => !up,
        (_, Some(QuarantineAction::Pause)) => power != ObservedPower::Running,
        (_, Some(QuarantineAction::Isolate)) => !up || model.seen.isolated,
        (DesiredPower::Running, None) => {
            (power == ObservedPower::Running && !model.seen.isolated)
                || (!up && !may_start)
                || (model.seen.awaits_reset && desired.held)
        }
        (DesiredPower::Paused, None) => (power == ObservedPower::Paused && !model.seen.isolated) || (!up && !may_start),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_converges_whatever_befalls_its_steps(mut want in desired(), mut model in model(), luck in luck()) {
        let started_quarantined = want.quarantine.is_some();
        let mut luck = luck.into_iter();
        for _ in 0..40 {
            let Some(step) = next(&want, &model.seen, NOW) else { break };
            let befalls = luck.next().unwrap_or(Luck::Works);
            model.take(&step, befalls);
            prop_assert!(model.processes <= 1, "two of one machine run after {step:?}");
            prop_assert!(!(started_quarantined && matches!(step, Step::Start { .. } | Step::Resume | Step::Act { .. } | Step::Reset)),
                "{step:?} of what is in quarantine");
            if let Step::Act { .. } = step && befalls != Luck::FailsBefore {
                want.action = None;
            }
            if step == Step::Forget && befalls != Luck::FailsBefore {
                break;
            }
        }
        prop_assert!(has_arrived(&want, &model), "{want:?} stays {model:?}");
        if !want.deleting {
            prop_assert_eq!(next(&want, &model.seen, NOW), None, "who has arrived stays");
        }
    }

    #[test]
    fn no_step_is_taken_that_is_not_needed(mut want in desired(), mut model in model()) {
        // Off to on and paused is two steps, an isolated machine one more, an action or a reset one more; the end is one.
        for _ in 0..8 {
            let Some(step) = next(&want, &model.seen, NOW) else { break };
            model.take(&step, Luck::Works);
            if matches!(step, Step::Act { .. }) { want.action = None; }
            if step == Step::Forget { break; }
        }
        prop_assert!(model.steps <= 4, "{} steps", model.steps);
        prop_assert!(model.starts <= 1);
    }

    #[test]
    fn what_is_as_it_shall_be_is_left_alone(mut want in desired(), model in model()) {
        want.action = None;
        if !want.deleting && has_arrived(&want, &model) && !model.seen.awaits_reset && !model.seen.isolated {
            prop_assert_eq!(next(&want, &model.seen, NOW), None);
        }
    }

    #[test]
    fn the_same_question_has_the_same_answer_in_any_company(all in prop::collection::vec((desired(), model()), 0..20)) {
        let together: Vec<Step> =
            plan(all.iter().map(|(want, model)| (want, Some(&model.seen))), NOW).into_iter().map(|(_, step)| step).collect();
        let alone: Vec<Step> = all.iter().filter_map(|(want, model)| next(want, &model.seen, NOW)).collect();
        prop_assert_eq!(together, alone);
    }
}

#[test]
fn what_is_in_quarantine_is_never_started_by_any_path() {
    for path in BootPath::ALL {
        for action in [QuarantineAction::Pause, QuarantineAction::Isolate, QuarantineAction::Stop] {
            let want = Desired {
                vm: VmId::new(Uuid::from_u128(1)),
                power: DesiredPower::Running,
                start_path: path,
                quarantine: Some(action),
                held: false,
                not_before: None,
                deleting: false,
                force_stop: false,
                action: Some((Uuid::from_u128(7), Action::RevertSnapshot { name: "s".to_owned() })),
            };
            assert_eq!(next(&want, &Observed::nothing(), NOW), None);
        }
    }
}
