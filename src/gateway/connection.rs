//! One client's connection after start-up: messages in, answers out, one write per batch.

use bytes::{Bytes, BytesMut};
use meridian_session::client::{
    Client, CopyInput, Disconnected, FLUSH_BYTES, ResultColumn, Severity,
};
use meridian_session::{BindRequest, Fault, Session};
use meridian_types::{PgError, SqlState};
use pgwire::tokio::server::MaybeTls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::encode;
use crate::frame::{self, Frame, MESSAGE_BYTES_MAX, protocol_error};
use crate::message::{Bind, Reader};

/// The socket, encrypted or not.
pub(crate) type Socket = MaybeTls;

/// Room that is made before each read. Twice of it costs idle connections memory; half of it costs
/// a pipelining client system calls.
const READ_BYTES: usize = 8 * 1024;

/// The socket and its two buffers.
pub(crate) struct Connection {
    pub(crate) socket: Socket,
    pub(crate) input: BytesMut,
    pub(crate) output: Vec<u8>,
}

/// Whether to go on with the connection.
#[derive(PartialEq)]
enum Next {
    Go,
    End,
}

impl Connection {
    pub(crate) fn new(socket: Socket, input: BytesMut) -> Connection {
        Connection { socket, input, output: Vec::new() }
    }

    /// Serves the session until either side ends it.
    pub(crate) async fn run(&mut self, session: &mut Session) -> Result<(), Disconnected> {
        let mut skip_to_sync = false;
        loop {
            let frame = match self.next_frame(session).await? {
                Ok(frame) => frame,
                Err(fatal) => return self.end_with(&fatal).await,
            };
            if skip_to_sync && !matches!(frame.tag, b'S' | b'X') {
                continue;
            }
            match self.dispatch(frame, session, &mut skip_to_sync).await? {
                Next::Go => {}
                Next::End => return Ok(()),
            }
        }
    }

    /// Sends a last error and closes.
    pub(crate) async fn end_with(&mut self, fatal: &PgError) -> Result<(), Disconnected> {
        encode::error(&mut self.output, "FATAL", fatal.fields());
        self.flush().await?;
        let _ = self.socket.shutdown().await;
        Ok(())
    }

    /// The next message; what has been answered so far is written out before waiting for one.
    async fn next_frame(
        &mut self,
        session: &mut Session,
    ) -> Result<Result<Frame, PgError>, Disconnected> {
        loop {
            match frame::take_frame(&mut self.input, MESSAGE_BYTES_MAX) {
                Ok(Some(frame)) => return Ok(Ok(frame)),
                Ok(None) => {}
                Err(e) => return Ok(Err(e)),
            }
            self.flush().await?;
            if let Err(fatal) = self.fill_while_idle(session).await? {
                return Ok(Err(fatal));
            }
        }
    }

    /// Waits for input, for the end of the session, or for its idle time-out.
    async fn fill_while_idle(
        &mut self,
        session: &mut Session,
    ) -> Result<Result<(), PgError>, Disconnected> {
        self.input.reserve(READ_BYTES);
        let idle = session.idle_limit();
        let interrupt = session.interrupt();
        tokio::select! {
            biased;
            read = self.socket.read_buf(&mut self.input) => match read {
                Ok(n) if n > 0 => Ok(Ok(())),
                _ => Err(Disconnected),
            },
            () = interrupt.terminated() => Ok(Err(terminated())),
            fatal = idle.expired() => Ok(Err(fatal)),
        }
    }

    async fn dispatch(
        &mut self,
        frame: Frame,
        session: &mut Session,
        skip_to_sync: &mut bool,
    ) -> Result<Next, Disconnected> {
        let outcome = match frame.tag {
            b'B' => match Bind::read(frame.body) {
                Ok(bind) => self.bind(bind, session).await,
                Err(e) => Err(e.into()),
            },
            b'E' => self.execute(frame.body, session).await,
            b'S' => {
                self.sync(session).await;
                *skip_to_sync = false;
                return Ok(Next::Go);
            }
            b'P' => self.parse(frame.body, session).await,
            b'D' => self.describe(frame.body, session).await,
            b'C' => self.close(frame.body, session),
            b'Q' => return self.simple_query(frame.body, session).await,
            b'X' => return Ok(Next::End),
            b'H' => {
                self.flush().await?;
                Ok(())
            }
            // Left over from a COPY that has failed already.
            b'd' | b'c' | b'f' => Ok(()),
            b'F' => {
                encode::error(
                    &mut self.output,
                    "ERROR",
                    PgError::unsupported("the function-call protocol is not supported").fields(),
                );
                encode::ready_for_query(&mut self.output, session.status());
                Ok(())
            }
            other => {
                let fatal = protocol_error(format!("invalid frontend message type {other}"));
                self.end_with(&fatal).await?;
                return Ok(Next::End);
            }
        };
        match outcome {
            Ok(()) => Ok(Next::Go),
            Err(Fault::Disconnected) => Err(Disconnected),
            Err(Fault::Error(error)) => {
                session.fail().await;
                self.error(&error);
                *skip_to_sync = true;
                self.end_if(session.interrupt().is_terminated()).await
            }
        }
    }

    async fn simple_query(
        &mut self,
        body: Bytes,
        session: &mut Session,
    ) -> Result<Next, Disconnected> {
        let mut reader = Reader::new(body);
        match reader.text().and_then(|text| reader.end().map(|()| text)) {
            Ok(text) => session.simple_query(text.as_str(), self).await?,
            Err(e) => {
                session.fail().await;
                self.error(&e);
            }
        }
        encode::ready_for_query(&mut self.output, session.status());
        self.end_if(session.interrupt().is_terminated()).await
    }

    async fn end_if(&mut self, is_terminated: bool) -> Result<Next, Disconnected> {
        if is_terminated {
            self.end_with(&terminated()).await?;
            return Ok(Next::End);
        }
        Ok(Next::Go)
    }

    async fn sync(&mut self, session: &mut Session) {
        if let Err(e) = session.sync(self).await {
            self.error(&e);
        }
        encode::ready_for_query(&mut self.output, session.status());
    }

    async fn parse(&mut self, body: Bytes, session: &mut Session) -> Result<(), Fault> {
        let mut reader = Reader::new(body);
        let (name, text) = (reader.text()?, reader.text()?);
        let n = reader.count(4)?;
        let types = (0..n).map(|_| reader.u32()).collect::<Result<Vec<u32>, PgError>>()?;
        reader.end()?;
        session.parse(name.as_str(), text.as_str(), &types, self).await?;
        encode::bare(&mut self.output, b'1');
        Ok(())
    }

    async fn bind(&mut self, bind: Bind, session: &mut Session) -> Result<(), Fault> {
        session
            .bind(
                BindRequest {
                    portal: bind.portal.as_str(),
                    statement: bind.statement.as_str(),
                    formats: &bind.formats,
                    params: &bind.params,
                    result_formats: &bind.result_formats,
                },
                self,
            )
            .await?;
        encode::bare(&mut self.output, b'2');
        Ok(())
    }

    async fn describe(&mut self, body: Bytes, session: &mut Session) -> Result<(), Fault> {
        let mut reader = Reader::new(body);
        let kind = reader.u8()?;
        let name = reader.text()?;
        reader.end()?;
        match kind {
            b'S' => session.describe_statement(name.as_str(), self).await?,
            b'P' => session.describe_portal(name.as_str(), self)?,
            other => {
                return Err(
                    protocol_error(format!("invalid DESCRIBE message subtype {other}")).into()
                );
            }
        }
        Ok(())
    }

    async fn execute(&mut self, body: Bytes, session: &mut Session) -> Result<(), Fault> {
        let mut reader = Reader::new(body);
        let portal = reader.text()?;
        let rows_max = reader.i32()?;
        reader.end()?;
        session.execute(portal.as_str(), usize::try_from(rows_max).unwrap_or(0), self).await
    }

    fn close(&mut self, body: Bytes, session: &mut Session) -> Result<(), Fault> {
        let mut reader = Reader::new(body);
        let kind = reader.u8()?;
        let name = reader.text()?;
        reader.end()?;
        match kind {
            b'S' => session.close_statement(name.as_str()),
            b'P' => session.close_portal(name.as_str()),
            other => {
                return Err(protocol_error(format!("invalid CLOSE message subtype {other}")).into());
            }
        }
        encode::bare(&mut self.output, b'3');
        Ok(())
    }
}

fn terminated() -> PgError {
    PgError::new(SqlState::ADMIN_SHUTDOWN, "terminating connection due to administrator command")
}

impl Client for Connection {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    fn row_description(&mut self, columns: &[ResultColumn]) {
        encode::row_description(&mut self.output, columns);
    }

    fn no_data(&mut self) {
        encode::bare(&mut self.output, b'n');
    }

    fn parameter_description(&mut self, types: &[u32]) {
        encode::parameter_description(&mut self.output, types);
    }

    fn command_complete(&mut self, tag: &str) {
        encode::command_complete(&mut self.output, tag);
    }

    fn empty_query(&mut self) {
        encode::bare(&mut self.output, b'I');
    }

    fn portal_suspended(&mut self) {
        encode::bare(&mut self.output, b's');
    }

    fn notice(&mut self, severity: Severity, notice: &PgError) {
        encode::notice(&mut self.output, severity, notice.fields());
    }

    fn error(&mut self, error: &PgError) {
        encode::error(&mut self.output, "ERROR", error.fields());
    }

    fn parameter_status(&mut self, name: &str, value: &str) {
        encode::parameter_status(&mut self.output, name, value);
    }

    fn copy_in_response(&mut self, binary: bool, columns: usize) {
        encode::copy_response(&mut self.output, b'G', binary, columns);
    }

    fn copy_out_response(&mut self, binary: bool, columns: usize) {
        encode::copy_response(&mut self.output, b'H', binary, columns);
    }

    fn copy_data(&mut self, data: &[u8]) {
        encode::message(&mut self.output, b'd', |b| b.extend_from_slice(data));
    }

    fn copy_done(&mut self) {
        encode::bare(&mut self.output, b'c');
    }

    async fn flush_if_full(&mut self) -> Result<(), Disconnected> {
        if self.output.len() >= FLUSH_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Disconnected> {
        if self.output.is_empty() {
            return Ok(());
        }
        self.socket.write_all(&self.output).await.map_err(|_| Disconnected)?;
        if matches!(self.socket, MaybeTls::Tls(_)) {
            self.socket.flush().await.map_err(|_| Disconnected)?;
        }
        if self.output.capacity() > 4 * FLUSH_BYTES {
            self.output = Vec::new();
        } else {
            self.output.clear();
        }
        Ok(())
    }

    async fn copy_input(&mut self) -> Result<CopyInput, Disconnected> {
        loop {
            match frame::take_frame(&mut self.input, MESSAGE_BYTES_MAX) {
                Ok(Some(frame)) => match frame.tag {
                    b'd' => return Ok(CopyInput::Data(frame.body)),
                    b'c' => return Ok(CopyInput::Done),
                    b'f' => {
                        let text = Reader::new(frame.body).text();
                        let reason = text.map(|t| t.as_str().to_owned()).unwrap_or_default();
                        return Ok(CopyInput::Failed(reason));
                    }
                    // Flush and Sync are ignored during COPY, as the protocol demands.
                    b'H' | b'S' => {}
                    _ => return Err(Disconnected),
                },
                Ok(None) => {
                    self.flush().await?;
                    self.input.reserve(READ_BYTES * 8);
                    match self.socket.read_buf(&mut self.input).await {
                        Ok(n) if n > 0 => {}
                        _ => return Err(Disconnected),
                    }
                }
                Err(_) => return Err(Disconnected),
            }
        }
    }
}
