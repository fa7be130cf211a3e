//! The NBD protocol, server side and read-only: bytes of a client in, what it asks for out, and the replies.
//!
//! Source: the NetworkBlockDevice project's `proto.md`: fixed newstyle negotiation, one export without a name,
//! structured replies. Not offered: TLS (the socket never leaves the host), extended headers, metadata contexts, writes.
//! Invariant: no length that a client says is allocated for or skipped before it was held against its bound.

use std::io::{self, IoSlice, Read, Write};

use crate::types::limits;

const MAGIC: u64 = 0x4e42_444d_4147_4943;
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054;
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
const STRUCTURED_REPLY_MAGIC: u32 = 0x668e_33ef;

/// Handshake flags of both sides: fixed newstyle, and no zeros behind the old reply.
const FIXED_NEWSTYLE: u16 = 1;
const NO_ZEROES: u16 = 2;

const OPTION_EXPORT_NAME: u32 = 1;
const OPTION_ABORT: u32 = 2;
const OPTION_LIST: u32 = 3;
const OPTION_INFO: u32 = 6;
const OPTION_GO: u32 = 7;
const OPTION_STRUCTURED_REPLY: u32 = 8;

const REPLY_ACK: u32 = 1;
const REPLY_SERVER: u32 = 2;
const REPLY_INFO: u32 = 3;
const REPLY_UNSUPPORTED: u32 = 0x8000_0001;
const REPLY_INVALID: u32 = 0x8000_0003;
const REPLY_UNKNOWN: u32 = 0x8000_0006;
const REPLY_TOO_BIG: u32 = 0x8000_0009;

const INFO_EXPORT: u16 = 0;
const INFO_BLOCK_SIZE: u16 = 3;

/// Transmission flags: there are flags; read-only; FLUSH does nothing; several connections see the same.
const EXPORT_FLAGS: u16 = 1 | 2 | 4 | 256;
/// With structured replies a client may ask for one in one piece.
const EXPORT_FLAG_DF: u16 = 128;

const COMMAND_READ: u16 = 0;
const COMMAND_WRITE: u16 = 1;
const COMMAND_DISCONNECT: u16 = 2;
const COMMAND_FLUSH: u16 = 3;

/// May be set on any request (FUA), and on a read (DF).
const FLAG_FUA: u16 = 1;
const FLAG_DF: u16 = 4;

const REPLY_FLAG_DONE: u16 = 1;
const CHUNK_NONE: u16 = 0;
const CHUNK_DATA: u16 = 1;
const CHUNK_HOLE: u16 = 2;
const CHUNK_ERROR: u16 = 0x8001;
const CHUNK_ERROR_OFFSET: u16 = 0x8002;

/// Errors of the protocol; their numbers are Linux's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NbdError {
    /// EPERM: the export is never written.
    NotPermitted = 1,
    /// EIO: the block could not be proved.
    Io = 5,
    /// EINVAL: a request that makes no sense here.
    Invalid = 22,
    /// EOVERFLOW: too long for one piece.
    Overflow = 75,
}

/// What was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Agreed {
    /// Replies are in chunks.
    pub(super) structured: bool,
}

/// Speaks with a client until it wants to read an export of this size, best by whole blocks. Nothing where it wants
/// nothing more.
///
/// # Errors
/// Where the client breaks the protocol, takes too much, or goes away.
pub(super) fn handshake(stream: &mut (impl Read + Write), size: u64, block_bytes: u32) -> io::Result<Option<Agreed>> {
    let mut hello = Vec::with_capacity(18);
    hello.extend_from_slice(&MAGIC.to_be_bytes());
    hello.extend_from_slice(&OPTION_MAGIC.to_be_bytes());
    hello.extend_from_slice(&(FIXED_NEWSTYLE | NO_ZEROES).to_be_bytes());
    stream.write_all(&hello)?;
    let flags = u32::from_be_bytes(take(stream)?);
    if flags & !u32::from(FIXED_NEWSTYLE | NO_ZEROES) != 0 || flags & u32::from(FIXED_NEWSTYLE) == 0 {
        return Err(broken("a client of another kind of negotiation"));
    }
    let zeroes = flags & u32::from(NO_ZEROES) == 0;

    let mut agreed = Agreed { structured: false };
    for _ in 0..limits::BLOCK_OPTIONS {
        if u64::from_be_bytes(take(stream)?) != OPTION_MAGIC {
            return Err(broken("no option where one must stand"));
        }
        let option = u32::from_be_bytes(take(stream)?);
        let length = u32::from_be_bytes(take(stream)?);
        if length > limits::BLOCK_OPTION_BYTES {
            // What is announced is not read. An option of the old form has no reply that could say so.
            if option != OPTION_EXPORT_NAME {
                reply(stream, option, REPLY_TOO_BIG, b"this option is too long")?;
            }
            return Err(broken("an option that is too long"));
        }
        let mut data = vec![0; length as usize];
        stream.read_exact(&mut data)?;
        match option {
            OPTION_EXPORT_NAME if data.is_empty() => {
                let mut answer = size.to_be_bytes().to_vec();
                answer.extend_from_slice(&export_flags(agreed).to_be_bytes());
                answer.resize(answer.len().saturating_add(if zeroes { 124 } else { 0 }), 0);
                stream.write_all(&answer)?;
                return Ok(Some(agreed));
            }
            OPTION_EXPORT_NAME => return Err(broken("a client that asks for an export that is not there")),
            OPTION_ABORT => {
                // The client may be gone by now, and that is what it wanted.
                let _ = reply(stream, option, REPLY_ACK, b"");
                return Ok(None);
            }
            OPTION_LIST if data.is_empty() => {
                reply(stream, option, REPLY_SERVER, &0_u32.to_be_bytes())?;
                reply(stream, option, REPLY_ACK, b"")?;
            }
            OPTION_STRUCTURED_REPLY if data.is_empty() => {
                agreed.structured = true;
                reply(stream, option, REPLY_ACK, b"")?;
            }
            OPTION_LIST | OPTION_STRUCTURED_REPLY => reply(stream, option, REPLY_INVALID, b"no data belongs here")?,
            OPTION_INFO | OPTION_GO => match asked_for(&data) {
                None => reply(stream, option, REPLY_INVALID, b"the request is malformed")?,
                Some(name) if !name.is_empty() => {
                    reply(stream, option, REPLY_UNKNOWN, b"the one export here has the empty name")?;
                }
                Some(_) => {
                    let mut export = INFO_EXPORT.to_be_bytes().to_vec();
                    export.extend_from_slice(&size.to_be_bytes());
                    export.extend_from_slice(&export_flags(agreed).to_be_bytes());
                    reply(stream, option, REPLY_INFO, &export)?;
                    let mut blocks = INFO_BLOCK_SIZE.to_be_bytes().to_vec();
                    for bytes in [1, block_bytes, limits::BLOCK_READ_BYTES] {
                        blocks.extend_from_slice(&bytes.to_be_bytes());
                    }
                    reply(stream, option, REPLY_INFO, &blocks)?;
                    reply(stream, option, REPLY_ACK, b"")?;
                    if option == OPTION_GO {
                        return Ok(Some(agreed));
                    }
                }
            },
            _ => reply(stream, option, REPLY_UNSUPPORTED, b"not offered")?,
        }
    }
    Err(broken("a client that never stops asking"))
}

const fn export_flags(agreed: Agreed) -> u16 {
    if agreed.structured { EXPORT_FLAGS | EXPORT_FLAG_DF } else { EXPORT_FLAGS }
}

/// The name in the data of INFO and GO: its length, itself, then a count of two-byte requests that fill the rest.
fn asked_for(data: &[u8]) -> Option<&[u8]> {
    let (length, rest) = data.split_first_chunk()?;
    let (name, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let (count, rest) = rest.split_first_chunk()?;
    (rest.len() == usize::from(u16::from_be_bytes(*count)).saturating_mul(2)).then_some(name)
}

fn reply(stream: &mut impl Write, option: u32, kind: u32, data: &[u8]) -> io::Result<()> {
    let mut message = Vec::with_capacity(data.len().saturating_add(20));
    message.extend_from_slice(&OPTION_REPLY_MAGIC.to_be_bytes());
    message.extend_from_slice(&option.to_be_bytes());
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&u32::try_from(data.len()).unwrap_or(u32::MAX).to_be_bytes());
    message.extend_from_slice(data);
    stream.write_all(&message)
}

/// What a client asks for, once the negotiation is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Request {
    /// Bytes within the export.
    Read {
        /// The client's name for the request.
        cookie: u64,
        /// From where.
        offset: u64,
        /// How many; never none.
        length: u32,
        /// In one piece.
        whole: bool,
    },
    /// Nothing is written here, so nothing is to be flushed.
    Flush {
        /// The client's name for the request.
        cookie: u64,
    },
    /// It is refused, with this error.
    Refused {
        /// The client's name for the request.
        cookie: u64,
        /// The error.
        error: NbdError,
    },
}

/// Requests of one connection, in order.
pub(super) struct Requests<R> {
    stream: io::BufReader<R>,
    size: u64,
    agreed: Agreed,
}

/// Length of a request, but for what is written.
const REQUEST_BYTES: usize = 28;

impl<R: Read> Requests<R> {
    /// Of a client that may read this many bytes.
    pub(super) fn new(stream: R, size: u64, agreed: Agreed) -> Self {
        Self { stream: io::BufReader::with_capacity(16 * 1024, stream), size, agreed }
    }

    /// Whether the next request is here already.
    pub(super) fn has_next(&self) -> bool {
        self.stream.buffer().len() >= REQUEST_BYTES
    }

    /// The next request; nothing where the client is done.
    ///
    /// # Errors
    /// Where the client breaks the protocol, or goes away in the middle of a request.
    pub(super) fn next(&mut self) -> io::Result<Option<Request>> {
        if io::BufRead::fill_buf(&mut self.stream)?.is_empty() {
            return Ok(None);
        }
        if u32::from_be_bytes(take(&mut self.stream)?) != REQUEST_MAGIC {
            return Err(broken("no request where one must stand"));
        }
        let flags = u16::from_be_bytes(take(&mut self.stream)?);
        let command = u16::from_be_bytes(take(&mut self.stream)?);
        let cookie = u64::from_be_bytes(take(&mut self.stream)?);
        let offset = u64::from_be_bytes(take(&mut self.stream)?);
        let length = u32::from_be_bytes(take(&mut self.stream)?);
        let refused = |error| Ok(Some(Request::Refused { cookie, error }));
        match command {
            COMMAND_DISCONNECT => Ok(None),
            COMMAND_READ => {
                let whole = flags & FLAG_DF != 0;
                let known = FLAG_FUA | if self.agreed.structured { FLAG_DF } else { 0 };
                let inside = offset.checked_add(u64::from(length)).is_some_and(|end| end <= self.size);
                if flags & !known != 0 || length == 0 || length > limits::BLOCK_READ_BYTES || !inside {
                    return refused(NbdError::Invalid);
                }
                Ok(Some(Request::Read { cookie, offset, length, whole }))
            }
            COMMAND_WRITE => {
                if length > limits::BLOCK_READ_BYTES {
                    return Err(broken("a write that is too long"));
                }
                let skipped = io::copy(&mut (&mut self.stream).take(u64::from(length)), &mut io::sink())?;
                if skipped != u64::from(length) {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                refused(NbdError::NotPermitted)
            }
            COMMAND_FLUSH => Ok(Some(Request::Flush { cookie })),
            // TRIM, WRITE_ZEROES and RESIZE would change the export; CACHE and BLOCK_STATUS were not offered.
            4 | 6 | 8 => refused(NbdError::NotPermitted),
            _ => refused(NbdError::Invalid),
        }
    }
}

/// Writes replies; whole ones, each at once.
pub(super) struct Replies<W> {
    stream: W,
    agreed: Agreed,
}

impl<W: Write> Replies<W> {
    /// To a client with which this was agreed.
    pub(super) fn new(stream: W, agreed: Agreed) -> Self {
        Self { stream, agreed }
    }

    /// Everything that was asked for, or the end of it.
    pub(super) fn done(&mut self, cookie: u64) -> io::Result<()> {
        if self.agreed.structured {
            self.chunk(cookie, REPLY_FLAG_DONE, CHUNK_NONE, &[], &[])
        } else {
            self.simple(cookie, 0, &[])
        }
    }

    /// The bytes of a read, in one piece; the end of it.
    pub(super) fn whole(&mut self, cookie: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.agreed.structured {
            self.chunk(cookie, REPLY_FLAG_DONE, CHUNK_DATA, &offset.to_be_bytes(), bytes)
        } else {
            self.simple(cookie, 0, bytes)
        }
    }

    /// A part of a read, with structured replies alone.
    pub(super) fn part(&mut self, cookie: u64, offset: u64, bytes: &[u8], last: bool) -> io::Result<()> {
        self.chunk(cookie, u16::from(last), CHUNK_DATA, &offset.to_be_bytes(), bytes)
    }

    /// A part of a read that is zeros, with structured replies alone.
    pub(super) fn hole(&mut self, cookie: u64, offset: u64, length: u32, last: bool) -> io::Result<()> {
        let mut data = offset.to_be_bytes().to_vec();
        data.extend_from_slice(&length.to_be_bytes());
        self.chunk(cookie, u16::from(last), CHUNK_HOLE, &data, &[])
    }

    /// The request failed, at this byte where one is to blame; the end of it.
    pub(super) fn error(&mut self, cookie: u64, error: NbdError, at: Option<u64>) -> io::Result<()> {
        let number = error as u32;
        if !self.agreed.structured {
            return self.simple(cookie, number, &[]);
        }
        let mut data = number.to_be_bytes().to_vec();
        data.extend_from_slice(&0_u16.to_be_bytes());
        let kind = match at {
            Some(offset) => {
                data.extend_from_slice(&offset.to_be_bytes());
                CHUNK_ERROR_OFFSET
            }
            None => CHUNK_ERROR,
        };
        self.chunk(cookie, REPLY_FLAG_DONE, kind, &data, &[])
    }

    fn simple(&mut self, cookie: u64, error: u32, bytes: &[u8]) -> io::Result<()> {
        let mut head = Vec::with_capacity(16);
        head.extend_from_slice(&SIMPLE_REPLY_MAGIC.to_be_bytes());
        head.extend_from_slice(&error.to_be_bytes());
        head.extend_from_slice(&cookie.to_be_bytes());
        write_both(&mut self.stream, &head, bytes)
    }

    fn chunk(&mut self, cookie: u64, flags: u16, kind: u16, data: &[u8], bytes: &[u8]) -> io::Result<()> {
        let length = data.len().saturating_add(bytes.len());
        let mut head = Vec::with_capacity(32);
        head.extend_from_slice(&STRUCTURED_REPLY_MAGIC.to_be_bytes());
        head.extend_from_slice(&flags.to_be_bytes());
        head.extend_from_slice(&kind.to_be_bytes());
        head.extend_from_slice(&cookie.to_be_bytes());
        head.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        head.extend_from_slice(data);
        write_both(&mut self.stream, &head, bytes)
    }
}

/// Both in one system call, mostly.
fn write_both(stream: &mut impl Write, head: &[u8], bytes: &[u8]) -> io::Result<()> {
    let mut slices = [IoSlice::new(head), IoSlice::new(bytes)];
    let mut slices = &mut slices[..];
    while slices.iter().any(|slice| !slice.is_empty()) {
        match stream.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut slices, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn take<const N: usize>(stream: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn broken(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A client whose words are written down beforehand.
    struct Script {
        said: io::Cursor<Vec<u8>>,
        heard: Vec<u8>,
    }

    impl Read for Script {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.said.read(buffer)
        }
    }

    impl Write for Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.heard.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn option(number: u32, data: &[u8]) -> Vec<u8> {
        announced(number, u32::try_from(data.len()).unwrap(), data)
    }

    fn announced(number: u32, length: u32, data: &[u8]) -> Vec<u8> {
        [&OPTION_MAGIC.to_be_bytes()[..], &number.to_be_bytes(), &length.to_be_bytes(), data].concat()
    }

    fn speak(flags: u32, options: &[Vec<u8>]) -> (io::Result<Option<Agreed>>, Vec<u8>) {
        let said = [&flags.to_be_bytes()[..], &options.concat()].concat();
        let mut script = Script { said: io::Cursor::new(said), heard: Vec::new() };
        let agreed = handshake(&mut script, 4096, 4096);
        (agreed, script.heard)
    }

    fn go(name: &[u8]) -> Vec<u8> {
        [&u32::try_from(name.len()).unwrap().to_be_bytes()[..], name, &[0, 0]].concat()
    }

    fn request(flags: u16, command: u16, offset: u64, length: u32) -> Vec<u8> {
        let cookie = 7_u64;
        [
            &REQUEST_MAGIC.to_be_bytes()[..],
            &flags.to_be_bytes(),
            &command.to_be_bytes(),
            &cookie.to_be_bytes(),
            &offset.to_be_bytes(),
            &length.to_be_bytes(),
        ]
        .concat()
    }

    fn one(bytes: &[u8], structured: bool) -> io::Result<Option<Request>> {
        Requests::new(bytes, 8192, Agreed { structured }).next()
    }

    #[test]
    fn a_client_agrees_on_structured_replies_and_goes() {
        let (agreed, heard) = speak(3, &[option(OPTION_STRUCTURED_REPLY, b""), option(OPTION_GO, &go(b""))]);
        assert_eq!(agreed.unwrap(), Some(Agreed { structured: true }));
        assert_eq!(&heard[..8], b"NBDMAGIC");
        let size = heard.windows(10).any(|bytes| bytes[..2] == [0, 0] && bytes[2..] == 4096_u64.to_be_bytes());
        assert!(size, "the export's size is told");
    }

    #[test]
    fn the_old_way_of_asking_gets_zeros_unless_it_says_that_it_needs_none() {
        let (agreed, with) = speak(1, &[option(OPTION_EXPORT_NAME, b"")]);
        assert_eq!(agreed.unwrap(), Some(Agreed { structured: false }));
        let (_, without) = speak(3, &[option(OPTION_EXPORT_NAME, b"")]);
        assert_eq!((with.len(), without.len()), (18 + 10 + 124, 18 + 10));
    }

    #[test]
    fn an_export_of_another_name_is_not_there() {
        let (agreed, heard) = speak(3, &[option(OPTION_GO, &go(b"other")), option(OPTION_ABORT, b"")]);
        assert_eq!(agreed.unwrap(), None);
        assert!(heard.windows(4).any(|bytes| bytes == REPLY_UNKNOWN.to_be_bytes()));
        assert!(speak(3, &[option(OPTION_EXPORT_NAME, b"other")]).0.is_err());
    }

    #[test]
    fn options_that_lie_or_never_end_are_ended() {
        for hostile in [
            announced(OPTION_GO, limits::BLOCK_OPTION_BYTES + 1, b""),
            announced(OPTION_GO, u32::MAX, b""),
            announced(OPTION_EXPORT_NAME, u32::MAX, b""),
            vec![0; 16],
        ] {
            assert!(speak(3, &[hostile]).0.is_err());
        }
        assert!(speak(0, &[]).0.is_err(), "not fixed newstyle");
        assert!(speak(7, &[]).0.is_err(), "an unknown flag");
        assert!(speak(3, &vec![option(OPTION_LIST, b""); limits::BLOCK_OPTIONS + 1]).0.is_err());
    }

    #[test]
    fn malformed_names_and_tls_are_refused_and_the_client_may_go_on() {
        for wrong in [&b""[..], &[0, 0, 0, 9, b'x'], &[0xff; 6], &[0, 0, 0, 0, 0, 1]] {
            let (agreed, heard) = speak(3, &[option(OPTION_GO, wrong), option(OPTION_GO, &go(b""))]);
            assert!(agreed.unwrap().is_some());
            assert!(heard.windows(4).any(|bytes| bytes == REPLY_INVALID.to_be_bytes()));
        }
        let (_, heard) = speak(3, &[option(5, b""), option(OPTION_ABORT, b"")]);
        assert!(heard.windows(4).any(|bytes| bytes == REPLY_UNSUPPORTED.to_be_bytes()));
    }

    #[test]
    fn reads_outside_the_export_are_invalid() {
        for (offset, length) in [(0, 0), (8192, 1), (8191, 2), (u64::MAX, 1), (u64::MAX, u32::MAX), (0, u32::MAX)] {
            let refused = Request::Refused { cookie: 7, error: NbdError::Invalid };
            assert_eq!(
                one(&request(0, COMMAND_READ, offset, length), true).unwrap(),
                Some(refused),
                "{offset} {length}"
            );
        }
        let whole = Request::Read { cookie: 7, offset: 0, length: 8192, whole: true };
        assert_eq!(one(&request(FLAG_DF, COMMAND_READ, 0, 8192), true).unwrap(), Some(whole));
        let refused = Request::Refused { cookie: 7, error: NbdError::Invalid };
        assert_eq!(one(&request(FLAG_DF, COMMAND_READ, 0, 8192), false).unwrap(), Some(refused));
    }

    #[test]
    fn nothing_can_be_written() {
        let write = [request(0, COMMAND_WRITE, 0, 3), b"abc".to_vec(), request(0, COMMAND_FLUSH, 0, 0)].concat();
        let mut requests = Requests::new(&write[..], 8192, Agreed { structured: true });
        let refused = Request::Refused { cookie: 7, error: NbdError::NotPermitted };
        assert_eq!(requests.next().unwrap(), Some(refused));
        assert_eq!(requests.next().unwrap(), Some(Request::Flush { cookie: 7 }), "what was to be written is skipped");
        assert_eq!(requests.next().unwrap(), None);
        for command in [4, 6, 8] {
            assert_eq!(one(&request(0, command, 0, 4096), true).unwrap(), Some(refused));
        }
        assert!(one(&request(0, COMMAND_WRITE, 0, u32::MAX), true).is_err(), "a write too long to be skipped");
        assert!(one(&request(0, COMMAND_WRITE, 0, 4096), true).is_err(), "a write that does not come");
    }

    proptest! {
        #[test]
        fn whatever_a_client_says_ends_without_a_panic(flags in 0_u32..4, words in prop::collection::vec(any::<u8>(), 0..2000)) {
            let said = [&flags.to_be_bytes()[..], &OPTION_MAGIC.to_be_bytes(), &words].concat();
            let mut script = Script { said: io::Cursor::new(said), heard: Vec::new() };
            let _ = handshake(&mut script, 4096, 4096);
            prop_assert!(script.heard.len() < 64 * 1024);
            let said = [&REQUEST_MAGIC.to_be_bytes()[..], &words].concat();
            let mut requests = Requests::new(&said[..], 8192, Agreed { structured: flags & 1 == 1 });
            while let Ok(Some(request)) = requests.next() {
                if let Request::Read { offset, length, .. } = request {
                    prop_assert!(length > 0 && offset + u64::from(length) <= 8192);
                }
            }
        }
    }
}
