//! One serial console, and everybody who is at it: what it says goes to all of them, and what any of them types goes in.
//!
//! The hypervisor has one client; it is here, as long as somebody is attached, and always reads, so that no slow reader
//! ever stops a guest. Invariant: what is kept of what was said, and what waits for a reader, is bounded.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use axum::body::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{broadcast, mpsc};

use crate::control::{Control, OpError};
use crate::store::Vm;
use crate::types::limits;
use crate::types::vm::VmId;

/// What is typed and not yet taken by the guest, in pieces.
const TYPED: usize = 16;
/// A piece of what is said.
const PIECE_BYTES: usize = 4 * 1024;

/// The consoles that somebody is at.
#[derive(Debug, Default)]
pub(in crate::api) struct Consoles {
    rooms: tokio::sync::Mutex<HashMap<VmId, Weak<Room>>>,
}

/// One console.
#[derive(Debug)]
struct Room {
    said: Mutex<Said>,
    typed: mpsc::Sender<Bytes>,
}

/// What a console said last, and who is told what it says next.
#[derive(Debug)]
struct Said {
    last: VecDeque<u8>,
    /// None once the console is closed.
    tell: Option<broadcast::Sender<Bytes>>,
}

/// One who is at a console.
#[derive(Debug)]
pub(super) struct Attached {
    /// What was said before.
    pub(super) before: Bytes,
    /// What is said from then on, without a gap; it ends when the console does.
    pub(super) said: broadcast::Receiver<Bytes>,
    room: Arc<Room>,
}

impl Attached {
    /// Where to type.
    pub(super) fn keys(&self) -> &mpsc::Sender<Bytes> {
        &self.room.typed
    }
}

impl Consoles {
    /// Attaches to the console of a machine that runs.
    pub(super) async fn attach(&self, control: &Control, machine: &Vm) -> Result<Attached, OpError> {
        let vm = machine.id;
        // Held while it is opened: two who come at once are at one console.
        let mut rooms = self.rooms.lock().await;
        rooms.retain(|_, room| room.strong_count() > 0);
        if let Some(attached) = rooms.get(&vm).and_then(Weak::upgrade).and_then(Room::join) {
            return Ok(attached);
        }
        let link = control.link_of(&machine.node)?;
        let stream = link.console(vm).await.map_err(OpError::Conflict)?;
        let before = link.console_log(vm, limits::CONSOLE_REPLAY_BYTES).await.unwrap_or_default();
        let room = open(stream, before);
        rooms.insert(vm, Arc::downgrade(&room));
        let closed = || OpError::Conflict("the console closed as it was opened".to_owned());
        Room::join(room).ok_or_else(closed)
    }

    /// Where to type, where somebody is attached.
    pub(super) async fn keys(&self, vm: VmId) -> Option<mpsc::Sender<Bytes>> {
        let room = self.rooms.lock().await.get(&vm)?.upgrade()?;
        Some(room.typed.clone())
    }
}

impl Room {
    fn join(self: Arc<Self>) -> Option<Attached> {
        let (before, said) = {
            let kept = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            (kept.last.iter().copied().collect(), kept.tell.as_ref()?.subscribe())
        };
        Some(Attached { before, said, room: self })
    }

    fn hear(&self, piece: &[u8]) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.last.extend(piece);
        let surplus = said.last.len().saturating_sub(limits::CONSOLE_REPLAY_BYTES);
        said.last.drain(..surplus);
        if let Some(tell) = &said.tell {
            // Everybody may just have left.
            let _ = tell.send(Bytes::copy_from_slice(piece));
        }
    }

    fn close(&self) {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).tell = None;
    }
}

fn open(stream: UnixStream, before: Vec<u8>) -> Arc<Room> {
    let (reader, writer) = stream.into_split();
    // What the log has already may be on its way here as well.
    let mut first = vec![0; PIECE_BYTES];
    let count = reader.try_read(&mut first).unwrap_or_default();
    let first = first.get(..count).unwrap_or_default();
    let fresh = first.get(overlap(&before, first)..).unwrap_or_default();
    let (typed, typing) = mpsc::channel(TYPED);
    let said = Said { last: before.into(), tell: Some(broadcast::channel(limits::CONSOLE_PIECES).0) };
    let room = Arc::new(Room { said: Mutex::new(said), typed });
    room.hear(fresh);
    tokio::spawn(listen(Arc::downgrade(&room), reader));
    tokio::spawn(write(typing, writer));
    room
}

/// How many bytes at the beginning of `first` are at the end of `before`.
fn overlap(before: &[u8], first: &[u8]) -> usize {
    (0..=first.len()).rev().find(|count| first.get(..*count).is_some_and(|head| before.ends_with(head))).unwrap_or(0)
}

/// Hears what is said until the console closes, or nobody is at it any more.
async fn listen(room: Weak<Room>, mut reader: OwnedReadHalf) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(count @ 1..) = reader.read(&mut piece).await {
        let Some(room) = room.upgrade() else { return };
        room.hear(piece.get(..count).unwrap_or_default());
    }
    if let Some(room) = room.upgrade() {
        room.close();
    }
}

/// Types until nobody is left who could. That the writer is dropped says to the hypervisor that its client is gone.
async fn write(mut typing: mpsc::Receiver<Bytes>, mut writer: OwnedWriteHalf) {
    while let Some(typed) = typing.recv().await {
        if let Err(error) = writer.write_all(&typed).await {
            return tracing::debug!(%error, "what was typed did not reach the console");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn next(attached: &mut Attached) -> Bytes {
        tokio::time::timeout(Duration::from_secs(10), attached.said.recv()).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn all_who_are_attached_hear_the_same_and_type_into_the_same() {
        let (ours, mut guest) = UnixStream::pair().unwrap();
        let room = open(ours, b"before ".to_vec());
        let mut one = room.clone().join().unwrap();
        assert_eq!(one.before, "before ");
        guest.write_all(b"first ").await.unwrap();
        assert_eq!(next(&mut one).await, "first ");
        let mut two = room.clone().join().unwrap();
        assert_eq!(two.before, "before first ", "who comes later is shown what was said");
        guest.write_all(b"second").await.unwrap();
        assert_eq!((next(&mut one).await, next(&mut two).await), ("second".into(), "second".into()));
        one.keys().send("a".into()).await.unwrap();
        two.keys().send("b".into()).await.unwrap();
        let mut typed = [0; 2];
        guest.read_exact(&mut typed).await.unwrap();
        assert_eq!(&typed, b"ab");
        // The guest goes: both are told, and nobody can come any more.
        drop(guest);
        for attached in [&mut one, &mut two] {
            let end = tokio::time::timeout(Duration::from_secs(10), attached.said.recv()).await.unwrap();
            assert_eq!(end, Err(broadcast::error::RecvError::Closed));
        }
        assert!(room.join().is_none());
    }

    #[tokio::test]
    async fn when_the_last_one_leaves_the_hypervisor_is_left_alone() {
        let (ours, mut guest) = UnixStream::pair().unwrap();
        let room = open(ours, Vec::new());
        let one = room.join().unwrap();
        drop(one);
        assert_eq!(guest.read(&mut [0; 1]).await.unwrap(), 0, "its client is gone");
    }

    #[tokio::test]
    async fn a_guest_that_is_not_read_is_never_stopped() {
        let (ours, mut guest) = UnixStream::pair().unwrap();
        let room = open(ours, Vec::new());
        let mut slow = room.join().unwrap();
        let flood = vec![b'x'; 8 * 1024 * 1024];
        tokio::time::timeout(Duration::from_secs(30), guest.write_all(&flood)).await.unwrap().unwrap();
        assert!(matches!(slow.said.recv().await, Err(broadcast::error::RecvError::Lagged(_))));
        let kept = slow.room.said.lock().unwrap().last.len();
        assert!(kept <= limits::CONSOLE_REPLAY_BYTES, "{kept}");
    }

    #[test]
    fn what_the_log_has_already_is_not_told_twice() {
        assert_eq!(overlap(b"login: ", b"in: root"), 4);
        assert_eq!(overlap(b"login: ", b"other"), 0);
        assert_eq!(overlap(b"", b"other"), 0);
        assert_eq!(overlap(b"aaa", b"aa"), 2);
    }
}
