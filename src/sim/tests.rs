//! Many seeds; and each planted bug caught by the invariant that is there for it.

use crate::{Bug, Options, checker, run};
use meridian_kv::api::Isolation;

const SEEDS: u64 = 3_000;

fn run_or_explain(options: Options) -> crate::Report {
    let report = run(options);
    assert!(
        report.violations.is_empty(),
        "seed {seed} broke {violations:#?}\n{history:#?}\nrepeat it with: MERIDIAN_SIM_SEED={seed} \
         cargo test -p meridian-sim one_seed -- --nocapture",
        seed = options.seed,
        violations = report.violations,
        history = report.history.txns.iter().enumerate().collect::<Vec<_>>(),
    );
    report
}

#[test]
fn many_seeds() {
    let (mut commits, mut crashes, mut skews, mut deadlocks, mut retries) = (0, 0, 0, 0, 0);
    for seed in 0..SEEDS {
        let options = Options::seeded(seed);
        let report = run_or_explain(options);
        commits += report.history.txns.iter().filter(|txn| txn.committed()).count();
        crashes += report.history.crashes;
        for txn in &report.history.txns {
            if let crate::history::Outcome::Failed(error) = &txn.outcome {
                deadlocks += u32::from(error.sqlstate() == "40P01");
                retries += u32::from(error.sqlstate() == "40001");
            }
        }
        if options.isolation == Some(Isolation::RepeatableRead) {
            skews += checker::write_skews(&report.history);
        }
    }
    println!(
        "{SEEDS} seeds: {commits} commits, {crashes} crashes, {deadlocks} deadlocks, {retries} \
         serialization failures, write skew in {skews} runs of REPEATABLE READ"
    );
    assert!(commits > 30_000 && crashes > 500 && deadlocks > 100 && retries > 500, "too tame");
    assert!(skews > 5, "the workload provokes what SERIALIZABLE must prevent");
}

/// Repeats the seed in `MERIDIAN_SIM_SEED` (or a fixed one), twice: it must be the same run.
#[test]
fn one_seed() {
    let seed = std::env::var("MERIDIAN_SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    let options = Options::seeded(seed.unwrap_or(42));
    let first = run_or_explain(options);
    let second = run_or_explain(options);
    assert_eq!(format!("{first:?}"), format!("{second:?}"), "a seed decides everything");
}

fn assert_caught(bug: Bug, isolation: Option<Isolation>, invariant: &str) {
    let mut others = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let options = Options { isolation, bug: Some(bug), ..Options::seeded(seed) };
        let violations = run(options).violations;
        if violations.iter().any(|violation| violation.invariant == invariant) {
            return;
        }
        others.extend(violations.into_iter().map(|violation| violation.invariant));
    }
    panic!("{bug:?} went past {invariant}; noticed by {others:?}");
}

#[test]
fn every_invariant_notices_its_bug() {
    use Isolation::{ReadCommitted, RepeatableRead, Serializable};
    for (bug, isolation, invariant) in [
        (Bug::NoLocks, Some(ReadCommitted), "no_lost_update"),
        (Bug::NoLocks, Some(ReadCommitted), "money_is_conserved"),
        (Bug::NoLocks, Some(ReadCommitted), "acknowledged_writes_survive"),
        (Bug::AckBeforeSync, Some(ReadCommitted), "acknowledged_writes_survive"),
        (Bug::AckBeforeSync, Some(ReadCommitted), "read_committed_never_retries"),
        (Bug::DirtyReads, Some(RepeatableRead), "isolation_levels"),
        (Bug::NoReadValidation, Some(Serializable), "isolation_levels"),
        (Bug::SnapshotPerStatement, Some(RepeatableRead), "isolation_levels"),
        (Bug::GcIgnoresSnapshots, Some(RepeatableRead), "isolation_levels"),
        (Bug::TornApply, None, "all_or_nothing"),
        (Bug::RedoFromTheNewerMarker, None, "acknowledged_writes_survive"),
        (Bug::SavepointKeepsWrites, None, "all_or_nothing"),
        (Bug::LostWakeup, None, "everybody_finishes"),
        (Bug::NoDeadlockCheck, None, "everybody_finishes"),
    ] {
        assert_caught(bug, isolation, invariant);
    }
}
