//! The verifying block server: an image and the root of its tree in; a socket out, behind which NBD is spoken and each
//! block is checked as it is read.
//!
//! Bytes are read into memory of our own, proved there, and sent from there: nobody can change them in between. A block
//! that is not proved is an I/O error for who asked for it, a quarantine of the image, and an alarm, once. Each
//! connection has a few threads of which one listens; it hands that over as soon as there is more to do than one can.
//! Invariant: no byte leaves that was not proved against the root which the caller named.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags};
use rustix::net::sockopt;
use tokio::sync::mpsc;

use super::nbd::{self, Agreed, NbdError, Replies, Request, Requests};
use super::source::Source;
use super::tree::{Fault, is_zero};
use super::verify::reason_of;
use super::{ImageRecord, ImageStore, Reader, changed, failed};
use crate::types::vm::VerifiedReadTier;
use crate::types::{Code, Digest, DigestAlgorithm, Reason, limits};

/// Where a block server listens, and who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketAt {
    /// The socket. A stale one of that name is replaced; its folder must exist.
    pub path: PathBuf,
    /// User and group that own it, where the hypervisor runs under others than the node; mode 600.
    pub owner: Option<(u32, u32)>,
}

/// A block that was asked for and could not be proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// The image.
    pub digest: Digest,
    /// The socket by which it was asked for: one machine's disk.
    pub socket: PathBuf,
    /// The block's number, from 0.
    pub block: u64,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// What is wrong: `image-changed`, or `store-failed` where it cannot be read at all.
    pub reason: Reason,
}

/// A running block server. Dropping it ends its connections and removes the socket.
#[derive(Debug)]
pub struct BlockServer {
    shared: Arc<Shared>,
    stop: OwnedFd,
    /// The device and inode of the socket, so that another's of the same name is left alone.
    socket: (u64, u64),
    acceptor: Option<JoinHandle<()>>,
}

impl BlockServer {
    /// The socket, for `nbd+unix:///?socket=`; the export's name is empty.
    pub fn socket(&self) -> &Path {
        &self.shared.path
    }

    /// The image.
    pub fn record(&self) -> &ImageRecord {
        &self.shared.record
    }

    /// How its reads are proved.
    pub fn tier(&self) -> VerifiedReadTier {
        self.shared.source.tier()
    }

    /// Why they are not proved by a better tier.
    pub fn absent(&self) -> Option<&str> {
        self.shared.source.absent.as_deref()
    }
}

impl Drop for BlockServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        for stream in self.shared.connections().values() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        if identity(&self.shared.path).is_ok_and(|found| found == self.socket) {
            let _ = fs::remove_file(&self.shared.path);
        }
    }
}

#[derive(Debug)]
struct Shared {
    record: ImageRecord,
    source: Source,
    path: PathBuf,
    alarms: mpsc::Sender<Alarm>,
    /// Blocks of which an alarm was given.
    alarmed: Mutex<HashSet<u64>>,
    connections: Mutex<BTreeMap<u64, UnixStream>>,
    stopped: AtomicBool,
    /// One long reply at a time is put together for clients that cannot take it in parts.
    long_reply: Mutex<()>,
    reader: Reader,
}

/// Alarms are remembered for so many blocks; what comes then is an error and no alarm.
const ALARMED_BLOCKS: usize = 4096;
/// What is read, proved and sent at a time: it stays in a core's cache all the way.
const PART_BYTES: u64 = 256 * 1024;
/// What a client has not taken yet of what was sent to it. Several parts have room in it, so that a thread is done with
/// one before the client is; with the kernel's 208 KiB each waited in the middle of its own (docs/adr/0011).
const SEND_BUFFER_BYTES: usize = 1024 * 1024;
/// A longer read makes another thread listen meanwhile.
const SHORT_READ_BYTES: u32 = 16 * 1024;
/// A simple reply that is longer waits for its turn.
const LONG_REPLY_BYTES: u32 = 1024 * 1024;
/// A connection's threads.
const THREADS: usize = 4;

impl ImageStore {
    /// Serves an image, read-only, until the answer is dropped. The first bad block that is met quarantines the image;
    /// each bad block is an I/O error to who asked, and an alarm once. Alarms are not waited for: where nobody takes
    /// them, the next read of the block gives it again.
    ///
    /// # Errors
    /// `image-changed` where the tree does not have the root that the permit names; `image-unknown`,
    /// `image-receipt-invalid`, `image-quarantined`, `image-kind`, `store-failed`.
    pub fn serve(
        &self,
        digest: &Digest,
        tree_root: &Digest,
        at: &SocketAt,
        alarms: mpsc::Sender<Alarm>,
    ) -> Result<BlockServer, Reason> {
        let reader = self.read_by_one_more(digest);
        let (folder, record) = self.usable(digest)?;
        if !record.kind.is_block_device() {
            let message = format!("{digest} was imported as {}, not as a disk", record.kind.name());
            return Err(Reason::new(Code::ImageKind, message));
        }
        if record.tree_root != *tree_root || tree_root.algorithm() != DigestAlgorithm::Sha256 {
            let what = format!("has the tree {}, and {tree_root} was permitted", record.tree_root);
            return Err(changed(digest, &what));
        }
        let source = self.source(&folder, &record).inspect_err(|reason| self.distrust(digest, reason))?;
        let unserved =
            |error: io::Error| failed(&format!("{digest} cannot be served at {}", at.path.display()), &error);
        let (listener, socket) = listen(at).map_err(unserved)?;
        let stop = rustix::event::eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| unserved(error.into()))?;
        let shared = Arc::new(Shared {
            record,
            source,
            path: at.path.clone(),
            alarms,
            alarmed: Mutex::default(),
            connections: Mutex::default(),
            stopped: AtomicBool::new(false),
            long_reply: Mutex::default(),
            reader,
        });
        let woken = stop.try_clone().map_err(unserved)?;
        let accepting = Arc::clone(&shared);
        let acceptor = thread::Builder::new()
            .name("block-server".to_owned())
            .spawn(move || accepting.accept(&listener, &woken))
            .map_err(unserved)?;
        Ok(BlockServer { shared, stop, socket, acceptor: Some(acceptor) })
    }
}

/// Binds under another name, settles who may connect, and gives the socket its name last.
fn listen(at: &SocketAt) -> io::Result<(UnixListener, (u64, u64))> {
    let mut name = std::ffi::OsString::from(".");
    name.push(at.path.file_name().ok_or_else(|| io::Error::other("the path names no file"))?);
    let new = at.path.with_file_name(name);
    for path in [&new, &at.path] {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => fs::remove_file(path)?,
            Ok(_) => return Err(io::Error::other(format!("{} is there and is no socket", path.display()))),
            Err(error) => return Err(error),
        }
    }
    let listener = UnixListener::bind(&new)?;
    listener.set_nonblocking(true)?;
    let named = fs::set_permissions(&new, Permissions::from_mode(0o600))
        .and_then(|()| at.owner.map_or(Ok(()), |(user, group)| std::os::unix::fs::chown(&new, Some(user), Some(group))))
        .and_then(|()| identity(&new))
        .and_then(|socket| fs::rename(&new, &at.path).map(|()| socket));
    let socket = named.inspect_err(|_| drop(fs::remove_file(&new)))?;
    Ok((listener, socket))
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|found| (found.dev(), found.ino()))
}

impl Shared {
    /// Takes connections until the server is stopped, and returns when the last of them has ended.
    fn accept(&self, listener: &UnixListener, stop: &OwnedFd) {
        thread::scope(|scope| {
            let mut number = 0_u64;
            loop {
                let mut waited = [PollFd::new(listener, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
                let polled = rustix::event::poll(&mut waited, None);
                if self.stopped.load(Ordering::SeqCst) || polled.is_err_and(|error| error != rustix::io::Errno::INTR) {
                    return;
                }
                let Ok((stream, _)) = listener.accept() else {
                    // Nobody came after all, or descriptors have run out: then waiting a little is all that helps.
                    thread::sleep(Duration::from_millis(10));
                    continue;
                };
                number = number.wrapping_add(1);
                let Ok(kept) = stream.set_nonblocking(false).and_then(|()| stream.try_clone()) else { continue };
                let mut connections = self.connections();
                // Past the bound a client is sent away; so is one that came while the server was being stopped.
                if connections.len() >= limits::BLOCK_CONNECTIONS || self.stopped.load(Ordering::SeqCst) {
                    continue;
                }
                connections.insert(number, kept);
                drop(connections);
                let spawned = thread::Builder::new().name("block-client".to_owned()).spawn_scoped(scope, move || {
                    // A client that breaks the protocol or goes away loses its connection, and that is all.
                    let _ = self.converse(&stream);
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                    self.connections().remove(&number);
                });
                if spawned.is_err() {
                    self.connections().remove(&number);
                }
            }
        });
    }

    fn connections(&self) -> MutexGuard<'_, BTreeMap<u64, UnixStream>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One client, from its first byte to its last.
    fn converse(&self, stream: &UnixStream) -> io::Result<()> {
        let deadline = Instant::now().checked_add(Duration::from_millis(limits::BLOCK_HANDSHAKE_MS));
        let Some(agreed) =
            nbd::handshake(&mut Hurried { stream, deadline }, self.record.bytes, self.record.block_bytes)?
        else {
            return Ok(());
        };
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
        // A wish: whoever may not pass `net.core.wmem_max` gets what it allows. Less is slower, not wrong.
        let _ = sockopt::set_socket_send_buffer_size_force(stream, SEND_BUFFER_BYTES)
            .or_else(|_| sockopt::set_socket_send_buffer_size(stream, SEND_BUFFER_BYTES));
        let connection = Connection {
            shared: self,
            agreed,
            requests: Mutex::new(Some(Requests::new(stream, self.record.bytes, agreed))),
            replies: Mutex::new(Replies::new(stream, agreed)),
        };
        let threads = thread::available_parallelism().map_or(1, |cores| cores.get().min(THREADS));
        thread::scope(|scope| {
            for _ in 1..threads {
                let follower = || {
                    connection.work();
                    // Whoever ends first ends the others, which may be waiting for the client.
                    let _ = stream.shutdown(std::net::Shutdown::Both);
                };
                // With fewer threads it is slower, not wrong.
                let _ = thread::Builder::new().name("block-reader".to_owned()).spawn_scoped(scope, follower);
            }
            connection.work();
        });
        Ok(())
    }

    /// A bad block: the image is quarantined, and who listens is told, once.
    fn alarm(&self, fault: &Fault) {
        let block = fault.block();
        let digest = &self.record.digest;
        let mut alarmed = self.alarmed.lock().unwrap_or_else(PoisonError::into_inner);
        if alarmed.contains(&block) || alarmed.len() >= ALARMED_BLOCKS {
            return;
        }
        let reason = reason_of(&self.record, fault);
        self.reader.store.distrust(digest, &reason);
        let offset = block.saturating_mul(u64::from(self.record.block_bytes));
        let alarm = Alarm { digest: digest.clone(), socket: self.path.clone(), block, offset, reason };
        if !matches!(self.alarms.try_send(alarm), Err(mpsc::error::TrySendError::Full(_))) {
            alarmed.insert(block);
        }
    }

    /// Reads and proves the blocks that cover this part of the image; the part itself, out of the buffer.
    fn read<'a>(&self, offset: u64, length: u64, buffer: &'a mut Vec<u8>) -> Result<&'a [u8], Fault> {
        let block_bytes = u64::from(self.record.block_bytes);
        let first = offset / block_bytes;
        let start = first.saturating_mul(block_bytes);
        let end =
            offset.saturating_add(length).div_ceil(block_bytes).saturating_mul(block_bytes).min(self.record.bytes);
        let count = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
        if buffer.len() < count {
            buffer.resize(count, 0);
        }
        let Some(blocks) = buffer.get_mut(..count) else { return Err(Fault::Tree(first)) };
        self.source.read(first, blocks, block_bytes)?;
        let from = usize::try_from(offset.saturating_sub(start)).unwrap_or(usize::MAX);
        let until = from.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
        buffer.get(from..until).ok_or(Fault::Tree(first))
    }
}

/// A client that has agreed on how to speak.
struct Connection<'a> {
    shared: &'a Shared,
    agreed: Agreed,
    /// Held by the thread that listens; nothing when the client is done.
    requests: Mutex<Option<Requests<&'a UnixStream>>>,
    replies: Mutex<Replies<&'a UnixStream>>,
}

impl<'a> Connection<'a> {
    /// Serves until the client is done. Short reads are answered by the thread that heard them; when there is more to
    /// do, the next thread listens.
    fn work(&self) {
        let mut buffer = Vec::new();
        loop {
            let mut listening = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                let Some(requests) = listening.as_mut() else { return };
                let Ok(Some(request)) = requests.next() else {
                    *listening = None;
                    return;
                };
                let long = matches!(request, Request::Read { length, .. } if length > SHORT_READ_BYTES);
                if !long && !requests.has_next() {
                    if self.answer(request, &mut buffer).is_err() {
                        *listening = None;
                        return;
                    }
                    continue;
                }
                drop(listening);
                if self.answer(request, &mut buffer).is_err() {
                    *self.requests.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    return;
                }
                break;
            }
        }
    }

    fn answer(&self, request: Request, buffer: &mut Vec<u8>) -> io::Result<()> {
        match request {
            Request::Refused { cookie, error } => self.replies().error(cookie, error, None),
            Request::Flush { cookie } => self.replies().done(cookie),
            Request::Read { cookie, offset, length, whole } if self.agreed.structured && !whole => {
                self.answer_in_parts(cookie, offset, u64::from(length), buffer)
            }
            Request::Read { cookie, length, .. } if self.agreed.structured && length > LONG_REPLY_BYTES => {
                self.replies().error(cookie, NbdError::Overflow, None)
            }
            Request::Read { cookie, offset, length, .. } => self.answer_whole(cookie, offset, length, buffer),
        }
    }

    fn answer_in_parts(&self, cookie: u64, offset: u64, length: u64, buffer: &mut Vec<u8>) -> io::Result<()> {
        let end = offset.saturating_add(length);
        let mut at = offset;
        while at < end {
            let next = (at / PART_BYTES).saturating_add(1).saturating_mul(PART_BYTES).min(end);
            let part = match self.shared.read(at, next.saturating_sub(at), buffer) {
                Ok(part) => part,
                Err(fault) => return self.bad(cookie, at, &fault),
            };
            let last = next == end;
            if is_zero(part) {
                let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
                self.replies().hole(cookie, at, length, last)?;
            } else {
                self.replies().part(cookie, at, part, last)?;
            }
            at = next;
        }
        Ok(())
    }

    fn answer_whole(&self, cookie: u64, offset: u64, length: u32, buffer: &mut Vec<u8>) -> io::Result<()> {
        if length <= LONG_REPLY_BYTES {
            return match self.shared.read(offset, u64::from(length), buffer) {
                Ok(bytes) => self.replies().whole(cookie, offset, bytes),
                Err(fault) => self.bad(cookie, offset, &fault),
            };
        }
        let _turn = self.shared.long_reply.lock().unwrap_or_else(PoisonError::into_inner);
        match self.shared.read(offset, u64::from(length), &mut Vec::new()) {
            Ok(bytes) => self.replies().whole(cookie, offset, bytes),
            Err(fault) => self.bad(cookie, offset, &fault),
        }
    }

    /// The error names the first byte asked for that is in the bad block.
    fn bad(&self, cookie: u64, offset: u64, fault: &Fault) -> io::Result<()> {
        self.shared.alarm(fault);
        let at = fault.block().saturating_mul(u64::from(self.shared.record.block_bytes)).max(offset);
        self.replies().error(cookie, NbdError::Io, Some(at))
    }

    fn replies(&self) -> MutexGuard<'_, Replies<&'a UnixStream>> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that ends when the time for the handshake is over.
struct Hurried<'a> {
    stream: &'a UnixStream,
    deadline: Option<Instant>,
}

impl Hurried<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        left.filter(|left| !left.is_zero()).map(Some).ok_or_else(|| io::ErrorKind::TimedOut.into())
    }
}

impl io::Read for Hurried<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer)
    }
}

impl io::Write for Hurried<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
