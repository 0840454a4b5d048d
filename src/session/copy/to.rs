//! COPY … TO STDOUT

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use meridian_exec::catalog_store::quote_ident;
use meridian_exec::{Cursor, datums, from_kv};
use meridian_sql::parse::statement::CopySource;
use meridian_sql::rel::Column;
use meridian_types::{EvalContext, PgType, Result, io};

use super::options::{Format, Header, Options};
use super::{binary, copied_columns, lines};
use crate::Fault;
use crate::client::Client;
use crate::run::{lock_mode, no_retry, no_transaction};
use crate::session::Session;
use crate::statements::PreparedStatement;

impl Session {
    /// Sends the rows of a table or query.
    pub(super) async fn copy_to<C: Client>(
        &mut self,
        outer: &PreparedStatement,
        source: &CopySource,
        options: &Options,
        client: &mut C,
    ) -> Result<String, Fault> {
        let (text, query) = match source {
            CopySource::Query(query) => (Arc::clone(&outer.text), query.clone()),
            CopySource::Table(name, columns) => {
                let table = self.copy_table(name)?;
                let columns = copied_columns(&table, columns)?;
                let names: Vec<String> = columns.iter().map(|c| quote_ident(&c.name)).collect();
                let schema = self.catalog().schema(table.schema).map(|s| quote_ident(&s.name));
                let text = format!(
                    "SELECT {} FROM {}.{}",
                    names.join(", "),
                    schema.unwrap_or_default(),
                    quote_ident(&table.name)
                );
                let query = meridian_sql::parse::parse_query(&text)?;
                (Arc::from(text), query)
            }
        };
        let view = self.view();
        let plan = self.bind_query(view, &text, (&query, None), &[], false)?;
        if let Some(txn) = &mut self.block.txn {
            for (table, lock) in &plan.query().tables {
                txn.lock_table(table.oid, lock_mode(*lock), false).await.map_err(from_kv)?;
            }
        }
        self.enter_past(&plan, &[]).await?;
        self.begin_statement();
        let ctx = self.statement_context(&plan, &[]);
        let eval = ctx.eval.clone();
        let mut cursor = Cursor::open(&plan.prepared, ctx).map_err(no_retry)?;
        let columns = plan.query().output.clone();
        let writer = Writer { options, columns: &columns, eval: &eval };
        client.copy_out_response(options.format == Format::Binary, columns.len());
        let mut line = Vec::new();
        writer.head(&mut line);
        // The binary header travels with the first row, as clients that read rows by message expect.
        if options.format != Format::Binary && !line.is_empty() {
            client.copy_data(&line);
            line.clear();
        }
        let mut rows = 0u64;
        loop {
            let txn = self.block.txn.as_mut().ok_or_else(no_transaction)?;
            let Some(batch) = cursor.next(txn, 1024).await.map_err(no_retry)? else { break };
            rows += batch.num_rows() as u64;
            writer.rows(&batch, &mut line, client)?;
            client.flush_if_full().await?;
        }
        if options.format == Format::Binary {
            binary::put_end(&mut line);
            client.copy_data(&line);
        }
        client.copy_done();
        Ok(format!("COPY {rows}"))
    }
}

/// Writes rows in the form that the options ask for.
struct Writer<'a> {
    options: &'a Options,
    columns: &'a [Column],
    eval: &'a EvalContext,
}

impl Writer<'_> {
    /// What comes before the rows.
    fn head(&self, line: &mut Vec<u8>) {
        match self.options.format {
            Format::Binary => binary::put_header(line),
            format if self.options.header != Header::Off => {
                for (i, column) in self.columns.iter().enumerate() {
                    if i > 0 {
                        line.push(self.options.delimiter);
                    }
                    let name = column.name.as_bytes();
                    if format == Format::Csv {
                        let only = self.columns.len() == 1;
                        lines::put_csv(line, name, self.options, false, only);
                    } else {
                        lines::put_text(line, name, self.options.delimiter);
                    }
                }
                line.push(b'\n');
            }
            _ => {}
        }
    }

    fn rows<C: Client>(
        &self,
        batch: &RecordBatch,
        line: &mut Vec<u8>,
        client: &mut C,
    ) -> Result<()> {
        let types: Vec<PgType> = self.columns.iter().map(|c| c.ty).collect();
        let mut value = Vec::new();
        for row in datums(batch, self.columns) {
            if self.options.format == Format::Binary {
                binary::put_row(line, &row, &types, self.eval)?;
                client.copy_data(line);
                line.clear();
                continue;
            }
            line.clear();
            for (i, datum) in row.iter().enumerate() {
                if i > 0 {
                    line.push(self.options.delimiter);
                }
                if datum.is_null() {
                    line.extend_from_slice(self.options.null.as_bytes());
                    continue;
                }
                value.clear();
                io::text_out(datum, types[i], self.eval, &mut value)?;
                if self.options.format == Format::Csv {
                    let force = self.options.force_quote.has(&self.columns[i].name);
                    lines::put_csv(line, &value, self.options, force, row.len() == 1);
                } else {
                    lines::put_text(line, &value, self.options.delimiter);
                }
            }
            line.push(b'\n');
            client.copy_data(line);
        }
        Ok(())
    }
}
