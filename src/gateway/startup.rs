//! From the first byte to the start-up parameters: TLS negotiation, cancel requests, versions.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use meridian_types::{PgError, SqlState};
use pgwire::tokio::server::MaybeTls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use crate::connection::Socket;
use crate::encode;
use crate::frame::{self, protocol_error};
use crate::message::Reader;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
/// First byte of a TLS record with a handshake: a client that starts TLS without asking.
const TLS_HANDSHAKE: u8 = 0x16;

/// What a connection turned out to be.
pub(crate) enum Start {
    /// It cancels another one.
    Cancel { pid: i32, secret: u32 },
    /// It opens a session.
    Session(Opening),
}

/// A session about to be opened.
pub(crate) struct Opening {
    pub(crate) socket: Socket,
    pub(crate) input: BytesMut,
    pub(crate) params: BTreeMap<String, String>,
    pub(crate) encrypted: bool,
    pub(crate) peer: SocketAddr,
}

/// Why a connection ended before it was a session.
pub(crate) enum Refused {
    /// Nothing can be said: the socket is closed or spoke no Postgres.
    Silently,
    /// The client is told.
    With(Socket, PgError),
}

/// Negotiates encryption and reads the start-up packet.
pub(crate) async fn negotiate(
    tcp: TcpStream,
    peer: SocketAddr,
    tls: Option<&TlsAcceptor>,
) -> Result<Start, Refused> {
    let mut first = [0; 1];
    match tcp.peek(&mut first).await {
        Ok(1) => {}
        _ => return Err(Refused::Silently),
    }
    let mut encrypted = false;
    let mut socket = MaybeTls::Plain(tcp);
    if first[0] == TLS_HANDSHAKE {
        socket = upgrade(socket, tls).await?;
        encrypted = true;
    }
    let mut input = BytesMut::with_capacity(512);
    loop {
        let body = match read_startup(&mut socket, &mut input).await {
            Ok(Some(body)) => body,
            Ok(None) => return Err(Refused::Silently),
            Err(e) => return Err(Refused::With(socket, e)),
        };
        let mut reader = Reader::new(&body);
        let code = reader.u32().map_err(|_| Refused::Silently)?;
        match code {
            SSL_REQUEST if !encrypted => {
                // Bytes sent along with the request would be read as if they had been encrypted.
                if !input.is_empty() {
                    let e = protocol_error("received unencrypted data after SSL request");
                    return Err(Refused::With(socket, e));
                }
                let answer = if tls.is_some() { b"S" } else { b"N" };
                socket.write_all(answer).await.map_err(|_| Refused::Silently)?;
                if tls.is_some() {
                    socket = upgrade(socket, tls).await?;
                    encrypted = true;
                }
            }
            SSL_REQUEST | GSS_REQUEST => {
                socket.write_all(b"N").await.map_err(|_| Refused::Silently)?;
            }
            CANCEL_REQUEST => {
                let (Ok(pid), Ok(secret)) = (reader.i32(), reader.u32()) else {
                    return Err(Refused::Silently);
                };
                return Ok(Start::Cancel { pid, secret });
            }
            version => {
                return match read_params(&mut socket, reader, version).await {
                    Ok(params) => {
                        Ok(Start::Session(Opening { socket, input, params, encrypted, peer }))
                    }
                    Err(e) => Err(Refused::With(socket, e)),
                };
            }
        }
    }
}

async fn upgrade(socket: Socket, tls: Option<&TlsAcceptor>) -> Result<Socket, Refused> {
    let (MaybeTls::Plain(tcp), Some(acceptor)) = (socket, tls) else {
        return Err(Refused::Silently);
    };
    match acceptor.accept(tcp).await {
        Ok(stream) => Ok(MaybeTls::Tls(Box::new(stream))),
        Err(e) => {
            tracing::debug!(error = %e, "TLS handshake failed");
            Err(Refused::Silently)
        }
    }
}

async fn read_startup(socket: &mut Socket, input: &mut BytesMut) -> Result<Option<Bytes>, PgError> {
    loop {
        if let Some(body) = frame::take_startup(input)? {
            return Ok(Some(body));
        }
        match socket.read_buf(input).await {
            Ok(n) if n > 0 => {}
            _ => return Ok(None),
        }
    }
}

/// Reads names and values up to the empty name; tells the client of newer protocol features that it
/// asked for and that are not spoken here.
async fn read_params(
    socket: &mut Socket,
    mut reader: Reader<'_>,
    version: u32,
) -> Result<BTreeMap<String, String>, PgError> {
    let (major, minor) = (version >> 16, version & 0xffff);
    if major != 3 {
        return Err(PgError::unsupported(format!(
            "unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.0"
        )));
    }
    let mut params = BTreeMap::new();
    let mut unknown = Vec::new();
    loop {
        let name = reader.text().map_err(|_| layout_error())?;
        if name.is_empty() {
            break;
        }
        let value = reader.text().map_err(|_| layout_error())?;
        if name.starts_with("_pq_.") {
            unknown.push(name.to_owned());
        } else {
            params.insert(name.to_owned(), value.to_owned());
        }
    }
    reader.end().map_err(|_| layout_error())?;
    if minor > 0 || !unknown.is_empty() {
        let mut out = Vec::new();
        encode::message(&mut out, b'v', |b| {
            b.put_u32(3 << 16);
            b.put_u32(u32::try_from(unknown.len()).unwrap_or(u32::MAX));
            unknown.iter().for_each(|name| encode::text(b, name));
        });
        socket.write_all(&out).await.map_err(|_| layout_error())?;
    }
    if params.get("user").is_none_or(String::is_empty) {
        return Err(PgError::new(
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            "no PostgreSQL user name specified in startup packet",
        ));
    }
    if params.contains_key("replication") && params["replication"] != "false" {
        return Err(PgError::unsupported("replication connections are not supported"));
    }
    Ok(params)
}

fn layout_error() -> PgError {
    protocol_error("invalid startup packet layout: expected terminator as last byte")
}
