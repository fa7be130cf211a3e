//! The published document, held against each request before its handler runs: parameters, media types, bodies.
//!
//! What the document does not allow is refused with the place and the reason, so that a bound which is written there
//! is a bound, and a misspelt filter is no filter that matches everything.
//! Invariant: a handler sees no parameter and no body that the document does not describe.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use axum::extract::{MatchedPath, RawPathParams, Request};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use jsonschema::{Draft, Registry, Validator};
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use super::access::described;
use super::error::Problem;
use super::openapi::{self, METHODS};
use crate::types::limits;

/// What the document says of one operation.
#[derive(Debug)]
pub(super) struct Operation {
    parameters: Vec<Parameter>,
    /// The media types of its body, each with what it must be; empty where it takes none.
    bodies: Vec<(String, Rule)>,
    /// The media types of its answers.
    answers: Vec<String>,
    /// Whether whoever may call it, so that parameters of others come along.
    public: bool,
}

#[derive(Debug)]
struct Parameter {
    name: String,
    place: Place,
    required: bool,
    kind: String,
    rule: Rule,
}

/// What a value must be.
#[derive(Debug)]
enum Rule {
    /// Bytes, which their handler reads.
    Any,
    /// What this schema describes.
    Schema(Box<Validator>),
    /// The schema is none that can be held against anything: nothing passes. A test proves that there is no such.
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Query,
    Header,
}

/// Operations by address, each with its method.
type Contract = HashMap<String, Vec<(&'static str, Arc<Operation>)>>;

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| read(openapi::document()));

/// What the document is called where schemas refer to it; nothing is fetched from there.
const DOCUMENT: &str = "https://debvisor.dev/openapi.json";

/// Refuses what the document does not allow; handlers find the [`Operation`] in the request.
pub(super) async fn keep(path: MatchedPath, mut request: Request, next: Next) -> Response {
    let method = described(request.method());
    let operations = CONTRACT.get(path.as_str()).into_iter().flatten();
    let found = operations.into_iter().find(|(of, _)| of.eq_ignore_ascii_case(method));
    let Some((_, operation)) = found else { return next.run(request).await };
    if let Err(problem) = operation.check(&request) {
        return problem.into_response();
    }
    request.extensions_mut().insert(Arc::clone(operation));
    next.run(request).await
}

impl Operation {
    fn check(&self, request: &Request) -> Result<(), Problem> {
        let headers = request.headers();
        self.accepts(headers)?;
        self.parameters(request.uri().query().unwrap_or_default(), headers)?;
        if self.bodies.is_empty() {
            return Ok(());
        }
        self.media_type(headers).map(drop)
    }

    /// Whether the caller takes what would be answered (RFC 9110 section 12.5.1).
    fn accepts(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let wanted: Vec<&str> =
            headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
        let wanted = wanted.join(",");
        if wanted.trim().is_empty() || self.answers.is_empty() {
            return Ok(());
        }
        if self.answers.iter().any(|answer| quality(&wanted, answer) > 0.0) {
            return Ok(());
        }
        let message = format!("this address answers with {}, and Accept has none of it", self.answers.join(" or "));
        Err(Problem::malformed(StatusCode::NOT_ACCEPTABLE, message))
    }

    fn parameters(&self, query: &str, headers: &HeaderMap) -> Result<(), Problem> {
        let bad = |message: String| Err(Problem::malformed(StatusCode::BAD_REQUEST, message));
        let mut seen: Vec<&str> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let known = self.parameters.iter().find(|one| one.place == Place::Query && one.name == name);
            let Some(parameter) = known else {
                if self.public {
                    continue;
                }
                return bad(format!("there is no parameter {name:?} here"));
            };
            if seen.contains(&parameter.name.as_str()) {
                return bad(format!("the parameter {name:?} is there twice"));
            }
            seen.push(&parameter.name);
            parameter.check(&value)?;
        }
        for parameter in self.parameters.iter().filter(|one| one.place == Place::Header) {
            let mut values = headers.get_all(parameter.name.as_str()).iter();
            let Some(value) = values.next() else { continue };
            if values.next().is_some() {
                return bad(format!("the header field {} is there twice", parameter.name));
            }
            let Ok(value) = value.to_str() else {
                return bad(format!("the header field {} is not plain text", parameter.name));
            };
            seen.push(&parameter.name);
            parameter.check(value)?;
        }
        match self.parameters.iter().find(|one| one.required && !seen.contains(&one.name.as_str())) {
            Some(missing) => bad(format!("{} is missing", missing.name)),
            None => Ok(()),
        }
    }

    /// The media type of the body, where it is one that is taken.
    fn media_type(&self, headers: &HeaderMap) -> Result<&(String, Rule), Problem> {
        let unsupported = |message: String| Problem::malformed(StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
        let taken = || self.bodies.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(" or ");
        let Some(given) = headers.get(header::CONTENT_TYPE) else {
            // Nothing said is bytes (RFC 9110 section 8.3).
            let bytes = self.bodies.iter().find(|(name, _)| name == "application/octet-stream");
            return bytes
                .ok_or_else(|| unsupported(format!("Content-Type is missing; this address takes {}", taken())));
        };
        let given = given.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let found = self.bodies.iter().find(|(name, _)| name.eq_ignore_ascii_case(given));
        found.ok_or_else(|| unsupported(format!("this address takes {}, and no {given:?}", taken())))
    }

    /// Holds a body that was read against what it must be.
    pub(super) fn body(&self, headers: &HeaderMap, body: &Value) -> Result<(), Problem> {
        let (_, rule) = self.media_type(headers)?;
        let bad = |message: String| Err(Problem::malformed(StatusCode::UNPROCESSABLE_ENTITY, message));
        let rule = match rule {
            Rule::Any => return Ok(()),
            Rule::Broken => return bad("what the body must be is described wrongly".to_owned()),
            Rule::Schema(rule) => rule,
        };
        let Some(error) = rule.iter_errors(body).next() else { return Ok(()) };
        let place = error.instance_path().to_string();
        let place = if place.is_empty() { "the body".to_owned() } else { place };
        // The value itself is not repeated: it may be a password.
        let message: String = error.masked().to_string().chars().take(MESSAGE_CHARS).collect();
        bad(format!("{place}: {message}"))
    }
}

/// What is told of a value that does not fit; the value itself may be long.
const MESSAGE_CHARS: usize = 500;

impl Parameter {
    fn check(&self, text: &str) -> Result<(), Problem> {
        let value = match self.kind.as_str() {
            // Digits alone: neither `+1` nor `1e3` is a number in an address.
            "integer" => text.parse::<i64>().ok().filter(|_| !text.starts_with('+')).map(Value::from),
            "boolean" => text.parse::<bool>().ok().map(Value::from),
            _ => Some(Value::from(text)),
        };
        let fits = |value: Value| matches!(&self.rule, Rule::Schema(rule) if rule.is_valid(&value));
        if value.is_some_and(fits) {
            return Ok(());
        }
        let shown: String = text.chars().take(64).collect();
        Err(Problem::malformed(StatusCode::BAD_REQUEST, format!("{shown:?} is no value of {}", self.name)))
    }
}

/// Refuses an address or header fields beyond the limits; everything else of a request is bounded where it is read.
pub(super) async fn bounded(request: Request, next: Next) -> Response {
    let address = request.uri().path_and_query().map_or(0, |text| text.as_str().len());
    let fields: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    if address > limits::API_ADDRESS_BYTES || fields > limits::API_HEADERS_BYTES {
        let message = format!(
            "an address has at most {} bytes, and header fields have at most {} together",
            limits::API_ADDRESS_BYTES,
            limits::API_HEADERS_BYTES
        );
        return Problem::malformed(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, message).into_response();
    }
    next.run(request).await
}

/// Refuses what is no text in an address: a name in it is UTF-8, without control characters.
pub(super) async fn named(named: RawPathParams, request: Request, next: Next) -> Response {
    if named.iter().any(|(_, value)| value.chars().any(char::is_control)) {
        return Problem::unknown("there is nothing whose name has control characters").into_response();
    }
    next.run(request).await
}

/// How much this media type is wanted: 0 is not at all. The most exact range counts.
fn quality(accept: &str, media_type: &str) -> f32 {
    let kind = media_type.split('/').next().unwrap_or_default();
    let mut best = (0, 0.0);
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let range = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(1.0, |text| text.parse().unwrap_or(0.0));
        let exactness = match range.as_str() {
            "*/*" => 1,
            exact if exact == media_type => 3,
            half if half.strip_suffix("/*") == Some(kind) => 2,
            _ => 0,
        };
        if exactness > best.0 {
            best = (exactness, weight);
        }
    }
    best.1
}

fn read(document: &Value) -> Contract {
    // Schemas name others of the document: it is read once, and none of it is copied for each of them.
    let registry = Registry::new().add(DOCUMENT, document.clone()).and_then(|registry| registry.prepare());
    let rule = |schema: &Value| {
        let options = jsonschema::options().with_draft(Draft::Draft202012);
        let built = registry.as_ref().ok().map(|known| options.with_registry(known).build(&absolute(schema)));
        built.and_then(Result::ok).map_or(Rule::Broken, |rule| Rule::Schema(Box::new(rule)))
    };
    let mut found = Contract::new();
    for (path, item) in document.get("paths").and_then(Value::as_object).into_iter().flatten() {
        for method in METHODS {
            if let Some(Value::Object(operation)) = item.get(method) {
                found.entry(path.clone()).or_default().push((method, Arc::new(operation_of(operation, &rule))));
            }
        }
    }
    found
}

/// A schema whose references into the document say which document.
fn absolute(schema: &Value) -> Value {
    match schema {
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| {
                let place = value.as_str().filter(|place| name == "$ref" && place.starts_with('#'));
                (name.clone(), place.map_or_else(|| absolute(value), |place| json!(format!("{DOCUMENT}{place}"))))
            };
            Value::Object(members.iter().map(member).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(absolute).collect()),
        other => other.clone(),
    }
}

fn operation_of(operation: &Map<String, Value>, rule: &impl Fn(&Value) -> Rule) -> Operation {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let parameters = operation.get("parameters").and_then(Value::as_array).into_iter().flatten();
    let parameters = parameters.filter_map(|one| {
        let place = match text(one, "in").as_str() {
            "query" => Place::Query,
            "header" => Place::Header,
            // A handler that finds nothing under a name says so.
            _ => return None,
        };
        let schema = one.get("schema")?;
        Some(Parameter {
            name: text(one, "name"),
            place,
            required: one.get("required") == Some(&json!(true)),
            kind: text(schema, "type"),
            rule: rule(schema),
        })
    });
    let content = |holder: Option<&Value>| holder.and_then(|holder| holder.get("content")?.as_object().cloned());
    let bodies = content(operation.get("requestBody")).into_iter().flatten().map(|(name, media)| {
        let json = name.ends_with("json");
        let rule = if json { media.get("schema").map_or(Rule::Broken, rule) } else { Rule::Any };
        (name, rule)
    });
    let responses = operation.get("responses").and_then(Value::as_object);
    let successes = responses.into_iter().flatten().filter(|(status, _)| status.starts_with('2'));
    let mut answers: Vec<String> =
        successes.filter_map(|(_, response)| content(Some(response))).flatten().map(|(name, _)| name).collect();
    answers.sort();
    answers.dedup();
    Operation {
        parameters: parameters.collect(),
        bodies: bodies.collect(),
        answers,
        public: operation.get("security") == Some(&json!([])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schema_of_the_document_is_one_that_requests_can_be_held_against() {
        let document = openapi::document();
        let schemas = document.pointer("/components/schemas").unwrap();
        for name in schemas.as_object().unwrap().keys() {
            let whole = json!({
                "$ref": format!("#/components/schemas/{name}"), "components": { "schemas": schemas },
            });
            jsonschema::options().with_draft(Draft::Draft202012).build(&whole).unwrap_or_else(|error| {
                panic!("{name}: {error}");
            });
        }
        let mut held = 0;
        for (path, operations) in CONTRACT.iter() {
            for (method, operation) in operations {
                let is_held = |rule: &Rule| matches!(rule, Rule::Schema(_));
                assert!(operation.parameters.iter().all(|one| is_held(&one.rule)), "{method} {path}");
                let mut rules = operation.bodies.iter().filter(|(name, _)| name.ends_with("json"));
                assert!(rules.all(|(_, rule)| is_held(rule)), "{method} {path}");
                held += operation.bodies.len();
            }
        }
        assert!(held > 20, "only {held} bodies are held against anything");
    }

    #[test]
    fn a_schema_that_names_another_one_holds_a_value_against_that() {
        let document = json!({
            "paths": { "/a": { "post": { "requestBody": { "content": {
                "application/json": { "schema": { "$ref": "#/components/schemas/Outer" } },
            } } } } },
            "components": { "schemas": {
                "Outer": { "type": "object", "properties": { "inner": { "$ref": "#/components/schemas/Inner" } } },
                "Inner": { "type": "string", "maxLength": 3 },
            } },
        });
        let contract = read(&document);
        let (method, operation) = &contract["/a"][0];
        assert_eq!(*method, "post");
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, "application/json".parse().unwrap())]);
        operation.body(&headers, &json!({ "inner": "abc" })).unwrap();
        let refused = operation.body(&headers, &json!({ "inner": "abcd" })).unwrap_err();
        assert!(refused.detail.starts_with("/inner: "), "{}", refused.detail);
    }

    #[test]
    fn what_is_accepted_is_decided_by_the_most_exact_range() {
        assert!(quality("text/html, */*;q=0.1", "application/json") > 0.0);
        assert!(quality("application/*", "application/json") > 0.0);
        assert!(quality("application/json;q=0, */*", "application/json") <= 0.0);
        assert!(quality("text/html", "application/json") <= 0.0);
        assert!(quality("nonsense", "application/json") <= 0.0);
    }
}
