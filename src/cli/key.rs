//! `debvisor key`: makes managed keys, and reads one for the verbs that sign.
//! A private key is written once, for its owner only, and never over another file.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{Context, Ended, Format, UsageError};
use crate::config::Secret;
use crate::release::artifact;
use crate::release::attest::key::{self, KeyError, PrivateKey};
use crate::release::evidence::key::PublicKey;
use crate::types::limits;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make an ECDSA P-256 key pair: PREFIX.key, encrypted in cosign's format, and PREFIX.pub
    ///
    /// The password is DEBVISOR_KEY_PASSWORD, else COSIGN_PASSWORD, else it is asked for on the terminal.
    /// No file is ever overwritten.
    Generate {
        /// Where the two files go, without their endings
        #[arg(long, value_name = "PREFIX")]
        out: PathBuf,
    },
}

pub(super) fn run(args: Args, context: &Context) -> anyhow::Result<Ended> {
    match args.command {
        Command::Generate { out } => generate(&out, context),
    }
}

fn generate(prefix: &Path, context: &Context) -> anyhow::Result<Ended> {
    let private = with_ending(prefix, ".key");
    let public = with_ending(prefix, ".pub");
    // Asked before the password is, so that nobody types one in vain; the create below is what counts.
    for path in [&private, &public] {
        if path.symlink_metadata().is_ok() {
            return Err(exists(path));
        }
    }
    let password = new_password(context)?;
    if password.reveal().is_empty() && !context.quiet {
        eprintln!("warning: the password is empty: whoever reads {} can sign with it", private.display());
    }
    let files = key::generate(password.reveal().as_bytes()).context("cannot make a key")?;
    create(&private, files.private_pem.as_bytes(), 0o600)?;
    if let Err(error) = create(&public, files.public_pem.as_bytes(), 0o644) {
        // Half a pair is of no use to anybody, and the private half is our own file of a moment ago.
        let _ = fs::remove_file(&private);
        return Err(error);
    }
    print(&private, &public, &files.public, context)?;
    Ok(Ended::Done)
}

fn print(private: &Path, public: &Path, key: &PublicKey, context: &Context) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    if context.format == Format::Text {
        writeln!(out, "private key  {}", private.display())?;
        writeln!(out, "public key   {}", public.display())?;
        writeln!(out, "algorithm    ECDSA P-256")?;
        writeln!(out, "fingerprint  {}", key.fingerprint())?;
    } else {
        let value = serde_json::json!({
            "private_key": private,
            "public_key": public,
            "algorithm": "ECDSA P-256",
            "fingerprint": key.fingerprint(),
        });
        serde_json::to_writer_pretty(&mut out, &value)?;
        writeln!(out)?;
    }
    Ok(())
}

/// Reads the private key at `path` for a verb that signs; asks for the password on the terminal where the
/// environment has none.
///
/// # Errors
/// A [`UsageError`] where the file cannot be read, is no key, or its password is missing or wrong.
pub(super) fn read_private(path: &Path, context: &Context) -> anyhow::Result<PrivateKey> {
    let pem = read_bounded(path)?;
    let password = if !key::is_encrypted(&pem) {
        None
    } else if let Some(password) = &context.environment.key_password {
        Some(password.clone())
    } else {
        Some(ask(&format!("Password of {}: ", path.display()))?)
    };
    PrivateKey::load(&pem, password.as_ref().map(|password| password.reveal().as_bytes())).map_err(|error| {
        let hint = match error {
            KeyError::PasswordRequired | KeyError::WrongPassword => {
                "set DEBVISOR_KEY_PASSWORD or COSIGN_PASSWORD to the key's password"
            }
            KeyError::Label(_) => "turn the key into PKCS #8: openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW",
            _ => "give a key of `debvisor key generate`, of cosign, or PKCS #8 in PEM",
        };
        UsageError::new(format!("cannot use the private key {}: {error}", path.display()), hint).into()
    })
}

/// Reads the public key at `path`, for a verb that is told whom to believe.
///
/// # Errors
/// A [`UsageError`] where the file cannot be read or holds no key that is accepted.
pub(super) fn read_public(path: &Path) -> anyhow::Result<PublicKey> {
    let bytes = read_bounded(path)?;
    PublicKey::from_pem(&bytes).map_err(|reason| {
        let hint = reason.hint.unwrap_or_default();
        UsageError::new(format!("cannot use the public key {}: {}", path.display(), reason.message), hint).into()
    })
}

fn read_bounded(path: &Path) -> anyhow::Result<Vec<u8>> {
    artifact::read_bounded(path, limits::KEY_BYTES).map_err(|error| {
        UsageError::new(format!("cannot read {}: {error}", path.display()), "check the path and its permissions").into()
    })
}

fn new_password(context: &Context) -> anyhow::Result<Secret> {
    if let Some(password) = &context.environment.key_password {
        return Ok(password.clone());
    }
    let password = ask("Password for the new key: ")?;
    if password.reveal().is_empty() {
        return Err(UsageError::new(
            "the password is empty",
            "type one; an empty password must be asked for by setting DEBVISOR_KEY_PASSWORD to nothing",
        )
        .into());
    }
    if ask("The same again: ")?.reveal() != password.reveal() {
        return Err(UsageError::new("the two passwords differ", "run the command again").into());
    }
    Ok(password)
}

fn ask(prompt: &str) -> anyhow::Result<Secret> {
    let missing = || UsageError::new("a password is needed and there is no terminal", "set DEBVISOR_KEY_PASSWORD");
    // Without this a run in the background of a terminal would stop at the prompt instead of failing.
    if !std::io::stdin().is_terminal() {
        return Err(missing().into());
    }
    rpassword::prompt_password(prompt).map(Secret::new).map_err(|_| missing().into())
}

fn with_ending(prefix: &Path, ending: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn exists(path: &Path) -> anyhow::Error {
    UsageError::new(
        format!("{} is there already, and a key is never overwritten", path.display()),
        "choose another --out, or move the old key away",
    )
    .into()
}

/// Writes a file that was not there before, and takes it away again where it could not be written whole.
fn create(path: &Path, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let mut file = match OpenOptions::new().write(true).create_new(true).mode(mode).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(exists(path)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(UsageError::new(format!("{}: {error}", cannot()), "make its directory first").into());
        }
        Err(error) => return Err(error).with_context(cannot),
    };
    file.write_all(bytes).and_then(|()| file.sync_all()).with_context(cannot).inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}
