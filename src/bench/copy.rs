//! Rows by COPY, in its text format.

use std::fmt::{Display, Write as _};
use std::pin::Pin;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use futures::SinkExt as _;
use indicatif::ProgressBar;
use tokio_postgres::{Client, CopyInSink};

const CHUNK: usize = 64 * 1024;

/// A COPY that is under way. Rows are gathered to chunks; values must be free of tabs, backslashes and
/// line ends, which those of the benchmarks are.
pub struct CopyRows {
    sink: Pin<Box<CopyInSink<Bytes>>>,
    buffer: BytesMut,
    bar: ProgressBar,
    rows: u64,
}

impl CopyRows {
    /// Begins `COPY table FROM STDIN`.
    pub async fn begin(client: &Client, table: &str, bar: &ProgressBar) -> Result<Self> {
        let sink = client.copy_in(&format!("COPY {table} FROM STDIN")).await?;
        bar.set_message(table.to_owned());
        let buffer = BytesMut::with_capacity(2 * CHUNK);
        Ok(Self { sink: Box::pin(sink), buffer, bar: bar.clone(), rows: 0 })
    }

    /// One row: its values in the table's order. `\N` is null.
    pub async fn row(&mut self, values: &[&(dyn Display + Sync)]) -> Result<()> {
        for (i, value) in values.iter().enumerate() {
            let separator = if i == 0 { "" } else { "\t" };
            write!(self.buffer, "{separator}{value}").expect("memory takes all");
        }
        self.buffer.extend_from_slice(b"\n");
        self.rows += 1;
        if self.buffer.len() < CHUNK {
            return Ok(());
        }
        self.flush().await
    }

    /// Ends the COPY; the number of rows that the server took.
    pub async fn finish(mut self) -> Result<u64> {
        self.flush().await?;
        Ok(self.sink.as_mut().finish().await?)
    }

    async fn flush(&mut self) -> Result<()> {
        let chunk = self.buffer.split().freeze();
        if !chunk.is_empty() {
            self.sink.send(chunk).await?;
        }
        self.bar.inc(std::mem::take(&mut self.rows));
        Ok(())
    }
}
