//! Two nodes step by step. What must hold for many of them is the simulator's to show.

use super::*;

const OFFSET: Duration = Duration::from_millis(250);

fn at(millis: u64) -> Now {
    Now { hlc: Timestamp::from_micros(1_000_000 + millis * 1_000), mono: 1 + millis * 1_000 }
}

/// A started node that knows one peer.
fn started(me: u64, peer: u64, persisted: Persisted) -> Liveness {
    let mut node = Liveness::new(NodeId(me), persisted, OFFSET);
    node.set_peers([NodeId(me), NodeId(peer)].into());
    let effects = node.step(at(0), Event::Tick);
    assert!(matches!(effects[..], [Effect::Persist(_)]), "{effects:?}");
    assert!(node.step(at(0), Event::Tick).is_empty(), "nothing before the incarnation is synced");
    let effects = node.step(at(0), Event::Persisted);
    assert!(matches!(effects[..], [Effect::Send(..)]), "{effects:?}");
    node
}

fn sent(effects: &[Effect]) -> Vec<Message> {
    let message = |effect: &Effect| match effect {
        Effect::Send(_, message) => Some(message.clone()),
        _ => None,
    };
    effects.iter().filter_map(message).collect()
}

fn heartbeat(epoch: u64, now: Now, millis: u64) -> Message {
    let until = after(now.hlc, Duration::from_millis(millis));
    Message::Heartbeat { epoch, until, sent: now.mono, views: Vec::new() }
}

fn receive(node: &mut Liveness, now: Now, message: Message) -> Vec<Effect> {
    node.step(now, Event::Received(NodeId(1), message))
}

#[test]
fn support_is_given_withdrawn_and_given_anew() {
    let mut v = started(2, 1, Persisted::default());
    let effects = receive(&mut v, at(1), heartbeat(1 << 20, at(1), 600));
    assert!(matches!(&effects[..], [Effect::Persist(_)]), "the epoch is synced first: {effects:?}");
    assert!(!v.supported(NodeId(1)));
    let effects = v.step(at(2), Event::Persisted);
    let until = after(at(1).hlc, Duration::from_millis(600));
    assert_eq!(sent(&effects), [Message::Ack { epoch: 1 << 20, until, echo: 0 }]);
    assert_eq!(v.support_epoch(NodeId(1)), Some(1 << 20));

    for millis in (20..=600).step_by(20) {
        let effects = v.step(at(millis), Event::Tick);
        assert!(!effects.iter().any(|e| matches!(e, Effect::Persist(_))), "{effects:?}");
    }
    let effects = v.step(at(620), Event::Tick);
    assert!(matches!(effects.last(), Some(Effect::Persist(_))), "withdraws: {effects:?}");
    assert!(v.promises(NodeId(1), 1 << 20), "bound until that is synced");
    assert_eq!(v.support_epoch(NodeId(1)), None);
    let still = (NodeId(1), View { epoch: 1 << 20, supported: true });
    let says = |message: &Message| matches!(message, Message::Heartbeat { views, .. } if views.contains(&still));
    let told = sent(&v.step(at(720), Event::Tick));
    assert!(told.iter().any(says), "candidates are not called too early: {told:?}");
    let effects = v.step(at(725), Event::Persisted);
    assert_eq!(effects[0], Effect::Withdrawn(NodeId(1), (1 << 20) + 1));
    assert!(matches!(sent(&effects)[1], Message::Heartbeat { .. }), "told at once: {effects:?}");
    assert!(!v.promises(NodeId(1), 1 << 20));

    assert!(!v.has_withdrawn(NodeId(1), NodeId(1), 1 << 20), "nobody withdraws from itself");
    let effects = receive(&mut v, at(730), heartbeat(1 << 20, at(730), 600));
    let told = Message::Ack { epoch: (1 << 20) + 1, until: Timestamp::MIN, echo: at(730).mono };
    assert_eq!(sent(&effects), [told], "the old epoch is over for good");
    receive(&mut v, at(740), heartbeat((1 << 20) + 1, at(740), 600));
    assert!(v.supported(NodeId(1)));
}

#[test]
fn a_new_incarnation_waits_for_the_support_of_the_old_one() {
    let mut v = started(2, 1, Persisted::default());
    receive(&mut v, at(1), heartbeat(1 << 20, at(1), 600));
    v.step(at(2), Event::Persisted);
    receive(&mut v, at(100), heartbeat(2 << 20, at(100), 600));
    assert_eq!(v.support_epoch(NodeId(1)), Some(1 << 20));
    receive(&mut v, at(610), heartbeat(2 << 20, at(610), 600));
    let effects = v.step(at(611), Event::Persisted);
    assert_eq!(effects[0], Effect::Withdrawn(NodeId(1), 2 << 20), "{effects:?}");
    assert_eq!(v.support_epoch(NodeId(1)), Some(2 << 20));
}

#[test]
fn a_restart_honours_what_may_have_been_promised() {
    let mut v = started(2, 1, Persisted::default());
    let bound = match &receive(&mut v, at(1), heartbeat(1 << 20, at(1), 600))[..] {
        [Effect::Persist(persisted)] => persisted.clone(),
        other => panic!("{other:?}"),
    };
    v.step(at(2), Event::Persisted);
    let mut v = started(2, 1, bound.clone());
    assert_eq!(v.incarnation(), 2);
    assert!(!v.may_vote(at(1_599).hlc), "asked for until 600, bound a second later");
    assert!(v.may_vote(at(1_600).hlc));
    let effects = receive(&mut v, at(5), heartbeat(1 << 20, at(5), 600));
    let told = Message::Ack { epoch: (1 << 20) + 1, until: Timestamp::MIN, echo: at(5).mono };
    assert_eq!(sent(&effects), [told]);
    assert_eq!(Persisted::decode(&bound.encode()), Some(bound));
}

#[test]
fn grants_stay_within_the_bound_on_disk() {
    let mut v = started(2, 1, Persisted::default());
    receive(&mut v, at(1), heartbeat(1 << 20, at(1), 600));
    v.step(at(2), Event::Persisted);
    // 1600 is on disk. Support until 1900 needs more, until then it is cut.
    let effects = receive(&mut v, at(900), heartbeat(1 << 20, at(900), 1_000));
    let bound = after(at(1_600).hlc, Duration::ZERO);
    let cut = Message::Ack { epoch: 1 << 20, until: bound, echo: at(900).mono };
    assert_eq!(sent(&effects), [cut]);
    let effects = v.step(at(910), Event::Persisted);
    let until = after(at(1_900).hlc, Duration::ZERO);
    assert_eq!(sent(&effects), [Message::Ack { epoch: 1 << 20, until, echo: 0 }]);
    let crazy = receive(&mut v, at(920), heartbeat(1 << 20, at(920), 3_300));
    assert!(crazy.is_empty(), "a clock that far ahead: {crazy:?}");
}

#[test]
fn who_slept_is_patient() {
    let mut v = started(2, 1, Persisted::default());
    receive(&mut v, at(1), heartbeat(1 << 20, at(1), 600));
    v.step(at(2), Event::Persisted);
    v.step(at(20), Event::Tick);
    v.step(at(1_020), Event::Tick);
    v.step(at(1_100), Event::Tick);
    assert_eq!(v.support_epoch(NodeId(1)), Some(1 << 20));
    v.step(at(1_120), Event::Tick);
    assert_eq!(v.support_epoch(NodeId(1)), None, "but not for ever");
}

#[test]
fn a_stalled_log_asks_for_nothing_and_stalls_make_support_longer() {
    let mut n = started(1, 2, Persisted::default());
    let asks = |effects: &[Effect]| {
        sent(effects).iter().any(|m| matches!(m, Message::Heartbeat { until, .. } if until.0 > 0))
    };
    let mut until = |from: u64, to: u64, stalled: bool| -> Vec<Effect> {
        n.step(at(from), Event::LogStalled(stalled));
        (from..=to).step_by(20).flat_map(|millis| n.step(at(millis), Event::Tick)).collect()
    };
    assert!(!asks(&until(20, 100, true)));
    assert!(asks(&until(120, 220, false)));
    assert_eq!(n.support_timeout(), SUPPORT_MIN);
    let mut millis = 220;
    for round in 0..400_u64 {
        millis += if round < 20 && round % 4 == 0 { 220 } else { 100 };
        for late in (0..100).rev().step_by(20) {
            n.step(at(millis - late), Event::Tick);
        }
        if round == 30 {
            let overslept = 140 - TICK.as_millis();
            assert_eq!(n.support_timeout().as_millis(), overslept * 6 + 250);
        }
    }
    assert_eq!(n.support_timeout(), SUPPORT_MIN, "half a minute of quiet");
}

#[test]
fn what_is_asked_for_stays_within_the_bound_too() {
    let mut n = started(1, 2, Persisted::default());
    let asked = |effects: &[Effect]| match sent(effects).first() {
        Some(Message::Heartbeat { until, .. }) => Some(until.micros() / 1_000 - 1_000),
        _ => None,
    };
    let mut last = None;
    for millis in (20..1_500).step_by(20) {
        last = asked(&n.step(at(millis), Event::Tick)).or(last);
    }
    assert_eq!(last, Some(1_600), "a disk that takes so long");
    n.step(at(1_500), Event::Persisted);
    let effects: Vec<Effect> =
        (1_520..1_640).step_by(20).flat_map(|millis| n.step(at(millis), Event::Tick)).collect();
    assert!(asked(&effects) > Some(2_000), "{effects:?}");
}

#[test]
fn messages_survive_the_wire() {
    let view = View { epoch: 9, supported: true };
    let views = vec![(NodeId(3), view), (NodeId(4), View { epoch: 1, supported: false })];
    let all = [
        Message::Heartbeat { epoch: 1, until: Timestamp(2), sent: 3, views },
        Message::Ack { epoch: 4, until: Timestamp(5), echo: 6 },
    ];
    for message in all {
        let bytes = message.encode();
        assert_eq!(Message::decode(&bytes), Some(message));
        assert_eq!(Message::decode(&bytes[..bytes.len() - 1]), None);
    }
}
