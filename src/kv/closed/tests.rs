//! Promises, who keeps them, and how they travel.

use super::*;
use crate::api::{Isolation, Key, KvError};
use crate::range::{CommitRequest, LogEntry, Newest, Sequencer, Version};
use crate::txn::{VersionTag, Write};

fn at(ts: u64) -> Timestamp {
    Timestamp(ts)
}

fn promise(index: u64, ts: u64) -> Promise {
    Promise { index, ts: at(ts) }
}

#[test]
fn a_copy_is_closed_up_to_what_it_has_applied() {
    let mut copy = Copy::default();
    copy.apply(5);
    copy.promise(promise(5, 100));
    assert_eq!(copy.closed(), at(100));
    // It lags, and there are new promises all the time: the first one is reached all the same.
    for later in 0..10 {
        copy.promise(promise(6 + later, 200 + later));
    }
    assert_eq!(copy.closed(), at(100));
    copy.apply(6);
    assert_eq!(copy.closed(), at(200));
    copy.apply(14);
    assert_eq!(copy.closed(), at(200), "the newest isn't reached");
    copy.apply(15);
    assert_eq!(copy.closed(), at(209));
    // What is late says nothing new.
    copy.promise(promise(3, 50));
    assert_eq!(copy.closed(), at(209));
    copy.lose();
    assert_eq!(copy.closed(), Timestamp::MIN);
    copy.promise(promise(15, 300));
    assert_eq!(copy.closed(), Timestamp::MIN, "nothing is here");
    copy.apply(20);
    assert_eq!(copy.closed(), at(300));
}

#[test]
fn quiet_ranges_cost_one_number() {
    let (mut teller, mut listener) = (Teller::new(7), Listener::default());
    let all = |index: u64| (1..=1_000).map(move |id| (RangeId(id), Standing::Quiet(index)));
    let first = teller.tell(at(10), all(3)).expect("all is new");
    assert!(first.anew && first.quiet.len() == 1_000);
    assert_eq!(listener.hear(first).expect("the first").len(), 1_000);
    teller.answered(true);
    let next = teller.tell(at(20), all(3)).expect("time goes on");
    assert!(!next.anew && next.quiet.is_empty() && next.busy.is_empty() && next.gone.is_empty());
    let heard = listener.hear(next.clone()).expect("the next one");
    assert!(heard.iter().all(|(_, it)| *it == promise(3, 20)) && heard.len() == 1_000);
    assert_eq!(listener.hear(next), None, "a copy of it");
    teller.answered(true);
    // One is written to, one is led elsewhere now.
    let change = |(id, standing): (RangeId, Standing)| match id.0 {
        1 => Some((id, Standing::Busy(promise(4, 25)))),
        2 => None,
        _ => Some((id, standing)),
    };
    let third = teller.tell(at(30), all(3).filter_map(change)).expect("changes");
    assert_eq!((third.busy.len(), &third.gone[..]), (1, &[RangeId(2)][..]));
    let heard: BTreeMap<_, _> = listener.hear(third).expect("the third").into_iter().collect();
    assert_eq!((heard.get(&RangeId(1)), heard.get(&RangeId(2))), (Some(&promise(4, 25)), None));
    assert_eq!(heard.get(&RangeId(3)), Some(&promise(3, 30)));
}

#[test]
fn after_a_message_that_was_not_heard_all_begins_anew() {
    let (mut teller, mut listener) = (Teller::new(7), Listener::default());
    let one = |index| [(RangeId(1), Standing::Quiet(index))];
    let lost = teller.tell(at(10), one(1)).expect("new");
    teller.answered(false);
    let again = teller.tell(at(20), one(1)).expect("anew");
    assert!(again.anew);
    assert!(listener.hear(again).is_some());
    assert_eq!(listener.hear(lost), None, "it comes after all");
    teller.answered(true);
    // The other node starts again.
    let mut listener = Listener::default();
    let unknown = teller.tell(at(30), one(1)).expect("time goes on");
    assert_eq!(listener.hear(unknown), None);
    teller.answered(false);
    let anew = teller.tell(at(40), one(1)).expect("anew");
    assert_eq!(listener.hear(anew), Some(vec![(RangeId(1), promise(1, 40))]));
    // This one does.
    let mut teller = Teller::new(8);
    let first = teller.tell(at(50), one(2)).expect("anew");
    assert!(listener.hear(first).is_some());
    assert_eq!(Teller::new(9).tell(at(60), []), None, "nothing to tell");
}

struct Nothing;

impl Newest for Nothing {
    fn newest(&self, _: &[u8]) -> Result<Option<Version>, KvError> {
        Ok(None)
    }
}

fn put(key: &'static str) -> CommitRequest<'static> {
    let write = Write { key: Key::from(key), value: Some("x".into()), expect: VersionTag::Blind };
    let (isolation, read_ts) = (Isolation::ReadCommitted, Timestamp::MIN);
    let (runs, reads, origin) = (Vec::new(), None, None);
    CommitRequest { isolation, read_ts, writes: vec![write], runs, reads, origin }
}

#[test]
fn what_is_closed_stays_as_it_is() {
    let mut range = Sequencer::new(Timestamp::MIN, 16);
    range.lease(at(1_000));
    let command = range.sequence(at(10), put("a"), &Nothing).expect("sequenced");
    assert_eq!(range.close(at(50)), Some(at(9)), "something is under way");
    range.landed(&LogEntry::Commit(command));
    assert_eq!(range.close(at(60)), Some(at(60)));
    // A clock that goes back, or is behind, writes above all the same.
    assert_eq!(range.sequence(at(20), put("a"), &Nothing).expect("sequenced").ts, at(61));
    range.abandon(at(61));
    assert_eq!(range.close(at(1_000)), None, "the next leaseholder may begin there");
    range.freeze(true);
    assert_eq!(range.close(at(70)), None, "half of it may be somebody else's soon");
}

/// A leaseholder that tells its followers every 200 ms, with some delay: how far an idle copy is behind.
#[test]
fn an_idle_copy_is_less_than_half_a_second_behind() {
    const PERIOD: u64 = 200_000;
    let (mut range, mut teller) = (Sequencer::new(Timestamp::MIN, 16), Teller::new(1));
    let (mut listener, mut copy) = (Listener::default(), Copy::default());
    let mut under_way: Option<(u64, Tidings)> = None;
    let mut behind_most = 0;
    copy.apply(1);
    for micros in (0..10_000_000).step_by(1_000) {
        let now = Timestamp::from_micros(micros);
        if micros % PERIOD == 0 && !teller.waits() {
            let closed = range.close(now).expect("it leads");
            assert_eq!(closed, now);
            // 10 ms there, or now and then 150.
            let delay = if micros % 1_400_000 == 0 { 150_000 } else { 10_000 };
            let tidings = teller.tell(now, [(RangeId(1), Standing::Quiet(1))]).expect("news");
            under_way = Some((micros + delay, tidings));
        }
        if under_way.as_ref().is_some_and(|(due, _)| *due <= micros) {
            let (_, tidings) = under_way.take().expect("it was there");
            for (_, promise) in listener.hear(tidings).expect("in order") {
                copy.promise(promise);
            }
            teller.answered(true);
        }
        if micros > PERIOD {
            behind_most = behind_most.max(micros - copy.closed().micros());
        }
    }
    assert!((PERIOD..500_000).contains(&behind_most), "{behind_most} µs");
}
