//! One client's connection after start-up: messages in, answers out, one write per batch.

use bytes::BytesMut;
use meridian_session::client::{
    Client, CopyInput, Disconnected, FLUSH_BYTES, ResultColumn, Severity,
};
use meridian_session::{BindRequest, Fault, Session, TERMINATED};
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
    flushes: u64,
    /// The client has heard that the session is over.
    told_end: bool,
}

/// How to go on with the connection.
#[derive(PartialEq)]
enum Next {
    Go,
    End,
    /// The client is told that the session was terminated, and then it ends.
    Terminated,
}

impl Connection {
    pub(crate) fn new(socket: Socket, input: BytesMut) -> Connection {
        Connection { socket, input, output: Vec::new(), flushes: 0, told_end: false }
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
            let next = match self.dispatch_short(&frame, session, &mut skip_to_sync) {
                Some(next) => next,
                // In a box: its state is large, and would be moved for each message.
                None => Box::pin(self.dispatch(frame, session, &mut skip_to_sync)).await?,
            };
            match next {
                Next::Go => {}
                Next::End => return Ok(()),
                Next::Terminated => return self.end_with(&terminated()).await,
            }
        }
    }

    /// Sends a last error and closes.
    pub(crate) async fn end_with(&mut self, fatal: &PgError) -> Result<(), Disconnected> {
        if !self.told_end {
            encode::error(&mut self.output, "FATAL", fatal.fields());
        }
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
        let (interrupt, rests) = (session.interrupt(), session.rests());
        tokio::select! {
            biased;
            read = self.socket.read_buf(&mut self.input) => match read {
                Ok(n) if n > 0 => Ok(Ok(())),
                _ => Err(Disconnected),
            },
            () = interrupt.ended(rests) => Ok(Err(terminated())),
            fatal = idle.expired() => Ok(Err(fatal)),
        }
    }

    /// Answers a message where nothing has to be waited for. `None`: [`Connection::dispatch`] has to.
    fn dispatch_short(
        &mut self,
        frame: &Frame,
        session: &mut Session,
        skip_to_sync: &mut bool,
    ) -> Option<Next> {
        let body = &frame.body[..];
        let outcome = match frame.tag {
            b'B' => self.bind(body, session),
            b'D' => self.describe(body, session),
            b'E' => match self.execute_short(body, session) {
                Ok(done) => done?,
                Err(e) => Err(e.into()),
            },
            b'S' if session.sync_short(self) => {
                encode::ready_for_query(&mut self.output, session.status());
                *skip_to_sync = false;
                return Some(Next::Go);
            }
            b'P' => match self.parse(body, session) {
                Err(Fault::Error(error)) if session.may_lack(&error) => return None,
                outcome => outcome,
            },
            b'C' => self.close(body, session),
            b'Q' => {
                let done = query_text(body).is_ok_and(|text| session.simple_short(text, self));
                return done.then(|| {
                    encode::ready_for_query(&mut self.output, session.status());
                    self.next_unless_ended(session)
                });
            }
            _ => return None,
        };
        match outcome {
            Ok(()) => Some(Next::Go),
            Err(Fault::Disconnected) => Some(Next::End),
            Err(Fault::Error(error)) => {
                *skip_to_sync = true;
                Some(self.refuse(&error, session))
            }
        }
    }

    async fn dispatch(
        &mut self,
        frame: Frame,
        session: &mut Session,
        skip_to_sync: &mut bool,
    ) -> Result<Next, Disconnected> {
        let outcome = match frame.tag {
            b'E' => self.execute(&frame.body, session).await,
            b'P' => {
                session.learn().await;
                self.parse(&frame.body, session)
            }
            b'S' => {
                *skip_to_sync = false;
                return Ok(self.sync(session).await);
            }
            b'Q' => return self.simple_query(&frame.body, session).await,
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
                *skip_to_sync = true;
                Ok(self.refuse(&error, session))
            }
        }
    }

    /// The statement has failed, and its transaction with it.
    fn refuse(&mut self, error: &PgError, session: &mut Session) -> Next {
        session.fail();
        self.error(error);
        self.next_unless_ended(session)
    }

    async fn simple_query(
        &mut self,
        body: &[u8],
        session: &mut Session,
    ) -> Result<Next, Disconnected> {
        match query_text(body) {
            Ok(text) => session.simple_query(text, self).await?,
            Err(e) => {
                session.fail();
                self.error(&e);
            }
        }
        Ok(self.ready(session))
    }

    async fn sync(&mut self, session: &mut Session) -> Next {
        if let Err(e) = session.sync(self).await {
            self.error(&e);
        }
        self.ready(session)
    }

    /// Ready for the next query, unless the client was told that there won't be one.
    fn ready(&mut self, session: &Session) -> Next {
        if !self.told_end {
            encode::ready_for_query(&mut self.output, session.status());
        }
        self.next_unless_ended(session)
    }

    fn next_unless_ended(&self, session: &Session) -> Next {
        match self.told_end || session.interrupt().is_terminated() {
            true => Next::Terminated,
            false => Next::Go,
        }
    }

    fn parse(&mut self, body: &[u8], session: &mut Session) -> Result<(), Fault> {
        let mut reader = Reader::new(body);
        let (name, text) = (reader.text()?, reader.text()?);
        let n = reader.count(4)?;
        let types = (0..n).map(|_| reader.u32()).collect::<Result<Vec<u32>, PgError>>()?;
        reader.end()?;
        session.parse(name, text, &types, self)?;
        encode::bare(&mut self.output, b'1');
        Ok(())
    }

    fn bind(&mut self, body: &[u8], session: &mut Session) -> Result<(), Fault> {
        let bind = Bind::read(body)?;
        session.bind(BindRequest {
            portal: bind.portal,
            statement: bind.statement,
            formats: &bind.formats,
            params: &bind.params,
            result_formats: &bind.result_formats,
        })?;
        encode::bare(&mut self.output, b'2');
        Ok(())
    }

    fn describe(&mut self, body: &[u8], session: &mut Session) -> Result<(), Fault> {
        let mut reader = Reader::new(body);
        let kind = reader.u8()?;
        let name = reader.text()?;
        reader.end()?;
        match kind {
            b'S' => session.describe_statement(name, self)?,
            b'P' => session.describe_portal(name, self)?,
            other => {
                return Err(
                    protocol_error(format!("invalid DESCRIBE message subtype {other}")).into()
                );
            }
        }
        Ok(())
    }

    /// Execute where nothing has to be waited for; `None` when [`Connection::execute`] has to do it.
    fn execute_short(
        &mut self,
        body: &[u8],
        session: &mut Session,
    ) -> Result<Option<Result<(), Fault>>, PgError> {
        let (portal, rows_max) = execute_body(body)?;
        if !portal.is_empty() {
            return Ok(None);
        }
        Ok(session.execute_short(rows_max, self).map(|outcome| outcome.map_err(Fault::from)))
    }

    async fn execute(&mut self, body: &[u8], session: &mut Session) -> Result<(), Fault> {
        let (portal, rows_max) = execute_body(body)?;
        session.execute(portal, rows_max, self).await
    }

    fn close(&mut self, body: &[u8], session: &mut Session) -> Result<(), Fault> {
        let mut reader = Reader::new(body);
        let kind = reader.u8()?;
        let name = reader.text()?;
        reader.end()?;
        match kind {
            b'S' => session.close_statement(name),
            b'P' => session.close_portal(name),
            other => {
                return Err(protocol_error(format!("invalid CLOSE message subtype {other}")).into());
            }
        }
        encode::bare(&mut self.output, b'3');
        Ok(())
    }
}

fn query_text(body: &[u8]) -> Result<&str, PgError> {
    let mut reader = Reader::new(body);
    let text = reader.text()?;
    reader.end().map(|()| text)
}

/// The portal, and how many rows of it; 0 means all.
fn execute_body(body: &[u8]) -> Result<(&str, usize), PgError> {
    let mut reader = Reader::new(body);
    let (portal, rows_max) = (reader.text()?, reader.i32()?);
    reader.end()?;
    Ok((portal, usize::try_from(rows_max).unwrap_or(0)))
}

fn terminated() -> PgError {
    PgError::new(SqlState::ADMIN_SHUTDOWN, TERMINATED)
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
        self.told_end |= error.state() == SqlState::ADMIN_SHUTDOWN;
        let severity = if self.told_end { "FATAL" } else { "ERROR" };
        encode::error(&mut self.output, severity, error.fields());
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

    fn flushes(&self) -> u64 {
        self.flushes
    }

    async fn flush_if_full(&mut self) -> Result<(), Disconnected> {
        if self.output.len() >= FLUSH_BYTES { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Disconnected> {
        if self.output.is_empty() {
            return Ok(());
        }
        self.flushes += 1;
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
                        let text = Reader::new(&frame.body).text();
                        let reason = text.unwrap_or_default().to_owned();
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
