//! A state directory and a configuration in; which files a backup of the state consists of, and under which names, out.
//! Invariant: no two files have one name, and no name leads out of the folder that it is restored into.

use std::fs;
use std::path::{Component, Path, PathBuf};

use toml::Value;

use crate::backup::write::Sources;
use crate::cli::Context;
use crate::config::Form;

/// The folder, and what lies elsewhere and is needed to go on from it.
pub(in crate::cli) fn sources(state: &Path, config: Option<&Path>, context: &Context) -> Sources {
    let mut elsewhere = Vec::new();
    if let Some(file) = config {
        // A name that is relative to where the program started says nothing of where the file is.
        let file = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
        let folder = file.parent().unwrap_or_else(|| Path::new("/"));
        for path in std::iter::once(file.clone()).chain(named(&file, folder, context)) {
            // What lies in the state directory is in the backup as it is.
            if path.strip_prefix(state).is_err()
                && let Some(name) = name(&path, folder)
            {
                // By what a link leads to: certificates are often kept behind one.
                elsewhere.push((name, fs::canonicalize(&path).unwrap_or(path)));
            }
        }
    }
    let trust = context.environment.config_dir.as_ref().map(|dir| dir.join("trust"));
    for entry in trust.iter().flat_map(fs::read_dir).flatten().flatten() {
        if let Ok(name) = entry.file_name().into_string() {
            elsewhere.push((format!("from-config/trust/{name}"), entry.path()));
        }
    }
    Sources { state: state.to_owned(), elsewhere }
}

/// The files that a configuration names: who may vouch, certificates and their keys, secrets of providers.
fn named(file: &Path, folder: &Path, context: &Context) -> Vec<PathBuf> {
    let mut named: Vec<PathBuf> =
        crate::cli::admit::files_of_config(file).iter().map(|name| folder.join(name)).collect();
    // A server does not come up with one that has a fault; whoever backs its folder up by hand has the file itself.
    let Ok(loaded) = crate::cli::config::load(Some(file), &[], context) else { return named };
    for setting in &loaded.effective.settings {
        if let (Form::File | Form::PrivateFile, Some(Value::String(path))) = (setting.key.form, &setting.value) {
            named.push(PathBuf::from(path));
        }
    }
    let secrets = loaded.effective.config.oidc.iter().filter_map(|provider| provider.client_secret_file.as_ref());
    named.extend(secrets.map(|secret| folder.join(secret)));
    named
}

/// What a file is called in the backup: as it lies below the configuration's folder, else by its whole path.
fn name(path: &Path, folder: &Path) -> Option<String> {
    let steps = |path: &Path| {
        let steps = path.components().filter_map(|step| match step {
            Component::Normal(name) => Some(name.to_str()),
            _ => None,
        });
        steps.collect::<Option<Vec<&str>>>().map(|steps| steps.join("/"))
    };
    let is_plain = |path: &&Path| path.components().all(|step| matches!(step, Component::Normal(_)));
    match path.strip_prefix(folder).ok().filter(is_plain) {
        Some(below) => Some(format!("from-config/{}", steps(below)?)),
        None => Some(format!("from-config/elsewhere/{}", steps(path)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_its_place_below_the_configuration_and_its_whole_path_elsewhere() {
        let of = |path: &str| name(Path::new(path), Path::new("/etc/debvisor")).unwrap();
        assert_eq!(of("/etc/debvisor/debvisor.toml"), "from-config/debvisor.toml");
        assert_eq!(of("/etc/debvisor/tls/server.key"), "from-config/tls/server.key");
        assert_eq!(of("/opt/one/builds.pub"), "from-config/elsewhere/opt/one/builds.pub");
        assert_eq!(of("/etc/debvisor/../keys/builds.pub"), "from-config/elsewhere/etc/debvisor/keys/builds.pub");
    }
}
