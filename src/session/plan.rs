//! From a parsed statement to a plan in the session's view of the catalog.

use std::sync::Arc;

use meridian_exec::Prepared;
use meridian_exec::catalog_store::SessionCatalog;
use meridian_exec::keypath::KeyPlan;
use meridian_sql::ast;
use meridian_sql::bind::statement::bind_query_as_of;
use meridian_sql::parse::{Source, Statement};
use meridian_sql::plan::Query;
use meridian_types::{PgError, PgType, Result};

use crate::client::ResultColumn;
use crate::session::Session;
use crate::statements::{Keep, Plan, PreparedStatement};

/// The names that a statement is bound in.
pub(crate) type View = SessionCatalog;

/// Client columns of a bound query, as text.
pub(crate) fn result_columns(query: &Query) -> Arc<[ResultColumn]> {
    let origins = query.origins.iter().copied().chain(std::iter::repeat(None));
    let columns = query.output.iter().zip(origins);
    columns
        .map(|(c, origin)| ResultColumn { name: c.name.clone(), ty: c.ty, origin, binary: false })
        .collect()
}

impl Session {
    /// The current plan of a statement that gives rows or changes them.
    pub(crate) fn plan(&mut self, statement: &PreparedStatement) -> Result<Arc<Plan>> {
        let view = self.view();
        if let Some(plan) = statement.plan_in(&view) {
            return Ok(plan);
        }
        let Some(Statement::Query(query)) = statement.statement() else {
            return Err(PgError::internal("only queries have plans"));
        };
        let as_of = statement.parsed.as_ref().and_then(|parsed| parsed.as_of.as_deref());
        let query = (&**query, as_of);
        let plan =
            Arc::new(self.bind_query(view, &statement.text, query, &statement.given, true)?);
        if statement.keep == Keep::Promised {
            keep_promise(statement, &plan)?;
        }
        if statement.keep != Keep::No {
            statement.keep_plan(&plan);
        }
        Ok(plan)
    }

    /// Binds and optimises a query of this text, with the time that it reads at.
    pub(crate) fn bind_query(
        &mut self,
        view: Arc<View>,
        text: &Arc<str>,
        query: (&ast::Query, Option<&ast::Expr>),
        params: &[PgType],
        open: bool,
    ) -> Result<Plan> {
        let eval = self.eval();
        let source = Source { text: Arc::clone(text), visible: true };
        let query = bind_query_as_of(&*view, &eval, &source, query, params, open)?;
        let query = Arc::new(query);
        self.check_privileges(&query)?;
        let key = match query.as_of {
            None => KeyPlan::compile(&query, &view.catalog),
            Some(_) => None,
        };
        let columns = result_columns(&query);
        Ok(Plan { view, prepared: Arc::new(Prepared::new(query)), key, columns })
    }
}

/// A statement keeps the parameter and result types that its client was told.
fn keep_promise(statement: &PreparedStatement, plan: &Plan) -> Result<()> {
    let output: Vec<PgType> = plan.columns.iter().map(|c| c.ty).collect();
    let mut promised = statement.promised.lock();
    match &*promised {
        Some((_, before)) if *before != output => {
            Err(PgError::unsupported("cached plan must not change result type"))
        }
        Some(_) => Ok(()),
        None => {
            *promised = Some((plan.query().params.clone(), output));
            Ok(())
        }
    }
}
