//! Savepoints against a model that copies the whole state at each of them.

use std::collections::BTreeMap;

use meridian_base::Rng;

use super::*;
use crate::run::RunBuilder;

fn state() -> TxnState {
    TxnState::new(Owner::transaction(1, 0), Isolation::ReadCommitted, Timestamp(10))
}

#[test]
fn rollback_to_restores_the_older_value_and_names_the_locks_to_release() {
    let mut txn = state();
    txn.put(Key::from("a"), Some(Row::from("1")));
    txn.note_lock(&Key::from("a"), Strength::KeyShare, 0);
    let outer = txn.savepoint();
    txn.put(Key::from("a"), Some(Row::from("2")));
    txn.put(Key::from("a"), None);
    txn.note_lock(&Key::from("a"), Strength::Update, Strength::KeyShare.bit());
    txn.note_lock(&Key::from("b"), Strength::Update, 0);
    let mut released = Vec::new();
    assert!(txn.rollback_to(outer, |key, remains| released.push((key.clone(), remains))));
    assert_eq!(released, [(Key::from("b"), 0), (Key::from("a"), Strength::KeyShare.bit())]);
    assert_eq!(txn.own(b"a"), Some(Some(Row::from("1"))));
    assert!(txn.locked(b"b").is_none());
    assert!(txn.release(outer) && !txn.rollback_to(outer, |_, _| ()));
}

#[test]
fn random_savepoints_agree_with_copies_of_the_buffer() {
    for seed in 0..200 {
        let mut rng = Rng::seeded(seed);
        let mut txn = state();
        let mut model: BTreeMap<Key, Option<Row>> = BTreeMap::new();
        let mut copies: Vec<(SavepointId, BTreeMap<Key, Option<Row>>)> = Vec::new();
        for step in 0..200u64 {
            match rng.below(10) {
                0 => copies.push((txn.savepoint(), model.clone())),
                1 if !copies.is_empty() => {
                    let at = usize::try_from(rng.below(copies.len() as u64)).unwrap();
                    copies.truncate(at + 1);
                    assert!(txn.rollback_to(copies[at].0, |_, _| ()));
                    model = copies[at].1.clone();
                }
                2 if !copies.is_empty() => {
                    let at = usize::try_from(rng.below(copies.len() as u64)).unwrap();
                    assert!(txn.release(copies[at].0));
                    copies.truncate(at);
                }
                3 => {
                    let mut builder = RunBuilder::default();
                    let keys = (0..6).filter(|_| rng.below(3) == 0);
                    keys.for_each(|n| builder.push(&[b'k', n], step.to_string().as_bytes()));
                    if builder.is_empty() {
                        continue;
                    }
                    let run = Arc::new(builder.build().expect("no doubles").0);
                    let live = |at: &usize| matches!(model.get(run.key(*at)), Some(Some(_)));
                    let taken = (0..run.len()).find(live);
                    assert_eq!(txn.clash(&run), taken, "seed {seed}");
                    if taken.is_none() {
                        txn.put_run(Arc::clone(&run));
                        let rows = (0..run.len()).map(|at| (run.shared_key(at), Some(run.row(at))));
                        model.extend(rows);
                    }
                }
                _ => {
                    let key = Key::from(vec![b'k', rng.below(6) as u8]);
                    let value = (rng.below(4) > 0).then(|| Row::from(step.to_string()));
                    txn.put(key.clone(), value.clone());
                    model.insert(key, value);
                }
            }
            let own = txn.own_span(&Span::all());
            for (key, value) in &own {
                assert_eq!(txn.own(key).as_ref(), Some(value), "seed {seed}");
            }
            assert_eq!(own, model.clone().into_iter().collect::<Vec<_>>(), "seed {seed}");
        }
    }
}
