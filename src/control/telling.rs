//! The rules that hold, on their way to the nodes: each is told by itself, and has a time of its own to answer in.
//!
//! A node that does not answer holds nobody up: what is asked of the others goes on, the next look tells it again, and
//! whoever asks sees that it is behind.
//! Invariant: on a node that does not go by the newest rules nothing is started, resumed or changed; what runs there is
//! still stilled.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::rules::Rules;
use super::{Caller, Control, Deed, Host, OpError};

/// How long a node may take to go by new rules before it is told again.
pub(super) const ANSWERS: Duration = Duration::from_secs(2);

/// How far a node is with the rules.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The newest that it said it goes by.
    generation: AtomicU64,
    /// It was told in vain, and that was written down.
    late: AtomicBool,
    /// One tells it at a time, so that nothing older comes after something newer.
    telling: tokio::sync::Mutex<()>,
}

impl Control {
    /// Reads the rules again and hands them to the nodes, which go by them from their answers on. A node that does not
    /// answer in time is told again by the next look.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub async fn rules_changed(&self) -> Result<(), OpError> {
        {
            let _one = self.inner.ruling.lock().await;
            let mut rules = Rules::load(self.store()).await?;
            rules.generation = self.inner.rules.borrow().generation + 1;
            self.inner.rules.send_replace(Arc::new(rules));
        }
        // What must not run is stilled by now, whoever has yet to hear of it.
        self.wake();
        let told = self.inner.nodes.values().map(|host| self.tell(host));
        for outcome in futures_util::future::join_all(told).await {
            outcome?;
        }
        Ok(())
    }

    /// The nodes that do not go by the newest rules yet.
    pub fn nodes_behind(&self) -> Vec<String> {
        let newest = self.inner.rules.borrow().generation;
        let behind = self.inner.nodes.values().filter(|host| host.heard.is_behind(newest));
        behind.map(|host| host.facts.name.clone()).collect()
    }

    /// The number of the newest rules, where the node at home here goes by them.
    pub(super) fn rules_at_home(&self) -> Option<u64> {
        let newest = self.inner.rules.borrow().generation;
        (!self.inner.home.heard.is_behind(newest)).then_some(newest)
    }

    /// Tells those that were told in vain once more. Nobody waits for them.
    pub(super) fn tell_again(&self) {
        let newest = self.inner.rules.borrow().generation;
        for host in self.inner.nodes.values().filter(|host| host.heard.is_behind(newest)) {
            // Somebody waits for its answer at this moment.
            if host.heard.telling.try_lock().is_err() {
                continue;
            }
            let (control, host) = (self.clone(), host.clone());
            tokio::spawn(async move {
                if let Err(error) = control.tell(&host).await {
                    tracing::error!(%error, "which rules a node goes by could not be written down");
                }
            });
        }
    }

    /// Hands the newest rules to a node. The first time that it does not take them is written down, and so is that it
    /// has them after all.
    async fn tell(&self, host: &Host) -> Result<(), OpError> {
        let seconds = ANSWERS.as_secs();
        let told = tokio::time::timeout(ANSWERS, self.hand_over(host)).await;
        let told = told.unwrap_or_else(|_| Err(format!("it has not answered within {seconds} s")));
        let object = format!("node/{}", host.facts.name);
        let deed = match told {
            Ok(()) if host.heard.late.swap(false, Ordering::SeqCst) => {
                let data = serde_json::json!({ "generation": host.heard.generation.load(Ordering::SeqCst) });
                Deed::done("node.rules", object, "node.rules.taken", data)
            }
            Err(message) if !host.heard.late.swap(true, Ordering::SeqCst) => {
                tracing::warn!(node = host.facts.name, message, "node {} does not take the rules", host.facts.name);
                Deed::failed("node.rules", object, "node.rules.late", &message)
            }
            _ => return Ok(()),
        };
        self.record(&Caller::system(), deed, Vec::new()).await?;
        Ok(())
    }

    async fn hand_over(&self, host: &Host) -> Result<(), String> {
        let _one = host.heard.telling.lock().await;
        let rules = self.inner.rules.borrow().clone();
        if !host.heard.is_behind(rules.generation) {
            return Ok(());
        }
        let overrides = rules.overrides.iter().map(|row| row.document.clone().into_bytes()).collect();
        host.link.rules(rules.entries.clone(), overrides).await?;
        host.heard.generation.store(rules.generation, Ordering::SeqCst);
        // What had to wait for it.
        self.wake();
        Ok(())
    }
}

impl Heard {
    /// Whether it goes by older rules than these.
    pub(super) fn is_behind(&self, generation: u64) -> bool {
        self.generation.load(Ordering::SeqCst) < generation
    }
}
