//! The client as a session sees it: where answers go, and where the data of `COPY … FROM STDIN`
//! comes from. The gateway implements this over a socket.
//!
//! Everything is appended to one buffer; nothing is written to the socket until the gateway has no
//! more input to work on, or the buffer has grown past [`FLUSH_BYTES`].

use std::future::Future;

use bytes::Bytes;
use meridian_types::{PgError, PgType};

/// A buffer this large is written out while the statement still runs. Half of it doubles the system
/// calls of a large result; twice of it only holds more memory for each busy session.
pub const FLUSH_BYTES: usize = 64 * 1024;

/// The connection is gone: the session ends, and its transaction is rolled back.
#[derive(Clone, Copy, Debug)]
pub struct Disconnected;

/// A column of a result, as `RowDescription` tells it.
#[derive(Clone, Debug)]
pub struct ResultColumn {
    /// Name.
    pub name: std::sync::Arc<str>,
    /// Type and modifier.
    pub ty: PgType,
    /// Table and column number when it is a plain table column.
    pub origin: Option<(u32, i16)>,
    /// Sent in binary.
    pub binary: bool,
}

/// A piece of what the client sends during `COPY … FROM STDIN`.
#[derive(Clone, Debug)]
pub enum CopyInput {
    /// Bytes, cut anywhere.
    Data(Bytes),
    /// The end.
    Done,
    /// The client gives up, for this reason.
    Failed(String),
}

/// How a notice is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// DEBUG1
    Debug,
    /// LOG
    Log,
    /// NOTICE
    Notice,
    /// WARNING
    Warning,
    /// INFO, always sent
    Info,
}

/// The client's end. All but the three `async` ones only append to the output buffer; what has a body
/// here is nothing to a client that is told no more than rows and errors.
pub trait Client: Send {
    /// The output buffer, for rows that are written in place (see `output`).
    fn buffer(&mut self) -> &mut Vec<u8>;
    /// Columns of the rows that follow.
    fn row_description(&mut self, _: &[ResultColumn]) {}
    /// The statement gives no rows.
    fn no_data(&mut self) {}
    /// Types of a prepared statement's parameters.
    fn parameter_description(&mut self, _: &[u32]) {}
    /// The statement is done.
    fn command_complete(&mut self, _: &str) {}
    /// There was no statement in the text.
    fn empty_query(&mut self) {}
    /// The portal has more rows.
    fn portal_suspended(&mut self) {}
    /// A notice.
    fn notice(&mut self, _: Severity, _: &PgError) {}
    /// An error.
    fn error(&mut self, error: &PgError);
    /// A setting that clients are told of has changed.
    fn parameter_status(&mut self, _: &str, _: &str) {}
    /// The server awaits COPY data.
    fn copy_in_response(&mut self, _: bool, _: usize) {}
    /// COPY data follow.
    fn copy_out_response(&mut self, _: bool, _: usize) {}
    /// One row of COPY data.
    fn copy_data(&mut self, data: &[u8]);
    /// End of the COPY data.
    fn copy_done(&mut self) {}
    /// How often the buffer has been written to the socket, and is empty again.
    fn flushes(&self) -> u64 {
        0
    }
    /// Writes the buffer to the socket when it holds more than [`FLUSH_BYTES`].
    fn flush_if_full(&mut self) -> impl Future<Output = Result<(), Disconnected>> + Send;
    /// Writes the buffer to the socket.
    fn flush(&mut self) -> impl Future<Output = Result<(), Disconnected>> + Send;
    /// The next piece of COPY input.
    fn copy_input(&mut self) -> impl Future<Output = Result<CopyInput, Disconnected>> + Send;
}

/// A client that nobody listens to: it keeps the first error.
#[derive(Debug, Default)]
pub(crate) struct NoClient {
    buffer: Vec<u8>,
    error: Option<PgError>,
}

impl NoClient {
    pub(crate) fn into_result(self) -> Result<(), PgError> {
        self.error.map_or(Ok(()), Err)
    }
}

impl Client for NoClient {
    fn buffer(&mut self) -> &mut Vec<u8> {
        self.buffer.clear();
        &mut self.buffer
    }
    fn error(&mut self, error: &PgError) {
        self.error.get_or_insert_with(|| error.clone());
    }
    fn copy_data(&mut self, _: &[u8]) {}
    async fn flush_if_full(&mut self) -> Result<(), Disconnected> {
        Ok(())
    }
    async fn flush(&mut self) -> Result<(), Disconnected> {
        Ok(())
    }
    async fn copy_input(&mut self) -> Result<CopyInput, Disconnected> {
        Ok(CopyInput::Done)
    }
}
