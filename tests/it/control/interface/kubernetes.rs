//! The webhook of Kubernetes, with reviews of the form that an API server sends, and Debian's docker-registry beside it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::server::{Server, images};
use super::super::tls::{Remote, listening};
use super::ask;
use crate::registry::docker::Docker;
use crate::registry::push_image;

/// A registry with a signed image and one that nobody signed, and a server that may ask it.
struct World {
    server: Server,
    registry: Docker,
    signed: String,
    unsigned: String,
}

impl World {
    fn new() -> Self {
        let registry = Docker::plain();
        let signed = push_image(&registry.host, "v1", b"one");
        let unsigned = push_image(&registry.host, "v2", b"two");
        let mut server = Server::prepared("kind = \"simulated\"\nboot-id = \"first\"", "");
        server.configure_more(&format!("[registries]\nallowed = [\"{}\", \"127.0.0.1:1\"]\n", registry.host));
        server.up(None);
        let world = Self { signed: format!("{}/a@{signed}", registry.host), unsigned, server, registry };
        world.sign(&world.signed);
        world
    }

    fn sign(&self, reference: &str) {
        let output = self
            .server
            .command(&["sign", &format!("oci://{reference}"), "--key", "builds.key"])
            .env("DEBVISOR_KEY_PASSWORD", "test")
            .current_dir(images())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn review(&self, group: &str, kind: &str, object: &Value) -> Value {
        // As kube-apiserver 1.31 sends it, with all that is not looked at.
        let resource = format!("{}s", kind.to_lowercase());
        let review = json!({
            "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
            "request": {
                "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
                "kind": { "group": group, "version": "v1", "kind": kind },
                "resource": { "group": group, "version": "v1", "resource": resource },
                "requestKind": { "group": group, "version": "v1", "kind": kind },
                "requestResource": { "group": group, "version": "v1", "resource": resource },
                "name": "web", "namespace": "default", "operation": "CREATE",
                "userInfo": { "username": "alice", "uid": "1", "groups": ["system:authenticated"] },
                "object": object, "oldObject": null, "dryRun": false,
                "options": { "kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1" },
            },
        });
        let answer = ask(&self.server, "POST", "/v1/admissions/kubernetes?timeout=5s", &[], Some(&review));
        assert_eq!(answer.status, 200, "{}", answer.json());
        let answer = answer.json();
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(answer["kind"], "AdmissionReview");
        assert_eq!(answer["response"]["uid"], "705ab4f5-6393-11e8-b7cc-42010a800002", "the question's own");
        answer["response"].clone()
    }

    fn pod(&self, images: &[&str]) -> Value {
        // With what the API server and its own controllers have put in by the time that webhooks are asked.
        let container = |(at, image): (usize, &&str)| {
            json!({
                "name": format!("c{at}"), "image": image, "resources": {}, "imagePullPolicy": "IfNotPresent",
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "volumeMounts": [{
                    "name": "kube-api-access-x7k2p", "readOnly": true,
                    "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                }],
            })
        };
        let containers: Vec<Value> = images.iter().enumerate().map(container).collect();
        let token = json!({ "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } });
        self.review(
            "",
            "Pod",
            &json!({
                "kind": "Pod", "apiVersion": "v1",
                "metadata": {
                    "name": "web", "namespace": "default", "uid": "0b4a6a7e-5b43-4c0f-9c55-3f5cb6f4f5d1",
                    "creationTimestamp": "2026-01-01T00:00:00Z",
                    "managedFields": [{
                        "manager": "kubectl-create", "operation": "Update", "apiVersion": "v1",
                        "time": "2026-01-01T00:00:00Z", "fieldsType": "FieldsV1",
                        "fieldsV1": { "f:spec": { "f:containers": { "k:{\"name\":\"c0\"}": { ".": {}, "f:image": {} } } } },
                    }],
                },
                "spec": {
                    "volumes": [{
                        "name": "kube-api-access-x7k2p", "projected": { "sources": [token], "defaultMode": 420 },
                    }],
                    "containers": containers, "restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
                    "dnsPolicy": "ClusterFirst", "serviceAccountName": "default", "securityContext": {},
                    "schedulerName": "default-scheduler", "priority": 0, "enableServiceLinks": true,
                    "tolerations": [{ "key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute" }],
                },
                "status": { "phase": "Pending", "qosClass": "BestEffort" },
            }),
        )
    }

    #[track_caller]
    fn denies(&self, response: &Value, code: &str) {
        assert_eq!(response["allowed"], false, "{response}");
        assert_eq!(response["status"]["code"], 403);
        let message = response["status"]["message"].as_str().unwrap();
        assert!(message.contains(code), "{message}");
    }
}

#[test]
fn a_pod_whose_image_is_vouched_for_may_run_and_no_other() {
    let world = World::new();
    let response = world.pod(&[&world.signed]);
    assert_eq!(response["allowed"], true, "{response}");
    assert!(response.get("status").is_none());
    let unsigned = format!("{}/a@{}", world.registry.host, world.unsigned);
    world.denies(&world.pod(&[&world.signed, &unsigned]), "evidence-missing");
    world.denies(&world.pod(&[&format!("{}/a:v1", world.registry.host)]), "image-not-by-digest");
    world.denies(&world.pod(&["nginx"]), "image-not-by-digest");
    let missing = format!("{}/a@sha256:{}", world.registry.host, "0".repeat(64));
    world.denies(&world.pod(&[&missing]), "image-missing");
    let elsewhere = format!("169.254.169.254/latest@sha256:{}", "0".repeat(64));
    world.denies(&world.pod(&[&elsewhere]), "registry-not-allowed");
    // One that is named and does not answer.
    let dead = format!("127.0.0.1:1/a@sha256:{}", "0".repeat(64));
    world.denies(&world.pod(&[&dead]), "registry-unreachable");
    assert_eq!(world.server.events("admission.refused").len(), 6, "every no is written down");
}

#[test]
fn templates_of_pods_are_looked_into_wherever_they_stand() {
    let world = World::new();
    let unsigned = format!("{}/a@{}", world.registry.host, world.unsigned);
    let pod = |main: &str, init: &str, volume: &str| {
        json!({
            "initContainers": [{ "name": "i", "image": init }], "containers": [{ "name": "m", "image": main }],
            "volumes": [{ "name": "v", "image": { "reference": volume, "pullPolicy": "Always" } }],
        })
    };
    let template = |pod: Value| json!({ "spec": { "template": { "metadata": {}, "spec": pod } } });
    for (group, kind) in [
        ("apps", "Deployment"),
        ("apps", "StatefulSet"),
        ("apps", "DaemonSet"),
        ("apps", "ReplicaSet"),
        ("batch", "Job"),
    ] {
        let good = pod(&world.signed, &world.signed, &world.signed);
        assert_eq!(world.review(group, kind, &template(good))["allowed"], true, "{kind}");
        for bad in [
            pod(&unsigned, &world.signed, &world.signed),
            pod(&world.signed, &unsigned, &world.signed),
            pod(&world.signed, &world.signed, &unsigned),
        ] {
            world.denies(&world.review(group, kind, &template(bad)), "evidence-missing");
        }
    }
    let job = template(pod(&unsigned, &world.signed, &world.signed));
    world.denies(
        &world.review("batch", "CronJob", &json!({ "spec": { "schedule": "* * * * *", "jobTemplate": job } })),
        "evidence-missing",
    );
    world.denies(&world.review("", "Service", &json!({ "spec": { "ports": [] } })), "workload-unknown");
}

#[test]
fn an_answer_is_remembered_for_a_moment_and_not_over_a_quarantine() {
    let mut world = World::new();
    assert_eq!(world.pod(&[&world.signed.clone()])["allowed"], true);
    world.registry.end();
    let response = world.pod(&[&world.signed.clone()]);
    assert_eq!(response["allowed"], true, "the registry is not asked twice: {response}");
    let digest = world.signed.split_once('@').unwrap().1.to_owned();
    world.server.ok(&["quarantine", "add", &digest, "--reason", "looks wrong"]);
    assert_eq!(world.pod(&[&world.signed.clone()])["allowed"], false, "what was answered before is forgotten");
}

#[test]
fn a_registry_that_never_answers_is_a_no_before_kubernetes_gives_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = silent.local_addr().unwrap().to_string();
    let mut world = World::new();
    let path = world.server.dir.path().join("config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, config.replace("\"127.0.0.1:1\"", &format!("\"{host}\""))).unwrap();
    world.server.kill();
    world.server.up(None);
    let began = Instant::now();
    let response = world.pod(&[&format!("{host}/a@sha256:{}", "0".repeat(64))]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(response["allowed"], false, "{response}");
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("admission-timeout") || message.contains("registry-unreachable"), "{message}");
}

#[test]
fn the_api_server_asks_over_tls_with_a_key_that_may_nothing_else() {
    let (server, address) = listening("", &[]);
    // As docs/how-to/kubernetes.md says.
    server.ok(&["role", "create", "webhook", "--permission", "admission.decide"]);
    server.ok(&["user", "create", "kubernetes", "--no-password"]);
    server.ok(&["grant", "create", "user:kubernetes", "webhook"]);
    let key = server.ok(&["token", "create", "api-server", "--user", "kubernetes", "--scope", "admission.decide"]);
    let credential = format!("Bearer {}", key.trim());
    let client = Remote::new(&server, address);
    let review = |operation: &str, object: Value| {
        json!({
            "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
            "request": {
                "uid": "u", "kind": { "group": "", "version": "v1", "kind": "Pod" }, "operation": operation,
                "object": object, "oldObject": { "spec": { "containers": [{ "name": "c", "image": "nginx" }] } },
            },
        })
    };
    let path = "/v1/admissions/kubernetes?timeout=5s";
    let asked = |body: &Value| client.post(path, &[("authorization", &credential)], body);
    let pod = json!({ "spec": { "containers": [{ "name": "c", "image": "nginx" }] } });
    for operation in ["CREATE", "UPDATE"] {
        let answer = asked(&review(operation, pod.clone()));
        assert_eq!((answer.status, &answer.json()["response"]["allowed"]), (200, &json!(false)), "{}", answer.body);
        assert!(answer.body.contains("image-not-by-digest"), "{}", answer.body);
    }
    // What goes, or is only connected to, runs nothing new.
    for (operation, object) in [("DELETE", Value::Null), ("CONNECT", json!({ "kind": "PodExecOptions" }))] {
        let answer = asked(&review(operation, object));
        assert_eq!((answer.status, &answer.json()["response"]["allowed"]), (200, &json!(true)), "{}", answer.body);
    }
    assert_eq!(client.post(path, &[], &review("CREATE", pod)).status, 401);
    for path in ["/v1/vms", "/v1/users", "/v1/audit"] {
        assert_eq!(client.send("GET", path, &[("authorization", &credential)]).unwrap().status, 403, "{path}");
    }
    // By whom, the audit log says.
    let log = server.ok(&["audit", "list", "--format", "json"]);
    assert!(log.contains("key:") && log.contains("admission.decide"), "{log}");
}

#[test]
fn a_review_that_is_none_is_a_problem_so_that_kubernetes_goes_by_its_failure_policy() {
    let world = Server::simulated();
    for review in [
        json!({}),
        json!({ "apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "request": {} }),
        json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": { "uid": "" } }),
    ] {
        ask(&world, "POST", "/v1/admissions/kubernetes", &[], Some(&review)).is(422, "request-malformed");
    }
    ask(&world, "POST", "/v1/admissions/kubernetes?timeout=forever", &[], Some(&json!({})))
        .is(400, "request-malformed");
}
