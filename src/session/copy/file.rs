//! COPY to and from a file of the server.
//!
//! Copying speaks to a [`Client`]; here the file takes the part of the client for the data alone,
//! and everything else goes to the real one.

use bytes::Bytes;
use meridian_sql::parse::statement::{Copy, CopySource};
use meridian_types::{PgError, Result, SqlState};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::options::Options;
use crate::Fault;
use crate::client::{Client, CopyInput, Disconnected, FLUSH_BYTES, ResultColumn, Severity};
use crate::session::Session;
use crate::statements::PreparedStatement;

const UNDEFINED_FILE: SqlState = SqlState::from_code("58P01");

impl Session {
    /// COPY with a file of the server.
    pub(super) async fn copy_file<C: Client>(
        &mut self,
        outer: &PreparedStatement,
        copy: &Copy,
        path: &str,
        options: &Options,
        client: &mut C,
    ) -> std::result::Result<String, Fault> {
        if !self.shared.is_superuser() {
            return Err(refused(copy.to).into());
        }
        let mut file = match copy.to {
            true => FileClient::new(client, create(path).await?),
            false => FileClient::new(client, open(path).await?),
        };
        let outcome = match (&copy.source, copy.to) {
            (source, true) => self.copy_to(outer, source, options, &mut file).await,
            (CopySource::Table(name, columns), false) => {
                self.copy_into(name, columns, options, &mut file).await
            }
            (CopySource::Query(_), false) => Err(super::query_is_for_to().into()),
        };
        file.write_rest().await;
        match file.error.take() {
            Some(e) => Err(io_error(path, copy.to, &e).into()),
            None => outcome,
        }
    }
}

fn refused(to: bool) -> PgError {
    let (role, what, hint) = match to {
        true => ("pg_write_server_files", "COPY to a file", "COPY to stdout or from stdin"),
        false => ("pg_read_server_files", "COPY from a file", "COPY to stdout or from stdin"),
    };
    PgError::new(
        SqlState::INSUFFICIENT_PRIVILEGE,
        format!("must be superuser or have privileges of the {role} role to {what}"),
    )
    .hint(format!("Anyone can {hint}. psql's \\copy command also works for anyone."))
}

async fn open(path: &str) -> Result<File> {
    let cannot = |e: &std::io::Error| {
        cannot_open(path, "for reading", e).hint(
            "COPY FROM instructs the PostgreSQL server process to read a file. You may want a \
             client-side facility such as psql's \\copy.",
        )
    };
    let file = File::open(path).await.map_err(|e| cannot(&e))?;
    if file.metadata().await.map_err(|e| cannot(&e))?.is_dir() {
        let text = format!("\"{path}\" is a directory");
        return Err(PgError::new(SqlState::WRONG_OBJECT_TYPE, text));
    }
    Ok(file)
}

async fn create(path: &str) -> Result<File> {
    if !path.starts_with('/') {
        let text = "relative path not allowed for COPY to file";
        return Err(PgError::new(SqlState::INVALID_NAME, text));
    }
    File::create(path).await.map_err(|e| {
        cannot_open(path, "for writing", &e).hint(
            "COPY TO instructs the PostgreSQL server process to write a file. You may want a \
             client-side facility such as psql's \\copy.",
        )
    })
}

fn cannot_open(path: &str, what: &str, error: &std::io::Error) -> PgError {
    use std::io::ErrorKind as K;
    let (state, reason) = match error.kind() {
        K::NotFound => (UNDEFINED_FILE, "No such file or directory".to_owned()),
        K::PermissionDenied => (SqlState::INSUFFICIENT_PRIVILEGE, "Permission denied".to_owned()),
        _ => (SqlState::IO_ERROR, error.to_string()),
    };
    PgError::new(state, format!("could not open file \"{path}\" {what}: {reason}"))
}

fn io_error(path: &str, to: bool, error: &std::io::Error) -> PgError {
    let what = if to { "write to COPY file" } else { "read from COPY file" };
    PgError::new(SqlState::IO_ERROR, format!("could not {what} \"{path}\": {error}"))
}

/// A client whose COPY data are a file.
struct FileClient<'a, C> {
    client: &'a mut C,
    file: File,
    written: Vec<u8>,
    error: Option<std::io::Error>,
}

impl<'a, C: Client> FileClient<'a, C> {
    fn new(client: &'a mut C, file: File) -> FileClient<'a, C> {
        FileClient { client, file, written: Vec::new(), error: None }
    }

    async fn write_rest(&mut self) {
        let mut outcome = self.file.write_all(&self.written).await;
        if outcome.is_ok() && !self.written.is_empty() {
            outcome = self.file.flush().await;
        }
        self.written.clear();
        if let Err(e) = outcome {
            self.error.get_or_insert(e);
        }
    }
}

impl<C: Client> Client for FileClient<'_, C> {
    fn buffer(&mut self) -> &mut Vec<u8> {
        self.client.buffer()
    }
    fn row_description(&mut self, columns: &[ResultColumn]) {
        self.client.row_description(columns);
    }
    fn no_data(&mut self) {
        self.client.no_data();
    }
    fn parameter_description(&mut self, types: &[u32]) {
        self.client.parameter_description(types);
    }
    fn command_complete(&mut self, tag: &str) {
        self.client.command_complete(tag);
    }
    fn empty_query(&mut self) {
        self.client.empty_query();
    }
    fn portal_suspended(&mut self) {
        self.client.portal_suspended();
    }
    fn notice(&mut self, severity: Severity, notice: &PgError) {
        self.client.notice(severity, notice);
    }
    fn error(&mut self, error: &PgError) {
        self.client.error(error);
    }
    fn parameter_status(&mut self, name: &str, value: &str) {
        self.client.parameter_status(name, value);
    }
    fn copy_in_response(&mut self, _: bool, _: usize) {}
    fn copy_out_response(&mut self, _: bool, _: usize) {}
    fn copy_data(&mut self, data: &[u8]) {
        self.written.extend_from_slice(data);
    }
    fn copy_done(&mut self) {}
    async fn flush_if_full(&mut self) -> std::result::Result<(), Disconnected> {
        if self.written.len() > FLUSH_BYTES {
            self.write_rest().await;
        }
        self.client.flush_if_full().await
    }
    async fn flush(&mut self) -> std::result::Result<(), Disconnected> {
        self.client.flush().await
    }
    async fn copy_input(&mut self) -> std::result::Result<CopyInput, Disconnected> {
        let mut piece = vec![0; FLUSH_BYTES];
        match self.file.read(&mut piece).await {
            Ok(0) => Ok(CopyInput::Done),
            Ok(n) => {
                piece.truncate(n);
                Ok(CopyInput::Data(Bytes::from(piece)))
            }
            Err(e) => {
                let reason = e.to_string();
                self.error = Some(e);
                Ok(CopyInput::Failed(reason))
            }
        }
    }
}
