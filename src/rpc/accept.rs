//! Connections that other nodes make, and the handlers that answer on them.
//!
//! A handler's future is polled once where the frame was read. If that completes it, its answer
//! goes out with the same write as the answers of its neighbours; otherwise it becomes a task, which
//! a cancel or the end of the connection aborts. A handler that panics costs its caller the answer,
//! nobody else anything.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use meridian_base::NodeId;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::frame::{Frame, FrameIo, Kind};
use crate::greeting::{self, Greeting};
use crate::rpc::Shared;
use crate::stream::{self, Stream};
use crate::{Handler, JOIN, NOBODY, Refusal};

/// A handshake takes no longer.
const HANDSHAKE_MAX: Duration = Duration::from_secs(3);

/// Accepts connections until the task is aborted.
pub(crate) async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((io, from)) => {
                tokio::spawn(incoming(shared.clone(), io, from.ip().to_string()));
            }
            Err(e) => {
                // Out of descriptors, most likely: others may be given back.
                shared.warn_once("listen", &format!("cannot accept connections: {e}"));
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// Reads what class the connection is of and gives it to the class's runtime.
async fn incoming(shared: Arc<Shared>, mut io: TcpStream, from: String) {
    let opened = async {
        stream::tune(&io).map_err(|e| e.to_string())?;
        stream::opened(&mut io, shared.tls.is_some()).await
    };
    let class = match timeout(HANDSHAKE_MAX, opened).await {
        Ok(Ok(class)) => class,
        Ok(Err(why)) => return shared.warn_once(&from, &format!("connection from {from}: {why}")),
        Err(_) => return,
    };
    let Some(runtime) = shared.class_runtime(class) else { return welcome(shared, io, from).await };
    // A socket belongs to the runtime that it was made in.
    if let Ok(io) = io.into_std() {
        runtime.spawn(async move {
            if let Ok(io) = TcpStream::from_std(io) {
                welcome(shared, io, from).await;
            }
        });
    }
}

async fn welcome(shared: Arc<Shared>, io: TcpStream, from: String) {
    let refused = |why: &str| shared.warn_once(&from, &format!("connection from {from}: {why}"));
    match timeout(HANDSHAKE_MAX, handshake(&shared, io)).await {
        Ok(Ok((io, greeting, entered))) => {
            shared.all_is_well(&from);
            let (node, connection) = (entered.node, entered.connection);
            if node != NOBODY && !greeting.address.is_empty() {
                shared.set_address(node, &greeting.address);
            }
            let task = tokio::spawn(async move {
                let presence = Presence::new(entered.shared.handler.clone(), node);
                serve(io, &entered.shared, node).await;
                drop((presence, entered));
            });
            let task = task.abort_handle();
            if !shared.peers.lock().set_task(node, connection, task.clone()) || shared.is_closed() {
                task.abort();
            }
        }
        Ok(Err(why)) => refused(&why),
        Err(_) => refused(&format!("no greeting within {} s", HANDSHAKE_MAX.as_secs())),
    }
}

/// The greetings, and the entry among [`crate::peers`].
async fn handshake(
    shared: &Arc<Shared>,
    io: TcpStream,
) -> Result<(FrameIo, Greeting, Entered), String> {
    let io = match &shared.tls {
        Some(tls) => Stream::Tls(Box::new(tls.accept(io).await?)),
        None => Stream::Plain(io),
    };
    let mut io = FrameIo::new(io);
    // Nobody knows how long the greeting was under way, so a clock that seems behind is left to
    // the other side, which does.
    let frame = io.read().await.map_err(|e| e.to_string())?;
    let theirs = if frame.kind == Kind::Greeting { Greeting::decode(frame.body) } else { None };
    let theirs = theirs.ok_or("the other side does not keep to the protocol")?;
    let mine = shared.greeting();
    let verdict = greeting::check(&mine, &theirs, 0..=mine.wall, shared.hlc.max_offset())
        .and_then(|()| shared.peers.lock().admit(mine.node, &theirs));
    match verdict {
        Ok(connection) => {
            let entered = Entered { shared: shared.clone(), node: theirs.node, connection };
            io.push(Kind::Greeting, 0, 0, shared.hlc.last(), &[&mine.encode()]);
            io.write().await.map_err(|e| e.to_string())?;
            io.trust();
            Ok((io, theirs, entered))
        }
        Err(why) => {
            io.say_goodbye(&why, &shared.hlc).await;
            Err(why)
        }
    }
}

/// An admitted connection; it is struck off when this goes.
struct Entered {
    shared: Arc<Shared>,
    node: NodeId,
    connection: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.shared.peers.lock().remove(self.node, self.connection);
    }
}

/// Tells the handler of a connection, and of its end.
pub(crate) struct Presence {
    handler: Arc<dyn Handler>,
    peer: NodeId,
}

impl Presence {
    pub(crate) fn new(handler: Arc<dyn Handler>, peer: NodeId) -> Self {
        if peer != NOBODY {
            handler.peer_up(peer);
        }
        Self { handler, peer }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        if self.peer != NOBODY {
            self.handler.peer_down(self.peer);
        }
    }
}

async fn serve(io: FrameIo, shared: &Shared, from: NodeId) {
    let replies = Arc::new(Replies::default());
    let handler = shared.handler.clone();
    let mut inbound =
        Inbound { io, handler, from, replies, running: HashMap::new(), finished: Vec::new() };
    let end = std::future::poll_fn(|cx| inbound.poll(cx, shared)).await;
    if let End::OurFault(why) = end {
        shared.warn_once(&from.to_string(), &format!("connection to {from} ended: {why}"));
        inbound.io.say_goodbye(&why, &shared.hlc).await;
    } else if let End::Goodbye(why) = end {
        tracing::info!(peer = %from, "connection ended by the peer: {why}");
    }
}

/// Why a connection ended.
enum End {
    Closed,
    Goodbye(String),
    /// We don't want to go on.
    OurFault(String),
}

enum Outcome {
    Answer(Result<Bytes, Refusal>),
    /// The handler panicked.
    Lost,
}

/// Answers of handlers that had to wait.
#[derive(Default)]
struct Replies {
    queue: Mutex<Vec<(u32, Outcome)>>,
    waker: AtomicWaker,
}

/// A connection that another node made.
struct Inbound {
    io: FrameIo,
    handler: Arc<dyn Handler>,
    from: NodeId,
    replies: Arc<Replies>,
    running: HashMap<u32, AbortHandle>,
    finished: Vec<(u32, Outcome)>,
}

impl Drop for Inbound {
    fn drop(&mut self) {
        for task in self.running.values() {
            task.abort();
        }
    }
}

impl Inbound {
    fn poll(&mut self, cx: &mut Context<'_>, shared: &Shared) -> Poll<End> {
        self.replies.waker.register(cx.waker());
        loop {
            let full = self.io.is_full();
            if !full {
                self.take_replies(shared);
            }
            let writing = match self.io.poll_write(cx) {
                Poll::Ready(Err(_)) => return Poll::Ready(End::Closed),
                Poll::Ready(Ok(())) => false,
                Poll::Pending => true,
            };
            if self.io.is_full() {
                // Whoever doesn't read its answers isn't asked for more.
                return Poll::Pending;
            }
            match self.requests(shared) {
                Err(end) => return Poll::Ready(end),
                Ok(true) => continue,
                Ok(false) => {}
            }
            match self.io.poll_read(cx) {
                Poll::Ready(Err(_) | Ok(0)) => return Poll::Ready(End::Closed),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending if full && !writing => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn take_replies(&mut self, shared: &Shared) {
        let mut finished = std::mem::take(&mut self.finished);
        std::mem::swap(&mut *self.replies.queue.lock(), &mut finished);
        for (stream, outcome) in finished.drain(..) {
            // A cancelled one has been forgotten.
            if self.running.remove(&stream).is_some() {
                self.reply(stream, outcome, shared);
            }
        }
        self.finished = finished;
    }

    fn reply(&mut self, stream: u32, outcome: Outcome, shared: &Shared) {
        let clock = shared.hlc.now();
        match outcome {
            Outcome::Answer(Ok(body)) => self.io.push(Kind::Reply, 0, stream, clock, &[&body]),
            Outcome::Answer(Err(Refusal { code, body })) => {
                self.io.push(Kind::Refused, 0, stream, clock, &[&code.to_le_bytes(), &body])
            }
            Outcome::Lost => self.io.push(Kind::Lost, 0, stream, clock, &[]),
        };
    }

    /// Takes what was read, as far as there is room for answers; true if something is to be written.
    fn requests(&mut self, shared: &Shared) -> Result<bool, End> {
        let written = self.io.encoded();
        while !self.io.is_full()
            && let Some(frame) = self.io.next().map_err(|e| End::OurFault(e.to_string()))?
        {
            self.io.hear(frame.clock, &shared.hlc).map_err(End::OurFault)?;
            match frame.kind {
                Kind::Call => self.call(frame, shared),
                Kind::Message if self.from != NOBODY => {
                    self.handler.message(self.from, frame.service, frame.body);
                }
                Kind::Message => {}
                Kind::Cancel => {
                    if let Some(task) = self.running.remove(&frame.stream) {
                        task.abort();
                    }
                }
                Kind::Goodbye => {
                    return Err(End::Goodbye(String::from_utf8_lossy(&frame.body).into_owned()));
                }
                _ => {
                    return Err(End::OurFault("the peer does not keep to the protocol".to_owned()));
                }
            }
        }
        Ok(self.io.encoded() > written)
    }

    fn call(&mut self, frame: Frame, shared: &Shared) {
        let Frame { service, stream, body, .. } = frame;
        if self.from == NOBODY && service != JOIN {
            let refusal =
                Refusal::text(Refusal::TRANSPORT, "only members of the cluster may ask this");
            return self.reply(stream, Outcome::Answer(Err(refusal)), shared);
        }
        let (handler, from) = (self.handler.clone(), self.from);
        let begun = catch_unwind(AssertUnwindSafe(|| {
            let mut future = handler.call(from, service, body);
            match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(answer) => Ok(answer),
                Poll::Pending => Err(future),
            }
        }));
        match begun {
            Ok(Ok(answer)) => self.reply(stream, Outcome::Answer(answer), shared),
            Ok(Err(future)) => {
                let task = tokio::spawn(finish(future, self.replies.clone(), stream));
                self.running.insert(stream, task.abort_handle());
            }
            Err(_) => self.reply(stream, Outcome::Lost, shared),
        }
    }
}

/// Runs a handler that had to wait.
async fn finish(
    future: BoxFuture<'static, Result<Bytes, Refusal>>,
    replies: Arc<Replies>,
    stream: u32,
) {
    let mut report = Report { replies, stream, outcome: Outcome::Lost };
    report.outcome = Outcome::Answer(future.await);
}

/// Hands over what became of a handler, also when it panics.
struct Report {
    replies: Arc<Replies>,
    stream: u32,
    outcome: Outcome,
}

impl Drop for Report {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, Outcome::Lost);
        self.replies.queue.lock().push((self.stream, outcome));
        self.replies.waker.wake();
    }
}
