//! Connections that this node makes: one attempt, and a life of attempts.
//!
//! A lost connection is made again at once; an attempt that fails is followed by a pause that
//! doubles from [`PAUSE_MIN`] to [`PAUSE_MAX`], during which calls fail instead of waiting.

use std::sync::Arc;
use std::time::Duration;

use meridian_base::{Instant, NodeId};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::accept::Presence;
use crate::frame::{FrameIo, Kind};
use crate::greeting::{self, Greeting};
use crate::link::Link;
use crate::rpc::Shared;
use crate::stream::{self, Stream};
use crate::{Class, NOBODY};

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// An attempt takes no longer, from the name's look-up to the greeting.
const ATTEMPT_MAX: Duration = Duration::from_secs(3);

/// Keeps a link connected until the task is aborted.
pub(crate) async fn keep_connected(
    shared: Arc<Shared>,
    link: Arc<Link>,
    class: Class,
    address: String,
) {
    let mut pause = Duration::ZERO;
    loop {
        match connect(&shared, class, &address, Some(link.peer)).await {
            Ok((io, _)) => {
                shared.all_is_well(&address);
                link.up();
                let since = Instant::now();
                let presence = Presence::new(shared.handler.clone(), link.peer);
                let why = link.run(io, &shared.hlc).await;
                drop(presence);
                tracing::info!(peer = %link.peer, ?class, "{why}");
                if since.elapsed() >= PAUSE_MAX {
                    pause = Duration::ZERO;
                }
            }
            Err(why) => {
                let why = format!("cannot connect to {} at {address}: {why}", link.peer);
                shared.warn_once(&address, &why);
                link.down(&why.into());
                pause = pause.max(PAUSE_MIN);
            }
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
            link.retrying();
        }
        pause = (pause * 2).clamp(PAUSE_MIN, PAUSE_MAX);
    }
}

/// One attempt; `expected` is who should be there.
pub(crate) async fn connect(
    shared: &Shared,
    class: Class,
    address: &str,
    expected: Option<NodeId>,
) -> Result<(FrameIo, Greeting), String> {
    let attempt = async {
        let mut io = TcpStream::connect(address).await.map_err(|e| {
            shared.note_refusal(address, None);
            e.to_string()
        })?;
        stream::tune(&io).map_err(|e| e.to_string())?;
        stream::open(&mut io, class, shared.tls.is_some()).await?;
        let io = match &shared.tls {
            Some(tls) => Stream::Tls(Box::new(tls.connect(io).await?)),
            None => Stream::Plain(io),
        };
        let mut io = FrameIo::new(io);
        let theirs = greet(shared, address, &mut io).await?;
        if let Err(why) = judge(shared, address, &theirs, expected) {
            io.say_goodbye(&why, &shared.hlc).await;
            return Err(why);
        }
        shared.note_refusal(address, None);
        io.trust();
        Ok((io, theirs.greeting))
    };
    let late = |_| format!("no answer within {} s", ATTEMPT_MAX.as_secs());
    timeout(ATTEMPT_MAX, attempt).await.map_err(late)?
}

/// The other's greeting and between when and when it was written.
struct Heard {
    greeting: Greeting,
    written: std::ops::RangeInclusive<u64>,
}

async fn greet(shared: &Shared, address: &str, io: &mut FrameIo) -> Result<Heard, String> {
    let mine = shared.greeting();
    io.push(Kind::Greeting, 0, 0, shared.hlc.last(), &[&mine.encode()]);
    io.write().await.map_err(|e| e.to_string())?;
    let frame = io.read().await.map_err(|e| match e.kind() {
        std::io::ErrorKind::UnexpectedEof => "connection closed during the handshake".to_owned(),
        _ => e.to_string(),
    })?;
    let greeting = match frame.kind {
        Kind::Greeting => Greeting::decode(frame.body),
        Kind::Goodbye => {
            let why = String::from_utf8_lossy(&frame.body).into_owned();
            shared.note_refusal(address, Some(&why));
            return Err(why);
        }
        _ => None,
    };
    let greeting = greeting.ok_or("the other side does not keep to the protocol")?;
    Ok(Heard { greeting, written: mine.wall..=shared.hlc.clock().now_micros() })
}

fn judge(
    shared: &Shared,
    address: &str,
    heard: &Heard,
    expected: Option<NodeId>,
) -> Result<(), String> {
    let (mine, theirs) = (shared.greeting(), &heard.greeting);
    greeting::check(&mine, theirs, heard.written.clone(), shared.hlc.max_offset())
        .inspect_err(|why| shared.note_refusal(address, Some(why)))?;
    match expected {
        Some(node) if node != theirs.node && theirs.node == NOBODY => {
            Err(format!("the node there is not a member of the cluster yet, it should be {node}"))
        }
        Some(node) if node != theirs.node => {
            Err(format!("the node there is {}, it should be {node}", theirs.node))
        }
        _ => Ok(()),
    }
}
