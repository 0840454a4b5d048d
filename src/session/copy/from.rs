//! COPY … FROM STDIN
//!
//! An error ends the copying at once, but not the reading: the client goes on sending until it
//! hears of it, so what comes is read and dropped up to its end.

use std::sync::Arc;

use meridian_catalog::{ColumnDesc, TableDesc};
use meridian_cluster::TableLockMode;
use meridian_exec::catalog_store::quote_ident;
use meridian_exec::{CopyInserter, from_kv};
use meridian_types::{Datum, EvalContext, PgError, PgType, Result, SqlState, io};

use super::Filter;
use super::binary;
use super::lines::{self, Fields};
use super::options::{Format, Header, Options};
use crate::Fault;
use crate::client::{Client, CopyInput};
use crate::run::{no_transaction, read_only};
use crate::session::Session;

impl Session {
    /// Reads the client's data into a table.
    pub(super) async fn copy_from<C: Client>(
        &mut self,
        table: &Arc<TableDesc>,
        columns: &[ColumnDesc],
        filter: Option<Filter>,
        options: &Options,
        client: &mut C,
    ) -> Result<String, Fault> {
        if self.block.read_only {
            return Err(read_only("COPY FROM").into());
        }
        self.check_insert(table)?;
        let txn = self.block.txn.as_mut().ok_or_else(no_transaction)?;
        let locked = txn.lock_table(table.oid, TableLockMode::RowExclusive, false).await;
        locked.map_err(from_kv)?;
        self.begin_statement();
        let mut inserter = self.copy_inserter(table, columns)?;
        if let Some((condition, ids)) = filter {
            inserter.only(&condition, &ids)?;
        }
        let eval = self.eval();
        client.copy_in_response(options.format == Format::Binary, columns.len());
        client.flush().await?;

        let mut reader = Reader::new(table, columns, options, &eval);
        let outcome = self.copy_rows(&mut reader, &mut inserter, client).await;
        if let Err(Fault::Error(_)) = &outcome
            && !reader.at_end
        {
            skip_rest(client).await?;
        }
        outcome.map_err(|fault| match fault {
            Fault::Error(error) => Fault::Error(reader.context(error)),
            Fault::Disconnected => Fault::Disconnected,
        })?;
        let txn = self.block.txn.as_mut().ok_or_else(no_transaction)?;
        let rows = inserter.finish(txn).await.map_err(retried)?;
        Ok(format!("COPY {rows}"))
    }

    /// An inserter into these columns: a row of data is the parameters of one INSERT.
    fn copy_inserter(&mut self, table: &TableDesc, columns: &[ColumnDesc]) -> Result<CopyInserter> {
        let names: Vec<String> = columns.iter().map(|c| quote_ident(&c.name)).collect();
        let marks: Vec<String> = (1..=columns.len()).map(|i| format!("${i}")).collect();
        let types: Vec<PgType> = columns.iter().map(|c| c.ty).collect();
        let schema = self.catalog().schema(table.schema).map(|s| quote_ident(&s.name));
        let target = format!("{}.{}", schema.unwrap_or_default(), quote_ident(&table.name));
        let text = if columns.is_empty() {
            format!("INSERT INTO {target} DEFAULT VALUES")
        } else {
            // COPY writes identity columns as they come.
            let overriding = match columns.iter().any(|c| c.identity.is_some()) {
                true => "OVERRIDING SYSTEM VALUE ",
                false => "",
            };
            format!(
                "INSERT INTO {target} ({}) {overriding}VALUES ({})",
                names.join(", "),
                marks.join(", ")
            )
        };
        let query = meridian_sql::parse::parse_query(&text)?;
        let view = self.view();
        let plan = self.bind_query(view, &Arc::from(text), (&query, None), &types, false)?;
        let ctx = self.statement_context(&plan, &[]);
        CopyInserter::new(plan.query(), ctx)
    }

    async fn copy_rows<C: Client>(
        &mut self,
        reader: &mut Reader<'_>,
        inserter: &mut CopyInserter,
        client: &mut C,
    ) -> Result<(), Fault> {
        loop {
            let input = client.copy_input().await?;
            match input {
                CopyInput::Data(bytes) => reader.take(&bytes, false, inserter)?,
                CopyInput::Done => {
                    reader.at_end = true;
                    reader.take(&[], true, inserter)?;
                }
                CopyInput::Failed(reason) => {
                    reader.at_end = true;
                    return Err(PgError::new(
                        SqlState::QUERY_CANCELED,
                        format!("COPY from stdin failed: {reason}"),
                    )
                    .into());
                }
            }
            if inserter.is_full() || reader.at_end {
                if self.interrupt.is_cancelled() {
                    let stopped = "canceling statement due to user request";
                    return Err(PgError::new(SqlState::QUERY_CANCELED, stopped).into());
                }
                let txn = self.block.txn.as_mut().ok_or_else(no_transaction)?;
                if let Err(error) = inserter.seal(txn).await {
                    reader.at_row(inserter.failed());
                    return Err(error.into());
                }
            }
            if reader.at_end {
                return Ok(());
            }
        }
    }
}

fn retried(error: meridian_exec::ExecError) -> PgError {
    match error {
        meridian_exec::ExecError::Pg(error) => error,
        meridian_exec::ExecError::StatementRetry => PgError::new(
            SqlState::SERIALIZATION_FAILURE,
            "could not serialize access due to concurrent update",
        ),
    }
}

async fn skip_rest<C: Client>(client: &mut C) -> Result<(), Fault> {
    while let CopyInput::Data(_) = client.copy_input().await? {}
    Ok(())
}

/// Turns bytes into rows.
struct Reader<'a> {
    table: &'a TableDesc,
    columns: &'a [ColumnDesc],
    types: Vec<PgType>,
    options: &'a Options,
    eval: &'a EvalContext,
    decoder: lines::Decoder,
    binary: binary::Decoder,
    fields: Fields,
    row: Vec<Datum>,
    header_left: bool,
    at_end: bool,
    /// Line, column and text of what is read, for errors.
    line: u64,
    column: Option<(usize, String)>,
    text: Option<String>,
}

impl<'a> Reader<'a> {
    fn new(
        table: &'a TableDesc,
        columns: &'a [ColumnDesc],
        options: &'a Options,
        eval: &'a EvalContext,
    ) -> Reader<'a> {
        Reader {
            table,
            columns,
            types: columns.iter().map(|c| c.ty).collect(),
            options,
            eval,
            decoder: lines::Decoder::new(),
            binary: binary::Decoder::default(),
            fields: Fields::default(),
            row: vec![],
            header_left: options.header != Header::Off,
            at_end: false,
            line: 0,
            column: None,
            text: None,
        }
    }

    fn take(&mut self, bytes: &[u8], last: bool, inserter: &mut CopyInserter) -> Result<()> {
        if self.options.format == Format::Binary {
            self.binary.push(bytes);
            while let Some(mut row) = self.binary.next(&self.types, self.eval)? {
                self.line += 1;
                inserter.row(&mut row)?;
            }
            // Like PostgreSQL, it ends without the last mark too, where a row has ended.
            if last && !self.binary.ended && !self.binary.is_between_rows() {
                return Err(bad("unexpected EOF in COPY data"));
            }
            return Ok(());
        }
        let mut decoder = std::mem::replace(&mut self.decoder, lines::Decoder::new());
        decoder.push(bytes);
        let outcome =
            decoder.lines(self.options, last, |number, line| self.line(number, line, inserter));
        self.decoder = decoder;
        outcome
    }

    fn line(&mut self, number: u64, line: &[u8], inserter: &mut CopyInserter) -> Result<()> {
        self.line = number;
        self.column = None;
        let mut fields = std::mem::take(&mut self.fields);
        let outcome = lines::split(line, self.options, &mut fields);
        let row = outcome.and_then(|()| self.row(&fields, line, inserter));
        self.fields = fields;
        if let Err(e) = row {
            self.text.get_or_insert_with(|| String::from_utf8_lossy(line).into_owned());
            return Err(e);
        }
        Ok(())
    }

    fn row(&mut self, fields: &Fields, line: &[u8], inserter: &mut CopyInserter) -> Result<()> {
        if self.header_left {
            self.header_left = false;
            return self.check_header(fields);
        }
        // An empty line stands for a row without columns only in a table that has none.
        if line.is_empty() && self.columns.is_empty() {
            return inserter.row(&mut []);
        }
        if fields.len() > self.columns.len() {
            return Err(bad("extra data after last expected column"));
        }
        self.row.clear();
        for (i, column) in self.columns.iter().enumerate() {
            if i >= fields.len() {
                return Err(bad(format!("missing data for column \"{}\"", column.name)));
            }
            let mut text = fields.get(i)?;
            if text.is_none() && self.options.force_not_null.has(&column.name) {
                text = Some(&self.options.null);
            }
            if text == Some(self.options.null.as_str()) && self.options.force_null.has(&column.name)
            {
                text = None;
            }
            self.row.push(match text {
                None => Datum::Null,
                Some(text) => {
                    let value = io::text_in(column.ty.oid, column.ty.typmod, text, self.eval);
                    value.inspect_err(|_| self.column = Some((i, text.to_owned())))?
                }
            });
        }
        inserter.row(&mut self.row)
    }

    /// An error is about the row that so many came before, not about the last one read.
    fn at_row(&mut self, before: Option<u64>) {
        let header = u64::from(self.options.header != Header::Off);
        if let Some(before) = before {
            self.line = before + 1 + header;
        }
    }

    fn check_header(&self, fields: &Fields) -> Result<()> {
        if self.options.header != Header::Match {
            return Ok(());
        }
        if fields.len() != self.columns.len() {
            return Err(bad(format!(
                "wrong number of fields in header line: got {}, expected {}",
                fields.len(),
                self.columns.len()
            )));
        }
        for (i, column) in self.columns.iter().enumerate() {
            let got = fields.get(i)?;
            if got != Some(&column.name) {
                let got = got.map_or("null value".to_owned(), |g| format!("\"{g}\""));
                return Err(bad(format!(
                    "column name mismatch in header line field {}: got {got}, expected \"{}\"",
                    i + 1,
                    column.name
                )));
            }
        }
        Ok(())
    }

    /// Says where in the data an error arose.
    fn context(&self, mut error: PgError) -> PgError {
        if error.fields().context.is_none() {
            let place = format!("COPY {}, line {}", self.table.name, self.line);
            error.fields_mut().context = Some(match (&self.column, &self.text) {
                (Some((i, text)), _) => {
                    format!("{place}, column {}: \"{text}\"", self.columns[*i].name)
                }
                (None, Some(text)) => format!("{place}: \"{text}\""),
                (None, None) => place,
            });
        }
        error
    }
}

fn bad(message: impl Into<String>) -> PgError {
    PgError::new(SqlState::BAD_COPY_FILE_FORMAT, message)
}
