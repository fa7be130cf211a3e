//! Many nodes in one process: a control plane over agents whose hypervisor keeps machines in memory. Everything else is
//! real: each start passes its node's gate over the image's bytes, and every step is written down with its record.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use debvisor::backup::write::Sources;
use debvisor::cli::Local;
use debvisor::control::audit::Notary;
use debvisor::control::authn::{self, Rate, SealingKey};
use debvisor::control::{Control, Settings};
use debvisor::node::admission::Admission;
use debvisor::node::agent::Agent;
use debvisor::node::hypervisor::fake::Fake;
use debvisor::node::images::ImageStore;
use debvisor::node::key::NodeKey;
use debvisor::release::admit::AdmissionTrust;
use debvisor::release::attest::key;
use debvisor::release::attest::note::NoteSigner;
use debvisor::release::trust::revocation::Known;
use debvisor::store::{AuditRecord, Change, NewEvent, Store, Vm, Write};
use debvisor::types::step::{EvidenceFile, NodeFacts, QuarantineAction, UploadRequest};
use debvisor::types::vm::{ArtifactKind, DesiredPower, ObservedPower, VmId, VmSpec};
use debvisor::types::{Clock, Digest};
use serde_json::{Value, json};
use tokio::sync::watch;
use uuid::Uuid;

use crate::world::{Identity, World, after};

/// Machines of each node.
const MACHINES: usize = 10;
/// Looks of which the median is taken.
const LOOKS: usize = 15;

/// A fleet of so many nodes with ten machines each: how long a pass takes that finds nothing to do, one that hands out
/// a start for each machine, and how long it is until all of them run.
pub(crate) fn fleet(folder: &Path, nodes: usize) -> Value {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir_in(folder).unwrap();
        let (control, _stop) = up(folder.path(), nodes).await;
        let kernel = image(&control).await;
        let machines = nodes * MACHINES;
        describe(control.store(), nodes, &kernel).await;

        let begin = Instant::now();
        let steps = control.look().await.unwrap();
        let handing_out = begin.elapsed().as_secs_f64();
        assert_eq!(steps, machines, "each machine gets its start");
        while running(control.store()).await < machines {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            control.look().await.unwrap();
        }
        let all_running = begin.elapsed().as_secs_f64();

        let mut passes = Vec::new();
        for _ in 0..LOOKS {
            let begin = Instant::now();
            assert_eq!(control.look().await.unwrap(), 0, "what runs needs no step");
            passes.push(begin.elapsed().as_secs_f64());
        }
        json!({
            "nodes": nodes,
            "machines": machines,
            "pass_seconds": crate::median(passes),
            "handing_out_seconds": handing_out,
            "all_running_seconds": all_running,
        })
    })
}

/// The control plane over its nodes, which share one image store and differ in everything else.
async fn up(folder: &Path, nodes: usize) -> (Control, watch::Sender<bool>) {
    let images = ImageStore::open(&folder.join("images"), NodeKey::ephemeral().unwrap()).unwrap();
    let issuer = NodeKey::ephemeral().unwrap();
    let (stop, stopped) = watch::channel(false);
    let (_, revoked) = watch::channel(Arc::new(Known::default()));
    let mut links: Vec<Arc<dyn debvisor::control::Link>> = Vec::new();
    for number in 0..nodes {
        let name = format!("node-{number:04}");
        let generations = folder.join(format!("{name}.json"));
        let trust = trust().pinning(issuer.public().clone());
        let admission = Admission::new(
            name.clone(),
            images.clone(),
            trust,
            revoked.clone(),
            issuer.clone(),
            Clock::new(now),
            generations,
        )
        .unwrap();
        let facts = NodeFacts {
            name: name.clone(),
            accelerator: None,
            accelerator_reason: "nothing really runs".to_owned(),
            hypervisor: "fake".to_owned(),
            tiers: Vec::new(),
            tiers_absent: Vec::new(),
            cpus: 64,
            memory_mib: 262_144,
            boot_id: "first".to_owned(),
            policy: String::new(),
            seen_at: now(),
        };
        let hypervisor = Fake::new(&name, now);
        let agent =
            Agent::start(hypervisor, admission, images.clone(), facts, Clock::new(now), stopped.clone()).await.unwrap();
        // What happens by itself is of no interest here, and must not make an agent wait.
        let (agent, mut news) = agent;
        tokio::spawn(async move { while news.recv().await.is_some() {} });
        links.push(Arc::new(Local(agent)));
    }
    let notes = NodeKey::open_for_notes(&folder.join("audit.key")).unwrap();
    let rate = Rate { limit: 100, window_ms: 1_000 };
    let settings = Settings {
        authn: authn::Settings {
            key: SealingKey::open(&folder.join("secrets.key")).unwrap(),
            limits: authn::Limits { address: rate, subject: rate, login: rate },
            keys: authn::key::KeySettings::default(),
            providers: Arc::new(authn::oidc::Providers::new(Vec::new()).unwrap()),
        },
        on_quarantine: QuarantineAction::Pause,
        release_validity: jiff::SignedDuration::from_hours(1),
        audit: Notary::new(NoteSigner::new("debvisor/fleet/audit", notes.shared()).unwrap()),
        state: Sources::default(),
    };
    let store = Store::open(&folder.join("state.db")).await.unwrap();
    let control = Control::new(store, links, Clock::new(now), settings, revoked).await.unwrap();
    control.come_up().await.unwrap();
    (control, stop)
}

fn trust() -> AdmissionTrust {
    let root = World::shared().trusted_root().to_string();
    let ticket = key::generate(b"").unwrap().public_pem;
    let text = "[admission]\ntrusted-root = \"root.json\"\nticket-keys = [\"server.pub\"]\n\
                [[admission.signers]]\nname = \"ours\"\n\
                certificate-identity = \"https://github.com/acme/images/.github/workflows/release.yml@refs/tags/v1\"\n\
                certificate-oidc-issuer = \"https://token.actions.githubusercontent.com\"\n";
    let read = |name: &str, _: u64| Ok(if name == "root.json" { root.clone() } else { ticket.clone() }.into());
    AdmissionTrust::parse(text, &read).unwrap()
}

/// A kernel that its publisher signed, in the store.
async fn image(control: &Control) -> Digest {
    let bytes = vec![7; 64 * 1024];
    let identity = Identity::github("acme/images", "release.yml", "refs/tags/v1");
    let bundle = World::shared().blob(&bytes, &identity).bundle().to_string().into_bytes();
    let evidence = EvidenceFile { name: "kernel.sigstore.json".to_owned(), bytes: bundle };
    let request = UploadRequest {
        kind: ArtifactKind::Kernel,
        name: "kernel".to_owned(),
        digest: None,
        bytes: Some(bytes.len() as u64),
    };
    let upload = control.link().upload_begin(request).await.unwrap();
    control.link().upload_append(upload.id, 0, bytes).await.unwrap();
    control.link().upload_finish(upload.id, vec![evidence]).await.unwrap().facts.digest
}

/// Describes ten machines for each node, all of which shall run.
async fn describe(store: &Store, nodes: usize, kernel: &Digest) {
    for number in 0..nodes {
        let node = format!("node-{number:04}");
        let machine = |of: usize| {
            let spec: VmSpec = serde_json::from_value(json!({
                "name": format!("vm-{number}-{of}"), "memory_mib": 512, "cpus": 2,
                "kernel": { "kernel": kernel, "cmdline": "console=ttyS0 quiet" },
            }))
            .unwrap();
            let machine = Vm::described(VmId::new(Uuid::now_v7()), &node, "default", spec, now(), "bench");
            Change::VmCreated(Box::new(Vm { power: DesiredPower::Running, ..machine }))
        };
        let audit = AuditRecord {
            at: now(),
            actor: "bench".to_owned(),
            origin: "system".to_owned(),
            action: "vm.create".to_owned(),
            object: format!("node/{node}"),
            outcome: "done".to_owned(),
            why: Vec::new(),
            data: Value::Null,
        };
        let event = NewEvent { kind: "vm.created".to_owned(), subject: format!("node/{node}"), data: Value::Null };
        store.write(Write { changes: (0..MACHINES).map(machine).collect(), audit, event }).await.unwrap();
    }
}

async fn running(store: &Store) -> usize {
    let runs = |vm: &Arc<Vm>| {
        assert_eq!(vm.hold, None, "nothing is refused");
        vm.observed.as_ref().is_some_and(|observed| observed.power == ObservedPower::Running)
    };
    store.fleet(|fleet| fleet.after(None).filter(|vm| runs(vm)).count()).await.unwrap()
}

fn now() -> jiff::Timestamp {
    after(3600)
}
