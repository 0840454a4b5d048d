//! The bytes between nodes: frames, and a connection that reads and writes them.
//!
//! ```text
//! | length of the body: u32 | kind: u8 | service: u8 | stream: u32 | clock: u64 | body |   little-endian
//! ```
//! A stream is one call: its number is chosen by the caller and repeated in the answer.
//!
//! Bodies are copied out of the read buffer, so that one which is kept for long does not keep its
//! neighbours alive; one that does not fit into the buffer is read straight into its own memory.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use meridian_base::{Hlc, Timestamp, limits};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::stream::Stream;

/// Bytes of a frame before its body.
const HEADER: usize = 18;
/// Largest body: the largest command with what is written around it.
pub(crate) const BODY_BYTES_MAX: usize = limits::COMMAND_BYTES_MAX + (16 << 20);
/// Largest body as long as it isn't known who is speaking.
const GREETING_BYTES_MAX: usize = 4 << 10;
const READ_BUFFER: usize = 64 << 10;
/// A write buffer beyond this is given back when it is empty.
const KEEP_BYTES: usize = 1 << 20;
/// So much is encoded before the socket must take some; also stops reading from a peer that
/// doesn't read its answers.
pub(crate) const HIGH_WATER: usize = 1 << 20;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The first frame on a connection, and its answer.
    Greeting = 1,
    /// The last one, with the reason.
    Goodbye,
    Call,
    Cancel,
    Message,
    Reply,
    /// Code (u16) and the refusal's body.
    Refused,
    /// The handler failed; nobody knows what it did.
    Lost,
}

impl Kind {
    fn from_u8(n: u8) -> Option<Self> {
        use Kind::{Call, Cancel, Goodbye, Greeting, Lost, Message, Refused, Reply};
        [Greeting, Goodbye, Call, Cancel, Message, Reply, Refused, Lost]
            .into_iter()
            .find(|kind| *kind as u8 == n)
    }
}

/// One frame that arrived.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) service: u8,
    pub(crate) stream: u32,
    pub(crate) clock: Timestamp,
    pub(crate) body: Bytes,
}

/// A connection in frames.
pub(crate) struct FrameIo {
    io: Stream,
    read: Box<[u8]>,
    start: usize,
    end: usize,
    large: Option<(Frame, Vec<u8>, usize)>,
    body_max: usize,
    out: BytesMut,
    encoded: u64,
    needs_flush: bool,
    heard: Timestamp,
}

impl FrameIo {
    pub(crate) fn new(io: Stream) -> Self {
        Self {
            io,
            read: vec![0; READ_BUFFER].into_boxed_slice(),
            start: 0,
            end: 0,
            large: None,
            body_max: GREETING_BYTES_MAX,
            out: BytesMut::new(),
            encoded: 0,
            needs_flush: false,
            heard: Timestamp::MIN,
        }
    }

    /// The peer is who it should be; from now on it may send large frames.
    pub(crate) fn trust(&mut self) {
        self.body_max = BODY_BYTES_MAX;
    }

    /// Encodes a frame. Answers how many bytes have been encoded in all, up to its end.
    pub(crate) fn push(
        &mut self,
        kind: Kind,
        service: u8,
        stream: u32,
        clock: Timestamp,
        body: &[&[u8]],
    ) -> u64 {
        let length: usize = body.iter().map(|part| part.len()).sum();
        self.out.reserve(HEADER + length);
        self.out.put_u32_le(u32::try_from(length).expect("bodies are bounded"));
        self.out.put_u8(kind as u8);
        self.out.put_u8(service);
        self.out.put_u32_le(stream);
        self.out.put_u64_le(clock.0);
        for part in body {
            self.out.put_slice(part);
        }
        self.encoded += (HEADER + length) as u64;
        self.encoded
    }

    /// How many bytes have been encoded.
    pub(crate) fn encoded(&self) -> u64 {
        self.encoded
    }

    /// How many encoded bytes the socket has taken.
    pub(crate) fn written(&self) -> u64 {
        self.encoded - self.out.len() as u64
    }

    /// Whether so much is waiting that nothing should be added.
    pub(crate) fn is_full(&self) -> bool {
        self.out.len() >= HIGH_WATER
    }

    /// Writes what is encoded; ready when all of it is gone.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let n = ready!(Pin::new(&mut self.io).poll_write(cx, &self.out))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(n);
            self.needs_flush = true;
        }
        if self.needs_flush {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.needs_flush = false;
            if self.out.capacity() > KEEP_BYTES {
                self.out = BytesMut::new();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once; ready with 0 at the end of the stream.
    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let space = match &mut self.large {
            Some((_, body, filled)) => &mut body[*filled..],
            None => {
                if self.start == self.end {
                    (self.start, self.end) = (0, 0);
                } else if self.end == self.read.len() {
                    self.read.copy_within(self.start..self.end, 0);
                    (self.start, self.end) = (0, self.end - self.start);
                }
                &mut self.read[self.end..]
            }
        };
        let mut space = ReadBuf::new(space);
        ready!(Pin::new(&mut self.io).poll_read(cx, &mut space))?;
        let n = space.filled().len();
        match &mut self.large {
            Some((_, _, filled)) => *filled += n,
            None => self.end += n,
        }
        Poll::Ready(Ok(n))
    }

    /// Takes the next complete frame out of what was read.
    pub(crate) fn next(&mut self) -> io::Result<Option<Frame>> {
        if let Some((frame, body, filled)) = self.large.take() {
            if filled < body.len() {
                self.large = Some((frame, body, filled));
                return Ok(None);
            }
            return Ok(Some(Frame { body: body.into(), ..frame }));
        }
        let available = &self.read[self.start..self.end];
        let Some(mut header) = available.get(..HEADER) else { return Ok(None) };
        let length = header.get_u32_le() as usize;
        let kind = Kind::from_u8(header.get_u8());
        let (Some(kind), true) = (kind, length <= self.body_max) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a frame of Meridian"));
        };
        let service = header.get_u8();
        let stream = header.get_u32_le();
        let clock = Timestamp(header.get_u64_le());
        let mut frame = Frame { kind, service, stream, clock, body: Bytes::new() };
        let body = &available[HEADER..];
        if let Some(body) = body.get(..length) {
            frame.body = Bytes::copy_from_slice(body);
            self.start += HEADER + length;
            return Ok(Some(frame));
        }
        if HEADER + length > READ_BUFFER {
            let mut memory = vec![0; length];
            let there = body.len();
            memory[..there].copy_from_slice(body);
            self.start = self.end;
            self.large = Some((frame, memory, there));
        }
        Ok(None)
    }

    /// Follows the clock of a frame.
    pub(crate) fn hear(&mut self, clock: Timestamp, hlc: &Hlc) -> Result<(), String> {
        if clock > self.heard {
            hlc.update(clock).map_err(|e| e.to_string())?;
            self.heard = clock;
        }
        Ok(())
    }

    /// Tells the other side why the connection ends, as far as it can be told without waiting.
    pub(crate) async fn say_goodbye(&mut self, why: &str, hlc: &Hlc) {
        self.push(Kind::Goodbye, 0, 0, hlc.now(), &[why.as_bytes()]);
        let _ = poll_fn(|cx| {
            let written = self.poll_write(cx);
            let _ = Pin::new(&mut self.io).poll_shutdown(cx);
            Poll::Ready(written)
        })
        .await;
    }

    /// Writes all that is encoded.
    pub(crate) async fn write(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_write(cx)).await
    }

    /// Waits for a frame.
    pub(crate) async fn read(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = self.next()? {
                return Ok(frame);
            }
            if poll_fn(|cx| self.poll_read(cx)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
