//! The vocabulary of the scripts. Transactions are named as the script likes.

use crate::api::{Isolation, Strength, TableLockMode, WaitPolicy};
use crate::locks::{AdvisoryMode, LockMode};

/// One line of a script.
#[derive(Clone, Debug)]
pub(super) enum Command {
    /// `begin t1 rc|rr|ser`: a transaction at the newest snapshot; it is a session of its own.
    Begin(String, Isolation),
    /// `statement t1`: what happens at the start of each statement.
    Statement(String),
    /// `lock t1 a Update [nowait|skip]`: a row lock, and the newest version read under it.
    Lock(String, String, Strength, WaitPolicy),
    /// `table t1 7 ShareLock [nowait]`: a table lock.
    Table(String, u32, TableLockMode, WaitPolicy),
    /// `advisory t1 7 ShareLock|ExclusiveLock [nowait]`: an advisory lock of the session.
    Advisory(String, u32, AdvisoryMode, WaitPolicy),
    /// `get t1 a`: a read at the snapshot, own writes first.
    Get(String, String),
    /// `scan t1 a c`: notes a read of the keys from a to before c.
    Scan(String, String, String),
    /// `put t1 a 5`: buffers a row.
    Put(String, String, String),
    /// `delete t1 a`: buffers a deletion.
    Delete(String, String),
    /// `savepoint t1 s`.
    Savepoint(String, String),
    /// `rollback-to t1 s`.
    RollbackTo(String, String),
    /// `release t1 s`.
    Release(String, String),
    /// `commit t1`: sequences the writes; they are in flight until `apply`.
    Commit(String),
    /// `apply`: the oldest commit in flight lands: visible, then its locks are released.
    Apply,
    /// `lose`: the newest commit in flight never got into the log.
    Lose,
    /// `rollback t1`.
    Rollback(String),
    /// `cancel t1`: gives up waiting.
    Cancel(String),
    /// `check-deadlock t1`: the waiting session looks for a cycle.
    CheckDeadlock(String),
    /// `locks`: who holds and who waits.
    Locks,
}

fn by_name<M: LockMode>(name: &str) -> Option<M> {
    M::all().iter().copied().find(|mode| mode.name() == name)
}

fn policy(word: Option<&&str>) -> Option<WaitPolicy> {
    match word {
        None => Some(WaitPolicy::Block),
        Some(&"nowait") => Some(WaitPolicy::NoWait),
        Some(&"skip") => Some(WaitPolicy::Skip),
        Some(_) => None,
    }
}

impl Command {
    pub(super) fn parse(line: &str) -> Option<Command> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let own = |at: usize| words.get(at).map(|word| (*word).to_owned());
        let wait = policy(words.get(4));
        Some(match *words.first()? {
            "begin" => Command::Begin(
                own(1)?,
                match *words.get(2)? {
                    "rc" => Isolation::ReadCommitted,
                    "rr" => Isolation::RepeatableRead,
                    "ser" => Isolation::Serializable,
                    _ => return None,
                },
            ),
            "statement" => Command::Statement(own(1)?),
            "lock" => Command::Lock(own(1)?, own(2)?, by_name(words.get(3)?)?, wait?),
            "table" => {
                Command::Table(own(1)?, words.get(2)?.parse().ok()?, by_name(words.get(3)?)?, wait?)
            }
            "advisory" => Command::Advisory(
                own(1)?,
                words.get(2)?.parse().ok()?,
                by_name(words.get(3)?)?,
                wait?,
            ),
            "get" => Command::Get(own(1)?, own(2)?),
            "scan" => Command::Scan(own(1)?, own(2)?, own(3)?),
            "put" => Command::Put(own(1)?, own(2)?, own(3)?),
            "delete" => Command::Delete(own(1)?, own(2)?),
            "savepoint" => Command::Savepoint(own(1)?, own(2)?),
            "rollback-to" => Command::RollbackTo(own(1)?, own(2)?),
            "release" => Command::Release(own(1)?, own(2)?),
            "commit" => Command::Commit(own(1)?),
            "apply" => Command::Apply,
            "lose" => Command::Lose,
            "rollback" => Command::Rollback(own(1)?),
            "cancel" => Command::Cancel(own(1)?),
            "check-deadlock" => Command::CheckDeadlock(own(1)?),
            "locks" => Command::Locks,
            _ => return None,
        })
    }
}
