//! The only reader of environment variables; every other room is handed values.

use std::path::PathBuf;
use std::{env, fmt};

use zeroize::Zeroizing;

/// A text that no log, error or debug print may show; wiped from memory when dropped.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text itself, for the one place that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What the environment says that a run of the command line depends on.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `NO_COLOR` is set and not empty (no-color.org).
    pub no_color: bool,
    /// `GITHUB_STEP_SUMMARY`: where a job's summary is appended.
    pub github_step_summary: Option<PathBuf>,
    /// `GITHUB_OUTPUT`: where a step's outputs are appended.
    pub github_output: Option<PathBuf>,
    /// `DEBVISOR_LOG`: the filter of the log on stderr, as `tracing` writes it.
    pub log: Option<String>,
    /// `SOURCE_DATE_EPOCH` in seconds: the time to write into what is made (reproducible-builds.org).
    pub source_date_epoch: Option<i64>,
    /// `DEBVISOR_KEY_PASSWORD`, else `COSIGN_PASSWORD`: the password of a managed private key.
    /// Set and empty is an empty password, as cosign has it.
    pub key_password: Option<Secret>,
    /// `XDG_CONFIG_HOME`, else `$HOME/.config`, with `debvisor` below it: the user's policies and trust.
    pub config_dir: Option<PathBuf>,
    /// `XDG_CACHE_HOME`, else `$HOME/.cache`, with `debvisor` below it: what can be fetched again.
    pub cache_dir: Option<PathBuf>,
}

impl Environment {
    /// Reads the process's environment once.
    pub fn read() -> Self {
        let home = path("HOME");
        let below = |variable: &str, default: &str| {
            path(variable)
                .filter(|dir| dir.is_absolute())
                .or_else(|| home.as_ref().map(|home| home.join(default)))
                .map(|dir| dir.join("debvisor"))
        };
        Self {
            no_color: text("NO_COLOR").is_some(),
            github_step_summary: path("GITHUB_STEP_SUMMARY"),
            github_output: path("GITHUB_OUTPUT"),
            log: text("DEBVISOR_LOG"),
            source_date_epoch: text("SOURCE_DATE_EPOCH").and_then(|value| value.parse().ok()),
            key_password: secret("DEBVISOR_KEY_PASSWORD").or_else(|| secret("COSIGN_PASSWORD")),
            config_dir: below("XDG_CONFIG_HOME", ".config"),
            cache_dir: below("XDG_CACHE_HOME", ".cache"),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
fn secret(name: &str) -> Option<Secret> {
    env::var(name).ok().map(Secret::new)
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
fn path(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
