//! Every endpoint, asked by every role from every relation to what the address names, through the router as it is
//! served. What came out is docs/reference/access-matrix.md; `make docs` rewrites it.
//!
//! An endpoint that is new, or that answers somebody else than before, is not on that page, and fails here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use tokio::sync::watch;
use tower::ServiceExt as _;
use uuid::Uuid;

use super::access::{Access, TABLE};
use super::{App, Conduct, Ending, router};
use crate::control::{Caller, Control, silent};
use crate::store::{AuditRecord, Change, NewEvent, Operation, OperationState, Quota, Sight, UserChange, Write};
use crate::types::access::{Permission, Subject};
use crate::types::grant::Conditions;
use crate::types::vm::VmId;

/// How the caller's grant relates to what the address names.
const RELATIONS: [(&str, Option<&str>); 7] = [
    ("everything", Some("everything")),
    ("its tenant", Some("tenant:acme")),
    ("its project", Some("project:web")),
    ("itself", Some("vm:web-1")),
    ("another project", Some("project:api")),
    ("another tenant", Some("tenant:globex")),
    ("nothing", None),
];

const ROLES: [&str; 4] = ["admin", "operator", "developer", "viewer"];

/// Two tenants: acme with the projects web and api, globex with shop; a machine in each.
struct World {
    _dir: tempfile::TempDir,
    /// A service that ends answers nobody.
    _service: (watch::Sender<bool>, watch::Sender<()>),
    control: Control,
    router: Router,
    vm: VmId,
    operation: Uuid,
    /// Somebody who is granted things, and asks for nothing.
    other: Uuid,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let control = silent::control(dir.path()).await;
        let system = Caller::system();
        for tenant in ["acme", "globex"] {
            control.tenant_create(&system, tenant.to_owned(), String::new(), Quota::default()).await.unwrap();
        }
        for (tenant, project) in [("acme", "web"), ("acme", "api"), ("globex", "shop")] {
            let (tenant, project) = (tenant.to_owned(), project.to_owned());
            control.project_create(&system, tenant, project, String::new(), Quota::default()).await.unwrap();
        }
        let mut made = BTreeMap::new();
        for (project, name) in [("web", "web-1"), ("api", "api-1"), ("shop", "shop-1")] {
            made.insert(
                name,
                control
                    .vm_create(&system, project, serde_json::from_value(spec(name)).unwrap(), None)
                    .await
                    .unwrap()
                    .id,
            );
        }
        let vm = made["web-1"];
        let operation = Operation {
            id: Uuid::now_v7(),
            vm,
            kind: "start".to_owned(),
            action: None,
            state: OperationState::Done,
            reasons: Vec::new(),
            message: None,
            created_at: silent::noon(),
            created_by: "system".to_owned(),
            ended_at: Some(silent::noon()),
        };
        let asked = operation.id;
        write(&control, Change::OperationPut(Box::new(operation))).await;
        let (stopping, stop) = watch::channel(false);
        let (held, holder) = watch::channel(());
        let conduct = Conduct { drain: Duration::ZERO, least_disk_bytes: 0, metrics_allow: Vec::new() };
        let app = App::new(control.clone(), Ending { stop, _held: holder }, conduct);
        let router = router(app);
        let mut world =
            Self { _dir: dir, _service: (stopping, held), control, router, vm, operation: asked, other: Uuid::nil() };
        world.other = world.user("other").await;
        world
    }

    async fn user(&self, name: &str) -> Uuid {
        let id = Uuid::now_v7();
        let user = silent::user(id, name);
        write(&self.control, Change::User(Box::new(UserChange::Created(Box::new(user), None)))).await;
        id
    }

    /// Somebody with this role there.
    async fn caller(&self, role: &str, scope: Option<&str>) -> Caller {
        let name = format!("{role}-{}", Uuid::now_v7());
        let id = self.user(&name).await;
        if let Some(scope) = scope {
            self.grant(id, role, scope).await;
        }
        Caller {
            subject: Subject::User(id),
            actor: format!("user:{name}"),
            origin: "tls",
            address: None,
            scopes: None,
            why: None,
        }
    }

    async fn grant(&self, to: Uuid, role: &str, scope: &str) -> String {
        let (by, to) = (Caller::system(), format!("user:{to}"));
        let made = self.control.grant_create(&by, &to, role.to_owned(), scope, Conditions::default());
        made.await.unwrap().id.to_string()
    }

    /// One request, as this caller.
    async fn ask(&self, caller: Option<&Caller>, method: &str, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(path);
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let mut request = request.body(body).unwrap();
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller.clone());
        }
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        let bytes = to_bytes(answer.into_body(), 1 << 20).await.unwrap_or_default();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    /// The endpoint's address with what the matrix is about in its places, and whether the place can be hidden.
    async fn address(&self, method: &str, path: &str) -> (String, bool) {
        let mut address = String::new();
        let mut can_be_hidden = false;
        for part in path.split('/').skip(1) {
            let named = part.strip_prefix('{').and_then(|part| part.strip_suffix('}'));
            let value = match named {
                None => part.to_owned(),
                Some("vm") => "web-1".to_owned(),
                Some("operation") => self.operation.to_string(),
                Some("tenant") => "acme".to_owned(),
                Some("project") => "web".to_owned(),
                Some("grant") => self.grant(self.other, "viewer", "project:web").await,
                Some("node") => "node".to_owned(),
                Some("role") => "viewer".to_owned(),
                Some("image") => format!("sha256:{}", "0".repeat(64)),
                Some(_) => Uuid::nil().to_string(),
            };
            can_be_hidden |= matches!(named, Some("vm" | "operation" | "tenant" | "project" | "grant"));
            write!(address, "/{value}").unwrap();
        }
        if (method, path) == ("POST", "/v1/vms") {
            address.push_str("?project=web");
            can_be_hidden = true;
        }
        can_be_hidden |= matches!((method, path), ("POST", "/v1/projects" | "/v1/grants"));
        (address, can_be_hidden)
    }

    /// What is sent along: where the body says what it is about, that; where not, nothing that could be done.
    fn body(&self, method: &str, path: &str) -> Option<Value> {
        match (method, path) {
            ("GET" | "DELETE", _) => None,
            ("POST", "/v1/vms") => Some(spec("web-2")),
            ("POST", "/v1/projects") => Some(json!({ "name": "new", "tenant": "acme" })),
            ("POST", "/v1/grants") => {
                Some(json!({ "holder": format!("user:{}", self.other), "role": "viewer", "scope": "project:web" }))
            }
            // To where it is already.
            ("PUT", "/v1/vms/{vm}/project") => Some(json!({ "project": "web" })),
            _ => Some(json!({})),
        }
    }

    /// `yes`, or the status of the no.
    async fn cell(&self, caller: Option<&Caller>, method: &str, path: &str) -> &'static str {
        let (address, can_be_hidden) = self.address(method, path).await;
        let (status, answer) = self.ask(caller, method, &address, self.body(method, path)).await;
        match (status, answer["code"].as_str()) {
            (StatusCode::UNAUTHORIZED, Some("credential-missing")) => "401",
            (StatusCode::FORBIDDEN, Some("access-denied")) => "403",
            (StatusCode::NOT_FOUND, Some("resource-unknown")) if can_be_hidden => "404",
            (StatusCode::INTERNAL_SERVER_ERROR, _) => panic!("{method} {address}: {answer}"),
            _ => "yes",
        }
    }
}

fn spec(name: &str) -> Value {
    json!({ "name": name, "memory_mib": 64, "kernel": { "kernel": format!("sha256:{}", "1".repeat(64)), "cmdline": "" } })
}

async fn write(control: &Control, change: Change) {
    let audit = AuditRecord {
        at: silent::noon(),
        actor: "system".to_owned(),
        origin: "system".to_owned(),
        action: "test".to_owned(),
        object: "test".to_owned(),
        outcome: "done".to_owned(),
        why: Vec::new(),
        data: Value::Null,
    };
    let event = NewEvent { kind: "test".to_owned(), subject: "test".to_owned(), data: json!({}) };
    control.store().write(Write { changes: vec![change], audit, event }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_matrix_of_roles_and_endpoints_is_the_one_that_is_written_down() {
    let world = World::new().await;
    let mut page = String::from(
        "# Who may what, endpoint by endpoint\n\n\
         Every endpoint was asked by every built-in role, granted on what the column says of the thing that the \
         address names.\n\
         `yes`: the request was let through. 403: it may be seen, and this may not be done. 404: it is answered as if \
         it were not there.\n\
         What is asked of everything, and not of a tenant, a project or a machine, is 403 to whoever holds it on less; \
         lists show what may be seen.\n\
         Generated by `make docs`, out of the answers; [who may what](../how-to/access.md) says why.\n",
    );
    for role in ROLES {
        write!(page, "\n## {role}\n\n| endpoint |").unwrap();
        let mut callers = Vec::new();
        for (title, scope) in RELATIONS {
            write!(page, " {title} |").unwrap();
            callers.push(world.caller(role, scope).await);
        }
        page.push_str("\n|---|---|---|---|---|---|---|---|\n");
        for (method, path, _) in TABLE {
            write!(page, "| {method} `{path}` |").unwrap();
            for caller in &callers {
                write!(page, " {} |", world.cell(Some(caller), method, path).await).unwrap();
            }
            page.push('\n');
        }
    }
    generated("docs/reference/access-matrix.md", &page);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_says_nothing_of_who_they_are_gets_what_is_public_and_no_more() {
    let world = World::new().await;
    for (method, path, access) in TABLE {
        let answer = world.cell(None, method, path).await;
        assert_eq!(answer == "401", *access != Access::Public, "{method} {path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api1_another_tenants_machine_is_answered_as_one_that_never_was() {
    let world = World::new().await;
    let stranger = world.caller("admin", Some("tenant:globex")).await;
    let mut asked = 0;
    for (method, path, _) in TABLE.iter().filter(|(_, path, _)| path.contains("{vm}") || path.contains("{operation}")) {
        let body = world.body(method, path);
        let mut answers = Vec::new();
        let id = world.vm.to_string();
        let nobody = Uuid::now_v7().to_string();
        let never = (Uuid::now_v7().to_string(), nobody.as_str());
        let operation = world.operation.to_string();
        for (vm, operation) in
            [("web-1", operation.as_str()), (&id, &operation), (&never.0, never.1), ("nobody", never.1)]
        {
            let address = path.replace("{vm}", vm).replace("{operation}", operation);
            let (status, mut answer) = world.ask(Some(&stranger), method, &address, body.clone()).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{method} {address}: {answer}");
            // The name of the request is its own.
            answer.as_object_mut().unwrap().remove("request");
            // The one difference is what was asked for, which the caller knows.
            for word in [vm, operation] {
                let detail = answer["detail"].as_str().unwrap().replace(word, "…");
                answer["detail"] = detail.into();
            }
            answers.push(answer);
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{method} {path} tells them apart: {answers:#?}");
        asked += 1;
    }
    assert!(asked >= 9, "the endpoints of machines were not found");
    // Nor do the lists show it, whatever is asked of them.
    let (_, machines) = world.ask(Some(&stranger), "GET", "/v1/vms?limit=1", None).await;
    assert_eq!(machines["items"][0]["name"], "shop-1", "the first page begins with what may be seen");
    let after = machines["next"].as_str().unwrap_or_default();
    let (_, rest) = world.ask(Some(&stranger), "GET", &format!("/v1/vms?limit=1&after={after}"), None).await;
    assert_eq!(rest["items"], json!([]));
    let hidden = world.vm.to_string();
    let (_, events) = world.ask(Some(&stranger), "GET", "/v1/events?limit=1000", None).await;
    let subjects: Vec<&str> =
        events["items"].as_array().unwrap().iter().map(|it| it["subject"].as_str().unwrap()).collect();
    assert!(
        !subjects.is_empty() && subjects.iter().all(|it| it.starts_with("vm/") && !it.ends_with(&hidden)),
        "{subjects:?}"
    );
    for (list, name) in [("/v1/projects", "shop"), ("/v1/tenants", "globex")] {
        let (_, shown) = world.ask(Some(&stranger), "GET", list, None).await;
        let names: Vec<&Value> = shown["items"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
        assert_eq!(names, [name], "{list}");
    }
    let (_, grants) = world.ask(Some(&stranger), "GET", "/v1/grants", None).await;
    assert!(grants["items"].as_array().unwrap().iter().all(|it| it["scope"] == "tenant:globex"), "{grants}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn api5_whoever_looks_changes_nothing_and_whoever_runs_machines_administers_nobody() {
    let world = World::new().await;
    let viewer = world.caller("viewer", Some("everything")).await;
    let operator = world.caller("operator", Some("everything")).await;
    let (mut looked, mut ran) = (0, 0);
    for (method, path, access) in TABLE {
        let (Access::Needs(permission) | Access::Above(permission) | Access::Somewhere(permission)) = access else {
            continue;
        };
        // Judging an image again reads, although it is posted.
        if *method != "GET" && *permission != Permission::ImageRead {
            let answer = world.cell(Some(&viewer), method, path).await;
            assert!(["403", "404"].contains(&answer), "{method} {path} by a viewer: {answer}");
            looked += 1;
        }
        let noun = permission.as_str().split('.').next().unwrap();
        if matches!(noun, "user" | "access" | "state") || *permission == Permission::TenantWrite {
            let answer = world.cell(Some(&operator), method, path).await;
            assert!(["403", "404"].contains(&answer), "{method} {path} by an operator: {answer}");
            ran += 1;
        }
    }
    assert!(looked >= 20 && ran >= 10, "the endpoints were not found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_written_down_with_who_what_and_where() {
    let world = World::new().await;
    let viewer = world.caller("viewer", Some("project:web")).await;
    let before = world.control.store().audit_from(0, 1000).await.unwrap().len();
    let (status, problem) = world.ask(Some(&viewer), "DELETE", "/v1/vms/web-1", None).await;
    assert_eq!((status, problem["code"].as_str()), (StatusCode::FORBIDDEN, Some("access-denied")), "{problem}");
    let rows = world.control.store().audit_from(0, 1000).await.unwrap();
    assert_eq!(rows.len(), before + 1);
    let record: Value = serde_json::from_str(&rows.last().unwrap().record).unwrap();
    assert_eq!(record["actor"], viewer.actor.as_str());
    assert_eq!(record["action"], "vm.delete");
    assert_eq!(record["object"], format!("vm/{}", world.vm));
    assert_eq!((&record["outcome"], &record["why"]), (&json!("refused"), &json!(["access-denied"])));
    let events = world.control.store().events_after(0, "access.denied", "", &Sight::All, 10).await.unwrap();
    assert_eq!(events.len(), 1);
}

/// Compares a page with what is generated, or rewrites it.
fn generated(path: &str, page: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    #[expect(clippy::disallowed_methods, reason = "a test that `make docs` runs, and that reads no configuration")]
    let update = std::env::var_os("DEBVISOR_UPDATE_DOCS").is_some();
    if update {
        std::fs::write(&path, page).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == page, "{} has fallen behind: make docs", path.display());
}
