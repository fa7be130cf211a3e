//! What somebody may, against a second telling of the rules that looks at every grant each time.

use std::collections::BTreeSet;

use proptest::prelude::*;
use uuid::Uuid;

use super::grants::Circumstances;
use super::role::{BUILT_IN, SHARED};
use super::*;
use crate::control::silent::{self, known};
use crate::store::{AccessRows, Quota, Role, UserRole};
use crate::types::grant::Conditions;

const USERS: u128 = 3;
const ROLES: [&str; 6] = ["admin", "operator", "developer", "viewer", "made", "gone"];

fn user(number: u128) -> Uuid {
    Uuid::from_u128(number + 1)
}

/// A key of theirs.
fn key_of(number: u128) -> Subject {
    Subject::Key { key: Uuid::nil(), user: user(number), owner: format!("user-{number}") }
}

fn vm(number: u128) -> VmId {
    VmId::new(Uuid::from_u128(100 + number))
}

/// Tenant t0 has the projects p0 and p1, t1 has p2; machine 0 is in p0, 1 in p1, 2 in p2.
fn project_of(vm: u128) -> &'static str {
    ["p0", "p1", "p2"][vm as usize % 3]
}

fn tenant_of(project: &str) -> &'static str {
    if project == "p2" { "t1" } else { "t0" }
}

fn scopes() -> impl Strategy<Value = Scope> {
    prop_oneof![
        1 => Just(Scope::Everything),
        2 => (0..2_u8).prop_map(|number| Scope::Tenant(format!("t{number}"))),
        3 => (0..3_u8).prop_map(|number| Scope::Project(format!("p{number}"))),
        2 => (0..3_u128).prop_map(|number| Scope::Vm(vm(number))),
    ]
}

fn places() -> impl Strategy<Value = Place> {
    scopes().prop_map(|scope| match scope {
        Scope::Everything => Place::Everything,
        Scope::Tenant(name) => Place::Tenant { name },
        Scope::Project(name) => Place::Project { tenant: tenant_of(&name).to_owned(), name },
        Scope::Vm(id) => {
            let project = project_of(id.uuid().as_u128() - 100);
            Place::Vm { id, project: project.to_owned(), tenant: tenant_of(project).to_owned() }
        }
    })
}

fn some_permissions() -> impl Strategy<Value = BTreeSet<Permission>> {
    proptest::collection::btree_set(proptest::sample::select(Permission::ALL), 0..12)
}

prop_compose! {
    fn rows()(
        grants in proptest::collection::vec(
            (0..USERS, proptest::sample::select(&ROLES[..]), scopes(), 0..4_u8), 0..8),
        own in proptest::collection::vec(proptest::option::weighted(0.2, 0..4_usize), USERS as usize),
        disabled in proptest::collection::vec(proptest::bool::weighted(0.1), USERS as usize),
        made in some_permissions(),
    ) -> AccessRows {
        let users = (0..USERS).zip(own).zip(disabled).map(|((number, role), disabled)| UserRole {
            id: user(number),
            name: format!("user-{number}"),
            role: role.map(|role| ROLES[role].to_owned()),
            disabled,
            created_at: silent::noon(),
        });
        let grants = grants.into_iter().enumerate().map(|(at, (holder, role, scope, when))| {
            let project = match &scope {
                Scope::Vm(id) => Some(project_of(id.uuid().as_u128() - 100).to_owned()),
                _ => None,
            };
            let conditions = match when {
                // Some that hold at noon of that Wednesday, and some that do not.
                0 => serde_json::json!({ "days": ["wed"], "hours": { "from": "08:00", "until": "18:00" } }),
                1 => serde_json::json!({ "days": ["thu"] }),
                _ => serde_json::json!({}),
            };
            let grant = Grant {
                id: Uuid::from_u128(1000 + at as u128),
                holder: Holder::User(user(holder)),
                role: role.to_owned(),
                scope,
                conditions: serde_json::from_value(conditions).unwrap(),
                created_at: silent::noon(),
                created_by: "system".to_owned(),
            };
            (grant, project)
        });
        AccessRows {
            projects: ["p0", "p1", "p2"].map(|name| (name.to_owned(), tenant_of(name).to_owned())).into(),
            tenants: vec!["t0".to_owned(), "t1".to_owned()],
            roles: vec![Role {
                name: "made".to_owned(),
                description: String::new(),
                permissions: made.into_iter().collect(),
                generation: 1,
                created_at: silent::noon(),
                created_by: "system".to_owned(),
            }],
            users: users.collect(),
            grants: grants.collect(),
        }
    }
}

/// The rules once more, in the words of docs/how-to/access.md.
fn told(
    rows: &AccessRows,
    who: Uuid,
    permission: Permission,
    place: &Place,
    narrowed: Option<&BTreeSet<Permission>>,
) -> bool {
    if narrowed.is_some_and(|narrowed| !narrowed.contains(&permission)) {
        return false;
    }
    let person = rows.users.iter().find(|user| user.id == who).unwrap();
    if person.disabled {
        return false;
    }
    let holds = |role: &str| match BUILT_IN.iter().find(|built_in| built_in.name == role) {
        Some(role) => role.permissions.contains(&permission),
        None => rows.roles.iter().any(|made| made.name == role && made.permissions.contains(&permission)),
    };
    if person.role.as_deref().is_some_and(holds) {
        return true;
    }
    rows.grants.iter().any(|(grant, _)| {
        let there = match (&grant.scope, place) {
            (Scope::Everything, _) => true,
            (_, Place::Everything) => SHARED.contains(&permission),
            (Scope::Tenant(on), Place::Tenant { name }) => on == name,
            (Scope::Tenant(on), Place::Project { tenant, .. } | Place::Vm { tenant, .. }) => on == tenant,
            (Scope::Project(on), Place::Project { name, .. }) => on == name,
            (Scope::Project(on), Place::Vm { project, .. }) => on == project,
            (Scope::Vm(on), Place::Vm { id, .. }) => on == id,
            _ => false,
        };
        let now = !grant.conditions.days.contains(&crate::types::grant::Day::Thu);
        grant.holder == Holder::User(who) && there && now && holds(&grant.role)
    })
}

fn may(
    grants: &Grants,
    who: &Subject,
    permission: Permission,
    place: &Place,
    narrowed: Option<&BTreeSet<Permission>>,
) -> bool {
    let with = Circumstances { now: silent::noon(), address: None, scopes: narrowed, for_good: false };
    grants.by(who, permission, place, with).next().is_some()
}

proptest! {
    #[test]
    fn nobody_ever_may_what_no_grant_gives_and_everybody_may_what_one_gives(
        rows in rows(), who in 0..USERS, place in places(), narrowed in proptest::option::of(some_permissions()),
    ) {
        let grants = Grants::of(1, rows.clone());
        for permission in Permission::ALL {
            let expected = told(&rows, user(who), *permission, &place, narrowed.as_ref());
            let subject = Subject::User(user(who));
            prop_assert_eq!(may(&grants, &subject, *permission, &place, narrowed.as_ref()), expected, "{}", permission);
            // A key may what its user may, and somebody who is not known may nothing.
            let key = key_of(who);
            prop_assert_eq!(may(&grants, &key, *permission, &place, narrowed.as_ref()), expected);
            let stranger = Subject::User(Uuid::from_u128(77));
            prop_assert!(!may(&grants, &stranger, *permission, &place, None));
            prop_assert!(!may(&grants, &Subject::Service("deploy".to_owned()), *permission, &place, None));
        }
    }

    #[test]
    fn scopes_of_a_key_only_narrow(
        rows in rows(), who in 0..USERS, place in places(), few in some_permissions(), more in some_permissions(),
    ) {
        let grants = Grants::of(1, rows);
        let subject = key_of(who);
        let more: BTreeSet<Permission> = few.union(&more).copied().collect();
        for permission in Permission::ALL {
            let with_few = may(&grants, &subject, *permission, &place, Some(&few));
            let with_more = may(&grants, &subject, *permission, &place, Some(&more));
            let with_all = may(&grants, &subject, *permission, &place, None);
            prop_assert!(with_few <= with_more && with_more <= with_all, "{}", permission);
            prop_assert!(!with_few || few.contains(permission));
        }
    }

    #[test]
    fn what_a_list_shows_is_what_may_be_seen_one_by_one(rows in rows(), who in 0..USERS) {
        let grants = Grants::of(1, rows);
        let subject = Subject::User(user(who));
        let with = Circumstances { now: silent::noon(), address: None, scopes: None, for_good: false };
        let sight = grants.sight(&subject, Permission::VmRead, with);
        for number in 0..3 {
            let project = project_of(number);
            let place = Place::Vm { id: vm(number), project: project.to_owned(), tenant: tenant_of(project).to_owned() };
            let shown = match &sight {
                Sight::All => true,
                Sight::Only { projects, vms } => projects.iter().any(|name| name == project) || vms.contains(&vm(number)),
            };
            prop_assert_eq!(shown, may(&grants, &subject, Permission::VmRead, &place, None));
        }
    }

    #[test]
    fn a_grant_that_is_gone_takes_what_it_gave_and_gives_nothing(
        rows in rows(), who in 0..USERS, place in places(), at in any::<proptest::sample::Index>(),
    ) {
        prop_assume!(!rows.grants.is_empty());
        let mut fewer = rows.clone();
        fewer.grants.remove(at.index(rows.grants.len()));
        let (before, after) = (Grants::of(1, rows), Grants::of(2, fewer));
        let subject = Subject::User(user(who));
        for permission in Permission::ALL {
            let (was, is) = (may(&before, &subject, *permission, &place, None), may(&after, &subject, *permission, &place, None));
            prop_assert!(is <= was, "{}", permission);
        }
    }
}

fn as_user(id: Uuid) -> Caller {
    Caller {
        subject: Subject::User(id),
        actor: format!("user:{id}"),
        origin: "tls",
        address: None,
        scopes: None,
        why: None,
    }
}

async fn give(control: &Control, by: &Caller, to: &str, role: &str, scope: &str) -> Result<Grant, OpError> {
    control.grant_create(by, to, role.to_owned(), scope, Conditions::default()).await
}

fn code(error: OpError) -> String {
    match error {
        OpError::Refused(reasons) => reasons[0].code.as_str().to_owned(),
        OpError::Forbidden(reason) | OpError::Invalid(reason) => reason.code.as_str().to_owned(),
        other => other.to_string(),
    }
}

#[tokio::test]
async fn a_grant_counts_from_its_answer_on_and_no_longer_than_to_the_answer_that_takes_it() {
    let dir = tempfile::tempdir().unwrap();
    let control = silent::control(dir.path()).await;
    let alice = known(&control, "alice").await;
    let caller = as_user(alice);
    let system = Caller::system();
    let on = Resource::Project("default".to_owned());
    for _ in 0..20 {
        let denied = control.authorize(&caller, Permission::TenantRead, &on).await.unwrap_err();
        assert!(matches!(denied, OpError::NotFound(_)), "{denied}");
        let grant = give(&control, &system, "user:alice", "viewer", "tenant:default").await.unwrap();
        control.authorize(&caller, Permission::TenantRead, &on).await.unwrap();
        control.grant_delete(&system, &grant.id.to_string()).await.unwrap();
    }
    control.authorize(&caller, Permission::TenantRead, &on).await.unwrap_err();
}

#[tokio::test]
async fn nobody_makes_more_of_what_they_hold() {
    let dir = tempfile::tempdir().unwrap();
    let control = silent::control(dir.path()).await;
    let system = Caller::system();
    let quota = Quota::default();
    control.tenant_create(&system, "acme".to_owned(), String::new(), quota).await.unwrap();
    control.project_create(&system, "acme".to_owned(), "web".to_owned(), String::new(), quota).await.unwrap();
    let granting = vec![Permission::AccessRead, Permission::AccessWrite, Permission::VmRead, Permission::VmPower];
    control.role_create(&system, "granter".to_owned(), String::new(), granting).await.unwrap();
    let mallory = as_user(known(&control, "mallory").await);
    known(&control, "bob").await;
    let everywhere = give(&control, &system, "user:mallory", "granter", "everything").await.unwrap();

    // By a role: one of more than they hold, or one of theirs that grows.
    let make = async |name: &str, permissions: &[Permission]| {
        control.role_create(&mallory, name.to_owned(), String::new(), permissions.to_vec()).await
    };
    assert_eq!(code(make("more", &[Permission::VmDelete]).await.unwrap_err()), "access-escalation");
    make("less", &[Permission::VmRead]).await.unwrap();
    let grown = control.role_update(&mallory, "less", String::new(), vec![Permission::UserWrite], None).await;
    assert_eq!(code(grown.unwrap_err()), "access-escalation");
    let own = control.role_update(&mallory, "granter", String::new(), Permission::ALL.to_vec(), None).await;
    assert_eq!(code(own.unwrap_err()), "access-escalation");
    let taken = control.role_update(&system, "admin", String::new(), vec![], None).await.unwrap_err();
    assert!(taken.to_string().contains("built in"), "{taken}");

    // By a grant: to themselves or to a friend.
    for to in ["user:mallory", "user:bob"] {
        let more = give(&control, &mallory, to, "developer", "project:web").await.unwrap_err();
        assert_eq!(code(more), "access-escalation");
    }
    give(&control, &mallory, "user:bob", "less", "project:web").await.unwrap();

    // Elsewhere than they hold it: what they may on a project they may not give on its tenant, nor on another one.
    control.grant_delete(&system, &everywhere.id.to_string()).await.unwrap();
    give(&control, &system, "user:mallory", "granter", "project:web").await.unwrap();
    give(&control, &mallory, "user:bob", "less", "project:web").await.unwrap();
    for scope in ["everything", "tenant:acme", "project:default", "vm:none"] {
        let wider = give(&control, &mallory, "user:bob", "less", scope).await.unwrap_err();
        assert!(matches!(wider, OpError::Forbidden(_) | OpError::NotFound(_)), "{scope}: {wider}");
    }

    // For longer than they hold it.
    let until = Conditions { expires_at: "2026-12-01T00:00:00Z".parse().ok(), ..Conditions::default() };
    let carol = as_user(known(&control, "carol").await);
    control.grant_create(&system, "user:carol", "granter".to_owned(), "everything", until).await.unwrap();
    control.authorize(&carol, Permission::AccessWrite, &Resource::Everything).await.unwrap();
    assert_eq!(
        code(give(&control, &carol, "user:carol", "less", "everything").await.unwrap_err()),
        "access-escalation"
    );

    // By a key: what it is not for, its holder does not hold with it.
    let scopes = Some([Permission::AccessWrite].into());
    let key = Caller { scopes, ..Caller::system() };
    assert_eq!(code(give(&control, &key, "user:bob", "viewer", "everything").await.unwrap_err()), "access-escalation");
}

#[tokio::test]
async fn whoever_is_kept_out_or_gone_may_nothing_and_the_next_of_that_name_neither() {
    use crate::store::{Change, UserChange};
    let dir = tempfile::tempdir().unwrap();
    let control = silent::control(dir.path()).await;
    let system = Caller::system();
    let alice = known(&control, "alice").await;
    let grant = give(&control, &system, "user:alice", "admin", "everything").await.unwrap();
    let write = async |change: UserChange| {
        let deed = Deed::done("test", "test".to_owned(), "test", serde_json::json!({}));
        control.record(&system, deed, vec![Change::User(Box::new(change))]).await.unwrap();
    };
    let disable = |disabled| UserChange::Changed {
        id: alice,
        if_generation: None,
        role: None,
        disabled: Some(disabled),
        must_change: None,
    };
    let may = async |id| control.authorize(&as_user(id), Permission::NodeRead, &Resource::Everything).await.is_ok();
    assert!(may(alice).await);
    write(disable(true)).await;
    assert!(!may(alice).await);
    write(disable(false)).await;
    assert!(may(alice).await);
    write(UserChange::Deleted(alice)).await;
    assert!(!may(alice).await);
    assert!(control.store().grant(grant.id).await.unwrap().is_none(), "what was granted is gone with them");
    assert!(!may(known(&control, "alice").await).await);
}

#[tokio::test]
async fn where_grants_cannot_be_read_nobody_may_anything() {
    use sqlx::Connection as _;
    let dir = tempfile::tempdir().unwrap();
    let control = silent::control(dir.path()).await;
    let alice = known(&control, "alice").await;
    give(&control, &Caller::system(), "user:alice", "admin", "everything").await.unwrap();
    // Somebody writes a role into the database that no version understands.
    let path = format!("sqlite://{}", dir.path().join("state.db").display());
    let mut raw = sqlx::SqliteConnection::connect(&path).await.unwrap();
    sqlx::query("INSERT INTO role VALUES ('odd', '', '[\"vm.fly\"]', 1, '', '')").execute(&mut raw).await.unwrap();
    known(&control, "bob").await;
    let answer = control.authorize(&as_user(alice), Permission::VmRead, &Resource::Everything).await;
    assert!(matches!(answer, Err(OpError::Store(_))), "{answer:?}");
}
