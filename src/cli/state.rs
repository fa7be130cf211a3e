//! `debvisor state`: a backup of the whole state, a state directory out of one, and of which version the database is.

use std::fs::File;
use std::io::{BufReader, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use reqwest::Method;
use sha2::Digest as _;

use super::client::{Client, Connection, print_json, size};
use super::{Context, Ended, Failure, Format, UsageError, output, progress};
use crate::backup::read::{Keys, read};
use crate::backup::restore::restore;
use crate::backup::write::{About, Lock, Sources, write};
use crate::backup::{BackupError, Manifest};
use crate::kill::{self, KillPoint};
use crate::release::collect::files;
use crate::release::decision::Decision;
use crate::release::evidence::note::NoteKey;
use crate::store::{AuditFile, Store, StoreError};
use crate::types::limits;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Write everything that a server keeps into one encrypted file
    ///
    /// A server that is up is asked for it and works on; where none is up, the state directory is read. The file is in
    /// the age format: `age -d` opens it as well.
    Backup(Box<BackupArgs>),
    /// Make a state directory of a backup: all of it or nothing
    Restore(Box<RestoreArgs>),
    /// Say of which version the database of a state directory is, and which is the newest that is known
    Version(VersionArgs),
}

#[derive(Debug, clap::Args)]
struct BackupArgs {
    #[command(flatten)]
    connection: Connection,
    /// Where to; it must not be there yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Who can open it, as `age-keygen` prints it: age1…; repeatable
    #[arg(long, value_name = "RECIPIENT", required_unless_present = "passphrase", conflicts_with = "passphrase")]
    recipient: Vec<String>,
    /// Encrypt it with a passphrase: DEBVISOR_BACKUP_PASSPHRASE, else it is asked for
    #[arg(long)]
    passphrase: bool,
    /// An identity of a recipient, with which the backup is opened and checked once it is written
    #[arg(long, value_name = "FILE", conflicts_with = "passphrase")]
    identity: Option<PathBuf>,
    /// With the bytes of images
    #[arg(long)]
    with_images: bool,
    /// The state directory, where no server is up; without it DEBVISOR_STATE_DIR, else the usual one
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The configuration that goes with it; without it DIR/debvisor.toml
    #[arg(long, value_name = "FILE", requires = "state_dir")]
    config: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The folder that it becomes; empty, or not there yet
    #[arg(long, value_name = "DIR")]
    state_dir: PathBuf,
    /// The identity of a recipient
    #[arg(long, value_name = "FILE", required_unless_present = "passphrase", conflicts_with = "passphrase")]
    identity: Option<PathBuf>,
    /// It was encrypted with a passphrase: DEBVISOR_BACKUP_PASSPHRASE, else it is asked for
    #[arg(long)]
    passphrase: bool,
    /// The key of the server that the backup must be of, as `debvisor audit key` printed it
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

#[derive(Debug, clap::Args)]
struct VersionArgs {
    /// The state directory; without it DEBVISOR_STATE_DIR, else the usual one
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Ended> {
    match &args.command {
        Command::Backup(wanted) => backup(wanted, context),
        Command::Restore(wanted) => restored(wanted, context),
        Command::Version(wanted) => version(wanted, context),
    }
}

/// How a backup was checked once it was written.
#[derive(serde::Serialize)]
struct Written {
    file: PathBuf,
    bytes: u64,
    sha256: String,
    /// `opened`: decrypted, and every file held against the manifest. `read-back`: the ciphertext is on the disk as it
    /// was made; whether it opens was not tried.
    checked: &'static str,
    files: Option<usize>,
}

fn backup(args: &BackupArgs, context: &Context) -> anyhow::Result<Ended> {
    let path = &args.file;
    if path.symlink_metadata().is_ok() {
        let message = format!("{} is there already", path.display());
        return Err(UsageError::new(message, "a backup never takes the place of a file: name another").into());
    }
    output::check(path)?;
    let passphrase = if args.passphrase { Some(passphrase(context, true)?) } else { None };
    let keys = match (&passphrase, &args.identity) {
        (Some(text), _) => Some(Keys::Passphrase(text.clone().into())),
        (None, Some(file)) => Some(identities(file)?),
        (None, None) => None,
    };
    let lock = || -> anyhow::Result<Lock> {
        match &passphrase {
            Some(text) => Ok(Lock::passphrase(text.clone())),
            None => Lock::recipients(&args.recipient)
                .map_err(|reason| UsageError::new(reason.message, "age-keygen prints a recipient").into()),
        }
    };
    lock()?;
    let failed = || format!("cannot write {}", path.display());
    let beside = tempfile::Builder::new().prefix(".debvisor-backup-").tempfile_in(output::folder_of(path));
    let mut file = beside.with_context(failed)?;
    let bar = progress::flow(context);
    let mut out = Counted { out: file.as_file_mut(), hasher: sha2::Sha256::new(), bytes: 0, bar: &bar };
    // A folder that is named is meant.
    let server = if args.state_dir.is_some() { None } else { Client::new(&args.connection, context).ok() };
    match server.filter(Client::is_up) {
        Some(server) => ask(&server, args, passphrase.as_deref(), &mut out)?,
        None => from_folder(args, &lock()?, &mut out, context)?,
    }
    let (made, bytes) = (hex::encode(out.hasher.finalize()), out.bytes);
    bar.finish_and_clear();
    kill::here(KillPoint::BackupWritten);
    file.as_file().sync_all().with_context(failed)?;
    let checked = check(file.as_file_mut(), &made, keys.as_ref()).map_err(failure)?;
    kill::here(KillPoint::BackupChecked);
    file.persist_noclobber(path).map_err(|error| error.error).with_context(failed)?;
    File::open(output::folder_of(path)).and_then(|folder| folder.sync_all()).with_context(failed)?;
    let written = Written {
        file: path.clone(),
        bytes,
        sha256: made,
        checked: if checked.is_some() { "opened" } else { "read-back" },
        files: checked.map(|manifest| manifest.files.len()),
    };
    if context.format == Format::Text {
        let how = match written.files {
            Some(files) => format!("it was opened again, and each of its {files} files is what the manifest says"),
            None => "its ciphertext was read back; give --identity to have it opened as well".to_owned(),
        };
        println!("{}: {}, sha256 {}", path.display(), size(bytes), written.sha256);
        println!("{how}");
    } else {
        print_json(&written)?;
    }
    Ok(Ended::Done)
}

/// What the file really holds: the ciphertext that was made, and where somebody can open it, what the manifest says.
fn check(file: &mut File, made: &str, keys: Option<&Keys>) -> Result<Option<Manifest>, BackupError> {
    let unreadable = |cause| BackupError::Io { what: "the backup could not be read back".to_owned(), cause };
    file.rewind().map_err(unreadable)?;
    let mut hasher = sha2::Sha256::new();
    let mut piece = vec![0; 256 * 1024];
    loop {
        let count = file.read(&mut piece).map_err(unreadable)?;
        let Some(bytes) = piece.get(..count).filter(|bytes| !bytes.is_empty()) else { break };
        hasher.update(bytes);
    }
    if hex::encode(hasher.finalize()) != made {
        return Err(unreadable(std::io::Error::other("it has other bytes than were written")));
    }
    let Some(keys) = keys else { return Ok(None) };
    file.rewind().map_err(unreadable)?;
    read(BufReader::new(file), keys, None).map(Some)
}

fn ask(server: &Client, args: &BackupArgs, passphrase: Option<&str>, out: &mut Counted<'_>) -> anyhow::Result<()> {
    let body = serde_json::json!({
        "recipients": args.recipient,
        "passphrase": passphrase,
        "with_images": args.with_images,
    });
    server.run(async |server| {
        let request = server.request(Method::POST, "/v1/state/backup").json(&body);
        let mut answer = server.sent(request).await?;
        loop {
            let piece = answer.chunk().await.map_err(|_| {
                Failure::new(Decision::Undecided, "the backup was cut off", "the server's log says why; ask again")
            })?;
            match piece {
                Some(piece) => out.write_all(&piece).context("cannot write the backup")?,
                None => return Ok(()),
            }
        }
    })
}

/// Where no server is up, nobody else may come up meanwhile.
fn from_folder(args: &BackupArgs, lock: &Lock, out: &mut Counted<'_>, context: &Context) -> anyhow::Result<()> {
    let state = state_dir(args.state_dir.as_deref(), context)?;
    let database = state.join("state.db");
    if !database.is_file() {
        let message = format!("no server is up, and {} has no state", state.display());
        return Err(UsageError::new(message, "name the server by --socket, or the folder by --state-dir").into());
    }
    let _held = super::up::lock(&state)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let scratch = tempfile::tempdir().context("cannot make a temporary folder")?;
    let snapshot = scratch.path().join("state.db");
    let checkpoint = runtime.block_on(async {
        Store::snapshot(&database, &snapshot).await?;
        Ok::<_, StoreError>(AuditFile::open(&snapshot).await?.checkpoints().await?.pop())
    })?;
    kill::here(KillPoint::BackupSnapshot);
    let about = About {
        made_at: context.now,
        with_images: args.with_images,
        key: super::up::audit_key(&state, checkpoint.as_ref().map(|row| row.note.as_str()))?,
        checkpoint: checkpoint.map(|row| row.note),
    };
    let usual = || Some(state.join("debvisor.toml")).filter(|file| file.exists());
    let config = args.config.clone().or_else(usual);
    let sources: Sources = super::up::sources(&state, config.as_deref(), context);
    write(out, lock, &sources, &snapshot, about).map_err(failure)?;
    Ok(())
}

fn restored(args: &RestoreArgs, context: &Context) -> anyhow::Result<Ended> {
    let state = std::path::absolute(&args.state_dir).context("cannot find the working directory")?;
    let is_taken = match std::fs::read_dir(&state) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => {
            let message = format!("cannot read {}: {error}", state.display());
            return Err(UsageError::new(message, "name another folder").into());
        }
    };
    if is_taken {
        let message = format!("{} is not empty", state.display());
        return Err(UsageError::new(message, "a backup becomes a folder of its own: name one that is not there").into());
    }
    if !args.file.is_file() {
        return Err(UsageError::new(format!("there is no file {}", args.file.display()), "name a backup").into());
    }
    let expected: Option<NoteKey> =
        args.key.as_deref().map(str::parse).transpose().map_err(|reason: crate::types::Reason| {
            UsageError::new(reason.message, "give what `debvisor audit key` printed")
        })?;
    let keys = match &args.identity {
        Some(file) => identities(file)?,
        None => Keys::Passphrase(passphrase(context, false)?.into()),
    };
    let actor = format!("uid:{}", rustix::process::getuid().as_raw());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime
        .block_on(restore(&args.file, &keys, &state, expected.as_ref(), &actor, context.now))
        .map_err(failure)?;
    if context.format == Format::Text {
        println!("{}: the state of {}, {} files", state.display(), done.manifest.made_at, done.manifest.files.len());
        println!("audit log: {} records, whole, signed by {}", done.records, done.manifest.key);
        println!("{} machines are held: see that no other host runs them, then debvisor vm start", done.fenced);
    } else {
        print_json(&serde_json::json!({
            "made_at": done.manifest.made_at,
            "files": done.manifest.files.len(),
            "records": done.records,
            "key": done.manifest.key,
            "machines_held": done.fenced,
        }))?;
    }
    Ok(Ended::Done)
}

fn version(args: &VersionArgs, context: &Context) -> anyhow::Result<Ended> {
    let state = state_dir(args.state_dir.as_deref(), context)?;
    let database = state.join("state.db");
    if !database.is_file() {
        let message = format!("{} has no state.db", state.display());
        return Err(UsageError::new(message, "name another --state-dir").into());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let versions = runtime.block_on(Store::versions(&database))?;
    if context.format == Format::Text {
        println!("database  {}", versions.found);
        println!("known     {}", versions.known);
        match versions.found.cmp(&versions.known) {
            std::cmp::Ordering::Less => println!("the next debvisor up brings it forward"),
            std::cmp::Ordering::Equal => println!("nothing is to be done"),
            std::cmp::Ordering::Greater => println!("a newer debvisor wrote it: this one refuses it"),
        }
    } else {
        print_json(&serde_json::json!({ "database": versions.found, "known": versions.known }))?;
    }
    let newer = versions.found > versions.known;
    Ok(if newer { Ended::Decided(Decision::Deny) } else { Ended::Done })
}

fn state_dir(given: Option<&Path>, context: &Context) -> anyhow::Result<PathBuf> {
    let named = given.map(Path::to_owned).or_else(|| context.environment.state_dir.clone());
    let named = named.ok_or_else(|| UsageError::new("no state directory is named", "give --state-dir"))?;
    std::path::absolute(named).context("cannot find the working directory")
}

fn identities(file: &Path) -> anyhow::Result<Keys> {
    let bytes = files::read_evidence(file, limits::KEY_BYTES)
        .map_err(|reason| UsageError::new(reason.message, "age-keygen writes a file of identities"))?;
    Keys::identities(&String::from_utf8_lossy(&bytes)).map_err(failure)
}

fn passphrase(context: &Context, twice: bool) -> anyhow::Result<String> {
    if let Some(given) = &context.environment.backup_passphrase {
        return Ok(given.reveal().to_owned());
    }
    let unread =
        |error| UsageError::new(format!("cannot ask for the passphrase: {error}"), "set DEBVISOR_BACKUP_PASSPHRASE");
    let text = rpassword::prompt_password("Passphrase of the backup: ").map_err(unread)?;
    if text.is_empty() || (twice && rpassword::prompt_password("Once more: ").map_err(unread)? != text) {
        return Err(UsageError::new("there is no passphrase, or the two differ", "type the same one twice").into());
    }
    Ok(text)
}

/// A "no" of a backup as an end of the verb.
fn failure(error: BackupError) -> anyhow::Error {
    match error {
        BackupError::Refused(reason) => {
            let decision = Decision::from_reasons([&*reason]);
            let hint = reason.hint.clone().unwrap_or_default();
            Failure::new(decision, reason.to_string(), hint).into()
        }
        BackupError::Store(StoreError::Damaged(what)) => {
            let message = format!("backup-malformed: the database in it is damaged: {what}");
            Failure::new(Decision::Deny, message, "use another backup").into()
        }
        BackupError::Store(newer @ StoreError::Newer { .. }) => {
            UsageError::new(newer.to_string(), "restore it with the debvisor that made it, or a newer one").into()
        }
        other => other.into(),
    }
}

/// What is written, counted and hashed on its way.
struct Counted<'a> {
    out: &'a mut File,
    hasher: sha2::Sha256,
    bytes: u64,
    bar: &'a indicatif::ProgressBar,
}

impl std::io::Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..count).unwrap_or_default());
        self.bytes += count as u64;
        self.bar.inc(count as u64);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}
