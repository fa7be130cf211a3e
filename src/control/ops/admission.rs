//! Questions that start nothing: whether images may boot or be deployed, and what the gate would say of a machine.
//! A "no" is written down; what was asked about a registry is remembered for a moment.

use std::time::Duration;

use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::super::{Caller, Control, Deed, OpError};
use crate::release::decision::Decision;
use crate::types::admission::{ImageAnswer, ImageQuestion};
use crate::types::step::Passage;
use crate::types::vm::{BootPath, VmId, VmSpec};
use crate::types::{Code, Reason, limits};

/// How long an answer about an image in a registry is remembered: less than it takes to sign another one.
const REMEMBERED: SignedDuration = SignedDuration::from_secs(20);

/// What an answer about an image in a registry is good for: the reference, and the policy and the rules by which the
/// node answered. Whatever was asked before the rules changed is an answer to another question, however late it comes.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(in crate::control) struct Asked {
    reference: String,
    policy: String,
    rules: u64,
}

/// Such answers, and until when they are good.
pub(in crate::control) type Remembered = std::collections::HashMap<Asked, (Timestamp, ImageAnswer)>;

impl Control {
    /// What the node decides about these images.
    ///
    /// # Errors
    /// Where the answer cannot be written down.
    pub async fn admit_images(
        &self,
        caller: &Caller,
        questions: Vec<ImageQuestion>,
    ) -> Result<Vec<ImageAnswer>, OpError> {
        let mut answers = Vec::with_capacity(questions.len());
        for question in questions {
            answers.push(self.link().admit_image(question).await);
        }
        self.denied(caller, &answers).await?;
        Ok(answers)
    }

    /// What the gate would say of a machine with this description. Where it would say yes, it gives a ticket for a
    /// machine that there is not: it shows the answer, and starts nothing.
    ///
    /// # Errors
    /// [`OpError::Invalid`] for a description that is none, or where the answer cannot be written down.
    pub async fn admit_machine(&self, caller: &Caller, spec: VmSpec) -> Result<(Decision, Passage), OpError> {
        super::vm::check(&spec)?;
        let id = VmId::new(Uuid::now_v7());
        let passage = self.link().ask(id, 1, BootPath::Create, spec).await;
        if !passage.reasons.is_empty() {
            let object = "admission/machine".to_owned();
            let deed = Deed::refused("admission.decide", object, "admission.refused", &passage.reasons);
            self.record(caller, deed, Vec::new()).await?;
        }
        Ok((Decision::from_reasons(&passage.reasons), passage))
    }

    /// What the node decides about these images of registries, each with an answer, in `within` altogether: what is
    /// not known by then is undecided.
    ///
    /// # Errors
    /// Where the answer cannot be written down.
    pub async fn admit_containers(
        &self,
        caller: &Caller,
        references: &[String],
        within: Duration,
    ) -> Result<Vec<ImageAnswer>, OpError> {
        let answers = join_all(references.iter().map(|reference| self.container(reference, within))).await;
        self.denied(caller, &answers).await?;
        Ok(answers)
    }

    async fn container(&self, reference: &str, within: Duration) -> ImageAnswer {
        let now = self.now();
        // None while the node goes by older rules than there are: nothing of that is worth keeping.
        let asked_by = self.rules_at_home().map(|rules| Asked {
            reference: reference.to_owned(),
            policy: self.node().policy.clone(),
            rules,
        });
        if let Some(answer) = asked_by.as_ref().and_then(|asked| self.remembered(asked, now)) {
            return answer;
        }
        let asked = self.link().admit_container(reference.to_owned(), within);
        let Ok(answer) = tokio::time::timeout(within, asked).await else {
            let message = format!("what speaks for `{reference}` was not here in time");
            let reason = Reason::new(Code::AdmissionTimeout, message);
            return ImageAnswer::without(reference.to_owned(), Decision::Undecided.name(), reason);
        };
        // An open question may be answered the next time.
        if let Some(asked) = asked_by.filter(|_| answer.decision != Decision::Undecided.name()) {
            let mut remembered = self.inner.admissions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            remembered.retain(|_, (until, _)| *until > now);
            if remembered.len() < limits::ADMISSIONS_REMEMBERED {
                let until = now.saturating_add(REMEMBERED).unwrap_or(now);
                remembered.insert(asked, (until, answer.clone()));
            }
        }
        answer
    }

    /// What was answered a moment ago.
    fn remembered(&self, asked: &Asked, now: Timestamp) -> Option<ImageAnswer> {
        let remembered = self.inner.admissions.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        remembered.get(asked).filter(|(until, _)| *until > now).map(|(_, answer)| answer.clone())
    }

    async fn denied(&self, caller: &Caller, answers: &[ImageAnswer]) -> Result<(), OpError> {
        for answer in answers.iter().filter(|answer| !answer.is_allowed()) {
            let object = format!("image/{}", answer.image);
            let deed = Deed::refused("admission.decide", object, "admission.refused", &answer.reasons);
            self.record(caller, deed, Vec::new()).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::control::silent::{self, Silent};

    const IMAGE: &str = "registry.example/app@sha256:0";

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_asked_before_the_rules_changed_answers_nobody_after() {
        let dir = tempfile::tempdir().unwrap();
        let node = Arc::new(Silent::obedient("node"));
        let control = silent::over(dir.path(), vec![node.clone()]).await;
        control.come_up().await.unwrap();
        let ask = |control: Control| async move {
            let within = Duration::from_secs(60);
            control.admit_containers(&Caller::system(), &[IMAGE.to_owned()], within).await.unwrap()
        };
        let before = tokio::spawn(ask(control.clone()));
        while node.asked_about_containers() == 0 {
            tokio::task::yield_now().await;
        }
        // The rules change while the node still thinks; what it says then is by the old ones.
        control.rules_changed().await.unwrap();
        node.answer(1);
        assert_eq!(before.await.unwrap()[0].decision, "deny");
        node.answer(1);
        ask(control.clone()).await;
        assert_eq!(node.asked_about_containers(), 2, "it was answered by what the old rules said");
        ask(control).await;
        assert_eq!(node.asked_about_containers(), 2, "and this one is remembered");
    }
}
