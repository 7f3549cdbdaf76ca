//! Records as octets: a signature, then blocks, each compressed and with a checksum.
//!
//! ```text
//! file  = "PROXJRNL" format:u16 block*
//! block = packed:u32 plain:u32 crc:u32 octets[packed]     deflate; crc32 of the octets; numbers little-endian
//! plain = (length:u32 record[length])*                    postcard
//! ```
//!
//! A block is written whole or, when the process or the disk dies in it, not at all: whoever reads
//! tells the one from the other. Reading takes memory by what is there, never by what is claimed.

use super::record::FORMAT;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, Read, Write};

const SIGNATURE: &[u8; 8] = b"PROXJRNL";
/// The longest block, plain: a head with a configuration of 4 MiB and the state of a large fleet.
const PLAIN_BYTES_MAX: u32 = 64 * 1024 * 1024;
/// What deflate can make of one octet at most. Source: zlib's technical details (1032:1).
const DEFLATE_RATIO_MAX: u64 = 1_040;

/// Why a file cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    #[error("it cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("it is no journal of proxima")]
    NoJournal,
    #[error("it is of format {0}, and this program reads format {FORMAT}")]
    Format(u16),
    /// Cut short: the process or the disk died while it was written, or it is being written.
    #[error("it ends in the middle of a block")]
    Cut,
    #[error("block {block} is damaged: {what}")]
    Damaged { block: u64, what: &'static str },
}

/// Records that are not in a block yet.
#[derive(Debug, Default)]
pub(super) struct Packer {
    plain: Vec<u8>,
    records: u64,
}

impl Packer {
    /// # Errors
    /// When the record cannot be written, or is longer than a block may be.
    pub(super) fn add(&mut self, record: &impl Serialize) -> io::Result<()> {
        let octets = postcard::to_stdvec(record).map_err(io::Error::other)?;
        let length = u32::try_from(octets.len()).ok().filter(|length| *length < PLAIN_BYTES_MAX / 2);
        let length = length.ok_or_else(|| io::Error::other("a record is too long"))?;
        self.plain.extend_from_slice(&length.to_le_bytes());
        self.plain.extend_from_slice(&octets);
        self.records += 1;
        Ok(())
    }

    pub(super) fn records(&self) -> u64 {
        self.records
    }

    pub(super) fn bytes(&self) -> usize {
        self.plain.len()
    }

    /// Everything so far as one block, and how many records that is; nothing is kept.
    pub(super) fn block(&mut self) -> io::Result<(Vec<u8>, u64)> {
        let plain = std::mem::take(&mut self.plain);
        let records = std::mem::take(&mut self.records);
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&plain)?;
        let packed = encoder.finish()?;
        let length = |octets: &[u8]| u32::try_from(octets.len()).map_err(io::Error::other);
        let mut block = Vec::with_capacity(packed.len() + 12);
        block.extend_from_slice(&length(&packed)?.to_le_bytes());
        block.extend_from_slice(&length(&plain)?.to_le_bytes());
        block.extend_from_slice(&checksum(&packed).to_le_bytes());
        block.extend_from_slice(&packed);
        Ok((block, records))
    }
}

/// What every file begins with.
pub(super) fn signature() -> Vec<u8> {
    let mut signature = SIGNATURE.to_vec();
    signature.extend_from_slice(&FORMAT.to_le_bytes());
    signature
}

fn checksum(octets: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(octets);
    crc.sum()
}

/// Reads records one by one.
pub(super) struct Unpacker<R> {
    from: R,
    plain: Vec<u8>,
    /// Octets of `plain` that were read.
    read: usize,
    blocks: u64,
}

impl<R: Read> Unpacker<R> {
    /// # Errors
    /// `NoJournal`, `Format`, `Cut` or `Read`.
    pub(super) fn open(mut from: R) -> Result<Self, BlockError> {
        let octets = upto(&mut from, SIGNATURE.len() + 2)?;
        let Some((start, format)) = octets.split_first_chunk() else {
            // The beginning of a signature is a file whose writer died at once.
            return Err(if SIGNATURE.starts_with(&octets) { BlockError::Cut } else { BlockError::NoJournal });
        };
        if start != SIGNATURE {
            return Err(BlockError::NoJournal);
        }
        let format = u16::from_le_bytes(format.try_into().map_err(|_| BlockError::Cut)?);
        if format != FORMAT {
            return Err(BlockError::Format(format));
        }
        Ok(Self { from, plain: Vec::new(), read: 0, blocks: 0 })
    }

    /// The next record; `None` at the end.
    ///
    /// # Errors
    /// `Cut`, `Damaged` or `Read`; nothing can be read after it.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, BlockError> {
        if self.read == self.plain.len() && !self.block()? {
            return Ok(None);
        }
        let damaged = |what| BlockError::Damaged { block: self.blocks, what };
        let left = self.plain.get(self.read..).unwrap_or_default();
        let (length, rest) = left.split_first_chunk().ok_or(damaged("a record without a length"))?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let octets = rest.get(..length).ok_or(damaged("a record beyond its end"))?;
        let record = postcard::from_bytes(octets).map_err(|_| damaged("a record that cannot be read"))?;
        self.read += 4 + length;
        Ok(Some(record))
    }

    fn block(&mut self) -> Result<bool, BlockError> {
        let head = upto(&mut self.from, 12)?;
        if head.is_empty() {
            return Ok(false);
        }
        self.blocks += 1;
        let numbers: &[u8; 12] = head.as_slice().try_into().map_err(|_| BlockError::Cut)?;
        let [packed, plain, crc] =
            [0, 4, 8].map(|at| u32::from_le_bytes(std::array::from_fn(|i| numbers[at + i])));
        let damaged = |what| BlockError::Damaged { block: self.blocks, what };
        if packed > PLAIN_BYTES_MAX || plain > PLAIN_BYTES_MAX {
            return Err(damaged("it claims to be longer than any"));
        }
        if u64::from(plain) > (u64::from(packed) + 1) * DEFLATE_RATIO_MAX {
            return Err(damaged("it claims more than can be packed so"));
        }
        let length = usize::try_from(packed).unwrap_or(usize::MAX);
        let octets = upto(&mut self.from, length)?;
        if octets.len() < length {
            return Err(BlockError::Cut);
        }
        if checksum(&octets) != crc {
            return Err(damaged("its checksum is another one"));
        }
        let mut unpacked = Vec::new();
        let decoder = DeflateDecoder::new(octets.as_slice());
        let unpacking = decoder.take(u64::from(plain) + 1).read_to_end(&mut unpacked);
        if unpacking.is_err() || unpacked.len() != usize::try_from(plain).unwrap_or(usize::MAX) {
            return Err(damaged("it cannot be unpacked"));
        }
        self.plain = unpacked;
        self.read = 0;
        Ok(true)
    }
}

/// So many octets, or those that there are.
fn upto(from: &mut impl Read, count: usize) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    from.take(u64::try_from(count).unwrap_or(u64::MAX)).read_to_end(&mut octets)?;
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(blocks: &[&[u32]]) -> Vec<u8> {
        let mut file = signature();
        for block in blocks {
            let mut packer = Packer::default();
            block.iter().for_each(|record| packer.add(record).unwrap());
            file.extend(packer.block().unwrap().0);
        }
        file
    }

    /// Records up to the end, and why that is.
    fn read(file: &[u8]) -> (Vec<u32>, Option<BlockError>) {
        let mut unpacker = match Unpacker::open(file) {
            Ok(unpacker) => unpacker,
            Err(error) => return (Vec::new(), Some(error)),
        };
        let mut records = Vec::new();
        loop {
            match unpacker.next() {
                Ok(Some(record)) => records.push(record),
                Ok(None) => return (records, None),
                Err(error) => return (records, Some(error)),
            }
        }
    }

    #[test]
    fn what_was_written_is_read() {
        let (records, why) = read(&file(&[&[1, 2, 3], &[4, 5_000_000]]));
        assert_eq!(records, [1, 2, 3, 4, 5_000_000]);
        assert!(why.is_none());
    }

    #[test]
    fn a_file_that_is_cut_anywhere_says_so_and_gives_its_whole_blocks() {
        let (one, whole) = (file(&[&[1, 2, 3]]), file(&[&[1, 2, 3], &[4, 5]]));
        for length in 0..whole.len() {
            let (records, why) = read(&whole[..length]);
            let expected: &[u32] = if length < one.len() { &[] } else { &[1, 2, 3] };
            assert_eq!(records, expected, "cut at {length}");
            let between = length == one.len() || length == signature().len();
            assert_eq!(matches!(why, Some(BlockError::Cut)), !between, "cut at {length}: {why:?}");
        }
    }

    #[test]
    fn an_octet_that_is_another_one_is_found() {
        let whole = file(&[&[1, 2, 3]]);
        for at in 0..whole.len() {
            let mut other = whole.clone();
            other[at] ^= 0x41;
            assert!(read(&other).1.is_some(), "octet {at}");
        }
        assert!(matches!(read(b"PROXJRNL\x09\x00").1, Some(BlockError::Format(9))));
        assert!(matches!(read(b"something").1, Some(BlockError::NoJournal)));
    }
}
