//! PREPARE, EXECUTE, DEALLOCATE: prepared statements by SQL.

use std::sync::Arc;

use meridian_sql::ast;
use meridian_sql::bind::{Binder, Clause};
use meridian_sql::parse::{Parsed, Source, Statement};
use meridian_sql::resolve::CoercionContext;
use meridian_types::{Datum, PgError, PgType, Result, SqlState};

use crate::Fault;
use crate::client::Client;
use crate::extended::{Params, Portal, duplicate_statement, no_statement};
use crate::run::Running;
use crate::session::Session;
use crate::statements::{Plan, PreparedStatement};

impl Session {
    /// PREPARE
    pub(crate) fn sql_prepare(
        &mut self,
        outer: &PreparedStatement,
        name: &ast::Ident,
        types: &[ast::DataType],
        statement: &Parsed,
    ) -> Result<String> {
        if self.statements.contains_key(&name.value) {
            return Err(duplicate_statement(&name.value));
        }
        if !matches!(statement.statement, Statement::Query(_)) {
            return Err(PgError::new(
                SqlState::INVALID_PREPARED_STATEMENT_DEFINITION,
                "utility statements cannot be prepared",
            ));
        }
        let (view, eval) = (self.view(), self.eval());
        let source = Source { text: Arc::clone(&outer.text), visible: true };
        let binder = Binder::new(&*view, &eval, &source, &[], false);
        let given: Result<Vec<PgType>> = types.iter().map(|ty| binder.resolve_type(ty)).collect();
        let prepared =
            PreparedStatement::new(Arc::clone(&outer.text), Some(statement.clone()), given?);
        let prepared = Arc::new(prepared);
        self.plan(&prepared)?;
        self.keep_statement(&name.value, prepared, true);
        Ok("PREPARE".to_owned())
    }

    fn prepared(&self, name: &ast::Ident) -> Result<Arc<PreparedStatement>> {
        let statement = self.statements.get(&name.value).cloned();
        let statement = statement.ok_or_else(|| no_statement(&name.value))?;
        match statement.statement() {
            Some(Statement::Query(_)) => Ok(statement),
            _ => Err(PgError::unsupported("EXECUTE of a utility statement")),
        }
    }

    /// The plan of a prepared statement, and the arguments that it is to be run with.
    pub(crate) fn executed(
        &mut self,
        outer: &PreparedStatement,
        name: &ast::Ident,
        args: &[ast::Expr],
    ) -> Result<(Arc<Plan>, Params)> {
        let statement = self.prepared(name)?;
        let plan = self.plan(&statement)?;
        let params = self.execute_params(outer, &name.value, args, &plan.query().params.clone())?;
        Ok((plan, params))
    }

    /// EXECUTE: runs the statement, which sends its own tag.
    pub(crate) async fn sql_execute<C: Client>(
        &mut self,
        outer: &PreparedStatement,
        name: &ast::Ident,
        args: &[ast::Expr],
        formats: &[i16],
        client: &mut C,
    ) -> Result<(), Fault> {
        let statement = self.prepared(name)?;
        let (plan, params) = self.executed(outer, name, args)?;
        let mut portal = Portal {
            text: Arc::clone(&outer.text),
            statement,
            plan: Some(plan),
            params,
            formats: smallvec::SmallVec::from_slice(formats),
            running: Running::NotStarted,
        };
        if self.shared.simple()
            && let Some(columns) = portal.columns()
            && !columns.is_empty()
        {
            client.row_description(&columns);
        }
        self.run_portal(&mut portal, 0, client).await
    }

    /// The arguments of EXECUTE, converted to the parameters' types.
    fn execute_params(
        &mut self,
        outer: &PreparedStatement,
        name: &str,
        args: &[ast::Expr],
        types: &[PgType],
    ) -> Result<Params> {
        if args.len() != types.len() {
            return Err(PgError::new(
                SqlState::SYNTAX_ERROR,
                format!("wrong number of parameters for prepared statement \"{name}\""),
            )
            .detail(format!(
                "Expected {} parameters but got {}.",
                types.len(),
                args.len()
            )));
        }
        let (view, eval) = (self.view(), self.eval());
        let source = Source { text: Arc::clone(&outer.text), visible: true };
        let mut binder = Binder::new(&*view, &eval, &source, &[], false);
        let mut params = Params::new();
        for (i, (arg, ty)) in args.iter().zip(types).enumerate() {
            let expr = binder.bind_expr(arg, Clause::ExecuteParameter)?;
            let (at, from) = (binder.position(arg), expr.ty.oid);
            let expr = binder.coerce_to(expr, *ty, CoercionContext::Assignment, at);
            let expr = expr.map_err(|e| match e.state() {
                SqlState::CANNOT_COERCE => {
                    let text = format!(
                        "parameter ${} of type {} cannot be coerced to the expected type {}",
                        i + 1,
                        binder.display_type(from),
                        binder.display_type(ty.oid)
                    );
                    PgError::new(SqlState::DATATYPE_MISMATCH, text)
                        .hint("You will need to rewrite or cast the expression.")
                        .at(at)
                }
                _ => e,
            })?;
            let value: Datum = meridian_exec::evaluate(&expr, &eval)?;
            params.push(value);
        }
        Ok(params)
    }

    /// DEALLOCATE
    pub(crate) fn deallocate(&mut self, name: Option<&ast::Ident>) -> Result<String> {
        match name {
            None => {
                self.statements.clear();
                self.shared.prepared.lock().clear();
                Ok("DEALLOCATE ALL".to_owned())
            }
            Some(name) => {
                let gone = self.forget_statement(&name.value);
                gone.then(|| "DEALLOCATE".to_owned()).ok_or_else(|| no_statement(&name.value))
            }
        }
    }
}
