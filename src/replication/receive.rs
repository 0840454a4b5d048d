//! Serving the requests of other nodes. Everything here runs on the raft thread, each request in a task of
//! its own, and a task hands its request to openraft before it first waits: requests are taken in the
//! order in which they came.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use meridian_base::NodeId;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest, VoteResponse};

use crate::group::Group;
use crate::message::{self, Request};
use crate::node::{HandleError, Node};
use crate::types::Types;

/// How long a node that is to lead waits for the entries it lacks.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) async fn serve(
    node: Arc<Node>,
    from: NodeId,
    body: Bytes,
) -> Result<Bytes, HandleError> {
    let (id, request) = message::decode(body).ok_or(HandleError::Malformed)?;
    if matches!(request, Request::Ping) {
        return Ok(message::done());
    }
    let group = node.group(id).ok_or(HandleError::UnknownGroup(id))?;
    match request {
        Request::Append(rpc) => append(&group, from, rpc).await,
        Request::Vote(rpc) => vote(&group, rpc).await,
        Request::Transfer(rpc) => transfer(&group, rpc).await,
        Request::Begin(begin) => group.begin_snapshot(begin).await,
        Request::Block { id, number, bytes } => group.take_block(id, number, bytes).await,
        Request::Finish { vote, id } => group.finish_snapshot(vote, id).await,
        Request::Ping => Ok(message::done()),
    }
}

pub(crate) fn stopped(why: impl std::fmt::Display) -> HandleError {
    HandleError::Stopped(why.to_string())
}

async fn append(
    group: &Group,
    from: NodeId,
    rpc: AppendEntriesRequest<Types>,
) -> Result<Bytes, HandleError> {
    // Before the entries are let in: afterwards this node might have withdrawn its support, voted for
    // another and supported again, and the old leader would count on a promise that was broken.
    let epoch = group.node.authority.support_epoch(from);
    group.promise(rpc.vote.leader_id);
    group.node.authority.accepted(group.id, from, rpc.vote.leader_id.term, epoch);
    let response = group.raft.append_entries(rpc).await.map_err(stopped)?;
    Ok(message::append_reply(epoch, &response))
}

async fn vote(group: &Group, mut rpc: VoteRequest<Types>) -> Result<Bytes, HandleError> {
    group.forget_promises();
    let leader = group.promised();
    // Only who was told so by the leader of the term before asks in a transfer.
    let authorised = rpc.leadership_transfer
        && leader.is_some_and(|leader| leader.term + 1 == rpc.vote.leader_id.term);
    let candidate = NodeId(rpc.vote.leader_id.node_id);
    let known = leader.map(|leader| NodeId(leader.node_id));
    // It once had more than the candidate has.
    let lacks = rpc.last_log_id < group.floor;
    if lacks || !authorised && !group.node.authority.may_vote(group.id, known, candidate) {
        let mine = group.vote();
        return Ok(message::vote_reply(&VoteResponse::new(mine, None, false)));
    }
    // openraft's own lease never ends; with this flag it is not asked.
    rpc.leadership_transfer = true;
    let response = group.raft.vote(rpc).await.map_err(stopped)?;
    Ok(message::vote_reply(&response))
}

async fn transfer(group: &Group, rpc: TransferLeaderRequest<Types>) -> Result<Bytes, HandleError> {
    // Whoever is elected now or, if that fails, later: the old leader serves no more in its term.
    group.node.authority.over(group.id, rpc.from_leader().leader_id.term + 1);
    let handling = group.raft.handle_transfer_leader(rpc);
    match tokio::time::timeout(TRANSFER_TIMEOUT, handling).await {
        Ok(Ok(Ok(()))) => Ok(message::done()),
        Ok(Ok(Err(refused))) => Err(stopped(refused)),
        Ok(Err(fatal)) => Err(stopped(fatal)),
        Err(_) => Err(stopped("its log is too far behind")),
    }
}
