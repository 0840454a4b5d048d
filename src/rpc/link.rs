//! Calls and messages on their way to one peer in one class.
//!
//! A [`Link`] outlives its connections. What is queued goes out with the next write; what became of
//! a call whose connection went is known from how far the socket had taken its frame:
//!
//! | the frame | the call ends in |
//! |---|---|
//! | still queued | is sent on the next connection, if that comes at once; else `NotSent` |
//! | not wholly written | `NotSent`: the peer acts on whole frames only |
//! | written | `Unknown` |

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures::task::AtomicWaker;
use meridian_base::{Hlc, NodeId};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::frame::{FrameIo, Kind};
use crate::{CallError, Refusal};

/// Messages beyond this are dropped and calls refused: the peer is slower than we are.
const QUEUE_BYTES_MAX: usize = 64 << 20;

/// Whether there is a connection.
#[derive(Clone)]
enum Phase {
    /// Being made for the first time, or again at once after one was lost: calls wait for it.
    Connecting,
    Up,
    /// The last attempt failed, the next one comes later.
    Down(Arc<str>),
    /// For good.
    Closed(Arc<str>),
}

type Answer = Result<Bytes, CallError>;

struct Queued {
    kind: Kind,
    service: u8,
    stream: u32,
    body: Bytes,
}

struct State {
    phase: Phase,
    queue: Vec<Queued>,
    queued_bytes: usize,
    calls: HashMap<u32, oneshot::Sender<Answer>>,
    next_stream: u32,
    task: Option<AbortHandle>,
}

/// The way to one peer in one class.
pub(crate) struct Link {
    pub(crate) peer: NodeId,
    state: Mutex<State>,
    waker: AtomicWaker,
}

impl Link {
    pub(crate) fn new(peer: NodeId) -> Arc<Self> {
        let state = State {
            phase: Phase::Connecting,
            queue: Vec::new(),
            queued_bytes: 0,
            calls: HashMap::new(),
            next_stream: 0,
            task: None,
        };
        Arc::new(Self { peer, state: Mutex::new(state), waker: AtomicWaker::new() })
    }

    /// The task that makes the connections.
    pub(crate) fn set_task(&self, task: AbortHandle) {
        self.state.lock().task = Some(task);
    }

    /// Queues a call.
    pub(crate) fn call(self: &Arc<Self>, service: u8, body: Bytes) -> Result<Call, CallError> {
        let mut state = self.state.lock();
        state.room(body.len()).map_err(CallError::NotSent)?;
        let (tx, rx) = oneshot::channel();
        loop {
            state.next_stream = state.next_stream.checked_add(1).unwrap_or(1);
            if !state.calls.contains_key(&state.next_stream) {
                break;
            }
        }
        let stream = state.next_stream;
        state.calls.insert(stream, tx);
        self.push(state, Queued { kind: Kind::Call, service, stream, body });
        Ok(Call { link: self.clone(), stream, rx, done: false })
    }

    /// Queues a message, if there is room.
    pub(crate) fn message(&self, service: u8, body: Bytes) {
        let state = self.state.lock();
        if state.room(body.len()).is_ok() {
            self.push(state, Queued { kind: Kind::Message, service, stream: 0, body });
        }
    }

    fn push(&self, mut state: parking_lot::MutexGuard<'_, State>, frame: Queued) {
        let first = state.queue.is_empty();
        state.queued_bytes += frame.body.len();
        state.queue.push(frame);
        drop(state);
        if first {
            self.waker.wake();
        }
    }

    fn cancel(&self, stream: u32) {
        let mut state = self.state.lock();
        if state.calls.remove(&stream).is_none() {
            return;
        }
        let is_call = |f: &Queued| f.kind == Kind::Call && f.stream == stream;
        if let Some(at) = state.queue.iter().rposition(is_call) {
            state.queued_bytes -= state.queue.remove(at).body.len();
        } else if matches!(state.phase, Phase::Up) {
            self.push(state, Queued { kind: Kind::Cancel, service: 0, stream, body: Bytes::new() });
        }
    }

    /// There is a connection now.
    pub(crate) fn up(&self) {
        self.state.lock().enter(Phase::Up);
    }

    /// The next attempt begins: calls wait for it.
    pub(crate) fn retrying(&self) {
        self.state.lock().enter(Phase::Connecting);
    }

    /// The connection has gone; `unwritten` are the calls that it hasn't taken.
    fn lost(&self, why: &Arc<str>, unwritten: &VecDeque<(u32, u64)>) {
        let mut state = self.state.lock();
        state.enter(Phase::Connecting);
        state.forget_cancels();
        let queued: HashSet<u32> = state.queue.iter().map(|f| f.stream).collect();
        let unwritten: HashSet<u32> = unwritten.iter().map(|(stream, _)| *stream).collect();
        let (keep, ended): (HashMap<_, _>, HashMap<_, _>) =
            state.calls.drain().partition(|(stream, _)| queued.contains(stream));
        state.calls = keep;
        drop(state);
        for (stream, tx) in ended {
            let error = if unwritten.contains(&stream) {
                CallError::NotSent(why.clone())
            } else {
                CallError::Unknown(why.clone())
            };
            let _ = tx.send(Err(error));
        }
    }

    /// There is no connection and it may take a while.
    pub(crate) fn down(&self, why: &Arc<str>) {
        self.end(Phase::Down(why.clone()), why);
    }

    /// There won't be a connection again.
    pub(crate) fn close(&self, why: &Arc<str>) {
        let task = self.state.lock().task.take();
        if let Some(task) = task {
            task.abort();
        }
        self.end(Phase::Closed(why.clone()), why);
    }

    fn end(&self, phase: Phase, why: &Arc<str>) {
        let mut state = self.state.lock();
        state.enter(phase);
        state.queued_bytes = 0;
        let queue = std::mem::take(&mut state.queue);
        let calls = std::mem::take(&mut state.calls);
        drop(state);
        let queued: HashSet<u32> = queue.iter().map(|f| f.stream).collect();
        for (stream, tx) in calls {
            let error = if queued.contains(&stream) {
                CallError::NotSent(why.clone())
            } else {
                CallError::Unknown(why.clone())
            };
            let _ = tx.send(Err(error));
        }
    }

    fn answer(&self, stream: u32, answer: Answer) {
        let call = self.state.lock().calls.remove(&stream);
        if let Some(tx) = call {
            let _ = tx.send(answer);
        }
    }

    /// Runs a connection until it ends; answers why it did.
    pub(crate) async fn run(&self, io: FrameIo, hlc: &Hlc) -> Arc<str> {
        let mut connection =
            Outbound { io, link: self, unwritten: VecDeque::new(), taken: Vec::new() };
        let why = std::future::poll_fn(|cx| connection.poll(cx, hlc)).await;
        // This may still write what was queued before it, so it comes before the account is drawn up.
        connection.io.say_goodbye(&why, hlc).await;
        let written = connection.io.written();
        connection.unwritten.retain(|(_, end)| *end > written);
        let why = Arc::from(why);
        self.lost(&why, &connection.unwritten);
        why
    }
}

impl State {
    /// A closed link stays closed, whatever its task, which may not know yet, goes through.
    fn enter(&mut self, phase: Phase) {
        if !matches!(self.phase, Phase::Closed(_)) {
            self.phase = phase;
        }
    }

    fn room(&self, bytes: usize) -> Result<(), Arc<str>> {
        match &self.phase {
            Phase::Down(why) | Phase::Closed(why) => Err(why.clone()),
            _ if bytes > crate::frame::BODY_BYTES_MAX => Err("it is too large".into()),
            _ if self.queued_bytes > 0 && self.queued_bytes + bytes > QUEUE_BYTES_MAX => {
                Err("too much is queued for this node".into())
            }
            _ => Ok(()),
        }
    }

    /// A new connection doesn't know the calls of the last one.
    fn forget_cancels(&mut self) {
        self.queue.retain(|f| f.kind != Kind::Cancel);
    }
}

/// A call that waits for its answer.
pub(crate) struct Call {
    link: Arc<Link>,
    stream: u32,
    rx: oneshot::Receiver<Answer>,
    done: bool,
}

impl Future for Call {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let answer = std::task::ready!(Pin::new(&mut self.rx).poll(cx));
        self.done = true;
        Poll::Ready(answer.unwrap_or_else(|_| Err(CallError::Unknown("it was given up".into()))))
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.done {
            self.link.cancel(self.stream);
        }
    }
}

/// A connection that this node has made.
struct Outbound<'a> {
    io: FrameIo,
    link: &'a Link,
    /// Calls that the socket hasn't taken yet, with where they end.
    unwritten: VecDeque<(u32, u64)>,
    taken: Vec<Queued>,
}

impl Outbound<'_> {
    fn poll(&mut self, cx: &mut Context<'_>, hlc: &Hlc) -> Poll<String> {
        // Before looking into the queue: who finds it empty wakes us.
        self.link.waker.register(cx.waker());
        loop {
            let full = self.io.is_full();
            if !full {
                self.take(hlc);
            }
            let writing = match self.io.poll_write(cx) {
                Poll::Ready(Err(e)) => return Poll::Ready(format!("connection lost: {e}")),
                Poll::Ready(Ok(())) => {
                    self.unwritten.clear();
                    false
                }
                Poll::Pending => true,
            };
            match self.io.poll_read(cx) {
                Poll::Ready(Err(e)) => return Poll::Ready(format!("connection lost: {e}")),
                Poll::Ready(Ok(0)) => {
                    return Poll::Ready("connection closed by the peer".to_owned());
                }
                Poll::Ready(Ok(_)) => {
                    if let Err(why) = self.answers(hlc) {
                        return Poll::Ready(why);
                    }
                }
                Poll::Pending if full && !writing => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn take(&mut self, hlc: &Hlc) {
        let mut state = self.link.state.lock();
        if state.queue.is_empty() {
            return;
        }
        std::mem::swap(&mut state.queue, &mut self.taken);
        state.queued_bytes = 0;
        drop(state);
        let clock = hlc.now();
        for frame in self.taken.drain(..) {
            let Queued { kind, service, stream, body } = frame;
            let end = self.io.push(kind, service, stream, clock, &[&body]);
            if kind == Kind::Call {
                self.unwritten.push_back((stream, end));
            }
        }
    }

    fn answers(&mut self, hlc: &Hlc) -> Result<(), String> {
        while let Some(mut frame) = self.io.next().map_err(|e| e.to_string())? {
            self.io.hear(frame.clock, hlc)?;
            match frame.kind {
                Kind::Reply => self.link.answer(frame.stream, Ok(frame.body)),
                Kind::Refused if frame.body.len() >= 2 => {
                    let code = frame.body.get_u16_le();
                    let refusal = Refusal { code, body: frame.body };
                    self.link.answer(frame.stream, Err(CallError::Refused(refusal)));
                }
                Kind::Lost => {
                    let error = CallError::Unknown("the peer failed while it ran the call".into());
                    self.link.answer(frame.stream, Err(error));
                }
                Kind::Goodbye => return Err(String::from_utf8_lossy(&frame.body).into_owned()),
                _ => return Err("the peer does not keep to the protocol".to_owned()),
            }
        }
        Ok(())
    }
}
