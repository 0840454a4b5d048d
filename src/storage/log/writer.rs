//! The log's two threads: `log-writer` (frame → write → fdatasync → callbacks) and `log-prepare`, which
//! keeps a zeroed segment ready so that the writer never waits for one.
//!
//! A thread that would have nothing else to do than to wait for the first of them may do its work instead
//! ([`RaftLog::flush_here`]): that saves waking it, and being woken by it.

use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, ThreadId};
use std::time::Duration;

use bytes::Bytes;
use meridian_base::{RangeId, rng, sched};
use parking_lot::{Condvar, Mutex};

use super::frame::Builder;
use super::memory::Groups;
use super::recover::{self, Contents};
use super::segment::{self, HEADER_BYTES, Header, Segment, Spare};
use super::{Durable, LogStats, LogWrite, RaftLog, Slot};
use crate::StorageError;

/// Called when the disk fails; must not return to normal operation.
pub type OnFatal = Arc<dyn Fn(&StorageError) + Send + Sync>;

/// How the log is laid out.
#[derive(Clone)]
pub struct LogConfig {
    /// Directory of the segments; created if missing.
    pub dir: PathBuf,
    /// Bytes of a segment (64 MiB). Smaller ones rotate more often, larger ones free space later.
    pub segment_bytes: u64,
    /// What a failed write or fsync does. Never retry: the kernel may have dropped the dirty pages.
    pub on_fatal: OnFatal,
}

impl fmt::Debug for LogConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogConfig({}, {} bytes a segment)", self.dir.display(), self.segment_bytes)
    }
}

impl LogConfig {
    /// The defaults: 64 MiB segments, abort the process when the disk fails.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        let on_fatal = Arc::new(|error: &StorageError| {
            tracing::error!(%error, "the raft log cannot be written; the node stops now");
            std::process::abort()
        });
        Self { dir: dir.into(), segment_bytes: 64 << 20, on_fatal }
    }
}

struct Item {
    group: RangeId,
    writes: Vec<LogWrite>,
    done: Option<Durable>,
}

/// Readable state and the queue, under one lock so that their orders agree.
#[derive(Default)]
struct State {
    groups: Groups,
    queue: Vec<Item>,
    /// Bytes of entries in the queue.
    queued: usize,
    /// The log's own thread has been told to look.
    told: bool,
    /// The thread that flushes when it has nothing else to do.
    flusher: Option<ThreadId>,
    stopped: bool,
}

/// More than this is left to the log's own thread, and so is what a busy thread doesn't get round to.
const FLUSH_HERE_MAX: (usize, usize) = (128 << 10, 64);

impl State {
    /// Queues an item; true when the log's own thread is to be woken.
    fn push(&mut self, item: Item) -> bool {
        self.queued += item.writes.iter().map(LogWrite::data_len).sum::<usize>();
        self.queue.push(item);
        let much = self.queued > FLUSH_HERE_MAX.0 || self.queue.len() > FLUSH_HERE_MAX.1;
        let theirs = self.flusher.is_some_and(|id| id == std::thread::current().id());
        let wake = !self.told && (much || !theirs);
        self.told |= wake;
        wake
    }

    fn take(&mut self) -> Vec<Item> {
        (self.queued, self.told) = (0, false);
        std::mem::take(&mut self.queue)
    }
}

/// Segments ready for use, and requests for more.
#[derive(Default)]
struct Spares {
    ready: VecDeque<Spare>,
    wanted: bool,
    stopped: bool,
    next_number: u64,
}

struct Shared {
    config: LogConfig,
    state: Mutex<State>,
    /// Held while a frame is written and until its callbacks have been called: they come in order.
    writer: Mutex<Writer>,
    wake_writer: Condvar,
    spares: Mutex<Spares>,
    wake_prepare: Condvar,
    spare_ready: Condvar,
    disk_full: AtomicBool,
    frames: AtomicU64,
    records: AtomicU64,
    bytes: AtomicU64,
    segments: AtomicU64,
}

/// The segmented log.
pub struct SegLog {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl SegLog {
    /// Opens the log, reading back everything that is durable.
    ///
    /// # Errors
    /// I/O, or damage to acknowledged data: then this replica must not be used again.
    pub fn open(config: LogConfig) -> Result<Self, StorageError> {
        let dir = &config.dir;
        std::fs::create_dir_all(dir).map_err(|e| StorageError::file("create", dir, e))?;
        let ready = leftovers(dir, config.segment_bytes)?;
        let next_number = ready.iter().map(Spare::number).max().unwrap_or(0) + 1;
        let recovered = recover::recover(dir)?;
        for id in &recovered.empty {
            let path = segment::path(dir, *id);
            std::fs::remove_file(&path).map_err(|e| StorageError::file("remove", &path, e))?;
        }
        let mut salt = [0; 4];
        rng::os_bytes(&mut salt);
        let mut mirror = Groups::default();
        for (group, write) in recovered.groups.heads() {
            mirror.apply(group, &write).map_err(StorageError::Corruption)?;
        }
        let writer = Writer {
            mirror,
            segment: None,
            contents: Contents::default(),
            old: recovered.segments.into(),
            next_id: recovered.next_id,
            next_seq: recovered.next_seq,
            salt: u32::from_le_bytes(salt),
            frame: Builder::default(),
            failed: false,
        };
        let shared = Arc::new(Shared {
            segments: AtomicU64::new(writer.old.len() as u64),
            writer: Mutex::new(writer),
            config,
            state: Mutex::new(State { groups: recovered.groups, ..State::default() }),
            wake_writer: Condvar::new(),
            spares: Mutex::new(Spares { ready, wanted: true, next_number, stopped: false }),
            wake_prepare: Condvar::new(),
            spare_ready: Condvar::new(),
            disk_full: AtomicBool::new(false),
            frames: AtomicU64::new(0),
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        });
        let (writer, preparer) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            spawn("log-writer", move || writer.run())?,
            spawn("log-prepare", move || preparer.prepare())?,
        ];
        Ok(Self { shared, threads: Mutex::new(threads) })
    }

    /// Writes what is queued, then stops the threads. Later writes are refused.
    pub fn close(&self) {
        self.shared.state.lock().stopped = true;
        self.shared.wake_writer.notify_all();
        if self.disk_full() {
            // Nobody waits for room any more.
            self.shared.spares.lock().stopped = true;
            self.shared.spare_ready.notify_all();
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        let mut threads = threads.into_iter();
        let join = |thread: Option<JoinHandle<()>>| {
            if let Some(thread) = thread
                && thread.thread().id() != std::thread::current().id()
            {
                let _ = thread.join();
            }
        };
        join(threads.next());
        self.shared.spares.lock().stopped = true;
        self.shared.wake_prepare.notify_all();
        join(threads.next());
    }
}

impl Drop for SegLog {
    fn drop(&mut self) {
        self.close();
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StorageError> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(body);
    thread.map_err(|e| StorageError::io(format!("start thread {name}"), e))
}

/// Spare segments that the last process left behind: whole ones are used, so that an opening need not
/// wait for a new one to be zeroed; the rest goes.
fn leftovers(dir: &Path, segment_bytes: u64) -> Result<VecDeque<Spare>, StorageError> {
    let mut spares = VecDeque::new();
    for entry in std::fs::read_dir(dir).map_err(|e| StorageError::file("list", dir, e))? {
        let path = entry.map_err(|e| StorageError::file("list", dir, e))?.path();
        if path.extension().is_none_or(|ext| ext != "tmp") {
            continue;
        }
        let spare = Spare::adopt(&path)?;
        if spare.len() == segment_bytes && spares.len() < SPARES {
            spares.push_back(spare);
        } else {
            spare.discard();
        }
    }
    Ok(spares)
}

impl RaftLog for SegLog {
    fn submit(
        &self,
        group: RangeId,
        writes: Vec<LogWrite>,
        done: Option<Durable>,
    ) -> Result<(), StorageError> {
        let mut state = self.shared.state.lock();
        if state.stopped {
            return Err(StorageError::Stopped("the raft log is closed".into()));
        }
        for write in &writes {
            let applied = state.groups.apply(group, write);
            applied
                .map_err(|what| StorageError::Corruption(format!("raft log of {group}: {what}")))?;
        }
        let wake = state.push(Item { group, writes, done });
        let garbage = std::mem::take(&mut state.groups.garbage);
        drop(state);
        if wake {
            self.shared.wake_writer.notify_one();
        }
        drop(garbage); // thousands of entries: not under the lock
        Ok(())
    }

    fn flush_here(&self) {
        {
            let mut state = self.shared.state.lock();
            state.flusher.get_or_insert_with(|| std::thread::current().id());
            if state.queue.is_empty() || state.told {
                return;
            }
        }
        self.shared.flush();
    }

    fn entries(&self, group: RangeId, from: u64, to: u64) -> Vec<(u64, Bytes)> {
        let state = self.shared.state.lock();
        state.groups.map.get(&group).map_or_else(Vec::new, |g| g.entries(from, to))
    }

    fn bounds(&self, group: RangeId) -> Option<(u64, u64)> {
        self.shared.state.lock().groups.map.get(&group).and_then(|g| g.bounds())
    }

    fn slot(&self, group: RangeId, slot: Slot) -> Option<Bytes> {
        self.shared.state.lock().groups.map.get(&group).and_then(|g| g.slot(slot))
    }

    fn groups(&self) -> Vec<RangeId> {
        self.shared.state.lock().groups.map.keys().copied().collect()
    }

    fn disk_full(&self) -> bool {
        self.shared.disk_full.load(Ordering::Relaxed)
    }

    fn stats(&self) -> LogStats {
        LogStats {
            frames: self.shared.frames.load(Ordering::Relaxed),
            records: self.shared.records.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            segments: self.shared.segments.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    /// The `log-writer` thread.
    fn run(&self) {
        sched::latency_critical();
        loop {
            {
                let mut state = self.state.lock();
                while !state.told && !state.stopped {
                    self.wake_writer.wait(&mut state);
                }
                if state.stopped && state.queue.is_empty() {
                    return;
                }
            }
            if !self.flush() {
                return;
            }
        }
    }

    /// Writes what is queued, syncs it, and says so. False when the log has failed.
    fn flush(&self) -> bool {
        let mut writer = self.writer.lock();
        if writer.failed {
            return false;
        }
        let items = self.state.lock().take();
        if items.is_empty() {
            return true;
        }
        if let Err(error) = writer.write(self, &items) {
            // Nothing that was queued may be reported durable; `on_fatal` normally never returns.
            writer.failed = true;
            (self.config.on_fatal)(&error);
            self.state.lock().stopped = true;
            return false;
        }
        for done in items.into_iter().filter_map(|item| item.done) {
            done();
        }
        true
    }
}

/// What is being written.
struct Writer {
    /// Slots and purge marks as written so far (entries are not kept here).
    mirror: Groups,
    segment: Option<Segment>,
    /// What the current segment holds.
    contents: Contents,
    old: VecDeque<Contents>,
    next_id: u64,
    next_seq: u64,
    salt: u32,
    frame: Builder,
    /// A write has failed: nothing may follow it.
    failed: bool,
}

impl Writer {
    fn write(&mut self, shared: &Shared, items: &[Item]) -> Result<(), StorageError> {
        let mut purged = false;
        self.frame.clear();
        for item in items {
            for write in &item.writes {
                self.frame.push(item.group, write);
                purged |= matches!(write, LogWrite::PurgeTo(_) | LogWrite::Forget);
            }
        }
        let fits = self.segment.as_ref().is_some_and(|s| s.has_room(self.frame.padded_len()));
        if !fits {
            self.rotate(shared)?;
            self.frame.clear();
            for (group, write) in self.mirror.heads() {
                self.frame.push(group, &write);
            }
            for item in items {
                item.writes.iter().for_each(|write| self.frame.push(item.group, write));
            }
        }
        let records = u64::from(self.frame.records());
        let frame = self.frame.finish(self.next_seq, self.salt);
        let bytes = frame.len() as u64;
        self.segment.as_mut().expect("rotate made one").append(frame)?;
        self.next_seq += 1;
        for item in items {
            for write in &item.writes {
                self.contents.note(item.group, write);
                if matches!(write, LogWrite::Forget) {
                    self.old.iter_mut().for_each(|old| old.note(item.group, write));
                }
                if !matches!(write, LogWrite::Entry { .. } | LogWrite::TruncateFrom(_)) {
                    self.mirror.apply(item.group, write).map_err(StorageError::Corruption)?;
                }
            }
        }
        shared.frames.fetch_add(1, Ordering::Relaxed);
        shared.records.fetch_add(records, Ordering::Relaxed);
        shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        if purged {
            self.free_segments(shared);
        }
        Ok(())
    }

    /// Begins a new segment with room for the frame at hand and the repeated heads.
    fn rotate(&mut self, shared: &Shared) -> Result<(), StorageError> {
        let heads: usize = self.mirror.heads().len() * 128;
        let need = (HEADER_BYTES + self.frame.padded_len() + heads) as u64;
        let spare = shared.take_spare(need)?;
        let header = Header { id: self.next_id, first_seq: self.next_seq, salt: self.salt };
        if self.segment.is_some() {
            let contents = std::mem::take(&mut self.contents);
            self.old.push_back(contents);
        }
        self.segment = Some(spare.activate(&shared.config.dir, header)?);
        self.contents.id = self.next_id;
        self.next_id += 1;
        shared.segments.store(self.old.len() as u64 + 1, Ordering::Relaxed);
        debug_assert!(self.segment.as_ref().is_some_and(Segment::is_fresh));
        Ok(())
    }

    /// Recycles the oldest segments as long as all their entries are purged. Failing to is harmless: the
    /// file stays until the next opening.
    fn free_segments(&mut self, shared: &Shared) {
        while let Some(oldest) = self.old.front() {
            let purged = |group: &RangeId| self.mirror.map.get(group).and_then(|g| g.purged());
            if !oldest.last.iter().all(|(group, last)| purged(group) >= Some(*last)) {
                return;
            }
            shared.recycle(oldest.id);
            self.old.pop_front();
            shared.segments.store(self.old.len() as u64 + 1, Ordering::Relaxed);
        }
    }
}

/// After a failure to prepare a segment.
const RETRY: Duration = Duration::from_millis(500);
/// Spare segments kept ready.
const SPARES: usize = 2;

impl Shared {
    fn take_spare(&self, need: u64) -> Result<Spare, StorageError> {
        let mut spares = self.spares.lock();
        loop {
            while let Some(spare) = spares.ready.pop_front() {
                spares.wanted = true;
                self.wake_prepare.notify_one();
                if spare.len() >= need {
                    return Ok(spare);
                }
                spare.discard();
                if need > self.config.segment_bytes {
                    break;
                }
            }
            if need > self.config.segment_bytes || spares.stopped {
                // A frame of its own size, or a last attempt before the end. Otherwise what is on its way
                // waits until the disk has room.
                let number = spares.next_number;
                spares.next_number += 1;
                return Spare::create(
                    &self.config.dir,
                    number,
                    need.max(self.config.segment_bytes),
                );
            }
            spares.wanted = true;
            self.wake_prepare.notify_one();
            self.spare_ready.wait(&mut spares);
        }
    }

    fn recycle(&self, id: u64) {
        let mut spares = self.spares.lock();
        let number = spares.next_number;
        spares.next_number += 1;
        match Spare::recycle(&self.config.dir, id, number) {
            Ok(spare)
                if spares.ready.len() < SPARES && spare.len() == self.config.segment_bytes =>
            {
                spares.ready.push_back(spare);
                self.disk_full.store(false, Ordering::Relaxed);
            }
            Ok(spare) => spare.discard(),
            Err(error) => tracing::warn!(%error, "an old log segment stays"),
        }
        spares.wanted = true;
        self.wake_prepare.notify_one();
    }

    fn prepare(&self) {
        sched::background();
        let mut spares = self.spares.lock();
        loop {
            if spares.stopped {
                // What is ready stays for the next opening.
                return;
            }
            if !spares.wanted || spares.ready.len() >= SPARES {
                spares.wanted = false;
                self.wake_prepare.wait(&mut spares);
                continue;
            }
            let number = spares.next_number;
            spares.next_number += 1;
            drop(spares);
            let made = Spare::create(&self.config.dir, number, self.config.segment_bytes);
            spares = self.spares.lock();
            match made {
                Ok(spare) => {
                    spares.ready.push_back(spare);
                    self.disk_full.store(false, Ordering::Relaxed);
                }
                Err(error) => {
                    if !self.disk_full.swap(true, Ordering::Relaxed) {
                        tracing::warn!(%error, "no new log segment can be prepared");
                    }
                    if !spares.stopped {
                        self.wake_prepare.wait_for(&mut spares, RETRY);
                    }
                }
            }
            self.spare_ready.notify_all();
        }
    }
}
