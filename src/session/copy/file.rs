//! COPY from and to a file of the server: the file stands where the client would.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;

use bytes::Bytes;
use meridian_types::{PgError, Result, SqlState};

use crate::client::{Client, CopyInput, Disconnected, FLUSH_BYTES};

/// A file that COPY reads or writes.
pub(super) struct FileClient {
    file: File,
    path: String,
    /// Bytes to be written.
    buffer: Vec<u8>,
    /// Writing failed; the copying goes on to its end, where this is told.
    failed: Option<std::io::Error>,
}

impl FileClient {
    /// Opens a file to read, or makes one to write.
    pub(super) fn open(path: &str, write: bool) -> Result<FileClient> {
        if write && !Path::new(path).is_absolute() {
            let text = "relative path not allowed for COPY to file";
            return Err(PgError::new(SqlState::INVALID_NAME, text));
        }
        let opened = if write { File::create(path) } else { File::open(path) };
        let file = opened.map_err(|error| cannot_open(path, write, &error))?;
        if file.metadata().is_ok_and(|m| m.is_dir()) {
            return Err(is_directory(path));
        }
        Ok(FileClient { file, path: path.to_owned(), buffer: Vec::new(), failed: None })
    }

    /// Writes what is left.
    pub(super) fn finish(mut self) -> Result<()> {
        self.write_out();
        match self.failed {
            None => Ok(()),
            Some(error) => {
                let text = format!("could not write to COPY file: {}", reason(&error));
                Err(PgError::new(SqlState::IO_ERROR, text))
            }
        }
    }

    fn write_out(&mut self) {
        if self.failed.is_none()
            && let Err(error) = self.file.write_all(&self.buffer)
        {
            self.failed = Some(error);
        }
        self.buffer.clear();
    }
}

fn is_directory(path: &str) -> PgError {
    PgError::new(SqlState::WRONG_OBJECT_TYPE, format!("\"{path}\" is a directory"))
}

fn cannot_open(path: &str, write: bool, error: &std::io::Error) -> PgError {
    let state = match error.kind() {
        ErrorKind::NotFound => SqlState::from_code("58P01"),
        ErrorKind::PermissionDenied => SqlState::INSUFFICIENT_PRIVILEGE,
        ErrorKind::IsADirectory => SqlState::WRONG_OBJECT_TYPE,
        _ => SqlState::IO_ERROR,
    };
    let (purpose, does) = if write { ("writing", "TO") } else { ("reading", "FROM") };
    let verb = if write { "write" } else { "read" };
    let hint = format!(
        "COPY {does} instructs the PostgreSQL server process to {verb} a file. You may want a client-side facility such as psql's \\copy."
    );
    let text = format!("could not open file \"{path}\" for {purpose}: {}", reason(error));
    PgError::new(state, text).hint(hint)
}

/// The system's text, without the number that Rust adds.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_owned(),
        None => text,
    }
}

impl Client for FileClient {
    fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }
    fn error(&mut self, _: &PgError) {}
    fn copy_data(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }
    async fn flush_if_full(&mut self) -> Result<(), Disconnected> {
        if self.buffer.len() > FLUSH_BYTES {
            self.write_out();
        }
        Ok(())
    }
    async fn flush(&mut self) -> Result<(), Disconnected> {
        Ok(())
    }
    async fn copy_input(&mut self) -> Result<CopyInput, Disconnected> {
        let mut piece = vec![0; FLUSH_BYTES];
        Ok(match self.file.read(&mut piece) {
            Ok(0) => CopyInput::Done,
            Ok(n) => {
                piece.truncate(n);
                CopyInput::Data(Bytes::from(piece))
            }
            Err(error) => CopyInput::Failed(format!(
                "could not read file \"{}\": {}",
                self.path,
                reason(&error)
            )),
        })
    }
}
