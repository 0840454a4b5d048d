//! Messages about the parts of commits over several ranges: from a coordinator to the leaseholder of a part.
//!
//! Every one may be sent again, to whomever leads by then: the range tells copies apart.

use bytes::Bytes;
use meridian_base::{NodeId, Span};
use meridian_kv::api::{Isolation, KvError, Strength, Timestamp, TxnId};
use meridian_kv::commit::{Answer as PartAnswer, Message};
use meridian_kv::locks::Owner;
use meridian_kv::range::{
    Gateway, Header, Outcome as Decided, PrepareRequest, Refused, Status, Verify,
};
use meridian_kv::txn::{ReadSet, VersionTag, Write};
use meridian_rpc::Class;
use std::sync::Arc;

use super::ask::{Tried, encode};
use super::failures::WireError;
use super::fences::{Fenced, WireFenced};
use super::guests::Guest;
use super::messages::{Answer, Coded, Op, Put, Who, WireSpan, WireVerify};
use super::txn::ABSENT;
use super::{Cluster, serve};
use crate::commit::{CommitError, Locks};
use crate::coordinator::Given;
use crate::parts::{Holder, Reply, owner_of};

/// A message to one part of a transaction.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PartMessage {
    #[prost(fixed64, tag = "1")]
    txn: u64,
    #[prost(uint64, tag = "2")]
    gateway: u64,
    #[prost(uint64, tag = "3")]
    epoch: u64,
    #[prost(fixed64, tag = "4")]
    deadline: u64,
    #[prost(fixed64, tag = "5")]
    expiry: u64,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    participants: Vec<Bytes>,
    #[prost(uint32, tag = "7")]
    own: u32,
    #[prost(oneof = "Saying", tags = "8, 9, 10, 11, 12")]
    saying: Option<Saying>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Saying {
    #[prost(message, tag = "8")]
    Prepare(WirePrepare),
    #[prost(bool, tag = "9")]
    Query(bool),
    /// It is committed at this timestamp.
    #[prost(fixed64, tag = "10")]
    Committed(u64),
    #[prost(bool, tag = "11")]
    Aborted(bool),
    #[prost(bool, tag = "12")]
    Settle(bool),
}

#[derive(Clone, PartialEq, prost::Message)]
struct WirePrepare {
    #[prost(message, required, tag = "1")]
    who: Who,
    #[prost(uint32, tag = "2")]
    isolation: u32,
    #[prost(fixed64, tag = "3")]
    read_ts: u64,
    #[prost(message, repeated, tag = "4")]
    puts: Vec<Put>,
    #[prost(message, repeated, tag = "5")]
    verify: Vec<WireVerify>,
    #[prost(message, repeated, tag = "6")]
    reads: Vec<WireSpan>,
    /// Where its strong table locks are held, if it has any.
    #[prost(message, optional, tag = "9")]
    fenced: Option<WireFenced>,
    /// The hold in whose name it writes; 0 = none.
    #[prost(fixed64, tag = "8")]
    behalf: u64,
    /// This copy is good below this timestamp.
    #[prost(fixed64, tag = "10")]
    before: u64,
}

/// What a part answers.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PartReply {
    /// 0 ask again, 1 prepared, 2 resolved, 3 the part is split, 4 … a status, 8 … a refusal.
    #[prost(uint32, tag = "1")]
    kind: u32,
    /// A timestamp, or the transaction that is to be waited for.
    #[prost(fixed64, tag = "2")]
    number: u64,
    #[prost(message, optional, tag = "3")]
    error: Option<WireError>,
}

const LATER: u32 = 0;
const PREPARED: u32 = 1;
const RESOLVED: u32 = 2;
const SPLIT: u32 = 3;
const IS_PREPARED: u32 = 4;
const IS_COMMITTED: u32 = 5;
const IS_ABORTED: u32 = 6;
const IS_FORGOTTEN: u32 = 7;
const FAILED: u32 = 8;
const WAIT: u32 = 9;
const WAS_COMMITTED: u32 = 10;
const WAS_ABORTED: u32 = 11;
const IN_FLIGHT: u32 = 12;
const FORGOTTEN: u32 = 13;
const EXPIRED: u32 = 14;
const BUSY: u32 = 15;
const NO_LEASE: u32 = 16;

impl PartReply {
    fn new(reply: Reply) -> PartReply {
        let of = |kind, number| PartReply { kind, number, error: None };
        let answer = match reply {
            Reply::Later | Reply::Closed => return of(LATER, 0),
            Reply::Split => return of(SPLIT, 0),
            Reply::Answer(answer) => answer,
        };
        match answer {
            PartAnswer::Prepared(ts) => of(PREPARED, ts.0),
            PartAnswer::Resolved => of(RESOLVED, 0),
            PartAnswer::Status(Status::Prepared(ts)) => of(IS_PREPARED, ts.0),
            PartAnswer::Status(Status::Ended(Decided::Committed(ts))) => of(IS_COMMITTED, ts.0),
            PartAnswer::Status(Status::Ended(Decided::Aborted)) => of(IS_ABORTED, 0),
            PartAnswer::Status(Status::Forgotten) => of(IS_FORGOTTEN, 0),
            PartAnswer::Refused(refused) => match refused {
                // Another one will lead the part.
                Refused::Error(KvError::Stopping) => of(LATER, 0),
                Refused::Error(error) => PartReply { error: Some(error.into()), ..of(FAILED, 0) },
                Refused::Wait(txn) => of(WAIT, txn.0),
                Refused::Decided(Decided::Committed(ts)) => of(WAS_COMMITTED, ts.0),
                Refused::Decided(Decided::Aborted) => of(WAS_ABORTED, 0),
                Refused::InFlight(ts) => of(IN_FLIGHT, ts.0),
                Refused::Forgotten(ts) => of(FORGOTTEN, ts.0),
                Refused::Expired => of(EXPIRED, 0),
                Refused::Busy => of(BUSY, 0),
                Refused::NoLease => of(NO_LEASE, 0),
            },
        }
    }

    fn reply(self) -> Reply {
        let ts = Timestamp(self.number);
        let status = |status| Reply::Answer(PartAnswer::Status(status));
        let refused = |refused| Reply::Answer(PartAnswer::Refused(refused));
        match self.kind {
            PREPARED => PartAnswer::Prepared(ts).into(),
            RESOLVED => PartAnswer::Resolved.into(),
            SPLIT => Reply::Split,
            IS_PREPARED => status(Status::Prepared(ts)),
            IS_COMMITTED => status(Status::Ended(Decided::Committed(ts))),
            IS_ABORTED => status(Status::Ended(Decided::Aborted)),
            IS_FORGOTTEN => status(Status::Forgotten),
            FAILED => match self.error {
                Some(error) => refused(Refused::Error(error.into())),
                None => Reply::Later,
            },
            WAIT => refused(Refused::Wait(TxnId(self.number))),
            WAS_COMMITTED => refused(Refused::Decided(Decided::Committed(ts))),
            WAS_ABORTED => refused(Refused::Decided(Decided::Aborted)),
            IN_FLIGHT => refused(Refused::InFlight(ts)),
            FORGOTTEN => refused(Refused::Forgotten(ts)),
            EXPIRED => refused(Refused::Expired),
            BUSY => refused(Refused::Busy),
            NO_LEASE => refused(Refused::NoLease),
            _ => Reply::Later,
        }
    }
}

impl From<&Write> for Put {
    fn from(write: &Write) -> Put {
        Put {
            key: write.key.clone(),
            row: write.value.clone(),
            expect: match write.expect {
                VersionTag::Newest(ts) => Some(ts.0),
                VersionTag::Absent => Some(ABSENT),
                VersionTag::Blind => None,
            },
        }
    }
}

impl From<Put> for Write {
    fn from(put: Put) -> Write {
        Write {
            key: put.key,
            value: put.row,
            expect: match put.expect {
                Some(ABSENT) => VersionTag::Absent,
                Some(ts) => VersionTag::Newest(Timestamp(ts)),
                None => VersionTag::Blind,
            },
        }
    }
}

impl WirePrepare {
    fn new(request: &PrepareRequest, given: Option<&Given>) -> WirePrepare {
        let verify = |verify: &Verify| WireVerify {
            key: verify.key.clone(),
            strength: verify.strength.code(),
            seen: verify.seen.0,
        };
        let points = request.reads.points().map(|key| Span::point(key));
        let spans = request.reads.spans();
        let spans = spans.map(|(start, end)| Span { start: start.clone(), end: end.clone() });
        let fenced = given.and_then(|given| given.fenced.as_ref());
        let owner = given.map_or(owner_of(request.header.txn), Given::owner);
        WirePrepare {
            who: Who { txn: owner.id, session: owner.session },
            isolation: request.isolation.code(),
            read_ts: request.read_ts.0,
            puts: request.writes.iter().map(Put::from).collect(),
            verify: request.verify.iter().map(verify).collect(),
            reads: points
                .chain(spans)
                .map(|span| WireSpan { start: span.start, end: span.end })
                .collect(),
            fenced: fenced.map(WireFenced::from),
            behalf: request.behalf.map_or(0, |hold| hold.0),
            before: request.before.0,
        }
    }

    /// `None` when it was written by a version that says more than this one understands.
    fn decode(self, header: &Header, own: usize) -> Option<PrepareRequest> {
        let verify = |verify: WireVerify| {
            let strength = Strength::decode(verify.strength)?;
            Some(Verify { key: verify.key, strength, seen: Timestamp(verify.seen) })
        };
        let mut reads = ReadSet::default();
        for WireSpan { start, end } in self.reads {
            reads.add_span(Span { start, end });
        }
        Some(PrepareRequest {
            header: header.clone(),
            own,
            isolation: Isolation::decode(self.isolation)?,
            read_ts: Timestamp(self.read_ts),
            writes: self.puts.into_iter().map(Write::from).collect(),
            verify: self.verify.into_iter().map(verify).collect::<Option<_>>()?,
            reads,
            behalf: (self.behalf != 0).then_some(TxnId(self.behalf)),
            before: Timestamp(self.before),
        })
    }
}

impl PartMessage {
    fn new(header: &Header, own: usize, message: &Message, given: Option<&Given>) -> PartMessage {
        let saying = match message {
            Message::Prepare(request) => Saying::Prepare(WirePrepare::new(request, given)),
            Message::Query => Saying::Query(true),
            Message::Resolve(Decided::Committed(ts)) => Saying::Committed(ts.0),
            Message::Resolve(Decided::Aborted) => Saying::Aborted(true),
            Message::Settle => Saying::Settle(true),
        };
        PartMessage {
            txn: header.txn.0,
            gateway: header.gateway.node.0,
            epoch: header.gateway.epoch,
            deadline: header.deadline.0,
            expiry: header.expiry.0,
            participants: header.participants.to_vec(),
            own: u32::try_from(own).expect("as many parts as ranges"),
            saying: Some(saying),
        }
    }

    fn header(&self) -> Header {
        Header {
            txn: TxnId(self.txn),
            gateway: Gateway { node: NodeId(self.gateway), epoch: self.epoch },
            deadline: Timestamp(self.deadline),
            expiry: Timestamp(self.expiry),
            participants: self.participants.iter().cloned().collect(),
        }
    }
}

/// What a transaction of another node has locked here.
impl Holder for Guest {
    fn owner(&self) -> Owner {
        Guest::owner(self)
    }

    fn holds(&self, key: &[u8]) -> bool {
        self.holds_key(key)
    }

    fn take(&self, bounds: &Span) -> Locks {
        self.take_locks_within(bounds)
    }
}

/// Who has locked nothing here.
struct Stranger(Owner);

impl Holder for Stranger {
    fn owner(&self) -> Owner {
        self.0
    }

    fn holds(&self, _: &[u8]) -> bool {
        false
    }

    fn take(&self, _: &Span) -> Locks {
        Locks::default()
    }
}

impl Cluster {
    /// Sends a message to a part that is led by another node.
    pub(crate) async fn part_at(
        &self,
        node: NodeId,
        header: &Header,
        own: usize,
        message: Message,
        given: Option<&Given>,
    ) -> Reply {
        let body = encode(Op::Part(PartMessage::new(header, own, &message, given)));
        match self.try_at(node, body, Class::Kv).await {
            Tried::Answer(Answer::Part(reply)) => reply.reply(),
            Tried::Answer(Answer::NotHere(leader)) => {
                self.follow(&header.participants[own], node, leader);
                Reply::Later
            }
            Tried::Answer(_) | Tried::NotDone | Tried::Unknown => Reply::Later,
        }
    }

    /// Answers a message to a part that this node leads.
    pub(super) async fn serve_part(self: &Arc<Self>, asked: PartMessage) -> serve::Served {
        let (header, own) = (asked.header(), asked.own as usize);
        let key = header.participants.get(own).ok_or_else(|| serve::unknown("part"))?;
        let range = self.here(key)?.range;
        let (mut guest, mut stranger) = (None, Stranger(owner_of(header.txn)));
        let mut _passing = None;
        let message = match asked.saying {
            Some(Saying::Prepare(mut prepare)) => {
                let fenced = prepare.fenced.take().map(Fenced::from);
                _passing = match self.pass_fence(&range, fenced.as_ref()) {
                    Ok(passing) => passing,
                    Err(CommitError::Refused(error)) => {
                        let refused = PartAnswer::Refused(Refused::Error(error));
                        return Ok(Answer::Part(PartReply::new(refused.into())));
                    }
                    Err(_) => return Ok(Answer::Part(PartReply::new(Reply::Later))),
                };
                stranger = Stranger(serve::owner(&prepare.who));
                guest = self.guests.get(prepare.who.txn);
                let request = prepare.decode(&header, own);
                Message::Prepare(Arc::new(request.ok_or_else(|| serve::unknown("prepare"))?))
            }
            Some(Saying::Query(_)) => Message::Query,
            Some(Saying::Committed(ts)) => Message::Resolve(Decided::Committed(Timestamp(ts))),
            Some(Saying::Aborted(_)) => Message::Resolve(Decided::Aborted),
            Some(Saying::Settle(_)) => Message::Settle,
            None => return Err(serve::unknown("message")),
        };
        let holder = guest.as_deref().map_or(&stranger as &dyn Holder, |guest| guest);
        let holder = Some(holder);
        match range.pipeline.part(&self.core, &header, own, message, holder).await {
            Ok(reply) => Ok(Answer::Part(PartReply::new(reply))),
            Err(CommitError::Moved) => Err(self.not_here(key)),
            Err(CommitError::Refused(error)) => Err(error.into()),
            Err(CommitError::Unknown(_)) => Ok(Answer::Part(PartReply::new(Reply::Later))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_kv::api::KvError;
    use prost::Message as _;

    #[test]
    fn what_a_part_is_told_and_answers_comes_across() {
        let header = Header {
            txn: TxnId(7),
            gateway: Gateway { node: NodeId(2), epoch: 9 },
            deadline: Timestamp(100),
            expiry: Timestamp(200),
            participants: Arc::from([Bytes::from("a"), Bytes::from("q")]),
        };
        let mut reads = ReadSet::default();
        reads.add_span(Span::new("q", "r"));
        let seen = Timestamp(3);
        let request = PrepareRequest {
            header: header.clone(),
            own: 1,
            isolation: Isolation::Serializable,
            read_ts: Timestamp(5),
            writes: vec![
                Write { key: "q1".into(), value: None, expect: VersionTag::Newest(seen) },
                Write { key: "q2".into(), value: Some("x".into()), expect: VersionTag::Blind },
            ],
            verify: vec![Verify { key: "q3".into(), strength: Strength::Share, seen }],
            reads,
            behalf: Some(TxnId(6)),
            before: Timestamp(77),
        };
        let message = Message::Prepare(Arc::new(request.clone()));
        let wire = PartMessage::new(&header, 1, &message, None).encode_to_vec();
        let wire = PartMessage::decode(&wire[..]).expect("own bytes");
        assert_eq!((wire.header(), wire.own), (header.clone(), 1));
        let Some(Saying::Prepare(prepare)) = wire.saying else { panic!("{wire:?}") };
        let decoded = prepare.decode(&header, 1).expect("known words");
        assert_eq!((decoded.writes, decoded.verify), (request.writes, request.verify));
        assert_eq!((decoded.isolation, decoded.reads), (request.isolation, request.reads));
        assert_eq!((decoded.behalf, decoded.before), (request.behalf, request.before));

        let ts = Timestamp(8);
        let refusals = [
            Refused::Error(KvError::CONCURRENT_UPDATE),
            Refused::Wait(TxnId(4)),
            Refused::Decided(Decided::Committed(ts)),
            Refused::Decided(Decided::Aborted),
            Refused::InFlight(ts),
            Refused::Forgotten(ts),
            Refused::Expired,
            Refused::Busy,
            Refused::NoLease,
        ];
        let statuses = [
            Status::Prepared(ts),
            Status::Ended(Decided::Committed(ts)),
            Status::Ended(Decided::Aborted),
            Status::Forgotten,
        ];
        let all = refusals.map(PartAnswer::Refused).into_iter();
        let all = all.chain(statuses.map(PartAnswer::Status));
        for answer in all.chain([PartAnswer::Prepared(ts), PartAnswer::Resolved]) {
            let reply = PartReply::new(answer.clone().into()).encode_to_vec();
            match PartReply::decode(&reply[..]).map(PartReply::reply) {
                Ok(Reply::Answer(heard)) => assert_eq!(heard, answer),
                other => panic!("{answer:?} came as {other:?}"),
            }
        }
    }
}
