//! The simple protocol: a text with any number of statements, run one after the other.
//!
//! They share one implicit transaction, unless the text itself says BEGIN or COMMIT; an error ends
//! the text.

use std::sync::Arc;

use meridian_sql::parse::{self, Statement};
use meridian_types::Result;

use crate::Fault;
use crate::block::State;
use crate::client::{Client, Disconnected};
use crate::extended::{Params, Portal};
use crate::run::Running;
use crate::session::{Session, now_micros};
use crate::statements::PreparedStatement;

impl Session {
    /// Runs a text. Errors of statements are told to the client here.
    pub async fn simple_query<C: Client>(
        &mut self,
        text: &str,
        client: &mut C,
    ) -> Result<(), Disconnected> {
        self.statement_time = now_micros();
        self.shared.set_simple(true);
        self.unnamed = None;
        self.unnamed_portal = None;
        let outcome = self.run_text(text, client).await;
        let outcome = match outcome {
            Ok(()) if self.block.state == State::Implicit => {
                self.commit().await.map_err(Fault::from)
            }
            outcome => outcome,
        };
        match outcome {
            Ok(()) => self.tell(client),
            Err(Fault::Disconnected) => return Err(Disconnected),
            Err(Fault::Error(error)) => {
                self.tell(client);
                client.error(&error);
                self.fail().await;
                self.tell(client);
            }
        }
        Ok(())
    }

    async fn run_text<C: Client>(&mut self, text: &str, client: &mut C) -> Result<(), Fault> {
        if let Some(statement) = self.texts.get(text) {
            return self.run_statement(&statement, false, client).await;
        }
        let shared: Arc<str> = text.into();
        let parsed = parse::parse(text)?;
        if parsed.is_empty() {
            client.empty_query();
            return Ok(());
        }
        let several = parsed.len() > 1;
        for statement in parsed {
            let keep = !several && matches!(statement.statement, Statement::Query(_));
            let statement = PreparedStatement::of_text(Arc::clone(&shared), statement);
            let statement = Arc::new(statement);
            self.run_statement(&statement, several, client).await?;
            self.tell(client);
            if keep {
                self.texts.put(text, &statement);
            }
        }
        Ok(())
    }

    async fn run_statement<C: Client>(
        &mut self,
        statement: &Arc<PreparedStatement>,
        several: bool,
        client: &mut C,
    ) -> Result<(), Fault> {
        let Some(parsed) = &statement.parsed else { return Ok(()) };
        self.refuse_when_failed(Some(&parsed.statement))?;
        if !matches!(parsed.statement, Statement::Query(_)) {
            return self.run_utility(statement, &parsed.statement, &[], several, client).await;
        }
        self.ensure_transaction();
        let plan = self.plan(statement)?;
        if !plan.columns.is_empty() || plan.query().command == meridian_sql::plan::Command::Select {
            client.row_description(&plan.columns);
        }
        let mut portal = Portal {
            statement: Arc::clone(statement),
            plan: Some(plan),
            params: Params::new(),
            formats: smallvec::SmallVec::new(),
            running: Running::NotStarted,
        };
        self.run_portal(&mut portal, 0, client).await
    }
}
