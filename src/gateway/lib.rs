//! Postgres on the wire: start-up, TLS, SCRAM, the simple and the extended protocol, COPY, cancel.
//!
//! One task serves one connection: it takes every complete message out of its read buffer, lets the
//! session answer into one write buffer, and writes that to the socket once when there is no more
//! input to work on. A pipeline of a hundred messages costs two system calls.
//!
//! ```text
//! socket ─▶ read buffer ─▶ frame ─▶ message ─▶ session ─▶ write buffer ─▶ socket
//!                            (checked for length, UTF-8 and shape before anything is done)
//! ```
//!
//! **Invariant:** no byte that a client sends can make this crate panic or allocate more than the
//! message's declared length, which is bounded before and after authentication (`frame`).
//!
//! SCRAM and the certificate arithmetic of channel binding are pgwire's; framing is our own since
//! pgwire flushes after each message and decodes without bounds (see ARCHITECTURE.md, Decisions).

mod auth;
mod cancel;
mod connection;
mod encode;
mod frame;
mod message;
mod serve;
mod startup;

pub use cancel::CancelRegistry;
pub use serve::{Gateway, GatewayConfig, TlsMaterial};
