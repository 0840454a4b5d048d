//! What clients do, and what must hold of it.

mod append;
mod bank;
mod default_value;
mod long_fork;
mod monotonic;
mod register;
mod sequential;
mod set;
mod write_skew;

use std::sync::{Arc, Mutex, MutexGuard};

use futures::future::BoxFuture;
use meridian_kv::api::Isolation;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::client::{Answer, Session};

/// Judgement: what must not be, and a word on the run.
pub type Judgement = (Vec<String>, String);

/// A workload with its history.
pub trait Workload: Send + Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// Statements that make its tables.
    fn setup(&self) -> Vec<String>;

    /// One step of one client.
    fn step<'a>(
        &'a self,
        session: &'a mut Session,
        rng: &'a mut StdRng,
    ) -> BoxFuture<'a, Answer<()>>;

    /// Reads all there is when the world is whole again, and judges.
    fn judge<'a>(&'a self, session: &'a mut Session) -> BoxFuture<'a, Answer<Judgement>>;

    /// Has so much been done that a longer history would be too long to judge?
    fn full(&self) -> bool {
        false
    }

    /// The longest pause between two steps of a client.
    fn pause_ms(&self) -> u64 {
        20
    }

    /// Everything that the clients did and saw, for the file that a failure leaves.
    fn dump(&self) -> String;
}

/// The names of all workloads.
pub const NAMES: [&str; 12] = [
    "append",
    "append-rc",
    "append-rr",
    "append-ser",
    "register",
    "bank",
    "long-fork",
    "set",
    "sequential",
    "monotonic",
    "write-skew",
    "default-value",
];

/// A new workload of this name; is it for several nodes?
pub fn named(name: &str, clustered: bool) -> Option<Arc<dyn Workload>> {
    use Isolation::{ReadCommitted, RepeatableRead, Serializable};
    let all = &[ReadCommitted, RepeatableRead, Serializable];
    Some(match name {
        "append" => Arc::new(append::Append::new("append", all, clustered)),
        "append-rc" => Arc::new(append::Append::new("append-rc", &[ReadCommitted], clustered)),
        "append-rr" => Arc::new(append::Append::new("append-rr", &[RepeatableRead], clustered)),
        "append-ser" => Arc::new(append::Append::new("append-ser", &[Serializable], clustered)),
        "register" => Arc::new(register::Register::default()),
        "bank" => Arc::new(bank::Bank::default()),
        "long-fork" => Arc::new(long_fork::LongFork::default()),
        "set" => Arc::new(set::Set::default()),
        "sequential" => Arc::new(sequential::Sequential::default()),
        "monotonic" => Arc::new(monotonic::Monotonic::default()),
        "write-skew" => Arc::new(write_skew::WriteSkew::default()),
        "default-value" => Arc::new(default_value::DefaultValue::default()),
        _ => return None,
    })
}

fn begin(isolation: Isolation) -> &'static str {
    match isolation {
        Isolation::ReadCommitted => "BEGIN ISOLATION LEVEL READ COMMITTED",
        Isolation::RepeatableRead => "BEGIN ISOLATION LEVEL REPEATABLE READ",
        Isolation::Serializable => "BEGIN ISOLATION LEVEL SERIALIZABLE",
    }
}

fn any_level(rng: &mut StdRng) -> Isolation {
    let all = [Isolation::ReadCommitted, Isolation::RepeatableRead, Isolation::Serializable];
    all.choose(rng).copied().unwrap_or_default()
}

/// A mutex whose poison doesn't matter: a client that panicked ends the run anyway.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn lines<T: std::fmt::Debug>(items: &[T]) -> String {
    items.iter().map(|item| format!("{item:?}\n")).collect()
}
