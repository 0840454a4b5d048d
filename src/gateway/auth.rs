//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677) over pgwire's state machine.
//!
//! The server keeps verifiers only, in PostgreSQL's form. A role that does not exist or has no
//! password goes through the same exchange with a made-up verifier, so that neither the answer nor
//! its timing tells which names exist.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use meridian_types::{PgError, SqlState};
use pgwire::api::auth::sasl::scram::{ScramSecret, ScramServerAuth, gen_salted_password};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::connection::Socket;
use crate::encode;
use crate::frame::{self, AUTH_BYTES_MAX, protocol_error};
use crate::message::Reader;

const ITERATIONS: usize = 4096;
const PLAIN: &str = "SCRAM-SHA-256";
const PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Takes a verifier in PostgreSQL's form apart.
fn parse_verifier(verifier: &str) -> Option<(usize, ScramSecret)> {
    let rest = verifier.strip_prefix("SCRAM-SHA-256$")?;
    let (head, keys) = rest.split_once('$')?;
    let (iterations, salt) = head.split_once(':')?;
    let (stored, server) = keys.split_once(':')?;
    let iterations = iterations.parse().ok()?;
    let secret = ScramSecret::Verifier {
        salt: STANDARD.decode(salt).ok()?,
        iterations,
        stored_key: STANDARD.decode(stored).ok()?,
        server_key: STANDARD.decode(server).ok()?,
    };
    Some((iterations, secret))
}

/// A verifier that no password fits, the same for each name at each try.
fn made_up_secret(user: &str) -> ScramSecret {
    let salt = gen_salted_password(user, b"no such role", 1);
    ScramSecret::Verifier {
        salt: salt[..16].to_vec(),
        iterations: ITERATIONS,
        stored_key: vec![0; 32],
        server_key: vec![0; 32],
    }
}

/// Runs the exchange. `certificate` is the server's, as PEM, when the connection is encrypted.
pub(crate) async fn authenticate(
    socket: &mut Socket,
    input: &mut BytesMut,
    user: &str,
    verifier: Option<&str>,
    certificate: Option<&[u8]>,
) -> Result<(), PgError> {
    let mut scram = ScramServerAuth::new();
    if let Some(pem) = certificate {
        scram.configure_certificate(pem).map_err(|e| PgError::internal(e.to_string()))?;
    }
    let (secret, known) = match verifier.and_then(parse_verifier) {
        Some((iterations, secret)) => {
            scram.set_iterations(iterations);
            (secret, true)
        }
        None => (made_up_secret(user), false),
    };
    let mut out = Vec::new();
    encode::message(&mut out, b'R', |b| {
        b.put_i32(10);
        if certificate.is_some() {
            encode::text(b, PLUS);
        }
        encode::text(b, PLAIN);
        b.put_u8(0);
    });
    send(socket, &out).await?;

    let first = read_password_message(socket, input).await?;
    let mut first = Reader::new(&first);
    let mechanism = first.text()?;
    if mechanism != PLAIN && (certificate.is_none() || mechanism != PLUS) {
        return Err(protocol_error("client selected an invalid SASL authentication mechanism"));
    }
    let length =
        usize::try_from(first.i32()?).map_err(|_| protocol_error("malformed SCRAM message"))?;
    let data = first.bytes(length)?;
    let malformed = |_| protocol_error("malformed SCRAM message");
    let (server_first, waiting) =
        scram.on_client_first_message_with_secret(data, secret).map_err(malformed)?;
    send_sasl(socket, 11, server_first.as_bytes()).await?;

    let last = read_password_message(socket, input).await?;
    let refused = || {
        PgError::new(
            SqlState::INVALID_PASSWORD,
            format!("password authentication failed for user \"{user}\""),
        )
    };
    let server_final = waiting.on_client_final_message(&last).map_err(|_| refused())?;
    if !known {
        return Err(refused());
    }
    send_sasl(socket, 12, server_final.as_bytes()).await
}

async fn send_sasl(socket: &mut Socket, kind: i32, data: &[u8]) -> Result<(), PgError> {
    let mut out = Vec::new();
    encode::message(&mut out, b'R', |b| {
        b.put_i32(kind);
        b.put_slice(data);
    });
    send(socket, &out).await
}

async fn send(socket: &mut Socket, bytes: &[u8]) -> Result<(), PgError> {
    socket.write_all(bytes).await.map_err(|_| gone())
}

async fn read_password_message(
    socket: &mut Socket,
    input: &mut BytesMut,
) -> Result<Bytes, PgError> {
    loop {
        if let Some(frame) = frame::take_frame(input, AUTH_BYTES_MAX)? {
            if frame.tag != b'p' {
                return Err(protocol_error("expected SASL response"));
            }
            return Ok(frame.body);
        }
        if socket.read_buf(input).await.map_err(|_| gone())? == 0 {
            return Err(gone());
        }
    }
}

fn gone() -> PgError {
    PgError::new(SqlState::CONNECTION_FAILURE, "the client went away during authentication")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verifier_is_read_back() {
        let text = "SCRAM-SHA-256$4096:MK6SXyMhLcYITozbp0oZ2A==$YKx1KbsnBOjkbNYzhjqMNTRe/BrlNsRTNvHpjXnFeSY=:mm1P5mLfQzZHicIMeHTOWZydIQV5DJMNoQbciIFGfEU=";
        let (iterations, secret) = parse_verifier(text).expect("PostgreSQL's form");
        assert_eq!(iterations, 4096);
        let ScramSecret::Verifier { salt, .. } = secret else { panic!("a verifier") };
        assert_eq!((salt.len(), salt[0]), (16, 0x30));
        assert!(parse_verifier("md5abc").is_none());
    }
}
