//! How much room the disk has left.
//!
//! fjall does not survive a write that finds none: it takes no more until it is opened anew. So it is not
//! asked to. Below one mark proposals are refused, while what is in the log already is applied; below the
//! other (half of it) that waits, too. Both come back by themselves when there is room again.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use crate::StorageError;

/// How much room there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Space {
    /// As much as it takes.
    #[default]
    Enough,
    /// Only for what is under way: new writes are to be refused.
    Low,
    /// Nothing is to be written.
    None,
}

/// The mark for new writes: a twentieth of the disk, within these bounds. Memtables and a compaction
/// should find room above the other.
const LOW_BYTES: (u64, u64) = (8 << 20, 256 << 20);

/// Asks for the room on a directory's disk.
pub(crate) struct SpaceGauge {
    dir: File,
}

impl SpaceGauge {
    pub(crate) fn open(dir: &Path) -> Result<Self, StorageError> {
        let dir = File::open(dir).map_err(|e| StorageError::file("open", dir, e))?;
        Ok(Self { dir })
    }

    /// One system call, of about a microsecond.
    pub(crate) fn look(&self) -> Space {
        // Who can't be asked sets no bound.
        rustix::fs::fstatvfs(self.dir.as_fd())
            .map_or(Space::Enough, |disk| judge(disk.f_bavail, disk.f_blocks, disk.f_frsize))
    }
}

fn judge(free_blocks: u64, blocks: u64, block_bytes: u64) -> Space {
    let free = free_blocks.saturating_mul(block_bytes);
    let low = (blocks.saturating_mul(block_bytes) / 20).clamp(LOW_BYTES.0, LOW_BYTES.1);
    match free {
        free if free < low / 2 => Space::None,
        free if free < low => Space::Low,
        _ => Space::Enough,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marks_depend_on_the_disk() {
        const MIB: u64 = 1 << 20;
        let of = |free: u64, total: u64| judge(free * MIB / 4096, total * MIB / 4096, 4096);
        assert_eq!([of(3, 100), of(5, 100), of(9, 100)], [Space::None, Space::Low, Space::Enough]);
        assert_eq!([of(20, 1000), of(40, 1000)], [Space::None, Space::Low]);
        assert_eq!([of(100, 1 << 20), of(300, 1 << 20)], [Space::None, Space::Enough]);
        let dir = tempfile::tempdir().expect("tempdir");
        SpaceGauge::open(dir.path()).expect("opens").look();
    }
}
