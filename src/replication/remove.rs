//! Removing a replica, and letting it live again.
//!
//! First a tombstone is made durable that names the content, then the content goes, then the log forgets
//! the group. The node's next start finishes what was begun.
//!
//! ```text
//! node   D ‖ range   → stage:u8 │ vote │ floor │ parts │ whatever the owner wants to know of it later
//!
//!   content ──▶ REMOVING (names the parts) ──▶ swept ──▶ REMOVED (names none) ──▶ the log forgets
//!   REMOVED ──▶ the log gets the vote ──▶ LIVES (keeps the floor) ──▶ the group is open, and blank
//! ```
//! Each arrow is durable before the next is begun. A tombstone names no parts any more when they are swept:
//! by the next start other ranges may lie there.
//!
//! # Why a replica that comes back cannot elect the wrong leader
//! A voter must not vote twice in a term, and must not vote for who lacks what it has acknowledged: an
//! entry that was committed with its word could be lost. A replica that was removed and is added again has
//! forgotten both with its log, while somebody who never heard of its removal may still ask for its vote
//! by the members of then. So the tombstone keeps what the promise was made of: the **vote**, which is in the
//! log again before the group is open, and the **floor**, the newest log id that the lost log had. The
//! replica gives no vote to a candidate whose log ends below the floor, and doesn't campaign itself as long
//! as its own does: as to votes it is as if the log had never gone. Leaders that were rightly elected have
//! all that was committed and end above the floor as soon as they have written anything of their term, so
//! it is in nobody's way.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use meridian_base::{RangeId, Span};
use meridian_storage::{
    Engine, Keyspace, LogWrite, RaftLog, Reader, Slot, StorageError, WriteBatch,
};

use crate::codec;
use crate::install;
use crate::log_store::last_log_id;
use crate::node::Node;
use crate::open::write_through;
use crate::snapshot::{self, Part};
use crate::state_machine;
use crate::types::LogId;

/// First byte of these keys; what is received of snapshots lies beside them.
const DEAD: u8 = b'D';

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Its content is being removed.
    Removing,
    /// Nothing is left of it.
    Removed,
    /// It has been opened again.
    Lives,
}

/// What is known of a replica that was removed.
#[derive(Clone, Debug)]
struct Tombstone {
    stage: Stage,
    /// As the log had it.
    vote: Option<Bytes>,
    /// The newest log id that it has had.
    floor: Option<LogId>,
    parts: Vec<Part>,
    owner: Bytes,
}

fn key(group: RangeId) -> Vec<u8> {
    let mut key = vec![DEAD];
    key.extend_from_slice(&group.0.to_be_bytes());
    key
}

impl Tombstone {
    fn encode(&self) -> Vec<u8> {
        let stage = match self.stage {
            Stage::Removing => 1,
            Stage::Removed => 2,
            Stage::Lives => 3,
        };
        let mut out = vec![stage, u8::from(self.vote.is_some()), u8::from(self.floor.is_some())];
        if let Some(vote) = &self.vote {
            out.put_u32_le(u32::try_from(vote.len()).expect("a vote is small"));
            out.extend_from_slice(vote);
        }
        if let Some(floor) = &self.floor {
            codec::put_log_id(&mut out, floor);
        }
        snapshot::put_parts(&mut out, &self.parts);
        out.extend_from_slice(&self.owner);
        out
    }

    fn decode(mut value: Bytes) -> Option<Tombstone> {
        if value.len() < 3 {
            return None;
        }
        let stage = match value.get_u8() {
            1 => Stage::Removing,
            2 => Stage::Removed,
            3 => Stage::Lives,
            _ => return None,
        };
        let (has_vote, has_floor) = (value.get_u8() == 1, value.get_u8() == 1);
        let vote = match has_vote {
            false => None,
            true => {
                let len = usize::try_from(value.try_get_u32_le().ok()?).ok()?;
                Some((len <= value.len()).then(|| value.split_to(len))?)
            }
        };
        let floor = if has_floor { Some(codec::take_log_id(&mut value)?) } else { None };
        let parts = snapshot::take_parts(&mut value)?;
        Some(Tombstone { stage, vote, floor, parts, owner: value })
    }

    fn read(engine: &dyn Reader, group: RangeId) -> Result<Option<Tombstone>, StorageError> {
        let damaged = || StorageError::Corruption(format!("the tombstone of {group}"));
        let value = engine.get(Keyspace::Node, &key(group))?;
        value.map(|value| Tombstone::decode(value).ok_or_else(damaged)).transpose()
    }

    fn put(&self, engine: &dyn Engine, group: RangeId) -> Result<(), StorageError> {
        let mut batch = WriteBatch::default();
        batch.put(Keyspace::Node, key(group), self.encode());
        engine.apply(batch)
    }
}

/// What the owner wanted to know of a group that was removed and has not been opened since.
pub(crate) fn tombstone(
    engine: &dyn Engine,
    group: RangeId,
) -> Result<Option<Bytes>, StorageError> {
    let known = Tombstone::read(engine, group)?;
    Ok(known.filter(|it| it.stage != Stage::Lives).map(|it| it.owner))
}

/// No vote for a log that ends below this.
pub(crate) fn floor(engine: &dyn Engine, group: RangeId) -> Result<Option<LogId>, StorageError> {
    Ok(Tombstone::read(engine, group)?.and_then(|it| it.floor))
}

/// The range is to live here again: its vote is known again, and its floor.
pub(crate) async fn revive(node: &Node, group: RangeId) -> Result<(), StorageError> {
    let known = Tombstone::read(node.engine.as_ref(), group)?;
    let Some(known) = known.filter(|it| it.stage != Stage::Lives) else { return Ok(()) };
    if let Some(vote) = known.vote.clone() {
        let vote = LogWrite::Slot(Slot::Vote, vote);
        write_through(node.log.as_ref(), group, vec![vote]).await?;
    }
    // From here on a start leaves the log alone.
    Tombstone { stage: Stage::Lives, ..known }.put(node.engine.as_ref(), group)?;
    let engine = Arc::clone(&node.engine);
    let persisted = node.runtime.spawn_blocking(move || engine.persist()).await;
    persisted.map_err(|e| StorageError::Stopped(e.to_string()))?
}

/// Removes what a tombstone names from the engine.
async fn sweep(engine: &dyn Engine, group: RangeId, parts: &[Part]) -> Result<(), StorageError> {
    install::remove_content(engine, group, parts).await?;
    install::drop_staged(engine, group).await?;
    let mut batch = WriteBatch::default();
    state_machine::delete_markers(group, &mut batch);
    batch.delete(Keyspace::Cur, install::flag_key(group));
    engine.apply(batch)
}

pub(crate) async fn remove(
    node: &Arc<Node>,
    id: RangeId,
    owner: Bytes,
    readers_leave: impl Future<Output = ()>,
) -> Result<(), StorageError> {
    let group = {
        let mut groups = node.groups.write();
        let Some(group) = groups.remove(&id) else {
            return Err(StorageError::Stopped(format!("range {id} is not open")));
        };
        // Nobody else may lie there as long as some of it is left.
        node.removing.lock().insert(id, group.applier.content().unwrap_or_default());
        group
    };
    // A group that has failed is removed like any other.
    let _ = group.raft.shutdown().await;
    // Nothing is applied any more, also not what openraft had handed over before.
    *group.shared.gone.lock().await = true;
    group.applier.leaving();
    readers_leave.await;
    let parts = snapshot::parts_of(id, group.applier.content().unwrap_or_default());
    let (engine, log) = (Arc::clone(&node.engine), Arc::clone(&node.log));
    let before = Tombstone::read(engine.as_ref(), id)?.and_then(|it| it.floor);
    let damaged = || StorageError::Corruption(format!("the log of {id}"));
    let floor = before.max(last_log_id(log.as_ref(), id).ok_or_else(damaged)?);
    let vote = log.slot(id, Slot::Vote);
    let begun = Tombstone { stage: Stage::Removing, vote, floor, parts, owner };
    let work = async move {
        begun.put(engine.as_ref(), id)?;
        install::persist(&engine).await?;
        sweep(engine.as_ref(), id, &begun.parts).await?;
        install::persist(&engine).await?;
        let done = Tombstone { stage: Stage::Removed, parts: Vec::new(), ..begun };
        done.put(engine.as_ref(), id)?;
        install::persist(&engine).await?;
        write_through(log.as_ref(), id, vec![LogWrite::Forget]).await
    };
    let done = node.runtime.spawn(work).await;
    done.map_err(|e| StorageError::Stopped(e.to_string()))??;
    node.removing.lock().remove(&id);
    Ok(())
}

/// Finishes the removals that a crash interrupted. Blocks.
pub(crate) fn finish_removals(log: &dyn RaftLog, engine: &dyn Engine) -> Result<(), StorageError> {
    let known = log.groups();
    let all = engine.range(Keyspace::Node, &Span::prefix(&[DEAD]), false);
    let all = all.collect::<Result<Vec<_>, StorageError>>()?;
    for (key, value) in all {
        let damaged = || StorageError::Corruption("a tombstone is damaged".into());
        let id = key.get(1..).and_then(|id| id.try_into().ok()).map(u64::from_be_bytes);
        let group = RangeId(id.ok_or_else(damaged)?);
        let found = Tombstone::decode(value).ok_or_else(damaged)?;
        if found.stage == Stage::Removing {
            futures::executor::block_on(sweep(engine, group, &found.parts))?;
            engine.persist()?;
            let done = Tombstone { stage: Stage::Removed, parts: Vec::new(), ..found.clone() };
            done.put(engine, group)?;
            engine.persist()?;
        }
        if found.stage != Stage::Lives && known.contains(&group) {
            let forget = vec![LogWrite::Forget];
            futures::executor::block_on(write_through(log, group, forget))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_storage::log::LogConfig;
    use meridian_storage::{MemEngine, SegLog};

    fn put(engine: &dyn Engine, keyspace: Keyspace, keys: &[&str]) {
        let mut batch = WriteBatch::default();
        keys.iter().for_each(|key| batch.put(keyspace, key.as_bytes().to_vec(), "x"));
        engine.apply(batch).expect("memory");
    }

    fn left(engine: &dyn Engine, keyspace: Keyspace) -> Vec<String> {
        let all = engine.range(keyspace, &Span::new("a", "z"), false);
        all.map(|pair| String::from_utf8_lossy(&pair.expect("memory").0).into_owned()).collect()
    }

    /// The tombstone is durable and nothing else has been done; afterwards others lie where it lay.
    #[test]
    fn a_start_finishes_a_removal_and_the_next_one_finds_nothing_to_do() {
        let dir = tempfile::tempdir().expect("tempdir");
        let log = SegLog::open(LogConfig::new(dir.path().join("log"))).expect("opens");
        let (engine, group) = (MemEngine::new(), RangeId(7));
        let vote = Bytes::from_static(b"term 5 for 1");
        let write = |write| futures::executor::block_on(write_through(&log, group, vec![write]));
        write(LogWrite::Slot(Slot::Vote, vote.clone())).expect("written");
        let parts =
            vec![(Keyspace::Cur, Span::new("c", "m")), (Keyspace::Hist, Span::new("c", "m"))];
        for keyspace in [Keyspace::Cur, Keyspace::Hist] {
            put(&engine, keyspace, &["b", "c", "l", "m"]);
        }
        let (owner, vote) = (Bytes::from_static(b"gone"), Some(vote));
        let begun = Tombstone { stage: Stage::Removing, vote, floor: None, parts, owner };
        begun.put(&engine, group).expect("memory");
        finish_removals(&log, &engine).expect("finishes");
        for keyspace in [Keyspace::Cur, Keyspace::Hist] {
            assert_eq!(left(&engine, keyspace), ["b", "m"], "its neighbours' keys stay");
        }
        assert!(log.groups().is_empty());
        assert_eq!(tombstone(&engine, group).expect("read").as_deref(), Some(&b"gone"[..]));
        // Another range lies there now; the log has the vote already, but the crash came before it lived.
        put(&engine, Keyspace::Cur, &["d", "e"]);
        let known = Tombstone::read(&engine, group).expect("read").expect("there");
        assert_eq!(known.vote, begun.vote);
        write(LogWrite::Slot(Slot::Vote, known.vote.clone().expect("kept"))).expect("written");
        finish_removals(&log, &engine).expect("nothing to do");
        assert_eq!(left(&engine, Keyspace::Cur), ["b", "d", "e", "m"]);
        assert!(log.groups().is_empty());
        // One that lives is left alone.
        write(LogWrite::Slot(Slot::Vote, known.vote.clone().expect("kept"))).expect("written");
        Tombstone { stage: Stage::Lives, ..known }.put(&engine, group).expect("memory");
        finish_removals(&log, &engine).expect("nothing to do");
        assert_eq!(log.groups(), [group]);
        assert_eq!(tombstone(&engine, group).expect("read"), None);
        log.close();
    }
}
