//! The annotations of the handlers in, one OpenAPI 3.1 document out: what is served, what requests are held against,
//! and what `docs/openapi.json` is a copy of.
//!
//! A handler says what is its own: parameters, body, success. What all share is added here, so that no endpoint can
//! forget it: who may call it (from [`super::access::TABLE`]), every refusal that it can give, header fields, a name.
//! **Invariant: the document that is served is the one that requests are checked against.**

use std::collections::BTreeSet;
use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Map, Value, json};

use super::access::{Access, TABLE};
use super::error::PROBLEM;
use super::version;
use crate::types::limits;

/// The document.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| complete(super::description()));
/// Its text, as it is served and kept.
static TEXT: LazyLock<String> = LazyLock::new(|| {
    let mut text = serde_json::to_string_pretty(&*DOCUMENT).unwrap_or_default();
    text.push('\n');
    text
});

/// Methods that an address may have in the document.
pub(super) const METHODS: [&str; 5] = ["delete", "get", "patch", "post", "put"];

/// The schema of a problem.
const PROBLEM_SCHEMA: &str = "#/components/schemas/Problem";

/// A refusal that endpoints share: status, name, what it means.
const REFUSALS: &[(u16, &str, &str)] = &[
    (400, "BadRequest", "The request has not the form that is described here."),
    (401, "Unauthenticated", "Nobody says who asks, or what says it is not believed."),
    (403, "Forbidden", "Who asks may not."),
    (404, "NotFound", "There is no such thing, or none that the caller may see."),
    (405, "MethodNotAllowed", "The address does not know this method; `Allow` lists those that it knows."),
    (406, "NotAcceptable", "Nothing that `Accept` lists can be given."),
    (409, "Conflict", "It does not fit what is there."),
    (410, "Gone", "The cursor is of another log."),
    (412, "PreconditionFailed", "Somebody else made a change meanwhile: `If-Match` is not the ETag any more."),
    (413, "ContentTooLarge", "The body is longer than this address takes, or there is no room for it."),
    (415, "UnsupportedMediaType", "The body is of a type that this address does not take."),
    (422, "Refused", "The gate or a rule says no, or a value is none that can be meant; `reasons` says why."),
    (426, "UpgradeRequired", "What is here is a WebSocket (RFC 6455), and the request opens none."),
    (429, "TooManyRequests", "Too many requests; `Retry-After` says when the next one may come."),
    (431, "HeadersTooLarge", "The address or the header fields are too long."),
    (500, "Fault", "A fault of the control plane; the log has more under `instance`."),
    (502, "NodeFailed", "The node did not do it, or did not answer."),
    (503, "Unavailable", "Not now: it took too long, or the control plane is about to end."),
];

/// The document as a text, which ends with a line break.
pub fn text() -> &'static str {
    &TEXT
}

/// The document.
pub(super) fn document() -> &'static Value {
    &DOCUMENT
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "interface",
    responses((status = 200, body = Object, content_type = "application/json")))]
pub(super) async fn show() -> impl IntoResponse {
    static TAG: LazyLock<String> = LazyLock::new(|| super::extract::tag_of(TEXT.as_bytes()));
    ([(header::CONTENT_TYPE, "application/json"), (header::ETAG, TAG.as_str())], text())
}

fn complete(description: utoipa::openapi::OpenApi) -> Value {
    let mut document = serde_json::to_value(description).unwrap_or_default();
    let mut names = BTreeSet::new();
    if let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) {
        for (path, item) in paths {
            for method in METHODS {
                if let Some(Value::Object(operation)) = item.get_mut(method) {
                    finish(method, path, operation);
                    distinguish(path, operation, &mut names);
                }
            }
        }
    }
    close(&mut document);
    let tags = tags(&document);
    if let Some(top) = document.as_object_mut() {
        top.insert("openapi".to_owned(), json!("3.1.0"));
        top.insert("info".to_owned(), info());
        top.insert("servers".to_owned(), json!([{ "url": "/", "description": "Where this document came from." }]));
        top.insert("tags".to_owned(), tags);
        let components = top.entry("components").or_insert_with(|| json!({}));
        if let Some(components) = components.as_object_mut() {
            components.insert("responses".to_owned(), refusals());
            components.insert("headers".to_owned(), headers());
            components.insert("securitySchemes".to_owned(), schemes());
        }
    }
    document
}

fn info() -> Value {
    json!({
        "title": "DebVisor",
        "summary": "The control plane of verified virtual machines.",
        "description": "Every \"no\" is a problem document (RFC 9457) with a stable reason code. Lists go by a cursor, \
            changes by an ETag, and a POST may be repeated under a key. docs/reference/api.md tells the whole.",
        "version": version::API,
        "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
    })
}

/// What is sent is closed: a member that a variant does not have is a mistake of the caller.
fn close(document: &mut Value) {
    let mut open: Vec<String> = Vec::new();
    for item in document.get("paths").and_then(Value::as_object).into_iter().flat_map(Map::values) {
        for operation in item.as_object().into_iter().flat_map(Map::values) {
            names(operation.get("requestBody").unwrap_or(&Value::Null), &mut open);
        }
    }
    let mut seen = BTreeSet::new();
    while let Some(name) = open.pop() {
        let schemas = document.pointer_mut("/components/schemas");
        let Some(schema) = schemas.and_then(|schemas| schemas.get_mut(&name)) else { continue };
        if !seen.insert(name) {
            continue;
        }
        for variant in schema.get_mut("oneOf").and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(variant) = variant.as_object_mut()
                && variant.contains_key("properties")
            {
                variant.entry("additionalProperties").or_insert(json!(false));
            }
        }
        within(schema);
        names(schema, &mut open);
    }
}

/// Bounds everything in a schema of what is sent that has no bound of its own.
fn within(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    bound(schema, limits::API_TEXT_BYTES);
    for word in ["oneOf", "allOf", "anyOf"] {
        schema.get_mut(word).and_then(Value::as_array_mut).into_iter().flatten().for_each(within);
    }
    for property in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        within(property);
    }
    schema.get_mut("items").into_iter().for_each(within);
}

/// Texts by length, numbers by both ends, lists by their items, where nothing else is said.
fn bound(schema: &mut Map<String, Value>, text_bytes: usize) {
    let kind = schema.get("type").cloned().unwrap_or_default();
    let is = |word: &str| kind == word || kind.as_array().is_some_and(|kinds| kinds.contains(&json!(word)));
    let said = |schema: &Map<String, Value>, words: &[&str]| words.iter().any(|word| schema.contains_key(*word));
    if is("string") && !said(schema, &["maxLength", "pattern", "enum", "const", "format"]) {
        schema.insert("maxLength".to_owned(), json!(text_bytes));
    }
    if is("integer") {
        schema.entry("minimum").or_insert(json!(i64::MIN));
        schema.entry("maximum").or_insert(json!(i64::MAX));
    }
    if is("array") {
        schema.entry("maxItems").or_insert(json!(limits::API_PAGE_ITEMS));
    }
}

/// The schemas that a part of the document names.
fn names(part: &Value, found: &mut Vec<String>) {
    match part {
        Value::Object(members) => {
            for (name, value) in members {
                match value.as_str().and_then(|text| text.strip_prefix("#/components/schemas/")) {
                    Some(schema) if name == "$ref" => found.push(schema.to_owned()),
                    _ => names(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| names(item, found)),
        _ => {}
    }
}

/// What every operation has, whatever its handler says.
fn finish(method: &str, path: &str, operation: &mut Map<String, Value>) {
    let access = TABLE.iter().find(|(of, at, _)| of.eq_ignore_ascii_case(method) && *at == path);
    let access = access.map(|(_, _, access)| *access);
    name(operation);
    if let Some(Value::Array(parameters)) = operation.get_mut("parameters") {
        parameters.iter_mut().for_each(|parameter| plain(path, parameter));
    }
    if let Some(Value::Object(body)) = operation.get_mut("requestBody") {
        body.insert("required".to_owned(), json!(true));
        binary(body);
    }
    match access {
        Some(Access::Public) => {
            operation.insert("security".to_owned(), json!([]));
        }
        _ => {
            operation.insert(
                "security".to_owned(),
                json!([{ "key": [] }, { "session": [], "csrf": [] }, { "certificate": [] }]),
            );
        }
    }
    if let Some(Access::Needs(permission) | Access::Above(permission) | Access::Somewhere(permission)) = access {
        operation.insert("x-permission".to_owned(), json!(permission.as_str()));
    }
    if version::deprecation_of(method, path).is_some() {
        operation.insert("deprecated".to_owned(), json!(true));
    }
    let possible = possible(method, path, access, operation);
    let tagged = method == "get" && TAGGED.contains(&path);
    if tagged {
        let parameters = operation.entry("parameters").or_insert_with(|| json!([]));
        if let Some(parameters) = parameters.as_array_mut() {
            parameters.push(json!({
                "name": "if-none-match", "in": "header", "required": false,
                "description": "ETags that the caller has; where one still holds, the answer is 304 without a body.",
                "schema": { "type": "string", "maxLength": 1024, "pattern": "^[\\x20-\\x7e]*$" },
            }));
        }
    }
    let responses = operation.entry("responses").or_insert_with(|| json!({}));
    let Some(responses) = responses.as_object_mut() else { return };
    responses.remove("default");
    for (status, name, _) in REFUSALS.iter().filter(|(status, ..)| possible.contains(status)) {
        let shared = json!({ "$ref": format!("#/components/responses/{name}") });
        match responses.get_mut(&status.to_string()).and_then(|own| own.get_mut("content")?.as_object_mut()) {
            // What it says with this status itself is not all that is said with it.
            Some(content) => drop(content.insert(PROBLEM.to_owned(), json!({ "schema": { "$ref": PROBLEM_SCHEMA } }))),
            None => drop(responses.entry(status.to_string()).or_insert(shared)),
        }
    }
    for (status, response) in responses.iter_mut().filter(|(status, _)| status.starts_with('2')) {
        if let Some(response) = response.as_object_mut() {
            if response.get("description").and_then(Value::as_str).is_none_or(str::is_empty) {
                response.insert("description".to_owned(), json!(meaning(status)));
            }
            binary(response);
            let fields = response.entry("headers").or_insert_with(|| json!({}));
            if let Some(fields) = fields.as_object_mut() {
                fields.insert("debvisor-api-version".to_owned(), json!({ "$ref": "#/components/headers/ApiVersion" }));
                if tagged || CHANGED.contains(&(method, path)) {
                    fields.insert("etag".to_owned(), json!({ "$ref": "#/components/headers/ETag" }));
                }
                if status == "201" && LOCATED.contains(&path) {
                    fields.insert("location".to_owned(), json!({ "$ref": "#/components/headers/Location" }));
                }
            }
        }
    }
    if let Some(Value::Object(elsewhere)) = responses.get_mut("303") {
        elsewhere.insert("description".to_owned(), json!("It goes on at another address."));
        elsewhere.insert("headers".to_owned(), json!({ "location": { "$ref": "#/components/headers/Elsewhere" } }));
    }
    if tagged {
        responses.entry("304").or_insert_with(|| {
            json!({
                "description": "It is as `If-None-Match` says.",
                "headers": { "etag": { "$ref": "#/components/headers/ETag" } },
            })
        });
    }
    // By status, whatever was said first.
    let mut sorted: Vec<_> = std::mem::take(responses).into_iter().collect();
    sorted.sort_by(|(left, _), (right, _)| left.cmp(right));
    responses.extend(sorted);
}

/// What is answered with an ETag to a GET.
const TAGGED: &[&str] = &[
    "/v1/images/{image}",
    "/v1/nodes/{node}",
    "/v1/openapi.json",
    "/v1/operations/{operation}",
    "/v1/projects/{project}",
    "/v1/roles/{role}",
    "/v1/tenants/{tenant}",
    "/v1/users/{user}",
    "/v1/vms/{vm}",
];
/// What else is answered with one: what was made or changed.
const CHANGED: &[(&str, &str)] = &[
    ("delete", "/v1/users/{user}/totp"),
    ("patch", "/v1/users/{user}"),
    ("post", "/v1/projects"),
    ("post", "/v1/roles"),
    ("post", "/v1/tenants"),
    ("post", "/v1/users"),
    ("post", "/v1/vms"),
    ("put", "/v1/projects/{project}"),
    ("put", "/v1/roles/{role}"),
    ("put", "/v1/tenants/{tenant}"),
    ("put", "/v1/users/{user}/password"),
    ("put", "/v1/vms/{vm}"),
];
/// What answers a POST with the address of what it made.
const LOCATED: &[&str] = &["/v1/images/uploads", "/v1/vms"];

/// An operation's name: the noun first, as `vms_list`.
fn name(operation: &mut Map<String, Value>) {
    let tag = operation.get("tags").and_then(|tags| tags.get(0)?.as_str()).unwrap_or("interface").to_owned();
    let id = operation.get("operationId").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !id.starts_with(&format!("{tag}_")) {
        operation.insert("operationId".to_owned(), json!(format!("{tag}_{id}")));
    }
    if let Some(Value::String(summary)) = operation.get_mut("summary") {
        let plain = summary.trim_end_matches('.').to_owned();
        *summary = plain;
    }
}

/// Where two have one name, the second is told by the last word of its address.
fn distinguish(path: &str, operation: &mut Map<String, Value>, names: &mut BTreeSet<String>) {
    let id = operation.get("operationId").and_then(Value::as_str).unwrap_or_default().to_owned();
    if !names.insert(id.clone()) {
        let last = path.rsplit('/').next().unwrap_or_default().trim_matches(['{', '}']);
        let other = format!("{id}_{last}");
        names.insert(other.clone());
        operation.insert("operationId".to_owned(), json!(other));
    }
}

/// A parameter is a text: it is there or not, and never `null`.
fn plain(path: &str, parameter: &mut Value) {
    let place = parameter.get("in").and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(Value::String(name)) = parameter.get_mut("name")
        && place == "header"
    {
        name.make_ascii_lowercase();
    }
    let named = parameter.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let Some(schema) = parameter.get_mut("schema").and_then(Value::as_object_mut) else { return };
    if let Some(kind) = schema.get_mut("type")
        && let Some(first) = kind.as_array().and_then(|kinds| kinds.iter().find(|kind| *kind != "null")).cloned()
    {
        *kind = first;
    }
    if let Some(Value::Array(either)) = schema.get_mut("oneOf") {
        either.retain(|kind| kind.get("type") != Some(&json!("null")));
        if let [only] = either.as_slice() {
            let only = only.clone();
            schema.remove("oneOf");
            if let Value::Object(only) = only {
                schema.extend(only);
            }
        }
    }
    let known = match (place.as_str(), named.as_str()) {
        ("header", "if-match") => Some(json!({ "pattern": "^(\\*|\"[0-9]{1,19}(\\.[0-9a-f]{1,64})?\")?$" })),
        ("header", "idempotency-key") => {
            Some(json!({ "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$" }))
        }
        ("path", "vm") => Some(json!({ "minLength": 1, "maxLength": 63, "pattern": "^[a-z0-9-]+$" })),
        ("path", "image") => Some(json!({ "minLength": 1, "maxLength": 255 })),
        ("path", "node") => Some(json!({ "minLength": 1, "maxLength": 253, "pattern": "^[A-Za-z0-9._-]+$" })),
        ("path", "operation" | "upload" | "quarantine" | "approval" | "session" | "grant") => {
            Some(json!({ "format": "uuid" }))
        }
        ("path", "user" | "role" | "tenant" | "project" | "service" | "provider") => {
            Some(json!({ "minLength": 1, "maxLength": 64 }))
        }
        ("header", "upload-offset") => Some(json!({ "maximum": limits::IMAGE_BYTES })),
        _ => None,
    };
    // A cursor is of its list; none begins at the beginning.
    let cursor = match (place.as_str(), named.as_str(), path) {
        ("query", "after", "/v1/vms" | "/v1/users" | "/v1/sessions" | "/v1/users/{user}/sessions") => {
            Some("^([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})?$")
        }
        ("query", "after", "/v1/audit" | "/v1/audit/checkpoints") => Some("^[0-9]{0,18}$"),
        _ => None,
    };
    if let Some(cursor) = cursor {
        schema.remove("maxLength");
        schema.insert("pattern".to_owned(), json!(cursor));
    }
    if let Some(Value::Object(known)) = known {
        for (word, value) in known {
            schema.entry(word).or_insert(value);
        }
    }
    bound(schema, limits::API_PARAMETER_BYTES);
    if !schema.contains_key("$ref")
        && let (Some(text), Some(parameter)) = (description_of(&place, &named), parameter.as_object_mut())
    {
        parameter.entry("description").or_insert_with(|| json!(text));
    }
}

/// What parameters that many endpoints have mean.
fn description_of(place: &str, name: &str) -> Option<&'static str> {
    Some(match (place, name) {
        ("header", "if-match") => {
            "The ETag that the caller saw, of which the generation must still hold; `*` takes whatever is there."
        }
        ("header", "idempotency-key") => "A request under the same key is done once, however often it is sent.",
        ("path", "vm") => "The machine, by name or identity.",
        ("path", "image") => "The image, by digest or name.",
        ("path", "node") => "The node, by name.",
        ("path", "operation") => "The operation.",
        ("path", "upload") => "The upload.",
        ("path", "quarantine") => "The quarantine.",
        ("path", "approval") => "The request.",
        ("header", "upload-offset") => "Where the piece begins: as far as the upload is, in bytes.",
        ("path", _) => "Its name or identity.",
        _ => return None,
    })
}

/// Bytes are bytes, and no list of numbers.
fn binary(holder: &mut Map<String, Value>) {
    let media = holder.get_mut("content").and_then(|content| content.get_mut("application/octet-stream"));
    if let Some(Value::Object(media)) = media {
        media.insert("schema".to_owned(), json!({ "type": "string", "format": "binary" }));
    }
}

/// The refusals that an operation can give.
fn possible(method: &str, path: &str, access: Option<Access>, operation: &Map<String, Value>) -> Vec<u16> {
    // A credential that is sent and not believed is refused, also where none is asked for.
    let mut found = vec![400, 401, 405, 406, 429, 431, 500, 503];
    let identifies = path == "/v1/session" || path.starts_with("/v1/oidc/");
    if access != Some(Access::Public) || identifies {
        found.extend([403, 502]);
    }
    if path.contains('{') || access == Some(Access::Known) {
        found.extend([404, 409]);
    }
    if operation.contains_key("requestBody") {
        found.extend([413, 415]);
    }
    let asks = ["/v1/access/check", "/v1/audit/proof/", "/v1/images/", "/v1/keys", "/v1/oidc/"];
    if method != "get" || path.contains("/console") || asks.iter().any(|begin| path.starts_with(begin)) {
        found.extend([404, 409, 422]);
    }
    if operation.get("responses").is_some_and(|responses| responses.get("101").is_some()) {
        found.push(426);
    }
    if path == "/v1/events/live" {
        found.push(410);
    }
    let parameters = operation.get("parameters").and_then(Value::as_array);
    let conditional = |parameter: &Value| parameter.get("name") == Some(&json!("if-match"));
    if parameters.is_some_and(|parameters| parameters.iter().any(conditional)) {
        found.push(412);
    }
    found
}

fn meaning(status: &str) -> &'static str {
    match status {
        "201" => "It is made.",
        "202" => "It is written down; the operation tells how it goes on.",
        "204" => "It is done; there is nothing to say.",
        _ => "The answer.",
    }
}

/// The refusals, once.
fn refusals() -> Value {
    let one = |(status, name, meaning): &(u16, &str, &str)| {
        let mut headers = Map::new();
        let mut add = |field: &str, component: &str| {
            headers.insert(field.to_owned(), json!({ "$ref": format!("#/components/headers/{component}") }));
        };
        add("debvisor-api-version", "ApiVersion");
        match status {
            401 => add("www-authenticate", "WwwAuthenticate"),
            405 => add("allow", "Allow"),
            429 | 503 => add("retry-after", "RetryAfter"),
            _ => {}
        }
        let code = example_code(*status);
        let example = json!({
            "type": format!("https://debvisor.dev/problems/{code}"),
            "status": status, "title": meaning, "detail": meaning, "code": code,
        });
        let content = json!({ PROBLEM: { "schema": { "$ref": PROBLEM_SCHEMA }, "example": example } });
        ((*name).to_owned(), json!({ "description": meaning, "headers": headers, "content": content }))
    };
    REFUSALS.iter().map(one).collect::<Map<_, _>>().into()
}

const fn example_code(status: u16) -> &'static str {
    match status {
        401 => "credential-missing",
        403 => "access-denied",
        404 => "resource-unknown",
        409 => "resource-conflict",
        410 => "cursor-unknown",
        412 => "resource-stale",
        413 | 431 => "input-too-large",
        422 => "evidence-missing",
        429 => "too-many-requests",
        500 | 502 => "internal-error",
        503 => "request-timeout",
        _ => "request-malformed",
    }
}

fn headers() -> Value {
    let text = |what: &str, pattern: &str| json!({ "description": what, "schema": { "type": "string", "pattern": pattern, "maxLength": 255 } });
    json!({
        "ApiVersion": text("The version of the interface.", "^[0-9]+$"),
        "Allow": text("The methods that the address knows (RFC 9110 section 10.2.1).", "^[A-Z, ]+$"),
        "Elsewhere": { "description": "Where it goes on.", "schema": { "type": "string", "format": "uri-reference" } },
        "ETag": text("What `If-Match` and `If-None-Match` compare. A machine's begins with its generation.", "^\".+\"$"),
        "Location": text("The address of what was made.", "^/v1/"),
        "RetryAfter": text("Seconds to wait (RFC 9110 section 10.2.3).", "^[0-9]+$"),
        "WwwAuthenticate": text("How to say who asks (RFC 9110 section 11.6.1).", "^Bearer"),
    })
}

fn schemes() -> Value {
    json!({
        "key": {
            "type": "http", "scheme": "bearer",
            "description": "An API key, or the token of a session on the command line. At the unix socket nothing is \
                needed: the kernel says which user of the host asks.",
        },
        "session": {
            "type": "apiKey", "in": "cookie", "name": "__Host-debvisor",
            "description": "The session of a browser; what changes something needs the CSRF token as well.",
        },
        "csrf": { "type": "apiKey", "in": "header", "name": "x-csrf-token", "description": "The session's CSRF token." },
        "certificate": { "type": "mutualTLS", "description": "The certificate of a service." },
    })
}

/// The tags that operations have, with what they are about.
fn tags(document: &Value) -> Value {
    let paths = document.get("paths").and_then(Value::as_object);
    let operations = paths.into_iter().flat_map(Map::values).filter_map(Value::as_object).flat_map(Map::values);
    let used: BTreeSet<&str> = operations.filter_map(|operation| operation.get("tags")?.get(0)?.as_str()).collect();
    let about = |tag: &str| match tag {
        "access" => "Who may do what: roles, and who has them where.",
        "admissions" => "Whether images may boot or be deployed; nothing is started by asking.",
        "audit" => "Who did what, when, where and why.",
        "events" => "What happened, after a cursor.",
        "images" => "What machines are made of.",
        "interface" => "This interface itself.",
        "keys" => "API keys: shown once, limited, and at an end after ninety days.",
        "nodes" => "Hosts, and how they run machines.",
        "oidc" => "Logging in by an OpenID provider.",
        "operations" => "What was asked for, and how it ended.",
        "quarantine" => "What must not run, and what takes two people.",
        "me" => "Whoever asks, about themselves.",
        "service" => "Whether the control plane can do its work, and its figures.",
        "services" => "Programs that show a certificate.",
        "session" => "Logging in and out.",
        "state" => "The whole state in one file.",
        "users" => "People who log in.",
        "tenants" => "Who has machines of their own, and how much they may take.",
        "vms" => "Machines.",
        _ => "",
    };
    let one = |tag: &&str| match about(tag) {
        "" => json!({ "name": tag }),
        about => json!({ "name": tag, "description": about }),
    };
    used.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operations() -> Vec<(String, String, &'static Map<String, Value>)> {
        let paths = document()["paths"].as_object().unwrap();
        let all = paths.iter().flat_map(|(path, item)| {
            let methods = METHODS.iter().filter_map(|method| Some((*method, item.get(method)?.as_object()?)));
            methods.map(|(method, operation)| (method.to_owned(), path.clone(), operation)).collect::<Vec<_>>()
        });
        all.collect()
    }

    #[test]
    fn every_operation_has_a_name_of_its_own_a_summary_and_a_tag() {
        let mut names = BTreeSet::new();
        for (method, path, operation) in operations() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(names.insert(id.to_owned()), "{method} {path}: {id} is there twice");
            assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path}");
            assert!(operation["tags"][0].is_string(), "{method} {path}");
            for parameter in operation.get("parameters").and_then(Value::as_array).into_iter().flatten() {
                let told = parameter["description"].as_str().is_some_and(|text| !text.is_empty());
                assert!(told, "{method} {path}: nothing is said of {parameter}");
            }
        }
    }

    #[test]
    fn every_operation_names_each_refusal_that_it_can_give() {
        for (method, path, operation) in operations() {
            let responses = operation["responses"].as_object().unwrap();
            assert!(
                responses.keys().any(|status| status.starts_with('2') || ["101", "303"].contains(&status.as_str())),
                "{method} {path}"
            );
            assert!(!responses.contains_key("default"), "{method} {path}: `default` says nothing");
            let access = TABLE.iter().find(|(of, at, _)| of.eq_ignore_ascii_case(&method) && *at == path);
            for status in possible(&method, &path, access.map(|(.., access)| *access), operation) {
                assert!(responses.contains_key(&status.to_string()), "{method} {path}: {status}");
            }
            let secured = operation["security"].as_array().unwrap();
            let is_public = matches!(access, Some((.., Access::Public)));
            assert_eq!(secured.is_empty(), is_public, "{method} {path}");
        }
        for (status, ..) in REFUSALS {
            let code = crate::types::Code::from_name(example_code(*status));
            assert!(code.is_some(), "the example of {status} has a code that there is not");
        }
    }

    #[test]
    fn whatever_is_sent_has_a_bound() {
        let schemas = document()["components"]["schemas"].as_object().unwrap();
        let mut faults = Vec::new();
        for (method, path, operation) in operations() {
            for parameter in operation.get("parameters").and_then(Value::as_array).into_iter().flatten() {
                bounded(&parameter["schema"], &format!("{method} {path}: {}", parameter["name"]), &mut faults);
            }
            let content = operation.get("requestBody").and_then(|body| body["content"].as_object());
            for (kind, media) in content.into_iter().flatten() {
                bounded(&media["schema"], &format!("{method} {path}: {kind}"), &mut faults);
            }
            let mut open = Vec::new();
            names(operation.get("requestBody").unwrap_or(&Value::Null), &mut open);
            let mut seen = BTreeSet::new();
            while let Some(name) = open.pop() {
                if seen.insert(name.clone()) {
                    bounded(&schemas[&name], &format!("{method} {path}: {name}"), &mut faults);
                    names(&schemas[&name], &mut open);
                }
            }
        }
        assert!(faults.is_empty(), "{faults:#?}");
    }

    /// Texts by length, form or choice, numbers by both ends, lists by their number of items.
    fn bounded(schema: &Value, place: &str, faults: &mut Vec<String>) {
        let is = |kind: &str| {
            schema["type"] == kind || schema["type"].as_array().is_some_and(|kinds| kinds.contains(&json!(kind)))
        };
        let has = |words: &[&str]| words.iter().any(|word| schema.get(word).is_some());
        if is("string") && !has(&["maxLength", "pattern", "enum", "const", "format"]) {
            faults.push(format!("{place}: a text without a bound"));
        }
        if is("integer") && !(has(&["minimum"]) && has(&["maximum"])) {
            faults.push(format!("{place}: a number without a bound"));
        }
        if is("array") && !has(&["maxItems"]) {
            faults.push(format!("{place}: a list without a bound"));
        }
        for word in ["oneOf", "allOf", "anyOf"] {
            for part in schema[word].as_array().into_iter().flatten() {
                bounded(part, place, faults);
            }
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            bounded(property, &format!("{place}.{name}"), faults);
        }
        if let Some(items) = schema.get("items") {
            bounded(items, &format!("{place}[]"), faults);
        }
    }
}
