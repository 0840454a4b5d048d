//! What one worker measured; added up at the end, so that no worker waits for another.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::{Failure, Trouble};

/// Three digits of latencies up to a day, in microseconds.
const DIGITS: u8 = 3;
/// Different errors that are kept with their text.
const SAMPLES: usize = 20;

/// One kind of operation.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Latency of those that succeeded, in microseconds: all attempts of one together.
    pub latency: Histogram<u64>,
    /// Those that ended with a rollback that the benchmark asks for; they are in `latency` too.
    pub rolled_back: u64,
    /// Attempts that were repeated, in the order of [`Trouble::RETRIED`].
    pub retries: [u64; 4],
    /// Operations given up because of an error that is not repeated.
    pub errors: u64,
}

impl Operation {
    fn new() -> Self {
        let latency = Histogram::new(DIGITS).expect("three digits are allowed");
        Self { latency, rolled_back: 0, retries: [0; 4], errors: 0 }
    }

    fn add(&mut self, other: &Self) {
        self.latency += &other.latency;
        self.rolled_back += other.rolled_back;
        self.errors += other.errors;
        for (sum, count) in self.retries.iter_mut().zip(other.retries) {
            *sum += count;
        }
    }
}

/// The operations of one worker, or of all.
#[derive(Clone, Debug, Default)]
pub struct Record {
    operations: BTreeMap<&'static str, Operation>,
    statements: BTreeMap<&'static str, Operation>,
    errors: BTreeMap<String, u64>,
}

impl Record {
    /// An operation that succeeded.
    pub fn success(&mut self, name: &'static str, micros: u64) {
        self.operation(name).latency.record(micros).expect("histograms grow");
    }

    /// An operation that ended with the rollback it was to end with.
    pub fn rollback(&mut self, name: &'static str, micros: u64) {
        self.operation(name).rolled_back += 1;
        self.success(name, micros);
    }

    /// An attempt that failed, whether it is repeated or not.
    pub fn failure(&mut self, name: &'static str, failure: &Failure) {
        let retried = Trouble::RETRIED.iter().position(|trouble| *trouble == failure.trouble);
        let operation = self.operation(name);
        match retried {
            Some(kind) => operation.retries[kind] += 1,
            None => operation.errors += 1,
        }
        if retried.is_none() {
            let text = failure.to_string();
            if self.errors.len() < SAMPLES || self.errors.contains_key(&text) {
                *self.errors.entry(text).or_default() += 1;
            }
        }
    }

    /// One statement's latency.
    pub fn statement(&mut self, name: &'static str, micros: u64) {
        let statement = self.statements.entry(name).or_insert_with(Operation::new);
        statement.latency.record(micros).expect("histograms grow");
    }

    /// Adds what another worker measured.
    pub fn add(&mut self, other: &Self) {
        for (name, operation) in &other.operations {
            self.operation(name).add(operation);
        }
        for (name, statement) in &other.statements {
            self.statements.entry(name).or_insert_with(Operation::new).add(statement);
        }
        for (text, count) in &other.errors {
            *self.errors.entry(text.clone()).or_default() += count;
        }
    }

    /// The operations by name.
    #[must_use]
    pub fn operations(&self) -> &BTreeMap<&'static str, Operation> {
        &self.operations
    }

    /// The statements by name; empty unless they were asked for.
    #[must_use]
    pub fn statements(&self) -> &BTreeMap<&'static str, Operation> {
        &self.statements
    }

    /// Errors that were not repeated, with their count.
    #[must_use]
    pub fn errors(&self) -> &BTreeMap<String, u64> {
        &self.errors
    }

    /// Operations of this name that succeeded and were not rolled back.
    #[must_use]
    pub fn committed(&self, name: &str) -> u64 {
        self.operations.get(name).map_or(0, |op| op.latency.len() - op.rolled_back)
    }

    fn operation(&mut self, name: &'static str) -> &mut Operation {
        self.operations.entry(name).or_insert_with(Operation::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_add_up() {
        let mut sum = Record::default();
        for worker in 0..3 {
            let mut record = Record::default();
            record.success("read", 100 + worker);
            record.rollback("write", 10);
            let lost =
                Failure { trouble: Trouble::Deadlock, code: None, message: "victim".to_owned() };
            record.failure("write", &lost);
            record.failure("write", &Failure::data("no such row"));
            sum.add(&record);
        }
        assert_eq!((sum.committed("read"), sum.committed("write")), (3, 0));
        let write = &sum.operations()["write"];
        assert_eq!((write.rolled_back, write.retries, write.errors), (3, [0, 3, 0, 0], 3));
        assert_eq!(sum.errors()["----- no such row"], 3);
    }
}
