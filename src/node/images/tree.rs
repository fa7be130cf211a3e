//! The hashes of an image's blocks: bytes in, once and in order, a file and a root out; later the file and the root in,
//! and for each block the answer whether its bytes are the ones that were imported.
//!
//! The tree has the form of RFC 9162 section 2.1, the last block as short as it is. In the form that is written a leaf
//! is the BLAKE3 of a block of 16 KiB, which is several times quicker than SHA-256; an inner node is SHA-256 as there, and
//! so is the root. Images that were imported earlier have leaves of SHA-256 over 4 KiB, and are read as they are; the
//! receipt says which. The file holds the leaf hashes and, behind them, the root of each run of 512 leaves, a *page*. 512
//! is a power of two, so the root over the pages is the root over the leaves. Opening reads the pages alone, 4 KiB for
//! 1 GiB of image, and proves them against the root; a page's leaves are read and proved against the page when one of
//! its blocks is first asked for.
//! Invariant: a hash out of the file is believed only after it was proved against the root that the caller brings.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use rayon::prelude::*;

use crate::release::evidence::merkle::{EMPTY_ROOT, Hash, leaf_hash, node_hash};
use crate::types::vm::VerifiedReadTier;

/// The longest block of any form, in bytes.
pub(super) const LONGEST_BLOCK_BYTES: usize = 16 * 1024;
/// Leaves of a page.
const PAGE_LEAVES: usize = 512;
/// Pages whose leaves an open tree keeps in memory: 32 MiB, for 16 GiB of image.
const KEPT_PAGES: usize = 2048;
const HASH_BYTES: usize = 32;
const HEADER_BYTES: usize = 32;

/// How an image is cut into blocks, and how a block is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// SHA-256 over 4 KiB, with the prefix of RFC 9162: how images were imported at first.
    Sha256,
    /// BLAKE3 over 16 KiB, where it has reached its speed and a read of 4 KiB does not yet hash too much around it
    /// (docs/adr/0011-verified-reads.md has the figures).
    Blake3,
}

impl Form {
    /// How images are imported.
    pub(super) const CURRENT: Self = Self::Blake3;

    /// The form whose blocks are so long, as a receipt says it.
    pub(super) const fn of(block_bytes: u32) -> Option<Self> {
        match block_bytes {
            4096 => Some(Self::Sha256),
            16_384 => Some(Self::Blake3),
            _ => None,
        }
    }

    /// Length of a block, in bytes.
    pub(super) const fn block(self) -> u32 {
        match self {
            Self::Sha256 => 4096,
            Self::Blake3 => 16_384,
        }
    }

    /// The same, as lengths of memory are counted.
    pub(super) const fn block_bytes(self) -> usize {
        self.block() as usize
    }

    const fn magic(self) -> [u8; 8] {
        match self {
            Self::Sha256 => *b"DVTREE01",
            Self::Blake3 => *b"DVTREE02",
        }
    }

    /// The hash of a block as it is. No inner node passes for one: with BLAKE3 it would have to be a hash of both kinds.
    fn leaf(self, block: &[u8]) -> Hash {
        match self {
            Self::Sha256 => leaf_hash(block),
            Self::Blake3 => *blake3::hash(block).as_bytes(),
        }
    }

    fn zeros(self) -> &'static Zeros {
        static SHA256: LazyLock<Zeros> = LazyLock::new(|| Zeros::of(Form::Sha256));
        static BLAKE3: LazyLock<Zeros> = LazyLock::new(|| Zeros::of(Form::Blake3));
        match self {
            Self::Sha256 => &SHA256,
            Self::Blake3 => &BLAKE3,
        }
    }

    /// The leaf hash of a block. Zeros need no hashing: their hash is known.
    fn block_hash(self, block: &[u8]) -> Hash {
        if block.len() == self.block_bytes() && is_zero(block) { self.zeros().leaf } else { self.leaf(block) }
    }

    /// Whether a block has this leaf hash. Where zeros are expected they are compared, which is quicker than to hash them.
    fn is_block(self, block: &[u8], expected: &Hash) -> bool {
        if *expected == self.zeros().leaf {
            block.len() == self.block_bytes() && is_zero(block)
        } else {
            self.leaf(block) == *expected
        }
    }

    fn page_root(self, leaves: &[Hash]) -> Hash {
        if leaves == &self.zeros().page[..] { self.zeros().page_root } else { subtree_root(leaves) }
    }
}

/// What is known of zeros, with which images are full.
struct Zeros {
    leaf: Hash,
    page: Arc<[Hash]>,
    page_root: Hash,
}

impl Zeros {
    fn of(form: Form) -> Self {
        let leaf = form.leaf(ZEROS.get(..form.block_bytes()).unwrap_or(&ZEROS));
        let page: Arc<[Hash]> = vec![leaf; PAGE_LEAVES].into();
        Self { leaf, page_root: subtree_root(&page), page }
    }
}

static ZEROS: [u8; LONGEST_BLOCK_BYTES] = [0; LONGEST_BLOCK_BYTES];

/// Whether these are zeros alone.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(LONGEST_BLOCK_BYTES).all(|chunk| Some(chunk) == ZEROS.get(..chunk.len()))
}

/// Writes the tree of bytes that go by.
pub(super) struct TreeWriter {
    form: Form,
    file: BufWriter<File>,
    /// Bytes of a block that is not whole yet.
    rest: Vec<u8>,
    /// Leaves of a page that is not whole yet.
    leaves: Vec<Hash>,
    pages: Vec<Hash>,
    bytes: u64,
}

impl TreeWriter {
    /// A tree of this form without leaves, in an empty file.
    pub(super) fn new(file: File, form: Form) -> io::Result<Self> {
        let mut file = BufWriter::with_capacity(256 * 1024, file);
        file.seek(SeekFrom::Start(HEADER_BYTES as u64))?;
        Ok(Self { form, file, rest: Vec::new(), leaves: Vec::with_capacity(PAGE_LEAVES), pages: Vec::new(), bytes: 0 })
    }

    /// The next bytes. They are hashed on every core that is free.
    pub(super) fn update(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let (form, block_bytes) = (self.form, self.form.block_bytes());
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if !self.rest.is_empty() {
            let (head, tail) = bytes.split_at(bytes.len().min(block_bytes.saturating_sub(self.rest.len())));
            self.rest.extend_from_slice(head);
            bytes = tail;
            if self.rest.len() < block_bytes {
                return Ok(());
            }
            let leaf = form.block_hash(&self.rest);
            self.rest.clear();
            self.push(&[leaf])?;
        }
        let whole = bytes.len() / block_bytes * block_bytes;
        let (whole, rest) = bytes.split_at(whole);
        self.rest.extend_from_slice(rest);
        let leaves: Vec<Hash> =
            whole.par_chunks(block_bytes).with_min_len(8).map(|block| form.block_hash(block)).collect();
        self.push(&leaves)
    }

    fn push(&mut self, mut leaves: &[Hash]) -> io::Result<()> {
        self.file.write_all(leaves.as_flattened())?;
        while !leaves.is_empty() {
            let (head, tail) = leaves.split_at(leaves.len().min(PAGE_LEAVES.saturating_sub(self.leaves.len())));
            self.leaves.extend_from_slice(head);
            leaves = tail;
            if self.leaves.len() == PAGE_LEAVES {
                self.pages.push(self.form.page_root(&self.leaves));
                self.leaves.clear();
            }
        }
        Ok(())
    }

    /// Writes what is left and brings all of it to the disk. Returns the root.
    pub(super) fn finish(mut self) -> io::Result<Hash> {
        if !self.rest.is_empty() {
            let leaf = self.form.block_hash(&std::mem::take(&mut self.rest));
            self.push(&[leaf])?;
        }
        if !self.leaves.is_empty() {
            self.pages.push(subtree_root(&self.leaves));
        }
        self.file.write_all(self.pages.as_flattened())?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&header(self.bytes, self.form))?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(subtree_root(&self.pages))
    }
}

/// Why a block is not proved.
#[derive(Debug)]
pub(super) enum Fault {
    /// The block's bytes are not the ones that were imported.
    Block(u64),
    /// The tree's file is not the one that was written at import; this block cannot be proved by it.
    Tree(u64),
    /// The kernel, which proves reads by this tier, refuses to give the block out.
    Kernel(u64, VerifiedReadTier),
    /// The image or its tree cannot be read.
    Io(u64, io::Error),
}

impl Fault {
    /// The block that was asked for.
    pub(super) const fn block(&self) -> u64 {
        match self {
            Self::Block(block) | Self::Tree(block) | Self::Kernel(block, _) | Self::Io(block, _) => *block,
        }
    }
}

/// A tree whose pages are proved.
#[derive(Debug)]
pub(super) struct Tree {
    form: Form,
    file: File,
    bytes: u64,
    pages: Vec<Hash>,
    kept: Mutex<Kept>,
}

/// Pages whose leaves are in memory, the oldest first.
#[derive(Debug, Default)]
struct Kept {
    leaves: HashMap<usize, Arc<[Hash]>>,
    order: VecDeque<usize>,
}

/// Why a tree cannot be used at all.
#[derive(Debug)]
pub(super) enum TreeError {
    /// It is not the tree of this root over this many bytes.
    Changed(&'static str),
    /// It cannot be read.
    Io(io::Error),
}

impl From<io::Error> for TreeError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Tree {
    /// Opens the tree of an image of this length and form, and proves its pages against the root.
    pub(super) fn open(file: File, form: Form, bytes: u64, root: &[u8]) -> Result<Self, TreeError> {
        let leaves = bytes.div_ceil(u64::from(form.block()));
        let pages = leaves.div_ceil(PAGE_LEAVES as u64);
        let hashes = leaves.saturating_add(pages).saturating_mul(HASH_BYTES as u64);
        if file.metadata()?.len() != hashes.saturating_add(HEADER_BYTES as u64) {
            return Err(TreeError::Changed("has another length"));
        }
        let mut start = [0; HEADER_BYTES];
        file.read_exact_at(&mut start, 0)?;
        if start != header(bytes, form) {
            return Err(TreeError::Changed("is of another form"));
        }
        let count = usize::try_from(pages).map_err(|_| TreeError::Changed("is too large"))?;
        let mut pages = vec![[0; HASH_BYTES]; count];
        file.read_exact_at(pages.as_flattened_mut(), leaf_position(leaves))?;
        if subtree_root(&pages) != root {
            return Err(TreeError::Changed("has another root"));
        }
        Ok(Self { form, file, bytes, pages, kept: Mutex::default() })
    }

    /// Proves that these are the image's bytes from this block on: whole blocks, the image's last one excepted.
    pub(super) fn prove(&self, first: u64, bytes: &[u8]) -> Result<(), Fault> {
        let mut page: Option<(usize, Arc<[Hash]>)> = None;
        for (block, content) in (first..).zip(bytes.chunks(self.form.block_bytes())) {
            let (number, leaf) = split(block);
            let leaves = match &page {
                Some((current, leaves)) if *current == number => leaves,
                _ => &page.insert((number, self.leaves(number, block)?)).1,
            };
            let expected = leaves.get(leaf).ok_or(Fault::Tree(block))?;
            if content.len() != self.block_bytes(block) || !self.form.is_block(content, expected) {
                return Err(Fault::Block(block));
            }
        }
        Ok(())
    }

    fn block_bytes(&self, block: u64) -> usize {
        let left = self.bytes.saturating_sub(block.saturating_mul(u64::from(self.form.block())));
        usize::try_from(left).map_or(self.form.block_bytes(), |left| left.min(self.form.block_bytes()))
    }

    /// The proved leaves of a page.
    fn leaves(&self, number: usize, block: u64) -> Result<Arc<[Hash]>, Fault> {
        let kept = |kept: &Kept| kept.leaves.get(&number).cloned();
        if let Some(leaves) = kept(&self.kept.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(leaves);
        }
        let expected = self.pages.get(number).ok_or(Fault::Tree(block))?;
        let leaves = self.read_page(number, expected, block)?;
        let mut pages = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if pages.leaves.insert(number, Arc::clone(&leaves)).is_none() {
            pages.order.push_back(number);
        }
        while pages.order.len() > KEPT_PAGES {
            if let Some(oldest) = pages.order.pop_front() {
                pages.leaves.remove(&oldest);
            }
        }
        Ok(leaves)
    }

    fn read_page(&self, number: usize, expected: &Hash, block: u64) -> Result<Arc<[Hash]>, Fault> {
        if *expected == self.form.zeros().page_root {
            return Ok(Arc::clone(&self.form.zeros().page));
        }
        let first = (number as u64).saturating_mul(PAGE_LEAVES as u64);
        let count = self.bytes.div_ceil(u64::from(self.form.block())).saturating_sub(first).min(PAGE_LEAVES as u64);
        let mut leaves = vec![[0; HASH_BYTES]; usize::try_from(count).unwrap_or(PAGE_LEAVES)];
        self.file
            .read_exact_at(leaves.as_flattened_mut(), leaf_position(first))
            .map_err(|error| Fault::Io(block, error))?;
        if subtree_root(&leaves) != *expected {
            return Err(Fault::Tree(block));
        }
        Ok(leaves.into())
    }
}

/// The page that a block belongs to, and its place in the page.
fn split(block: u64) -> (usize, usize) {
    let page = usize::try_from(block / PAGE_LEAVES as u64).unwrap_or(usize::MAX);
    (page, usize::try_from(block % PAGE_LEAVES as u64).unwrap_or(usize::MAX))
}

const fn leaf_position(leaf: u64) -> u64 {
    leaf.saturating_mul(HASH_BYTES as u64).saturating_add(HEADER_BYTES as u64)
}

fn header(bytes: u64, form: Form) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let numbers = [u64::from(form.block()), PAGE_LEAVES as u64, bytes].map(u64::to_be_bytes);
    for (to, from) in header.iter_mut().zip([form.magic()].iter().chain(&numbers).flatten()) {
        *to = *from;
    }
    header
}

/// The root over these nodes of one height. Where a level has an odd number of nodes, the last goes up as it is, which
/// is what RFC 9162 section 2.1.1 says by splitting at the largest power of two.
fn subtree_root(nodes: &[Hash]) -> Hash {
    let mut level = nodes.to_vec();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .filter_map(|pair| match pair {
                [left, right] => Some(node_hash(left, right)),
                [alone] => Some(*alone),
                _ => None,
            })
            .collect();
    }
    level.first().copied().unwrap_or(EMPTY_ROOT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORM: Form = Form::CURRENT;
    const BLOCK_BYTES: usize = FORM.block_bytes();
    use crate::release::evidence::merkle::verify_inclusion;

    /// RFC 9162 section 2.1.1, word for word.
    fn reference(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => EMPTY_ROOT,
            [leaf] => *leaf,
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                node_hash(&reference(left), &reference(right))
            }
        }
    }

    fn content(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| u8::try_from((at / BLOCK_BYTES * 31 + at) % 251).unwrap()).collect()
    }

    fn written(content: &[u8], piece: usize) -> (File, Hash) {
        written_as(FORM, content, piece)
    }

    fn written_as(form: Form, content: &[u8], piece: usize) -> (File, Hash) {
        let file = tempfile::tempfile().unwrap();
        let mut writer = TreeWriter::new(file.try_clone().unwrap(), form).unwrap();
        content.chunks(piece.max(1)).for_each(|piece| writer.update(piece).unwrap());
        (file, writer.finish().unwrap())
    }

    #[test]
    fn the_root_is_that_of_the_rfc_however_the_bytes_arrive() {
        for bytes in [
            0,
            1,
            BLOCK_BYTES - 1,
            BLOCK_BYTES,
            BLOCK_BYTES + 1,
            3 * BLOCK_BYTES,
            511 * BLOCK_BYTES + 7,
            512 * BLOCK_BYTES,
            1100 * BLOCK_BYTES + 5,
        ] {
            let content = content(bytes);
            let leaves: Vec<Hash> = content.chunks(BLOCK_BYTES).map(|block| FORM.leaf(block)).collect();
            for piece in [1 << 22, 100_000, BLOCK_BYTES] {
                assert_eq!(written(&content, piece).1, reference(&leaves), "{bytes} bytes by {piece}");
            }
        }
    }

    #[test]
    fn zeros_have_the_same_root_as_if_they_were_hashed() {
        let content = vec![0; 1100 * BLOCK_BYTES + 17];
        let leaves: Vec<Hash> = content.chunks(BLOCK_BYTES).map(|block| FORM.leaf(block)).collect();
        let (file, root) = written(&content, 1 << 20);
        assert_eq!(root, reference(&leaves));
        let tree = Tree::open(file, FORM, content.len() as u64, &root).unwrap();
        tree.prove(0, &content).unwrap();
    }

    #[test]
    fn a_proof_of_the_log_verifier_fits_the_tree() {
        let content = content(3 * BLOCK_BYTES);
        let leaves: Vec<Hash> = content.chunks(BLOCK_BYTES).map(|block| FORM.leaf(block)).collect();
        let proof = [node_hash(&leaves[0], &leaves[1])];
        verify_inclusion(&leaves[2], 2, 3, &proof, &written(&content, 5000).1).unwrap();
    }

    #[test]
    fn every_flipped_byte_of_the_file_is_noticed() {
        let content = content(1030 * BLOCK_BYTES);
        let (file, root) = written(&content, 1 << 20);
        let length = file.metadata().unwrap().len();
        for at in (0..length).step_by(997).chain(0..HEADER_BYTES as u64).chain(length - 100..length) {
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1], at).unwrap();
            let opened = Tree::open(file.try_clone().unwrap(), FORM, content.len() as u64, &root);
            match opened {
                Err(TreeError::Changed(_)) => {}
                Err(TreeError::Io(error)) => panic!("{error}"),
                Ok(tree) => {
                    let fault = tree.prove(0, &content).unwrap_err();
                    let leaf = (at - HEADER_BYTES as u64) / 32;
                    assert!(matches!(fault, Fault::Tree(block) if block == leaf / 512 * 512), "{at}: {fault:?}");
                }
            }
            file.write_all_at(&byte, at).unwrap();
        }
        assert!(matches!(Tree::open(file, FORM, content.len() as u64 - 1, &root), Err(TreeError::Changed(_))));
    }

    #[test]
    fn the_earlier_form_is_proved_as_before_and_neither_passes_for_the_other() {
        let content = content(520 * 4096 + 77);
        let (file, root) = written_as(Form::Sha256, &content, 1 << 20);
        assert_eq!(root, reference(&content.chunks(4096).map(leaf_hash).collect::<Vec<_>>()));
        let open = |form| Tree::open(file.try_clone().unwrap(), form, content.len() as u64, &root);
        open(Form::Sha256).unwrap().prove(0, &content).unwrap();
        assert!(matches!(open(Form::Blake3), Err(TreeError::Changed(_))));
        let mut changed = content.clone();
        changed[519 * 4096] ^= 1;
        assert!(matches!(open(Form::Sha256).unwrap().prove(0, &changed), Err(Fault::Block(519))));
        let (file, root) = written(&content, 1 << 20);
        assert!(matches!(Tree::open(file, Form::Sha256, content.len() as u64, &root), Err(TreeError::Changed(_))));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_flipped_bit_of_a_block_is_noticed_there(at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let mut content = content(20 * BLOCK_BYTES + 99);
            content[5 * BLOCK_BYTES..7 * BLOCK_BYTES].fill(0);
            let (file, root) = written(&content, 50_000);
            let tree = Tree::open(file, FORM, content.len() as u64, &root).unwrap();
            let at = at.index(content.len());
            content[at] ^= 1 << bit;
            let fault = tree.prove(0, &content).unwrap_err();
            let expected = (at / BLOCK_BYTES) as u64;
            prop_assert!(matches!(fault, Fault::Block(block) if block == expected), "{:?}", fault);
        }
    }
}
