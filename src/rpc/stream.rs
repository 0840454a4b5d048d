//! A socket with or without TLS, and the few bytes that come before either.
//!
//! The dialing side opens with `MRDN`, the class of the connection and whether it will speak TLS;
//! the other answers one byte: go on, or which of the two it insists on. So the connection can be
//! given to the runtime of its class before anything else is read, and a node with certificates and
//! one without tell each other what is wrong.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::Class;

const MAGIC: &[u8; 4] = b"MRDN";
/// Data that stays unacknowledged this long ends a connection.
pub(crate) const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// A connection's bytes.
pub(crate) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}

/// Small frames go out at once, and a peer that has vanished without a word is noticed.
pub(crate) fn tune(io: &TcpStream) -> io::Result<()> {
    io.set_nodelay(true)?;
    let socket = socket2::SockRef::from(io);
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(UNACKNOWLEDGED)
        .with_interval(Duration::from_secs(1))
        .with_retries(5);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(())
}

/// The dialing side's first bytes.
pub(crate) async fn open(io: &mut TcpStream, class: Class, tls: bool) -> Result<(), String> {
    let mut bytes = [0; 6];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4..].copy_from_slice(&[class as u8, u8::from(tls)]);
    let lost = |e: io::Error| format!("connection lost: {e}");
    io.write_all(&bytes).await.map_err(lost)?;
    match io.read_u8().await.map_err(lost)? {
        0 => Ok(()),
        1 => Err(NEEDS_TLS.to_owned()),
        2 => Err(NO_TLS.to_owned()),
        _ => Err("the other side is not a node of Meridian".to_owned()),
    }
}

/// The other side's part; answers the class of the connection.
pub(crate) async fn opened(io: &mut TcpStream, tls: bool) -> Result<Class, String> {
    let mut bytes = [0; 6];
    io.read_exact(&mut bytes).await.map_err(|e| format!("connection lost: {e}"))?;
    let [magic @ .., class, wants_tls] = bytes;
    let (true, Some(class)) = (magic == *MAGIC, Class::from_u8(class)) else {
        return Err("the other side is not a node of Meridian".to_owned());
    };
    let (answer, result) = match (tls, wants_tls != 0) {
        (true, false) => (1, Err(NEEDS_TLS.to_owned())),
        (false, true) => (2, Err(NO_TLS.to_owned())),
        _ => (0, Ok(class)),
    };
    io.write_u8(answer).await.map_err(|e| format!("connection lost: {e}"))?;
    result
}

const NEEDS_TLS: &str =
    "one node was started with --insecure, the node that it called with certificates";
const NO_TLS: &str =
    "one node was started with certificates, the node that it called with --insecure";
