//! Registers: single rows that are written, exchanged on a condition, and read, each in a statement of
//! its own. At every level such a statement is atomic, so a register must be linearizable.
//!
//! The row keeps a log of its values beside the newest one. Clients see only the value; at the end the
//! log tells the order in which values came, and each read or exchange is held against it as a read of
//! the log up to that value: what is left is a history of lists for the checker, at its strictest level
//! with the order of real time.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::BoxFuture;
use meridian_kv::api::Isolation;
use meridian_sim::checker;
use meridian_sim::history::{Event, History, Outcome, TxnRecord};
use rand::Rng;
use rand::rngs::StdRng;

use super::append::values;
use super::{Judgement, Workload, lines, locked};
use crate::chaos::Ticks;
use crate::chaos::client::{Answer, End, Session, end_of};

const REGISTERS_AT_ONCE: u32 = 4;
const WRITES_PER_REGISTER: u32 = 100;
const REGISTERS: u32 = 200;

#[derive(Clone, Debug)]
enum Op {
    /// What it held; 0 = nothing yet.
    Read(Option<u32>),
    Write(u32),
    /// From, to, and whether it held the first.
    Exchange(u32, u32, Option<bool>),
}

#[derive(Clone, Debug)]
struct Done {
    register: u8,
    op: Op,
    began: u64,
    ended: u64,
    end: End,
}

#[derive(Default)]
pub(super) struct Register {
    ticks: Ticks,
    next_value: AtomicU32,
    done: Mutex<Vec<Done>>,
}

impl Register {
    async fn operate(&self, session: &mut Session, rng: &mut StdRng) -> Answer<()> {
        let first = self.next_value.load(Ordering::Relaxed) / WRITES_PER_REGISTER;
        let register = first + rng.random_range(0..REGISTERS_AT_ONCE);
        let register = u8::try_from(register.min(REGISTERS - 1)).unwrap_or(0);
        let id = i32::from(register);
        let value = || self.next_value.fetch_add(1, Ordering::Relaxed) + 1;
        let began = self.ticks.next();
        let set = "UPDATE chaos_register SET val = $2, log = log || ',' || $3 WHERE id = $1";
        let (op, answer) = match rng.random_range(0..10) {
            0..=4 => {
                let answer =
                    session.numbers("SELECT val FROM chaos_register WHERE id = $1", &[&id]).await;
                let held = answer.as_ref().ok().and_then(|rows| rows.first().copied());
                (Op::Read(held.and_then(|v| u32::try_from(v).ok())), answer.map(|_| ()))
            }
            5..=7 => {
                let value = value();
                let new = i32::try_from(value).unwrap_or(0);
                let answer = session.execute(set, &[&id, &new, &value.to_string()]).await;
                (Op::Write(value), answer.map(|_| ()))
            }
            _ => {
                let from = self.recent(register, rng);
                let value = value();
                let (old, new) =
                    (i32::try_from(from).unwrap_or(0), i32::try_from(value).unwrap_or(0));
                let sql = format!("{set} AND val = $4");
                let answer = session.execute(&sql, &[&id, &new, &value.to_string(), &old]).await;
                let held = answer.as_ref().ok().map(|rows| *rows == 1);
                (Op::Exchange(from, value, held), answer.map(|_| ()))
            }
        };
        let (end, ended) = (end_of(&answer), self.ticks.next());
        locked(&self.done).push(Done { register, op, began, ended, end });
        answer
    }

    /// A value that this register held lately, as far as the clients know.
    fn recent(&self, register: u8, rng: &mut StdRng) -> u32 {
        let done = locked(&self.done);
        let of = done.iter().rev().filter(|done| done.register == register);
        let held = of.filter_map(|done| match done.op {
            Op::Read(held) => held,
            Op::Write(value) | Op::Exchange(_, value, Some(true)) => Some(value),
            Op::Exchange(..) => None,
        });
        held.take(rng.random_range(1..4)).last().unwrap_or(0)
    }

    async fn last_reads(&self, session: &mut Session) -> Answer<Judgement> {
        let rows = session.rows("SELECT id, log FROM chaos_register").await?;
        let mut logs = BTreeMap::new();
        for row in rows {
            let id = row[0].as_deref().and_then(|id| id.parse::<u8>().ok()).unwrap_or(0);
            logs.insert(id, values(row[1].as_deref().unwrap_or(""))?);
        }
        let done = locked(&self.done).clone();
        let anomalies = logs
            .into_iter()
            .flat_map(|(register, log)| {
                let of = done.iter().filter(|done| done.register == register);
                judged(&of.cloned().collect::<Vec<_>>(), register, log)
            })
            .collect();
        let acknowledged = done.iter().filter(|done| done.end == End::Committed).count();
        Ok((anomalies, format!("{acknowledged} of {} operations acknowledged", done.len())))
    }
}

/// Judges what was done to one register. What several together are is for other workloads to say.
fn judged(done: &[Done], register: u8, log: Vec<u32>) -> Vec<String> {
    let (history, mut anomalies) = history(done, register, log);
    anomalies.extend(checker::forbidden(&history).into_iter().map(|found| found.to_string()));
    anomalies
}

/// A register's history as that of a list, and values that its log doesn't know.
fn history(done: &[Done], list: u8, log: Vec<u32>) -> (History, Vec<String>) {
    let mut unknown = Vec::new();
    let mut txns = Vec::new();
    for done in done {
        let mut up_to = |value: u32| match log.iter().position(|v| *v == value) {
            _ if value == 0 => Event::Read { list, values: Vec::new() },
            Some(at) => Event::Read { list, values: log[..=at].to_vec() },
            None => {
                unknown.push(format!("register {list} held {value}, which its log doesn't know"));
                Event::Read { list, values: Vec::new() }
            }
        };
        let events = match done.op {
            Op::Read(Some(held)) if done.end == End::Committed => vec![up_to(held)],
            Op::Read(_) | Op::Exchange(_, _, Some(false)) => continue,
            Op::Write(value) => vec![Event::Append { list, value }],
            Op::Exchange(from, value, held) => {
                let mut events = vec![Event::Append { list, value }];
                if held == Some(true) {
                    events.insert(0, up_to(from));
                }
                events
            }
        };
        if done.end == End::Committed {
            let wrote = events.iter().filter_map(|event| match event {
                Event::Append { value, .. } => Some(*value),
                _ => None,
            });
            for value in wrote.filter(|value| !log.contains(value)) {
                unknown.push(format!("lost: {value}, acknowledged, is not in register {list}"));
            }
        }
        let (outcome, ended) = match done.end {
            End::Committed => (Outcome::Committed, Some(done.ended)),
            End::Aborted => (Outcome::Aborted, None),
            End::Unknown => (Outcome::Unknown, None),
        };
        let isolation = Isolation::Serializable;
        txns.push(TxnRecord { isolation, began: done.began, ended, events, outcome });
    }
    // Whoever reads the log at the end finds nothing that was refused.
    let events = vec![Event::Read { list, values: log.clone() }];
    let (isolation, outcome) = (Isolation::ReadCommitted, Outcome::Committed);
    let began = done.iter().map(|done| done.ended).max().unwrap_or(0) + 1;
    txns.push(TxnRecord { isolation, began, ended: None, events, outcome });
    let lists = BTreeMap::from([(list, log)]);
    (History { txns, lists, ..History::default() }, unknown)
}

impl Workload for Register {
    fn name(&self) -> &'static str {
        "register"
    }

    fn setup(&self) -> Vec<String> {
        vec![
            "DROP TABLE IF EXISTS chaos_register; \
             CREATE TABLE chaos_register (id int PRIMARY KEY, val int NOT NULL, log text NOT NULL)"
                .to_owned(),
            format!(
                "INSERT INTO chaos_register SELECT n, 0, '' FROM generate_series(0, {}) n \
                 ON CONFLICT DO NOTHING",
                REGISTERS - 1
            ),
        ]
    }

    fn step<'a>(
        &'a self,
        session: &'a mut Session,
        rng: &'a mut StdRng,
    ) -> BoxFuture<'a, Answer<()>> {
        Box::pin(self.operate(session, rng))
    }

    fn judge<'a>(&'a self, session: &'a mut Session) -> BoxFuture<'a, Answer<Judgement>> {
        Box::pin(self.last_reads(session))
    }

    fn full(&self) -> bool {
        self.next_value.load(Ordering::Relaxed) / WRITES_PER_REGISTER + REGISTERS_AT_ONCE
            >= REGISTERS
    }

    fn dump(&self) -> String {
        lines(&locked(&self.done))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(op: Op, began: u64, ended: u64) -> Done {
        Done { register: 0, op, began, ended, end: End::Committed }
    }

    fn judged(ops: &[Done], log: &[u32]) -> usize {
        super::judged(ops, 0, log.to_vec()).len()
    }

    #[test]
    fn stale_reads_lost_writes_and_double_exchanges_are_noticed() {
        let write = done(Op::Write(1), 1, 2);
        assert_eq!(judged(&[write.clone(), done(Op::Read(Some(1)), 3, 4)], &[1]), 0);
        assert_ne!(judged(&[write.clone(), done(Op::Read(Some(0)), 3, 4)], &[1]), 0);
        assert_eq!(judged(&[write.clone(), done(Op::Read(Some(0)), 1, 4)], &[1]), 0);
        assert_ne!(judged(std::slice::from_ref(&write), &[]), 0);
        let twice = [
            write,
            done(Op::Exchange(1, 2, Some(true)), 3, 6),
            done(Op::Exchange(1, 3, Some(true)), 3, 6),
        ];
        assert_ne!(judged(&twice, &[1, 2, 3]), 0);
        assert_eq!(judged(&twice[..2], &[1, 2]), 0);
    }
}
