//! Runs: order, searches, doubles.

use super::*;

fn run(keys: &[&str]) -> Result<Ordered, Twice> {
    let mut builder = RunBuilder::default();
    for key in keys {
        builder.push(key.as_bytes(), format!("row of {key}").as_bytes());
    }
    builder.build()
}

#[test]
fn rows_are_found_whatever_order_they_came_in() {
    let (sorted, order) = run(&["a", "bb", "c", "e"]).expect("no doubles");
    assert_eq!(order, None);
    let (shuffled, order) = run(&["e", "a", "c", "bb"]).expect("no doubles");
    assert_eq!((&shuffled, order), (&sorted, Some(vec![1, 3, 2, 0])));
    assert_eq!((sorted.first(), sorted.last()), (&b"a"[..], &b"e"[..]));
    for (at, key) in ["a", "bb", "c", "e"].into_iter().enumerate() {
        assert_eq!(sorted.find(key.as_bytes()), Some(at));
        assert_eq!(sorted.shared_key(at), key.as_bytes());
        assert_eq!(sorted.row(at), format!("row of {key}"));
    }
    for absent in ["", "b", "d", "f"] {
        assert_eq!(sorted.find(absent.as_bytes()), None);
    }
}

#[test]
fn the_later_of_two_rows_with_one_key_is_named() {
    for (keys, number) in [(&["b", "c", "a", "a", "b"][..], 3), (&["a", "a"], 1)] {
        let twice = run(keys).expect_err("a double");
        assert_eq!(
            (twice.number, &twice.key[..], &twice.row[..]),
            (number, &b"a"[..], &b"row of a"[..])
        );
    }
}

#[test]
fn searches_agree_with_a_plain_walk() {
    let names: Vec<String> = (0..200).map(|n| format!("{:04}", n * 2)).collect();
    let keys: Vec<&str> = names.iter().map(String::as_str).collect();
    let (all, _) = run(&keys).expect("no doubles");
    for from in [0, 1, 7, 100, 199, 200] {
        for n in 0..402 {
            let key = format!("{n:04}");
            let plain = (from..200).find(|at| all.key(*at) >= key.as_bytes()).unwrap_or(200);
            assert_eq!(all.lower_bound(from, key.as_bytes()), plain, "{key} from {from}");
        }
    }
    let (odd, _) = run(&["0001", "0003", "0100x", "0399"]).expect("no doubles");
    assert_eq!(odd.clash(&all), None);
    let (even, _) = run(&["0001", "0301", "0302", "0304"]).expect("no doubles");
    assert_eq!(even.clash(&all), Some(2));
    assert_eq!(all.clash(&even), Some(151));
}

#[test]
fn pieces_hold_as_many_rows_as_fit() {
    let (all, _) = run(&["a", "b", "c", "d"]).expect("no doubles");
    let one = all.size() / 4;
    for (bytes, rows) in [(0, 1), (one, 1), (2 * one, 2), (3 * one + 1, 3), (4 * one, 4)] {
        assert_eq!(all.fitting(0, bytes), rows, "{bytes} bytes");
    }
    assert_eq!(all.fitting(3, 0), 1);
    assert_eq!(all.encoded(1, 3).len(), 2 * one);
}
