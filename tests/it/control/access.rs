//! Tenants, projects, quotas, roles and grants, through the real binary and the real database.

use debvisor::store::{AccessChange, Amended, Change, Quota, Sight, Store, StoreError};
use debvisor::types::grant::{Conditions, Holder, Scope};
use uuid::Uuid;

use super::server::Server;
use super::store::{create, write};

fn access(change: AccessChange) -> debvisor::store::Write {
    write("access", "access", vec![Change::Access(Box::new(change))])
}

fn amended(quota: Quota) -> Amended {
    Amended { if_generation: None, description: String::new(), quota }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_forty_machines_that_are_described_at_once_as_many_pass_as_there_is_room_for() {
    for whose in ["tenant", "project"] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state.db")).await.unwrap();
        // A machine of this test has one processor and 64 MiB.
        let quota = Quota { vms: Some(30), cpus: Some(7), memory_mib: Some(10_000) };
        let change = match whose {
            "tenant" => AccessChange::TenantChanged("default".to_owned(), amended(quota)),
            _ => AccessChange::ProjectChanged("default".to_owned(), amended(quota)),
        };
        store.write(access(change)).await.unwrap();
        let asked: Vec<_> = (0..40)
            .map(|number| {
                let store = store.clone();
                tokio::spawn(async move { store.write(create(number + 1, &format!("m{number}"))).await })
            })
            .collect();
        let (mut passed, mut full) = (0, 0);
        for one in asked {
            match one.await.unwrap() {
                Ok(_) => passed += 1,
                Err(StoreError::Quota(why)) => {
                    assert!(why.contains(whose) && why.contains("processors"), "{why}");
                    full += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((passed, full), (7, 33), "{whose}");
        assert_eq!(store.vms(&Sight::All, None, 100).await.unwrap().len(), 7, "who was refused left nothing behind");
        // What is gone takes nothing.
        let first = store.vms(&Sight::All, None, 1).await.unwrap().remove(0);
        store.write(write("vm.delete", "vm", vec![Change::VmDeleted(first.id)])).await.unwrap();
        store.write(create(100, "again")).await.unwrap();
        assert!(matches!(store.write(create(101, "more")).await, Err(StoreError::Quota(_))));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_given_again_has_none_of_what_was_granted_on_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state.db")).await.unwrap();
    let project = |name: &str| debvisor::store::Project {
        name: name.to_owned(),
        tenant: "default".to_owned(),
        description: String::new(),
        quota: Quota::default(),
        generation: 1,
        created_at: jiff::Timestamp::UNIX_EPOCH,
        created_by: "uid:0".to_owned(),
    };
    let grant = debvisor::store::Grant {
        id: Uuid::from_u128(7),
        holder: Holder::Service("deploy".to_owned()),
        role: "admin".to_owned(),
        scope: Scope::Project("web".to_owned()),
        conditions: Conditions::default(),
        created_at: jiff::Timestamp::UNIX_EPOCH,
        created_by: "uid:0".to_owned(),
    };
    let granted = || AccessChange::GrantCreated { grant: grant.clone(), built_in: true };
    assert!(
        matches!(store.write(access(granted())).await, Err(StoreError::Missing(_))),
        "there is no such project yet"
    );
    store.write(access(AccessChange::ProjectCreated(project("web")))).await.unwrap();
    store.write(access(granted())).await.unwrap();
    assert!(matches!(
        store.write(access(AccessChange::TenantDeleted("default".to_owned()))).await,
        Err(StoreError::Conflict(_))
    ));
    store.write(access(AccessChange::ProjectDeleted("web".to_owned()))).await.unwrap();
    store.write(access(AccessChange::ProjectCreated(project("web")))).await.unwrap();
    assert!(store.access().await.unwrap().grants.is_empty());
    // The same for who holds them.
    store.write(access(granted())).await.unwrap();
    store.write(access(AccessChange::HolderGone(grant.holder.clone()))).await.unwrap();
    assert!(store.access().await.unwrap().grants.is_empty());
}

/// docs/how-to/access.md, once through.
#[test]
fn the_how_to_on_access_does_what_it_says() {
    let server = Server::simulated();
    server.import(&[("kernel", "kernel")]);
    server.ok(&["tenant", "create", "acme", "--description", "Acme, Inc.", "--max-vms", "2", "--max-memory", "2048"]);
    server.ok(&["project", "create", "web", "--tenant", "acme"]);
    server.ok(&["project", "create", "api", "--tenant", "acme", "--max-cpus", "1"]);
    server.ok(&["vm", "create", "web-1", "--project", "web", "--kernel", "kernel"]);
    server.refused(
        &["vm", "create", "big", "--project", "web", "--kernel", "kernel", "--memory", "2G"],
        "quota-exceeded",
    );
    server
        .refused(&["vm", "create", "wide", "--project", "api", "--kernel", "kernel", "--cpus", "2"], "quota-exceeded");
    assert_eq!(server.events("vm.refused").len(), 2, "a quota's no is written down");
    assert!(server.ok(&["tenant", "list"]).contains("1 of 2"));
    assert_eq!(server.vm("web-1")["project"], "web");

    server.ok(&["role", "create", "night-watch", "--permission", "vm.read,vm.power"]);
    server.ok(&["grant", "create", "service:deploy", "developer", "--project", "web"]);
    server.ok(&["grant", "create", "service:watch", "night-watch", "--tenant", "acme", "--address", "10.0.0.0/8"]);
    let yes = server.ok(&["access", "can-i", "vm.power", "--vm", "web-1", "--as", "service:deploy"]);
    assert!(yes.starts_with("yes\n") && yes.contains("developer on project:web"), "{yes}");
    let no = |args: &[&str]| {
        let output = server.cli(args);
        assert_eq!(
            (output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()),
            (Some(1), "no\n"),
            "{args:?}"
        );
    };
    no(&["access", "can-i", "quarantine.write", "--as", "service:deploy"]);
    no(&["access", "can-i", "vm.power", "--project", "api", "--as", "service:deploy"]);
    // What is not there may nobody; who asks for somebody else is told that it is not there.
    no(&["access", "can-i", "vm.power", "--vm", "nobody"]);
    let unknown = server.cli(&["access", "can-i", "vm.power", "--vm", "nobody", "--as", "service:deploy"]);
    let told = String::from_utf8_lossy(&unknown.stderr);
    assert!(unknown.status.code() == Some(64) && told.contains("there is no virtual machine"), "{told}");
    let watch = ["access", "can-i", "vm.power", "--vm", "web-1", "--as", "service:watch", "--address"];
    server.ok(&[&watch[..], &["10.1.2.3"]].concat());
    no(&[&watch[..], &["11.1.2.3"]].concat());
    server.ok(&["access", "can-i", "user.write"]);

    // A role that somebody has stays; a grant that is taken counts no longer.
    server.refused(&["role", "delete", "night-watch"], "is granted to somebody");
    let grants = server.json(&["grant", "list"]);
    assert_eq!(grants.as_array().unwrap().len(), 2, "{grants}");
    for grant in grants.as_array().unwrap() {
        server.ok(&["grant", "delete", grant["id"].as_str().unwrap()]);
    }
    no(&["access", "can-i", "vm.power", "--vm", "web-1", "--as", "service:deploy"]);
    server.ok(&["role", "delete", "night-watch"]);

    // A machine moves where there is room for it, and a project goes when it is empty.
    server.refused(&["project", "delete", "web"], "has machines");
    server.ok(&["vm", "move", "web-1", "api"]);
    assert_eq!(server.vm("web-1")["project"], "api");
    server.ok(&["project", "delete", "web"]);
    server.refused(&["project", "delete", "default"], "default");
    server.ok(&["project", "update", "api", "--max-cpus", "none"]);
    for kind in ["tenant.created", "project.created", "role.created", "grant.created", "grant.deleted", "vm.moved"] {
        assert!(!server.events(kind).is_empty(), "{kind}");
    }
    server.ok(&["audit", "verify"]);
}
