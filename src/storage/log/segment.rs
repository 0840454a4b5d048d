//! Segment files: naming, headers, zeroing ahead, recycling.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::StorageError;

const MAGIC: u64 = 0x3130_4745_5344_524D;
/// Bytes of a segment's header; the first frame starts here.
pub(super) const HEADER_BYTES: usize = 64;

/// A segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) id: u64,
    /// Number of the first frame.
    pub(super) first_seq: u64,
    /// Mixed into every frame's checksum.
    pub(super) salt: u32,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(&MAGIC.to_le_bytes());
        out[8..16].copy_from_slice(&self.id.to_le_bytes());
        out[16..24].copy_from_slice(&self.first_seq.to_le_bytes());
        out[24..28].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32c::crc32c(&out[..28]);
        out[28..32].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// What the first bytes of segment `id` are.
    pub(super) fn decode(bytes: &[u8], id: u64) -> Found {
        let head = &bytes[..bytes.len().min(HEADER_BYTES)];
        if head.iter().all(|b| *b == 0) {
            return Found::Unused;
        }
        match Self::decode_checked(head) {
            Some(header) if header.id == id => Found::Used(header),
            Some(_) => Found::Unused,
            None => Found::Damaged,
        }
    }

    fn decode_checked(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..32)?;
        let word = |at: usize| bytes[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        let half = |at: usize| bytes[at..at + 4].try_into().map(u32::from_le_bytes).ok();
        let valid = word(0)? == MAGIC && half(28)? == crc32c::crc32c(&bytes[..28]);
        if !valid {
            return None;
        }
        Some(Self { id: word(8)?, first_seq: word(16)?, salt: half(24)? })
    }
}

/// What a segment file turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A segment with at least its first frame attempted.
    Used(Header),
    /// Zeros, or the old header of a recycled file: named, but never written before the crash.
    Unused,
    /// Neither. A header lies within one disk sector, which is written whole or not at all, so this is
    /// damage to a segment that was in use.
    Damaged,
}

pub(super) fn path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id:08}.seg"))
}

/// Ids of the segments in a directory, ascending.
pub(super) fn list(dir: &Path) -> Result<Vec<u64>, StorageError> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| StorageError::file("list", dir, e))? {
        let name = entry.map_err(|e| StorageError::file("list", dir, e))?.file_name();
        let id = name.to_str().and_then(|n| n.strip_suffix(".seg"));
        ids.extend(id.and_then(|n| n.parse::<u64>().ok()));
    }
    ids.sort_unstable();
    Ok(ids)
}

pub(super) fn sync_dir(dir: &Path) -> Result<(), StorageError> {
    File::open(dir).and_then(|d| d.sync_all()).map_err(|e| StorageError::file("sync", dir, e))
}

/// A file of zeros, ready to become a segment.
#[derive(Debug)]
pub(super) struct Spare {
    path: PathBuf,
    file: File,
    len: u64,
}

impl Spare {
    /// Writes `len` zeros under a name that recovery ignores.
    pub(super) fn create(dir: &Path, number: u64, len: u64) -> Result<Self, StorageError> {
        let path = dir.join(format!("spare-{number:08}.tmp"));
        let make = || {
            let mut options = OpenOptions::new();
            let mut file = options.create(true).write(true).truncate(true).open(&path)?;
            let zeros = vec![0; 1 << 20];
            let mut left = len;
            while left > 0 {
                let n = left.min(zeros.len() as u64);
                file.write_all(&zeros[..usize::try_from(n).unwrap_or(zeros.len())])?;
                left -= n;
            }
            file.sync_all()?;
            Ok(file)
        };
        match make() {
            Ok(file) => Ok(Self { path, file, len }),
            Err(error) => {
                let _ = std::fs::remove_file(&path);
                Err(StorageError::file("prepare log segment", &path, error))
            }
        }
    }

    /// Takes a segment out of use for later reuse.
    pub(super) fn recycle(dir: &Path, id: u64, number: u64) -> Result<Self, StorageError> {
        let path = dir.join(format!("spare-{number:08}.tmp"));
        let take = || {
            std::fs::rename(self::path(dir, id), &path)?;
            let file = OpenOptions::new().write(true).open(&path)?;
            let len = file.metadata()?.len();
            Ok((file, len))
        };
        let (file, len) =
            take().map_err(|e| StorageError::file("recycle log segment", &path, e))?;
        Ok(Self { path, file, len })
    }

    /// A spare that a process has left behind. Its file grew as it was zeroed: one of full length is
    /// whole. Should its content never have reached the disk, it holds garbage as a recycled one does.
    pub(super) fn adopt(path: &Path) -> Result<Self, StorageError> {
        let open = || {
            let file = OpenOptions::new().write(true).open(path)?;
            let len = file.metadata()?.len();
            Ok(Self { path: path.to_owned(), file, len })
        };
        open().map_err(|e| StorageError::file("open spare log segment", path, e))
    }

    /// The number in its name; 0 when there is none.
    pub(super) fn number(&self) -> u64 {
        let name = self.path.file_stem().and_then(|name| name.to_str());
        name.and_then(|name| name.strip_prefix("spare-")?.parse().ok()).unwrap_or(0)
    }

    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn discard(self) {
        let _ = std::fs::remove_file(&self.path);
    }

    /// Gives it its name; the header is written with the first frame.
    pub(super) fn activate(self, dir: &Path, header: Header) -> Result<Segment, StorageError> {
        let path = path(dir, header.id);
        std::fs::rename(&self.path, &path)
            .map_err(|e| StorageError::file("activate log segment", &path, e))?;
        sync_dir(dir)?;
        Ok(Segment { path, file: self.file, len: self.len, at: HEADER_BYTES as u64, header })
    }
}

/// The segment being written.
#[derive(Debug)]
pub(super) struct Segment {
    path: PathBuf,
    file: File,
    len: u64,
    /// Where the next frame goes.
    at: u64,
    pub(super) header: Header,
}

impl Segment {
    pub(super) const fn has_room(&self, bytes: usize) -> bool {
        self.at + bytes as u64 <= self.len
    }

    pub(super) const fn is_fresh(&self) -> bool {
        self.at == HEADER_BYTES as u64
    }

    /// Writes a frame and waits until it is durable.
    pub(super) fn append(&mut self, frame: &[u8]) -> Result<(), StorageError> {
        let write = || {
            if self.is_fresh() {
                self.file.write_all_at(&self.header.encode(), 0)?;
            }
            self.file.write_all_at(frame, self.at)?;
            self.file.sync_data()
        };
        write().map_err(|e| StorageError::file("write log segment", &self.path, e))?;
        self.at += frame.len() as u64;
        Ok(())
    }
}
