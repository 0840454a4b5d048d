//! The core workloads A to F, and their operations.

use std::sync::atomic::{AtomicBool, Ordering};

use meridian_base::rng::Rng;
use meridian_bench::{Failure, Outcome, Session, Transaction};
use tokio_postgres::types::ToSql;

use crate::generators::{Chooser, Distribution};
use crate::keys::{FIELDS, Keys, key, value};

/// A core workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Workload {
    /// 50 % reads, 50 % updates, zipfian
    A,
    /// 95 % reads, 5 % updates, zipfian
    B,
    /// Reads, zipfian
    C,
    /// 95 % reads, 5 % inserts, latest
    D,
    /// 95 % short scans, 5 % inserts, zipfian
    E,
    /// 50 % reads, 50 % read-modify-writes, zipfian
    F,
}

impl Workload {
    /// What is done besides the main operation, and how often of a hundred times.
    const fn mix(self) -> (Kind, Kind, u64) {
        match self {
            Self::A => (Kind::Read, Kind::Update, 50),
            Self::B => (Kind::Read, Kind::Update, 5),
            Self::C => (Kind::Read, Kind::Read, 0),
            Self::D => (Kind::Read, Kind::Insert, 5),
            Self::E => (Kind::Scan, Kind::Insert, 5),
            Self::F => (Kind::Read, Kind::ReadModifyWrite, 50),
        }
    }

    /// The share of inserts.
    pub(crate) fn inserts(self) -> f64 {
        let (_, other, percent) = self.mix();
        if other == Kind::Insert { percent as f64 / 100.0 } else { 0.0 }
    }

    pub(crate) const fn distribution(self) -> Distribution {
        match self {
            Self::D => Distribution::Latest,
            _ => Distribution::Zipfian,
        }
    }

    fn kind(self, rng: &mut Rng) -> Kind {
        let (main, other, percent) = self.mix();
        if rng.below(100) < percent { other } else { main }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Update,
    Insert,
    Scan,
    ReadModifyWrite,
}

const READ: usize = 0;
const INSERT: usize = 1;
const SCAN: usize = 2;
/// Of field 0; the other nine follow.
const UPDATE: usize = 3;

macro_rules! update {
    ($field:literal) => {
        ("update", concat!("UPDATE usertable SET field", $field, " = $2 WHERE ycsb_key = $1"))
    };
}

/// Name and text of each statement.
pub(crate) static CATALOG: [(&str, &str); 13] = [
    ("read", "SELECT * FROM usertable WHERE ycsb_key = $1"),
    ("insert", "INSERT INTO usertable VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"),
    ("scan", "SELECT * FROM usertable WHERE ycsb_key >= $1 ORDER BY ycsb_key LIMIT $2"),
    update!(0),
    update!(1),
    update!(2),
    update!(3),
    update!(4),
    update!(5),
    update!(6),
    update!(7),
    update!(8),
    update!(9),
];

/// One operation with its input.
#[derive(Debug)]
pub(crate) struct Operation {
    kind: Kind,
    number: u64,
    key: String,
    /// The field that an update writes.
    field: usize,
    values: Vec<String>,
    /// Rows of a scan.
    length: i64,
    /// Whether it was tried before: an insert that finds its record was answered by a lost connection.
    tried: AtomicBool,
}

impl Operation {
    /// The next operation of a client.
    pub(crate) fn input(
        workload: Workload,
        keys: &Keys,
        chooser: &mut Chooser,
        longest_scan: u64,
        rng: &mut Rng,
    ) -> Self {
        let kind = workload.kind(rng);
        let number = match kind {
            Kind::Insert => keys.take(),
            _ => chooser.next(rng, keys.present()),
        };
        let values = match kind {
            Kind::Read | Kind::Scan => 0,
            Kind::Update | Kind::ReadModifyWrite => 1,
            Kind::Insert => FIELDS,
        };
        Self {
            kind,
            number,
            key: key(number),
            field: rng.below(FIELDS as u64) as usize,
            values: (0..values).map(|_| value(rng)).collect(),
            length: 1 + rng.below(longest_scan) as i64,
            tried: AtomicBool::new(false),
        }
    }

    /// The number of the record that it inserted.
    pub(crate) fn insert(&self) -> Option<u64> {
        (self.kind == Kind::Insert).then_some(self.number)
    }

    async fn read(&self, session: &Session) -> Result<(), Failure> {
        match session.query(READ, &[&self.key]).await?.len() {
            1 => Ok(()),
            rows => Err(Failure::data(format!("read: {rows} rows of a key"))),
        }
    }

    async fn update(&self, session: &Session) -> Result<(), Failure> {
        session.query(UPDATE + self.field, &[&self.key, &self.values[0]]).await.map(drop)
    }

    async fn write_new(&self, session: &Session) -> Result<(), Failure> {
        let again = self.tried.swap(true, Ordering::Relaxed);
        let values = self.values.iter().map(|v| v as &(dyn ToSql + Sync));
        let params: Vec<_> =
            std::iter::once(&self.key as &(dyn ToSql + Sync)).chain(values).collect();
        match session.query(INSERT, &params).await {
            Err(failure) if again && failure.code.as_deref() == Some("23505") => Ok(()),
            result => result.map(drop),
        }
    }

    async fn scan(&self, session: &Session) -> Result<(), Failure> {
        match session.query(SCAN, &[&self.key, &self.length]).await?.len() {
            0 => Err(Failure::data("scan: not even the first key's row")),
            _ => Ok(()),
        }
    }
}

impl Transaction for Operation {
    fn name(&self) -> &'static str {
        match self.kind {
            Kind::Read => "read",
            Kind::Update => "update",
            Kind::Insert => "insert",
            Kind::Scan => "scan",
            Kind::ReadModifyWrite => "read_modify_write",
        }
    }

    async fn attempt(&self, session: &Session) -> Result<Outcome, Failure> {
        match self.kind {
            Kind::Read => self.read(session).await?,
            Kind::Update => self.update(session).await?,
            Kind::Insert => self.write_new(session).await?,
            Kind::Scan => self.scan(session).await?,
            Kind::ReadModifyWrite => {
                self.read(session).await?;
                self.update(session).await?;
            }
        }
        Ok(Outcome::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_have_their_shares() {
        let mut rng = Rng::seeded(1);
        for (workload, kind, share) in [
            (Workload::A, Kind::Update, 5000),
            (Workload::B, Kind::Update, 500),
            (Workload::C, Kind::Read, 10_000),
            (Workload::D, Kind::Insert, 500),
            (Workload::E, Kind::Scan, 9500),
            (Workload::F, Kind::ReadModifyWrite, 5000),
        ] {
            let count = (0..10_000).filter(|_| workload.kind(&mut rng) == kind).count();
            assert!(count.abs_diff(share) < 200, "{workload:?}: {count}");
        }
        assert!((Workload::E.inserts() - 0.05).abs() < 1e-9 && Workload::A.inserts() == 0.0);
    }

    #[test]
    fn inserts_take_new_records_and_scans_have_lengths() {
        let (mut rng, keys) = (Rng::seeded(2), Keys::new(100));
        let mut chooser = Chooser::new(Distribution::Uniform, 100, 0);
        let mut inserted = Vec::new();
        for _ in 0..2000 {
            let op = Operation::input(Workload::E, &keys, &mut chooser, 100, &mut rng);
            assert!((1..=100).contains(&op.length));
            match op.insert() {
                Some(number) => inserted.push(number),
                None => assert!(op.number < 100 && op.values.is_empty()),
            }
        }
        assert!(inserted.into_iter().enumerate().all(|(i, number)| number == 100 + i as u64));
    }
}
