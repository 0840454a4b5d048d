//! Many seeds; and each planted bug caught.

use super::*;

#[test]
fn many_fence_seeds() {
    let mut definitions = 0;
    for seed in 0..300 {
        let (committed, violations) = run(seed, None);
        assert_eq!(violations, [], "seed {seed}");
        definitions += committed;
    }
    assert!(definitions > 1_000, "too tame: {definitions}");
}

#[test]
fn every_fence_bug_is_noticed() {
    use FenceBug::*;
    for bug in [TrustsClocks, PassesAtOnce, AsksLate, TakesPartial, HidesRestarts, MissesMoves] {
        let noticed = (0..2_000).any(|seed| !run(seed, Some(bug)).1.is_empty());
        assert!(noticed, "{bug:?}");
    }
}
