//! Cuts the read buffer into frames: a type byte, a length that includes itself, a body.
//!
//! The first message of a connection has no type byte. Lengths are checked before any memory is
//! reserved: a start-up packet is at most 10,000 bytes (PostgreSQL's `MAX_STARTUP_PACKET_LENGTH`),
//! a password message 64 KiB, any other message one gibibyte less one, as in PostgreSQL.

use bytes::{Buf, Bytes, BytesMut};
use meridian_types::{PgError, SqlState};

/// Longest start-up packet, bytes.
pub(crate) const STARTUP_BYTES_MAX: usize = 10_000;
/// Longest message before the client is authenticated, bytes.
pub(crate) const AUTH_BYTES_MAX: usize = 65_536;
/// Longest message after that, bytes (PostgreSQL's `PQ_LARGE_MESSAGE_LIMIT`).
pub(crate) const MESSAGE_BYTES_MAX: usize = 0x3fff_ffff;

/// A message as it came: its type and its body.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Frame {
    /// Type byte.
    pub(crate) tag: u8,
    /// What follows the length.
    pub(crate) body: Bytes,
}

/// Takes one complete typed frame off the buffer, or says that more bytes are needed.
pub(crate) fn take_frame(buf: &mut BytesMut, bytes_max: usize) -> Result<Option<Frame>, PgError> {
    let Some((tag, head)) = buf.split_first() else { return Ok(None) };
    let tag = *tag;
    if !is_frontend_tag(tag) {
        return Err(protocol_error(format!("invalid frontend message type {tag}")));
    }
    let Some(length) = head.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if length < 4 || length > bytes_max {
        return Err(protocol_error("invalid message length"));
    }
    if buf.len() < length + 1 {
        return Ok(None);
    }
    buf.advance(5);
    Ok(Some(Frame { tag, body: buf.split_to(length - 4).freeze() }))
}

/// Takes the untyped first packet off the buffer: its body.
pub(crate) fn take_startup(buf: &mut BytesMut) -> Result<Option<Bytes>, PgError> {
    let Some(length) = buf.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    if !(8..=STARTUP_BYTES_MAX).contains(&length) {
        return Err(protocol_error("invalid length of startup packet"));
    }
    if buf.len() < length {
        return Ok(None);
    }
    buf.advance(4);
    Ok(Some(buf.split_to(length - 4).freeze()))
}

fn is_frontend_tag(tag: u8) -> bool {
    matches!(
        tag,
        b'B' | b'C'
            | b'D'
            | b'E'
            | b'F'
            | b'H'
            | b'P'
            | b'Q'
            | b'S'
            | b'X'
            | b'c'
            | b'd'
            | b'f'
            | b'p'
    )
}

/// `08P01`
pub(crate) fn protocol_error(message: impl Into<String>) -> PgError {
    PgError::new(SqlState::PROTOCOL_VIOLATION, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_only_when_whole() {
        let mut buf = BytesMut::from(&b"Q\0\0\0\x06a\0S\0\0"[..]);
        let frame = take_frame(&mut buf, MESSAGE_BYTES_MAX).expect("valid").expect("whole");
        assert_eq!((frame.tag, &frame.body[..]), (b'Q', &b"a\0"[..]));
        assert_eq!(take_frame(&mut buf, MESSAGE_BYTES_MAX).expect("valid"), None);
        assert_eq!(&buf[..], b"S\0\0");
    }

    #[test]
    fn lengths_out_of_bounds_are_refused_before_they_are_awaited() {
        for bytes in
            [&b"Q\0\0\0\x03"[..], b"Q\xff\xff\xff\xff", b"Q\x40\0\0\0", b"\x16\x03\x01\0\0"]
        {
            assert!(
                take_frame(&mut BytesMut::from(bytes), MESSAGE_BYTES_MAX).is_err(),
                "{bytes:?}"
            );
        }
        assert!(take_startup(&mut BytesMut::from(&b"\0\0\xff\xff"[..])).is_err());
        assert!(take_startup(&mut BytesMut::from(&b"\0\0\0\x04"[..])).is_err());
    }
}
