//! What clients do: small random transactions over lists, registers and bank accounts.

use meridian_base::Rng;
use meridian_kv::api::{Isolation, Key};

use crate::node::below;

/// Few of each, so that transactions meet.
pub(crate) const LISTS: u8 = 4;
pub(crate) const REGISTERS: u8 = 2;
pub(crate) const ACCOUNTS: u8 = 4;
pub(crate) const START_BALANCE: i64 = 100;

/// One statement.
#[derive(Clone, Debug)]
pub(crate) enum Statement {
    /// Appends a value to a list: lock, read, write.
    Append { list: u8, value: u32 },
    /// Reads a list at the snapshot.
    Read { list: u8 },
    /// Replaces a register's value: lock, read, write.
    Write { register: u8, value: u32 },
    /// Moves money: locks both accounts in the order given.
    Transfer { from: u8, to: u8, amount: i64 },
    /// Sums up all accounts at the snapshot.
    Total,
    /// Sets a savepoint, appends, rolls back to it.
    AppendAndUndo { list: u8, value: u32 },
}

/// One transaction.
#[derive(Clone, Debug)]
pub(crate) struct Script {
    pub(crate) isolation: Isolation,
    pub(crate) statements: Vec<Statement>,
}

pub(crate) fn list_key(list: u8) -> Key {
    Key::from(vec![b'l', list])
}

pub(crate) fn register_key(register: u8) -> Key {
    Key::from(vec![b'r', register])
}

pub(crate) fn account_key(account: u8) -> Key {
    Key::from(vec![b'a', account])
}

impl Statement {
    /// The keys that it locks before it reads them, in order.
    pub(crate) fn locks(&self) -> Vec<Key> {
        match self {
            Statement::Append { list, .. } | Statement::AppendAndUndo { list, .. } => {
                vec![list_key(*list)]
            }
            Statement::Write { register, .. } => vec![register_key(*register)],
            Statement::Transfer { from, to, .. } => vec![account_key(*from), account_key(*to)],
            Statement::Read { .. } | Statement::Total => Vec::new(),
        }
    }
}

/// Makes scripts; values are unique over the run.
pub(crate) struct Author {
    next_value: u32,
    /// `None` = every transaction draws its own level.
    pub(crate) isolation: Option<Isolation>,
}

const LEVELS: [Isolation; 3] =
    [Isolation::ReadCommitted, Isolation::RepeatableRead, Isolation::Serializable];

impl Author {
    pub(crate) fn new(isolation: Option<Isolation>) -> Author {
        Author { next_value: 1, isolation }
    }

    pub(crate) fn script(&mut self, rng: &mut Rng) -> Script {
        let isolation = self.isolation.unwrap_or_else(|| LEVELS[below(rng, LEVELS.len())]);
        let statements = (0..1 + below(rng, 4)).map(|_| self.statement(rng)).collect();
        Script { isolation, statements }
    }

    fn value(&mut self) -> u32 {
        self.next_value += 1;
        self.next_value
    }

    fn statement(&mut self, rng: &mut Rng) -> Statement {
        let pick = |rng: &mut Rng, n: u8| u8::try_from(rng.below(u64::from(n))).expect("below n");
        match rng.below(12) {
            0..=3 => Statement::Append { list: pick(rng, LISTS), value: self.value() },
            4..=6 => Statement::Read { list: pick(rng, LISTS) },
            7 => Statement::Write { register: pick(rng, REGISTERS), value: self.value() },
            8 | 9 => {
                let from = pick(rng, ACCOUNTS);
                let to = (from + 1 + pick(rng, ACCOUNTS - 1)) % ACCOUNTS;
                let amount = i64::from(pick(rng, 20));
                Statement::Transfer { from, to, amount }
            }
            10 => Statement::Total,
            _ => Statement::AppendAndUndo { list: pick(rng, LISTS), value: self.value() },
        }
    }
}
