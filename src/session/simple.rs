//! The simple protocol: a text with any number of statements, run one after the other.
//!
//! They share one implicit transaction, unless the text itself says BEGIN or COMMIT; an error ends
//! the text.
//!
//! A text that differs from an earlier one in its literals only runs by that one's plan.

use std::sync::Arc;

use meridian_sql::parse::{self, Lifted, Literal, Statement};
use meridian_sql::plan::Command;
use meridian_types::{Datum, PgType, Result, io, oid};

use crate::Fault;
use crate::block::State;
use crate::client::{Client, Disconnected};
use crate::extended::{Params, Portal};
use crate::run::Running;
use crate::session::{Session, now_micros};
use crate::statements::{Plan, PreparedStatement, Shape};

/// The statement of a text's shape, its plan, and the text's literals.
pub(crate) type Shaped = (Arc<PreparedStatement>, Arc<Plan>, Params);

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
        let mut again = self.may_run_again(client);
        let outcome = loop {
            self.several = false;
            let outcome = match self.run_text(text, client).await {
                Ok(()) if self.block.state == State::Implicit => {
                    let committed = self.commit().await;
                    if committed.is_err() {
                        retract_completion(client.buffer());
                    }
                    committed.map_err(Fault::from)
                }
                outcome => outcome,
            };
            if self.several || !self.runs_again(&outcome, &mut again, client).await {
                break outcome;
            }
        };
        match outcome {
            Ok(()) => self.tell(client),
            Err(Fault::Disconnected) => return Err(Disconnected),
            Err(Fault::Error(error)) => {
                self.tell(client);
                client.error(&error);
                self.fail();
                self.tell(client);
            }
        }
        Ok(())
    }

    async fn run_text<C: Client>(&mut self, text: &str, client: &mut C) -> Result<(), Fault> {
        let shaped = match self.shaped_ahead.take() {
            Some(known) => known,
            None => self.shaped(text),
        };
        if let Some((statement, plan, params)) = shaped {
            return self.run_query(text.into(), &statement, plan, params, client).await;
        }
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
        self.several = several;
        for statement in parsed {
            let keep = !several && matches!(statement.statement, Statement::Query(_));
            let statement = PreparedStatement::of_text(Arc::clone(&shared), statement);
            let statement = Arc::new(statement);
            self.run_statement(&statement, several, client).await?;
            self.tell(client);
            if keep {
                self.texts.put(text, statement);
            }
        }
        Ok(())
    }

    /// The plan that is kept for the text without its literals, and these as parameters. `None` where
    /// that does not serve, whatever the reason: then the text as it is runs, or says what is wrong
    /// and where.
    pub(crate) fn shaped(&mut self, text: &str) -> Option<Shaped> {
        if self.block.state == State::Failed {
            return None;
        }
        let Lifted { shape, values } = parse::lift(text)?;
        let epoch = self.node.catalog_epoch();
        let (found, new) = match self.shapes.get(&shape) {
            Some(Shape::Usable(statement)) if !serves(&statement, &values) => return None,
            Some(Shape::Usable(statement)) => (Some(statement), false),
            Some(Shape::Unusable(at)) if at == epoch => return None,
            Some(Shape::Unusable(_)) | None => (prepare_shape(&shape, &values), true),
        };
        self.ensure_transaction();
        let bound = found.and_then(|statement| {
            let plan = self.plan(&statement).ok()?;
            (plan.query().params.len() == values.len()).then_some((statement, plan))
        });
        let Some((statement, plan)) = bound else {
            self.shapes.put(&shape, Shape::Unusable(epoch));
            return None;
        };
        let eval = self.eval();
        let types = plan.query().params.iter();
        let values = values.iter().zip(types).map(|(value, ty)| match value {
            Literal::Int(value) => Some(Datum::Int4(*value)),
            Literal::Text(text) => io::text_in(ty.oid, -1, text, &eval).ok(),
        });
        let params = values.collect::<Option<Params>>()?;
        if !plan.query().given.hold(&params) {
            return None;
        }
        if new {
            self.shapes.put(&shape, Shape::Usable(Arc::clone(&statement)));
        }
        Some((statement, plan, params))
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
        let text = Arc::clone(&statement.text);
        self.run_query(text, statement, plan, Params::new(), client).await
    }

    async fn run_query<C: Client>(
        &mut self,
        text: Arc<str>,
        statement: &Arc<PreparedStatement>,
        plan: Arc<Plan>,
        params: Params,
        client: &mut C,
    ) -> Result<(), Fault> {
        if !plan.columns.is_empty() || plan.query().command == Command::Select {
            client.row_description(&plan.columns);
        }
        let mut portal = Portal {
            text,
            statement: Arc::clone(statement),
            plan: Some(plan),
            params,
            formats: smallvec::SmallVec::new(),
            running: Running::NotStarted,
        };
        self.run_portal(&mut portal, 0, client).await
    }
}

/// The last statement has not been completed after all: its CommandComplete, if it is the last message that
/// waits to be sent, is taken back.
fn retract_completion(waiting: &mut Vec<u8>) {
    let (mut at, mut last) = (0, None);
    while let Some(length) = waiting.get(at + 1..at + 5) {
        let length: [u8; 4] = length.try_into().expect("four bytes were taken");
        last = Some(at);
        at = at.saturating_add(1 + u32::from_be_bytes(length) as usize);
    }
    let completion = last.filter(|last| at == waiting.len() && waiting[*last] == b'C');
    if let Some(completion) = completion {
        waiting.truncate(completion);
    }
}

/// A statement of a shape, if it is one statement that gives or changes rows.
fn prepare_shape(shape: &str, values: &[Literal<'_>]) -> Option<Arc<PreparedStatement>> {
    let mut parsed = parse::parse(shape).ok()?;
    let only = parsed.pop().filter(|only| matches!(only.statement, Statement::Query(_)))?;
    if !parsed.is_empty() {
        return None;
    }
    let types = values.iter().map(given_type).collect();
    Some(Arc::new(PreparedStatement::of_shape(shape.into(), only, types)))
}

fn given_type(value: &Literal<'_>) -> PgType {
    match value {
        Literal::Int(_) => PgType::new(oid::INT4),
        Literal::Text(_) => PgType::new(0),
    }
}

/// Whether it was prepared for literals of these kinds: `1` and `'1'` leave the same shape.
fn serves(statement: &PreparedStatement, values: &[Literal<'_>]) -> bool {
    statement.given.iter().copied().eq(values.iter().map(given_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_completion_at_the_end_is_taken_back() {
        let row: &[u8] = b"D\0\0\0\x06\0\0";
        let completion: &[u8] = b"C\0\0\0\x0fINSERT 0 1\0";
        let mut waiting = [completion, row, completion].concat();
        retract_completion(&mut waiting);
        assert_eq!(waiting, [completion, row].concat());
        retract_completion(&mut waiting);
        assert_eq!(waiting, [completion, row].concat(), "a row stays");
        retract_completion(&mut Vec::new());
    }
}
