//! Appends to one follower, several on the way at once, answered in order.
//!
//! openraft sends the commit index along with the next entries, or alone when there are none. Alone, at
//! once, it would double the messages of every single commit; so one that comes without entries is held
//! back for a moment, and goes only if nothing follows that carries it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, Stream, StreamExt};
use openraft::errors::RPCError;
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use tokio::time::Sleep;

use crate::network::{Client, unreachable};
use crate::types::{LogId, Types};

/// Requests on the way at once.
const IN_FLIGHT: usize = 8;
/// How long a commit index waits for entries to travel with.
const HOLD: Duration = Duration::from_millis(5);

type Answer = Result<StreamAppendResult<Types>, RPCError<Types>>;

/// The answers to a stream of requests.
pub(crate) struct Pipeline<S> {
    client: Client,
    /// `None` once it has ended.
    input: Option<S>,
    flying: FuturesOrdered<BoxFuture<'static, Answer>>,
    /// A commit index without entries, and until when it waits.
    held: Option<(AppendEntriesRequest<Types>, Pin<Box<Sleep>>)>,
    /// Something has been sent: the follower's position is not in question.
    begun: bool,
    /// What the follower has acknowledged here.
    acknowledged: Option<LogId>,
}

/// A request that overtook another is refused for want of what the other brings. That must not look as if
/// the follower had lost what it has acknowledged: it is to be sent again, nothing else.
fn overtaken(answer: Answer, acknowledged: &mut Option<LogId>) -> Answer {
    match answer {
        Ok(Err(StreamAppendError::Conflict(at))) if Some(at) <= *acknowledged => {
            Err(unreachable("the request has overtaken another"))
        }
        Ok(Ok(matched)) => {
            *acknowledged = (*acknowledged).max(matched);
            Ok(Ok(matched))
        }
        other => other,
    }
}

impl<S> Pipeline<S> {
    pub(crate) fn new(client: Client, input: S) -> Self {
        let flying = FuturesOrdered::new();
        Self { client, input: Some(input), flying, held: None, begun: false, acknowledged: None }
    }

    fn send(&mut self, request: AppendEntriesRequest<Types>) {
        let client = self.client.clone();
        self.begun = true;
        self.flying.push_back(async move { client.append(request).await }.boxed());
    }

    fn take(&mut self, request: AppendEntriesRequest<Types>) {
        if !request.entries.is_empty() || !self.begun {
            // What was held goes with it: its commit index is not older.
            self.held = None;
            return self.send(request);
        }
        let until = self.held.take().map(|(_, until)| until);
        let until = until.unwrap_or_else(|| Box::pin(tokio::time::sleep(HOLD)));
        self.held = Some((request, until));
    }

    /// Sends what is held if its time has come.
    fn release(&mut self, cx: &mut Context<'_>) {
        let Some((_, until)) = &mut self.held else { return };
        let due = self.input.is_none() || until.as_mut().poll(cx).is_ready();
        if due && let Some((request, _)) = self.held.take() {
            self.send(request);
        }
    }
}

impl<S: Stream<Item = AppendEntriesRequest<Types>> + Unpin> Stream for Pipeline<S> {
    type Item = Answer;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Answer>> {
        let this = self.get_mut();
        // To a node that is down only one waits.
        let most = if this.client.peer.is_up() { IN_FLIGHT } else { 1 };
        while this.flying.len() < most {
            let Some(input) = &mut this.input else { break };
            match input.poll_next_unpin(cx) {
                Poll::Ready(Some(request)) => this.take(request),
                Poll::Ready(None) => this.input = None,
                Poll::Pending => break,
            }
        }
        this.release(cx);
        match this.flying.poll_next_unpin(cx) {
            Poll::Ready(None) if this.input.is_none() => Poll::Ready(None),
            Poll::Ready(None) => Poll::Pending,
            Poll::Ready(Some(answer)) => {
                Poll::Ready(Some(overtaken(answer, &mut this.acknowledged)))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
