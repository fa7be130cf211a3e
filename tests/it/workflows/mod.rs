//! The shell of every workflow and of the action, run as GitHub runs it: its environment, its files for outputs, paths
//! and summaries, `bash -e`, and the real binary. What stands for GitHub itself is a `gh` that keeps releases in a
//! folder, and the stand-in of its API.
//!
//! Expressions are allowed where GitHub evaluates them before any shell reads them, in `env:` and `with:`, and never in
//! a script: a stranger's words would be commands there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

mod scenarios;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A workflow or an action, by its path in the repository.
fn read(path: &str) -> Value {
    let text = fs::read_to_string(root().join(path)).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every workflow and the action.
fn all() -> Vec<String> {
    let mut paths = vec!["action.yml".to_owned()];
    for folder in ["workflows", ".github/workflows"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            paths.push(format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap()));
        }
    }
    paths.sort();
    paths
}

/// The steps of a job, or of the action.
fn steps<'a>(workflow: &'a Value, job: &str) -> &'a Vec<Value> {
    let steps = if job == "action" { &workflow["runs"]["steps"] } else { &workflow["jobs"][job]["steps"] };
    steps.as_array().unwrap_or_else(|| panic!("no steps in {job}"))
}

fn jobs(workflow: &Value) -> Vec<String> {
    workflow["jobs"].as_object().map_or_else(|| vec!["action".to_owned()], |jobs| jobs.keys().cloned().collect())
}

/// A runner for one scenario.
struct Runner {
    home: tempfile::TempDir,
    /// What `${{ NAME }}` is.
    expressions: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    path: String,
    /// Names of the steps that ran.
    ran: Vec<String>,
}

/// How a step ended.
#[derive(Debug)]
struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Runner {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let at = |name: &str| home.path().join(name).to_str().unwrap().to_owned();
        for folder in ["work", "temp", "bin", "releases", "home"] {
            fs::create_dir(home.path().join(folder)).unwrap();
        }
        for file in ["output", "summary", "path", "env"] {
            fs::write(home.path().join(file), "").unwrap();
        }
        let fixed = [
            ("CI", "true"),
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_SERVER_URL", "https://github.com"),
            ("GITHUB_REPOSITORY", "o/r"),
            ("GITHUB_REPOSITORY_ID", "1"),
            ("GITHUB_REPOSITORY_OWNER_ID", "2"),
            ("GITHUB_WORKFLOW", "a workflow"),
            ("GITHUB_WORKFLOW_REF", "o/r/.github/workflows/release.yml@refs/tags/v1.2.3"),
            ("GITHUB_SHA", "1111111111111111111111111111111111111111"),
            ("GITHUB_REF", "refs/tags/v1.2.3"),
            ("GITHUB_REF_NAME", "v1.2.3"),
            ("GITHUB_EVENT_NAME", "push"),
            ("GITHUB_RUN_ID", "77"),
            ("GITHUB_RUN_ATTEMPT", "1"),
            ("RUNNER_ENVIRONMENT", "github-hosted"),
        ];
        let mut environment: BTreeMap<String, String> =
            fixed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let files = [
            ("GITHUB_OUTPUT", "output"),
            ("GITHUB_STEP_SUMMARY", "summary"),
            ("GITHUB_PATH", "path"),
            ("GITHUB_ENV", "env"),
            ("GITHUB_WORKSPACE", "work"),
            ("RUNNER_TEMP", "temp"),
            ("FAKE_RELEASES", "releases"),
            ("HOME", "home"),
        ];
        environment.extend(files.iter().map(|(name, file)| ((*name).to_owned(), at(file))));
        let expressions = [("github.token", "ghs_secret"), ("inputs.debvisor-version", "v0.1.0")];
        let expressions = expressions.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", at("bin"));
        let runner = Self { home, expressions, environment, path, ran: Vec::new() };
        runner.program("bin/gh", include_str!("gh.sh"));
        runner
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn program(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // By another process: a child that another thread starts meanwhile would inherit our open file, and a program
        // that somebody has open for writing does not start (ETXTBSY).
        let draft = self.path("draft");
        fs::write(&draft, text).unwrap();
        let installed = Command::new("install").args(["-m", "755"]).arg(&draft).arg(&path).status().unwrap();
        assert!(installed.success());
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn set(&mut self, expression: &str, value: &str) {
        self.expressions.insert(expression.to_owned(), value.to_owned());
    }

    /// Publishes a program as the release of DebVisor that workflows install, and tells its digest.
    fn release_of_debvisor(&mut self, program: &str) {
        self.program("releases/debvisor/debvisor/v0.1.0/debvisor", program);
        self.set("inputs.debvisor-sha256", &debvisor::types::Digest::sha256(program.as_bytes()).to_hex());
    }

    /// The text with its expressions replaced; one that the scenario does not know is a mistake in one of the two.
    #[track_caller]
    fn evaluate(&self, text: &str) -> String {
        let mut done = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${{") {
            let (expression, after) = after.split_once("}}").unwrap();
            done.push_str(before);
            // `a || b` is the first that is not empty.
            let alternatives = expression.split("||").map(str::trim);
            let found = alternatives.filter_map(|name| self.expressions.get(name)).find(|value| !value.is_empty());
            let known = expression.split("||").map(str::trim).any(|name| self.expressions.contains_key(name));
            assert!(known, "what is `{}`?", expression.trim());
            done.push_str(found.map_or("", String::as_str));
            rest = after;
        }
        done + rest
    }

    /// Runs the shell of a job's steps, in order; `skip` names those whose condition does not hold. Returns how the first
    /// one that failed ended, or the last.
    fn job(&mut self, path: &str, job: &str, skip: &[&str]) -> Ended {
        let workflow = read(path);
        let mut ended = Ended { code: 0, stdout: String::new(), stderr: String::new() };
        for step in steps(&workflow, job) {
            let name = step["name"].as_str().or(step["uses"].as_str()).unwrap().to_owned();
            if step["run"].is_null() || skip.contains(&name.as_str()) {
                continue;
            }
            ended = self.step(step, &name);
            if ended.code != 0 {
                break;
            }
        }
        ended
    }

    /// One step by its name, as for a condition that a scenario decides.
    fn only(&mut self, path: &str, job: &str, name: &str) -> Ended {
        let workflow = read(path);
        let found = steps(&workflow, job).iter().find(|step| step["name"] == name).cloned();
        self.step(&found.unwrap_or_else(|| panic!("no step `{name}`")), name)
    }

    fn step(&mut self, step: &Value, name: &str) -> Ended {
        let script = step["run"].as_str().unwrap();
        let mut command = Command::new("bash");
        if step["shell"].is_null() {
            command.args(["-e", "-c", script]);
        } else {
            command.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", script]);
        }
        // What earlier steps put on the path comes first.
        let added: Vec<String> = self.read("path").lines().rev().map(str::to_owned).collect();
        let path: Vec<String> = added.into_iter().chain([self.path.clone()]).collect();
        command.env_clear().envs(&self.environment).env("PATH", path.join(":")).current_dir(self.path("work"));
        for (variable, value) in step["env"].as_object().into_iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            command.env(variable, self.evaluate(&text));
        }
        fs::write(self.path("output"), "").unwrap();
        let output = command.stdin(Stdio::null()).output().unwrap();
        self.ran.push(name.to_owned());
        if let Some(id) = step["id"].as_str() {
            for (output, value) in self.outputs() {
                self.set(&format!("steps.{id}.outputs.{output}"), &value);
            }
        }
        Ended {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// What the step wrote to `$GITHUB_OUTPUT`, as the runner reads it.
    fn outputs(&self) -> BTreeMap<String, String> {
        let text = self.read("output");
        let mut found = BTreeMap::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some((name, end)) = line.split_once("<<") {
                let value: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
                found.insert(name.to_owned(), value.join("\n"));
            } else {
                let (name, value) = line.split_once('=').unwrap();
                found.insert(name.to_owned(), value.to_owned());
            }
        }
        found
    }
}

impl Ended {
    #[track_caller]
    fn succeeds(self) -> Self {
        assert_eq!(self.code, 0, "{}\n{}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    fn fails(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        self
    }
}

#[test]
fn no_script_holds_an_expression_and_every_step_with_a_script_has_a_name() {
    for path in all() {
        let workflow = read(&path);
        for job in jobs(&workflow) {
            if job != "action" && workflow["jobs"][&job]["steps"].is_null() {
                assert!(workflow["jobs"][&job]["uses"].is_string(), "{path}: {job} does nothing");
                continue;
            }
            for step in steps(&workflow, &job) {
                let Some(script) = step["run"].as_str() else { continue };
                assert!(!script.contains("${{"), "{path}: {job}: an expression in a script:\n{script}");
                assert!(step["name"].is_string() || path.ends_with("ci.yml"), "{path}: {job}: a step without a name");
            }
        }
    }
}

#[test]
fn every_workflow_tells_and_every_action_is_pinned_by_commit() {
    for path in all() {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        let told = text.contains("debvisor notify") || text.contains("notify.yml");
        assert!(told || path == "action.yml" || path == "workflows/sbom-policy.yml", "{path} tells nobody");
        for line in text.lines().filter(|line| line.trim_start().trim_start_matches("- ").starts_with("uses: ")) {
            let used = line.split("uses: ").nth(1).unwrap();
            if used.starts_with("$/") {
                continue;
            }
            let (pin, comment) = used.split_once(" # ").unwrap_or_else(|| panic!("{path}: no version: {line}"));
            let commit = pin.split_once('@').unwrap().1;
            assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()), "{path}: {line}");
            assert!(comment.starts_with('v'), "{path}: {line}");
        }
    }
}

#[test]
fn what_our_own_workflows_call_is_there() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let mut seen = 0;
    for path in all().iter().filter(|path| path.starts_with(".github/")) {
        let workflow = read(path);
        for job in jobs(&workflow) {
            for step in workflow["jobs"][&job]["steps"].as_array().into_iter().flatten() {
                for line in step["run"].as_str().unwrap_or_default().lines() {
                    for word in
                        line.split_whitespace().filter(|word| word.starts_with("scripts/") || *word == ".ci/run")
                    {
                        let mode = fs::metadata(root().join(word)).unwrap_or_else(|_| panic!("{path}: no {word}"));
                        assert!(mode.permissions().mode() & 0o111 != 0 || word == ".ci/run", "{word} is no program");
                        seen += 1;
                    }
                    for target in line.strip_prefix("make ").into_iter().flat_map(str::split_whitespace) {
                        assert!(makefile.contains(&format!("\n{target}:")), "{path}: no target {target}");
                        seen += 1;
                    }
                    let verb = line.trim().split_once("debug/debvisor ").map(|(_, rest)| rest);
                    for words in
                        verb.into_iter().map(|rest| rest.split_whitespace().take_while(|word| !word.starts_with('-')))
                    {
                        let words: Vec<&str> = words
                            .filter(|word| word.chars().all(|it| it.is_ascii_lowercase() || it == '-'))
                            .take(2)
                            .collect();
                        let ran =
                            Command::new(env!("CARGO_BIN_EXE_debvisor")).args(&words).arg("--help").output().unwrap();
                        assert!(ran.status.success(), "{path}: debvisor {}", words.join(" "));
                        seen += 1;
                    }
                }
            }
        }
    }
    assert!(seen > 8, "{seen}");
}
