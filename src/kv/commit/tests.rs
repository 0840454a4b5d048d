//! The coordinator's decisions: when it tells the client what, and what it tells the participants.

use meridian_base::NodeId;

use super::*;
use crate::api::{Isolation, Key, TxnId};
use crate::range::Gateway;
use crate::txn::ReadSet;

const PATIENCE: Patience = Patience { prepare: 2, ask: 2 };
const CONFLICT: KvError = KvError::CONCURRENT_UPDATE;

fn requests() -> Vec<PrepareRequest> {
    let header = Header {
        txn: TxnId(1),
        gateway: Gateway { node: NodeId(1), epoch: 1 },
        deadline: Timestamp(100),
        expiry: Timestamp(200),
        participants: Arc::new([Key::from_static(b"a"), Key::from_static(b"q")]),
    };
    let request = |own| PrepareRequest {
        header: header.clone(),
        own,
        isolation: Isolation::ReadCommitted,
        read_ts: Timestamp(1),
        writes: Vec::new(),
        verify: Vec::new(),
        reads: ReadSet::default(),
        behalf: None,
        before: Timestamp::MAX,
    };
    (0..2).map(request).collect()
}

fn begin() -> Commit {
    let mut out = Vec::new();
    let commit = Commit::begin(requests(), PATIENCE, &mut out);
    assert_eq!(said(out), ["0 prepare", "1 prepare"]);
    commit
}

fn said(out: Vec<Action>) -> Vec<String> {
    out.into_iter()
        .map(|action| match action {
            Action::Send { to, message: Message::Prepare(_) } => format!("{to} prepare"),
            Action::Send { to, message: Message::Resolve(outcome) } => format!("{to} {outcome:?}"),
            Action::Send { to, message } => format!("{to} {message:?}").to_lowercase(),
            Action::Tell(Verdict::Failed(error)) => format!("failed {}", error.sqlstate()),
            Action::Tell(Verdict::Committed(ts)) => format!("committed at {}", ts.0),
            Action::Tell(Verdict::Ambiguous) => "ambiguous".into(),
            Action::Done => "done".into(),
        })
        .collect()
}

fn answer(commit: &mut Commit, from: usize, answer: Answer) -> Vec<String> {
    let mut out = Vec::new();
    commit.answer(from, answer, &mut out);
    said(out)
}

fn tick(commit: &mut Commit) -> Vec<String> {
    let mut out = Vec::new();
    commit.tick(&mut out);
    said(out)
}

fn is_committed_at_9(said: &[String]) {
    let ts = Timestamp(9);
    let resolve = |to| format!("{to} {:?}", Outcome::Committed(ts));
    assert_eq!(said, ["committed at 9".to_owned(), resolve(0), resolve(1)]);
}

#[test]
fn all_prepared_is_committed_at_the_newest_and_settled_when_all_have_resolved() {
    let mut commit = begin();
    let prepared = |n| Answer::Prepared(Timestamp(n));
    assert!(answer(&mut commit, 1, prepared(9)).is_empty());
    assert!(answer(&mut commit, 1, prepared(9)).is_empty(), "a copy is not the other one");
    assert_eq!(tick(&mut commit), ["0 prepare"], "sent again to who hasn't answered");
    is_committed_at_9(&answer(&mut commit, 0, prepared(5)));
    assert!(answer(&mut commit, 0, Answer::Resolved).is_empty());
    assert_eq!(tick(&mut commit).len(), 1);
    let end = answer(&mut commit, 1, Answer::Resolved);
    assert_eq!(end, ["0 settle", "1 settle", "done"]);
    assert!(tick(&mut commit).is_empty());
}

#[test]
fn a_refusal_decides_nothing_until_a_participant_is_known_never_to_prepare() {
    let refused = Answer::Refused(Refused::Error(CONFLICT));
    let mut commit = begin();
    assert!(answer(&mut commit, 0, Answer::Prepared(Timestamp(9))).is_empty());
    assert_eq!(tick(&mut commit), ["1 prepare"]);
    assert_eq!(answer(&mut commit, 1, refused.clone()), ["1 query"]);
    let ended = Answer::Status(Status::Ended(Outcome::Aborted));
    assert_eq!(answer(&mut commit, 1, ended), ["failed 40001", "0 Aborted", "1 Aborted"]);
    // A copy of the refused prepare went through after all, and was asked about.
    let mut commit = begin();
    answer(&mut commit, 0, Answer::Prepared(Timestamp(9)));
    tick(&mut commit);
    answer(&mut commit, 1, refused.clone());
    is_committed_at_9(&answer(&mut commit, 1, Answer::Status(Status::Prepared(Timestamp(3)))));
    // There is no copy.
    let mut commit = begin();
    answer(&mut commit, 0, Answer::Prepared(Timestamp(9)));
    assert_eq!(answer(&mut commit, 1, refused), ["failed 40001", "0 Aborted", "1 Aborted"]);
}

#[test]
fn what_passes_by_itself_is_tried_again_and_patience_ends_in_questions() {
    let mut commit = begin();
    assert!(answer(&mut commit, 1, Answer::Refused(Refused::Wait(TxnId(4)))).is_empty());
    assert_eq!(tick(&mut commit).len() + tick(&mut commit).len(), 4);
    assert_eq!(tick(&mut commit), ["0 query", "1 query"]);
    tick(&mut commit);
    tick(&mut commit);
    assert_eq!(tick(&mut commit), ["ambiguous", "0 query", "1 query"]);
    // The client has been answered; the records still get their outcome.
    let ended = Answer::Status(Status::Ended(Outcome::Aborted));
    assert_eq!(answer(&mut commit, 0, ended), ["0 Aborted", "1 Aborted"]);
}

#[test]
fn recovery_finds_the_coordinators_outcome_and_tells_no_client() {
    let header = requests()[0].header.clone();
    let mut out = Vec::new();
    let mut recovery = Commit::recover(header, PATIENCE, &mut out);
    assert_eq!(said(out), ["0 query", "1 query"]);
    assert!(answer(&mut recovery, 0, Answer::Status(Status::Prepared(Timestamp(9)))).is_empty());
    let resolves = answer(&mut recovery, 1, Answer::Status(Status::Prepared(Timestamp(5))));
    assert_eq!((resolves.len(), recovery.outcome()), (2, Some(Outcome::Committed(Timestamp(9)))));
}

#[test]
fn a_one_phase_commit_is_ambiguous_only_when_the_range_cannot_say() {
    let run = |events: &[Option<OnePhaseAnswer>]| {
        let mut out = Vec::new();
        let mut commit = OnePhase::begin(PATIENCE, &mut out);
        for event in events {
            match event {
                Some(event) => commit.answer(event.clone(), &mut out),
                None => commit.tick(&mut out),
            }
        }
        out.pop().expect("it began with something")
    };
    let conflict = Some(OnePhaseAnswer::Refused(Refused::Error(CONFLICT)));
    let failed = OnePhaseAction::Tell(Verdict::Failed(CONFLICT));
    let aborted = Some(OnePhaseAnswer::Ended(Outcome::Aborted));
    assert_eq!(run(std::slice::from_ref(&conflict)), failed);
    assert_eq!(run(&[None, conflict.clone()]), OnePhaseAction::Ask, "a copy may have succeeded");
    assert_eq!(run(&[None, conflict.clone(), aborted]), failed);
    let committed = Some(OnePhaseAnswer::Ended(Outcome::Committed(Timestamp(7))));
    let told = OnePhaseAction::Tell(Verdict::Committed(Timestamp(7)));
    assert_eq!(run(&[None, conflict, committed]), told);
    assert_eq!(run(&[None, None, None]), OnePhaseAction::Ask);
    let ambiguous = OnePhaseAction::Tell(Verdict::Ambiguous);
    assert_eq!(run(&[None, None, None, None, None, None]), ambiguous);
    assert_eq!(run(&[Some(OnePhaseAnswer::Unknown)]), ambiguous);
    let forgotten = Some(OnePhaseAnswer::Refused(Refused::Forgotten(Timestamp(9))));
    let anew = OnePhaseAction::CommitAnew(Timestamp(9));
    assert_eq!(run(std::slice::from_ref(&forgotten)), anew, "its only copy was refused");
    assert_eq!(run(&[None, forgotten]), OnePhaseAction::Ask);
}

#[test]
fn every_range_that_is_written_verified_or_read_has_a_part() {
    use crate::api::{Span, Strength};
    use crate::range::Verify;
    use crate::txn::{VersionTag, Write};
    let ranges = [Span::new("", "c"), Span::new("c", "m"), Span::new("m", "t"), Span::new("t", "")];
    let write =
        |key: &str| Write { key: key.to_owned().into(), value: None, expect: VersionTag::Blind };
    let strength = Strength::KeyShare;
    let verify = vec![Verify { key: "n".into(), strength, seen: Timestamp::MIN }];
    let mut reads = ReadSet::default();
    reads.add_span(Span::new("b", "d"));
    let parts = plan(vec![write("a"), write("z")], verify.clone(), &reads, &ranges);
    let shape = |parts: &[Part]| -> Vec<(usize, Key, usize, usize, bool)> {
        let one =
            |p: &Part| (p.range, p.key.clone(), p.writes.len(), p.verify.len(), p.reads.is_empty());
        parts.iter().map(one).collect()
    };
    let key = Key::from_static;
    let all = [
        (0, key(b"a"), 1, 0, false),
        (1, key(b"c"), 0, 0, false),
        (2, key(b"n"), 0, 1, true),
        (3, key(b"z"), 1, 0, true),
    ];
    assert_eq!(shape(&parts), all);
    assert!(parts[1].reads.contains(b"cc") && !parts[1].reads.contains(b"b"));
    let unread = plan(vec![write("a"), write("b")], Vec::new(), &ReadSet::default(), &ranges);
    assert_eq!(shape(&unread), [(0, key(b"a"), 2, 0, true)], "one part, one phase");
}
