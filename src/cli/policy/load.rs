//! Finds and reads policy files: a name or a path in, a compiled set or the reason against it out.
//! `verify`, `gate` and `policy` share it, so that one word means one policy everywhere.
//!
//! `bundle:NAME` is a policy of the installed trust bundle. A name is looked up in `--policy-dir`, then in the user's `policies` folder, then among the built-in ones; what
//! contains a `/` or a `.` is a path. A name never means a file of the working directory: whoever can place a file
//! there must not be able to replace `release`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::config::Environment;
use crate::release::artifact;
use crate::release::policy::PolicySet;
use crate::release::policy::builtin::{self, Builtin};
use crate::release::trust::bundle::{self, TrustBundle};
use crate::types::{Code, Reason, limits};

/// Where policies are looked for.
#[derive(Debug, Clone, Default)]
pub(in crate::cli) struct Folders {
    dirs: Vec<PathBuf>,
    /// The policies of the installed trust bundle, which `bundle:NAME` names and nothing else does.
    bundle: Vec<bundle::Policy>,
}

/// Pairs of a file name and its text.
pub(in crate::cli) type Files = Vec<(String, String)>;

/// Where a policy comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Origin {
    /// Part of DebVisor, as shipped.
    Builtin,
    /// Part of DebVisor, with at least one file replaced by the user's.
    Overridden,
    /// The user's own.
    User,
}

impl Origin {
    /// The word in lists.
    pub(in crate::cli) const fn name(self) -> &'static str {
        match self {
            Self::Builtin => "builtin",
            Self::Overridden => "overridden",
            Self::User => "user",
        }
    }
}

impl Folders {
    /// The folder of `--policy-dir`, if any, and the user's own.
    pub(in crate::cli) fn new(policy_dir: Option<&Path>, environment: &Environment) -> Self {
        let own = environment.config_dir.as_ref().map(|dir| dir.join("policies"));
        Self { dirs: policy_dir.map(Path::to_owned).into_iter().chain(own).collect(), bundle: Vec::new() }
    }

    /// The same, with the policies of the installed trust bundle.
    pub(in crate::cli) fn with_bundle(mut self, installed: Option<&TrustBundle>) -> Self {
        self.bundle = installed.map(|bundle| bundle.policies().to_vec()).unwrap_or_default();
        self
    }

    /// The set that decides under `--policy`: a policy of the user's own comes on top of `release`, and so does a
    /// built-in one that does not ask by itself who signed.
    pub(in crate::cli) fn load(&self, name_or_path: &str) -> Result<PolicySet, Reason> {
        self.load_on_top_of(name_or_path, "release")
    }

    /// The same, where a policy of the user's own comes on top of another.
    pub(in crate::cli) fn load_on_top_of(&self, name_or_path: &str, baseline: &str) -> Result<PolicySet, Reason> {
        let (origin, set) = self.load_alone(name_or_path)?;
        let asks_who_signed = builtin::find(name_or_path).is_some_and(|builtin| builtin.parts.contains(&"release"));
        if origin != Origin::User && asks_who_signed {
            return Ok(set);
        }
        let (_, baseline) = self.load_alone(baseline)?;
        Ok(set.with_baseline(&baseline))
    }

    /// The set by itself, as `policy eval` looks at it.
    pub(in crate::cli) fn load_alone(&self, name_or_path: &str) -> Result<(Origin, PolicySet), Reason> {
        let (origin, files) = self.files(name_or_path)?;
        if origin == Origin::Builtin
            && let Some(set) = PolicySet::builtin(name_or_path)
        {
            return Ok((origin, set));
        }
        Ok((origin, PolicySet::from_sources(name_or_path, files)?))
    }

    /// The files of a policy, tests included.
    pub(in crate::cli) fn files(&self, name_or_path: &str) -> Result<(Origin, Files), Reason> {
        if let Some(name) = name_or_path.strip_prefix("bundle:") {
            return Ok((Origin::User, self.bundle_files(name)?));
        }
        if !is_name(name_or_path) {
            return Ok((Origin::User, read_path(Path::new(name_or_path))?));
        }
        if let Some(builtin) = builtin::find(name_or_path) {
            return self.builtin_files(builtin);
        }
        for folder in &self.dirs {
            let dir = folder.join(name_or_path);
            let file = folder.join(format!("{name_or_path}.rego"));
            if dir.is_dir() {
                return Ok((Origin::User, read_path(&dir)?));
            }
            if file.exists() {
                let mut files = read_path(&file)?;
                for companion in [format!("{name_or_path}_test.rego"), format!("{name_or_path}.json")] {
                    let path = folder.join(companion);
                    if path.exists() {
                        files.extend(read_path(&path)?);
                    }
                }
                return Ok((Origin::User, files));
            }
        }
        let known: Vec<&str> = builtin::BUILTINS.iter().map(|builtin| builtin.name).collect();
        let message =
            format!("there is no policy `{name_or_path}`; a file is named with its path, as ./{name_or_path}");
        Err(Reason::new(Code::PolicyUnreadable, message).hint(format!("built in: {}", known.join(", "))))
    }

    fn bundle_files(&self, name: &str) -> Result<Files, Reason> {
        let refused = |message: String| Reason::new(Code::PolicyUnreadable, message);
        let policy = self
            .bundle
            .iter()
            .find(|policy| policy.name == name)
            .ok_or_else(|| refused(format!("the installed trust bundle has no policy `{name}`")))?;
        let file = |file: &bundle::Item| {
            let text = String::from_utf8(file.content.clone())
                .map_err(|_| refused(format!("the trust bundle's policy file `{}` is not UTF-8", file.name)))?;
            Ok((file.name.clone(), text))
        };
        policy.files.iter().map(file).collect()
    }

    /// A built-in policy, file by file the user's where there is one. Where the user has the policy, the shipped tests
    /// of it are left out: they are about something else.
    fn builtin_files(&self, builtin: &Builtin) -> Result<(Origin, Files), Reason> {
        let mut origin = Origin::Builtin;
        let mut files = Files::new();
        for part in builtin.parts {
            let mut own = BTreeSet::new();
            for (name, text) in builtin::part_files(part) {
                match self.find(&name) {
                    Some(path) => {
                        origin = Origin::Overridden;
                        files.push((name.clone(), read_text(&path)?));
                        own.insert(name);
                    }
                    None => files.push((name, text)),
                }
            }
            let test = format!("{part}_test.rego");
            if own.contains(&format!("{part}.rego")) && !own.contains(&test) {
                files.retain(|(name, _)| *name != test);
            }
        }
        Ok((origin, files))
    }

    fn find(&self, file: &str) -> Option<PathBuf> {
        self.dirs.iter().map(|folder| folder.join(file)).find(|path| path.symlink_metadata().is_ok())
    }

    /// The names of all policies: the built-in ones, then the user's own in order.
    pub(in crate::cli) fn names(&self) -> Vec<String> {
        let mut own = BTreeSet::new();
        for entry in self.dirs.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten() {
            let path = entry.path();
            let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
            let is_policy = path.extension().is_some_and(|extension| extension == "rego") && !stem.ends_with("_test");
            let is_part = builtin::PARTS.iter().any(|part| part.name == stem);
            if (is_policy || path.is_dir()) && is_name(stem) && !is_part {
                own.insert(stem.to_owned());
            }
        }
        builtin::BUILTINS.iter().map(|builtin| builtin.name.to_owned()).chain(own).collect()
    }
}

/// A name is lower-case letters, digits, `-` and `_`; everything else is a path.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_'))
}

/// A file, or all policy and data files below a directory, by their names there.
pub(in crate::cli) fn read_path(path: &Path) -> Result<Files, Reason> {
    let metadata = path.metadata().map_err(|error| unreadable(path, &error))?;
    if metadata.is_dir() {
        let mut files = Files::new();
        walk(path, "", 0, &mut files)?;
        return Ok(files);
    }
    let name = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy());
    Ok(vec![(name.into_owned(), read_text(path)?)])
}

/// Folders of a policy set may be nested this deep.
const DEPTH: usize = 16;

fn walk(dir: &Path, prefix: &str, depth: usize, files: &mut Files) -> Result<(), Reason> {
    if depth > DEPTH {
        let message = format!("the folders of a policy set are nested deeper than {DEPTH}");
        return Err(Reason::new(Code::InputTooDeep, message).evidence(dir.display().to_string()));
    }
    for entry in fs::read_dir(dir).map_err(|error| unreadable(dir, &error))? {
        let entry = entry.map_err(|error| unreadable(dir, &error))?;
        let path = entry.path();
        let Ok(own) = entry.file_name().into_string() else { continue };
        let name = format!("{prefix}{own}");
        let kind = entry.file_type().map_err(|error| unreadable(&path, &error))?;
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if kind.is_dir() {
            // `.git` and the like hold no policies.
            if !own.starts_with('.') {
                walk(&path, &format!("{name}/"), depth + 1, files)?;
            }
        } else if matches!(extension, "rego" | "json" | "yaml" | "yml") {
            if files.len() >= limits::POLICY_FILES {
                let message = format!("a policy set of more than {} files", limits::POLICY_FILES);
                return Err(Reason::new(Code::InputTooLarge, message).evidence(dir.display().to_string()));
            }
            files.push((name, read_text(&path)?));
        }
    }
    Ok(())
}

/// Reads a whole regular file of text, bounded.
fn read_text(path: &Path) -> Result<String, Reason> {
    let is_file = path.metadata().map_err(|error| unreadable(path, &error))?.is_file();
    if !is_file {
        return Err(unreadable(path, &"it is no regular file"));
    }
    let bytes = artifact::read_bounded(path, limits::POLICY_BYTES).map_err(|error| match error.kind() {
        std::io::ErrorKind::FileTooLarge => Reason::new(Code::InputTooLarge, format!("{} is {error}", path.display()))
            .evidence(path.display().to_string()),
        _ => unreadable(path, &error),
    })?;
    String::from_utf8(bytes).map_err(|_| unreadable(path, &"it is not UTF-8"))
}

fn unreadable(path: &Path, why: &dyn std::fmt::Display) -> Reason {
    let path = path.display().to_string();
    Reason::new(Code::PolicyUnreadable, format!("the policy `{path}` cannot be read: {why}")).evidence(path)
}
