//! Many seeds of the cluster; and each planted bug caught by the invariant that is there for it.

use crate::cluster::{Bug, Figures, Options, run};
use crate::history::Outcome;
use meridian_kv::api::Isolation;

const SEEDS: u64 = 600;

fn run_or_explain(options: Options) -> crate::cluster::Report {
    let report = run(options);
    assert!(
        report.violations.is_empty(),
        "seed {seed} broke {violations:#?}\n{history:#?}\nrepeat it with: MERIDIAN_SIM_SEED={seed} \
         cargo test -p meridian-sim one_cluster_seed -- --nocapture",
        seed = options.seed,
        violations = report.violations,
        history = report.history.txns.iter().enumerate().collect::<Vec<_>>(),
    );
    report
}

/// `MERIDIAN_SIM_SEEDS` says how many, for a longer run.
#[test]
fn many_cluster_seeds() {
    let seeds = std::env::var("MERIDIAN_SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let seeds = seeds.unwrap_or(SEEDS);
    let (mut sum, mut commits, mut failed) = (Figures::default(), 0, 0);
    for seed in 0..seeds {
        let report = run_or_explain(Options::seeded(seed));
        let txns = &report.history.txns;
        commits += txns.iter().filter(|txn| txn.committed()).count();
        failed += txns.iter().filter(|txn| matches!(txn.outcome, Outcome::Failed(_))).count();
        let f = report.figures;
        sum.distributed += f.distributed;
        sum.one_phase += f.one_phase;
        sum.recoveries += f.recoveries;
        sum.unknown += f.unknown;
        sum.leases += f.leases;
        sum.crashes += f.crashes;
        sum.coordinators += f.coordinators;
        sum.splits += f.splits;
        sum.deadlocks += f.deadlocks;
        sum.collected += f.collected;
        sum.waits += f.waits;
        sum.follower_reads += f.follower_reads;
        sum.prepared += f.prepared;
        sum.operated += f.operated;
    }
    println!("{seeds} seeds: {commits} commits, {failed} failed; {sum:?}");
    let seeds = u32::try_from(seeds).expect("fewer than that");
    assert!(sum.distributed > 4 * seeds && sum.one_phase > 4 * seeds, "too tame");
    assert!(sum.recoveries > seeds && sum.leases > seeds && sum.splits > seeds, "too tame");
    assert!(sum.follower_reads > 20 * seeds, "too tame");
    assert!(sum.prepared > seeds && sum.operated > seeds / 4, "too tame");
    assert!(sum.collected > seeds && sum.waits > 10 * seeds && sum.deadlocks > seeds / 10);
}

/// Repeats the seed in `MERIDIAN_SIM_SEED` (or a fixed one), twice: it must be the same run.
#[test]
fn one_cluster_seed() {
    let seed = std::env::var("MERIDIAN_SIM_SEED").ok().and_then(|seed| seed.parse().ok());
    let options = Options::seeded(seed.unwrap_or(42));
    let first = run_or_explain(options);
    let second = run_or_explain(options);
    assert_eq!(format!("{first:?}"), format!("{second:?}"), "a seed decides everything");
}

/// How many seeds it took, or who else noticed.
fn seeds_to_catch(
    bug: Bug,
    isolation: Option<Isolation>,
    invariant: &str,
) -> Result<u64, std::collections::BTreeMap<&'static str, u32>> {
    let mut others = std::collections::BTreeMap::new();
    for seed in 0..400 {
        let options = Options { isolation, bug: Some(bug), ..Options::seeded(seed) };
        let violations = run(options).violations;
        if violations.iter().any(|violation| violation.invariant == invariant) {
            return Ok(seed + 1);
        }
        for violation in violations {
            *others.entry(violation.invariant).or_insert(0) += 1;
        }
    }
    Err(others)
}

#[test]
fn every_invariant_notices_the_clusters_bugs() {
    use Isolation::{ReadCommitted, RepeatableRead, Serializable};
    let mut missed = Vec::new();
    let only = std::env::var("MERIDIAN_SIM_BUG").ok();
    for (bug, isolation, invariant) in [
        (Bug::SnapshotOfOwnClock, Some(RepeatableRead), "snapshots_are_recent"),
        (Bug::SnapshotIgnoresRecords, Some(ReadCommitted), "snapshots_are_recent"),
        (Bug::ReadersIgnoreRecords, Some(ReadCommitted), "money_is_conserved"),
        (Bug::NoFloor, Some(RepeatableRead), "money_is_conserved"),
        (Bug::LeaseForgetsRecords, None, "acknowledged_writes_survive"),
        (Bug::LeaseForgetsRecords, None, "all_or_nothing"),
        (Bug::RefusalIsAbort, Some(Serializable), "one_outcome"),
        (Bug::QueryDoesNotPrevent, None, "one_outcome"),
        (Bug::CommitAtOwnTimestamp, None, "one_outcome"),
        (Bug::AnswerBeforeItIsDurable, None, "acknowledged_writes_survive"),
        (Bug::ReadsOnlyWhereWritten, Some(Serializable), "isolation_levels"),
        (Bug::MarkersGoEarly, None, "one_outcome"),
        (Bug::NoRecovery, None, "everybody_finishes"),
        (Bug::NoDeadlockCheck, None, "everybody_finishes"),
        (Bug::FinishForgetsHold, None, "everybody_finishes"),
        (Bug::LeaseForgetsHolds, None, "prepared_transactions_commit"),
        (Bug::CloseIgnoresRecords, None, "copies_agree"),
        (Bug::CloseWithoutFloor, None, "copies_agree"),
        (Bug::CopyIgnoresIndex, None, "copies_agree"),
        (Bug::HalfBeginsAsLeftIs, None, "copies_agree"),
    ] {
        if only.as_ref().is_some_and(|only| *only != format!("{bug:?}")) {
            continue;
        }
        match seeds_to_catch(bug, isolation, invariant) {
            Ok(seeds) => println!("{bug:?}: {invariant} after {seeds} seeds"),
            Err(others) => {
                missed.push(format!("{bug:?} went past {invariant}; noticed by {others:?}"))
            }
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
