//! openraft's way to other nodes: requests become bytes for a [`crate::Network`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use meridian_base::{NodeId, RangeId};
use openraft::BasicNode;
use openraft::OptionalSend;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::message;
use crate::node::{Class, Node};
use crate::peers::Peer;
use crate::pipeline::Pipeline;
use crate::snapshot::{self, RangeSnapshot};
use crate::types::{Types, Vote};

/// How long an append may take: an entry of some megabytes, its fsync, a slow link.
const APPEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a vote may take. A lost election is not repeated by itself, so nobody waits for longer.
const VOTE_TIMEOUT: Duration = Duration::from_secs(2);
/// Between requests that the other node refuses (it does not have the group yet): doubling up to
/// the last. Half of it asks nodes in vain twice as often, with twice of it a split is slower where a node was away.
const REFUSED_FIRST_MS: u64 = 10;
const REFUSED_LAST_MS: u64 = 250;

/// Makes the connections of one group.
pub(crate) struct Connect {
    pub(crate) node: Arc<Node>,
    pub(crate) group: RangeId,
}

/// One group's way to one node.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) node: Arc<Node>,
    pub(crate) group: RangeId,
    pub(crate) peer: Arc<Peer>,
}

impl RaftNetworkFactory<Types> for Connect {
    type Network = Client;

    async fn new_client(&mut self, target: u64, _node: &BasicNode) -> Client {
        let peer = self.node.peers.get(NodeId(target));
        Client { node: Arc::clone(&self.node), group: self.group, peer }
    }
}

pub(crate) fn unreachable(why: &str) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::from_string(why))
}

fn garbled<T>(reply: Option<T>) -> Result<T, RPCError<Types>> {
    reply.ok_or_else(|| unreachable("the reply cannot be understood"))
}

impl Client {
    /// Sends entries, or a commit index alone. The acknowledgement is noted with the epoch it brought.
    pub(crate) async fn append(
        &self,
        rpc: AppendEntriesRequest<Types>,
    ) -> Result<StreamAppendResult<Types>, RPCError<Types>> {
        let body = message::append(self.group, &rpc);
        let (prev, term) = (rpc.prev_log_id, rpc.vote.leader_id.term);
        let last = rpc.entries.last().map(|entry| entry.log_id).or(prev);
        drop(rpc);
        let reply = self.node.call_when_up(&self.peer, body, Class::Raft, APPEND_TIMEOUT).await;
        let reply = reply.map_err(|error| {
            // A node that refuses has not got the group, or has closed it: nothing is to be repeated.
            if !error.answered {
                self.peer.note_missed(self.group);
            }
            unreachable(&error.why)
        })?;
        let (epoch, response) = garbled(message::take_append_reply(reply))?;
        if response.is_success()
            && let Some(group) = self.node.group(self.group)
        {
            let matched = last.map_or(0, |id| id.index());
            group.followers.lock().acknowledged(term, self.peer.id, matched, epoch);
        }
        Ok(response.into_stream_result(prev, last))
    }

    async fn call_now(&self, body: Bytes) -> Result<Bytes, RPCError<Types>> {
        let reply = self.node.call(&self.peer, body, Class::Raft, VOTE_TIMEOUT).await;
        reply.map_err(|error| unreachable(&error.why))
    }
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = RangeSnapshot;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        self.append(rpc).await.map(Into::into)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<Types>, RPCError<Types>>>, RPCError<Types>>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        let stream: BoxStream<'s, _> = Box::pin(Pipeline::new(self.clone(), input));
        Box::pin(std::future::ready(Ok(stream)))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        _option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let reply = self.call_now(message::vote(self.group, &rpc)).await?;
        garbled(message::take_vote_reply(reply))
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: openraft::alias::SnapshotOf<Types, RangeSnapshot>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = snapshot::send(self, vote, snapshot) => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote)),
                Err(why) => {
                    tracing::warn!(%why, group = %self.group, to = %self.peer.id, "a snapshot was not sent");
                    Err(StreamingError::Unreachable(Unreachable::from_string(why)))
                }
            },
        }
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        self.call_now(message::transfer(self.group, &rpc)).await?;
        Ok(Ok(()))
    }

    fn backoff(&self) -> Option<Backoff> {
        let pauses = std::iter::successors(Some(REFUSED_FIRST_MS), |last| {
            Some((last * 2).min(REFUSED_LAST_MS))
        });
        Some(Backoff::new(pauses.map(Duration::from_millis)))
    }
}
