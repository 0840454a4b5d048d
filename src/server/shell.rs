//! `meridian sql`: statements in, tables out, over the wire like any other client.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustyline::error::ReadlineError;
use tokio_postgres::{Client, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::cli::SqlArgs;
use crate::{Failure, failed};

/// Connects, then runs the statements given or reads them from the terminal.
pub(crate) async fn run(args: &SqlArgs) -> Result<(), Failure> {
    let tls = MakeRustlsConnect::new(client_config(args)?);
    let (client, connection) = tokio_postgres::connect(&args.url, tls)
        .await
        .map_err(|e| Failure(format!("cannot connect: {}", describe(&e))))?;
    tokio::spawn(connection);
    if args.execute.is_empty() {
        return prompt(&client).await;
    }
    for statement in &args.execute {
        execute(&client, statement).await.map_err(|e| Failure(describe(&e)))?;
    }
    Ok(())
}

fn client_config(args: &SqlArgs) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(failed("cannot set TLS up"))?;
    let Some(ca) = &args.ca else {
        let verifier = Arc::new(Unverified(provider));
        return Ok(builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_file(ca)
        .map_err(failed(format!("cannot read certificate {}", ca.display())))?;
    roots.add(certificate).map_err(failed(format!("bad certificate in {}", ca.display())))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Encrypts without knowing to whom, as libpq's `sslmode=require` does; `--ca` is the remedy.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[expect(clippy::print_stdout, reason = "the shell's answers")]
async fn prompt(client: &Client) -> Result<(), Failure> {
    let mut editor = rustyline::DefaultEditor::new().map_err(failed("cannot use this terminal"))?;
    let history = std::env::home_dir().map(|home| home.join(".meridian_history"));
    if let Some(path) = &history {
        let _ = editor.load_history(path);
    }
    println!("A statement ends with a semicolon; \\q leaves. psql is the full shell.");
    let mut statement = String::new();
    loop {
        let text = if statement.is_empty() { "meridian=> " } else { "meridian-> " };
        // Reading blocks this thread only; the connection's task is polled while statements run.
        let line = match editor.readline(text) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                statement.clear();
                continue;
            }
            Err(ReadlineError::Eof) => break,
            Err(e) => return Err(Failure(format!("cannot read: {e}"))),
        };
        if statement.is_empty() && matches!(line.trim(), "\\q" | "exit" | "quit") {
            break;
        }
        if statement.is_empty() && line.trim_start().starts_with('\\') {
            println!("only \\q is known here; psql has the other backslash commands");
            continue;
        }
        statement.push_str(&line);
        statement.push('\n');
        if line.trim_end().ends_with(';') {
            let _ = editor.add_history_entry(statement.trim_end());
            if let Err(e) = execute(client, &statement).await {
                println!("{}", describe(&e));
                if client.is_closed() {
                    break;
                }
            }
            statement.clear();
        }
    }
    if let Some(path) = &history {
        let _ = editor.save_history(path);
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the shell's answers")]
async fn execute(client: &Client, statement: &str) -> Result<(), tokio_postgres::Error> {
    let mut table: Option<Table> = None;
    for message in client.simple_query(statement).await? {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                table = Some(Table {
                    head: columns.iter().map(|c| c.name().to_owned()).collect(),
                    rows: vec![],
                });
            }
            SimpleQueryMessage::Row(row) => {
                if let Some(table) = &mut table {
                    let cells = (0..row.len()).map(|i| row.get(i).unwrap_or("").to_owned());
                    table.rows.push(cells.collect());
                }
            }
            SimpleQueryMessage::CommandComplete(n) => match table.take() {
                Some(table) => print!("{}", table.render()),
                None => println!("ok, {n} rows"),
            },
            _ => {}
        }
    }
    Ok(())
}

/// An error as psql shows it.
fn describe(error: &tokio_postgres::Error) -> String {
    let Some(db) = error.as_db_error() else {
        let source = std::error::Error::source(error).map(|s| format!(": {s}"));
        return format!("{error}{}", source.unwrap_or_default());
    };
    let mut text = format!("{}:  {} ({})", db.severity(), db.message(), db.code().code());
    for (label, value) in [("DETAIL", db.detail()), ("HINT", db.hint()), ("CONTEXT", db.where_())] {
        if let Some(value) = value {
            text.push_str(&format!("\n{label}:  {value}"));
        }
    }
    text
}

/// A result, to be printed in aligned columns.
struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    fn render(&self) -> String {
        let width = |i: usize| {
            let cells = self.rows.iter().map(|row| row[i].chars().count());
            cells.chain([self.head[i].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let line = |cells: &[String]| {
            let padded: Vec<String> =
                cells.iter().zip(&widths).map(|(c, w)| format!(" {c:<w$} ")).collect();
            format!("{}\n", padded.join("|").trim_end())
        };
        let mut text = line(&self.head);
        let rule: Vec<String> = widths.iter().map(|w| "-".repeat(w + 2)).collect();
        text.push_str(&format!("{}\n", rule.join("+")));
        self.rows.iter().for_each(|row| text.push_str(&line(row)));
        let s = if self.rows.len() == 1 { "" } else { "s" };
        text.push_str(&format!("({} row{s})\n\n", self.rows.len()));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_aligned() {
        let table = Table {
            head: vec!["id".into(), "name".into()],
            rows: vec![vec!["1".into(), "ä".into()], vec!["20".into(), String::new()]],
        };
        assert_eq!(table.render(), " id | name\n----+------\n 1  | ä\n 20 |\n(2 rows)\n\n");
    }
}
