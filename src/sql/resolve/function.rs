//! Which function a call means.
//!
//! Candidates are all functions of the name that can take so many arguments: as declared, with a
//! VARIADIC tail spread out, with defaults for the last ones, with named arguments put in order.
//! An exact match of types wins; then a call that is a cast in disguise (`text(x)`); then the rules
//! of choice among those that the arguments can be coerced to.

use meridian_types::builtin::{self, ProcRow};
use meridian_types::oid::{self, Oid};
use meridian_types::{PgError, PgType, Result, SqlState};

use super::{CoercionContext, Pathway, func_ref, is_record};
use crate::bind::{Binder, Clause};
use crate::expr::{Expr, ExprKind, FuncRef};
use crate::{ast, parse};

/// The arguments of a call as bound, before a function is chosen.
#[derive(Debug, Default)]
pub struct FunctionArgs {
    /// The expressions with their positions.
    pub exprs: Vec<(Expr, Option<u32>)>,
    /// Names of named arguments.
    pub names: Vec<Option<String>>,
    /// VARIADIC was written.
    pub variadic: bool,
}

/// A call whose function was chosen and whose arguments were coerced.
#[derive(Debug)]
pub struct Call {
    /// Its row.
    pub row: &'static ProcRow,
    /// The function.
    pub func: FuncRef,
    /// Arguments, defaults included.
    pub args: Vec<Expr>,
    /// Result type.
    pub ret: PgType,
}

/// What a call turned out to be.
#[derive(Debug)]
pub enum FunctionResolution {
    /// A function.
    Call(Call),
    /// A cast written as a call.
    Cast(Expr),
}

/// A function as it would take the arguments given.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) row: Option<&'static ProcRow>,
    pub(super) oid: Oid,
    /// Declared type for each argument given.
    pub(super) args: Vec<Oid>,
    /// The VARIADIC tail was spread out from this argument on.
    variadic_from: Option<usize>,
    /// For each parameter, which argument given it takes; `None` for its default.
    order: Option<Vec<Option<usize>>>,
}

impl Candidate {
    pub(super) fn of_operator(oid: Oid, args: Vec<Oid>) -> Candidate {
        Candidate { row: None, oid, args, variadic_from: None, order: None }
    }
}

const PG_TYPEOF: Oid = 1619;

impl Binder<'_> {
    /// Chooses the function of a call and coerces its arguments: 42883 or 42725 when it cannot.
    pub fn resolve_function(
        &mut self,
        schema: Option<&str>,
        name: &str,
        args: FunctionArgs,
        position: Option<u32>,
    ) -> Result<FunctionResolution> {
        let types: Vec<Oid> = args.exprs.iter().map(|(e, _)| e.ty.oid).collect();
        let found = match schema {
            None | Some("pg_catalog") if !in_information_schema(name) => {
                candidates(name, &types, &args)
            }
            Some("information_schema") if in_information_schema(name) => {
                candidates(name, &types, &args)
            }
            _ => Vec::new(),
        };
        if let Some(best) = found.iter().find(|c| c.args == types) {
            let best = best.clone();
            return self.finish_call(best, args, position).map(FunctionResolution::Call);
        }
        if let Some(target) = self.cast_in_disguise(schema, name, &types, &args) {
            let mut args = args;
            let (expr, at) = args.exprs.remove(0);
            let target = PgType::new(target);
            let cast = self.coerce_to(expr, target, CoercionContext::Explicit, at)?;
            return Ok(FunctionResolution::Cast(cast));
        }
        let mut fitting = self.fitting(found, &types);
        let best = match fitting.len() {
            0 => return Err(self.no_function(schema, name, &types, &args, position)),
            1 => fitting.pop(),
            _ => self.select_candidate(&types, fitting),
        };
        match best {
            Some(best) => self.finish_call(best, args, position).map(FunctionResolution::Call),
            None => {
                let text = format!(
                    "function {} is not unique",
                    self.signature(schema, name, &types, &args.names)
                );
                Err(PgError::new(SqlState::AMBIGUOUS_FUNCTION, text)
                    .hint(
                        "Could not choose a best candidate function. \
                         You might need to add explicit type casts.",
                    )
                    .at(position))
            }
        }
    }

    /// `name(argument types)` as messages have it.
    pub(crate) fn signature(
        &self,
        schema: Option<&str>,
        name: &str,
        types: &[Oid],
        names: &[Option<String>],
    ) -> String {
        let args: Vec<String> = types
            .iter()
            .enumerate()
            .map(|(i, ty)| match names.get(i) {
                Some(Some(name)) => format!("{name} => {}", self.display_type(*ty)),
                _ => self.display_type(*ty),
            })
            .collect();
        let schema = schema.map(|s| format!("{s}.")).unwrap_or_default();
        format!("{schema}{name}({})", args.join(", "))
    }

    fn no_function(
        &self,
        schema: Option<&str>,
        name: &str,
        types: &[Oid],
        args: &FunctionArgs,
        position: Option<u32>,
    ) -> PgError {
        if let Some(schema) = schema
            && schema != "pg_catalog"
            && self.catalog.schema_oid(schema).is_none()
        {
            let text = format!("schema \"{schema}\" does not exist");
            return PgError::new(SqlState::INVALID_SCHEMA_NAME, text).at(position);
        }
        let signature = self.signature(schema, name, types, &args.names);
        PgError::new(SqlState::UNDEFINED_FUNCTION, format!("function {signature} does not exist"))
            .hint(
                "No function matches the given name and argument types. \
                 You might need to add explicit type casts.",
            )
            .at(position)
    }

    /// A call of one argument by the name of a type, when the conversion is a mere relabelling or
    /// through text; real conversion functions are found as functions.
    fn cast_in_disguise(
        &self,
        schema: Option<&str>,
        name: &str,
        types: &[Oid],
        args: &FunctionArgs,
    ) -> Option<Oid> {
        let [source] = *types else { return None };
        if args.names.iter().any(Option::is_some) || args.variadic {
            return None;
        }
        let target = match schema {
            None | Some("pg_catalog") => builtin::type_by_name(name).map(|r| r.oid),
            _ => None,
        };
        let target = target.or_else(|| self.catalog.type_by_name(schema, name))?;
        if super::names::is_pseudo(target) {
            return None;
        }
        if source == oid::UNKNOWN {
            return Some(target);
        }
        match self.pathway(source, target, CoercionContext::Explicit)? {
            Pathway::Relabel => Some(target),
            Pathway::ViaText => {
                let (from, to) = (self.type_info(source), self.type_info(target));
                let row = is_record(&from, source) && to.category == 'S';
                (!row).then_some(target)
            }
            _ => None,
        }
    }

    /// Those whose declared types the arguments can be coerced to implicitly.
    pub(super) fn fitting(&self, candidates: Vec<Candidate>, types: &[Oid]) -> Vec<Candidate> {
        let implicit = CoercionContext::Implicit;
        candidates.into_iter().filter(|c| self.can_coerce(types, &c.args, implicit)).collect()
    }

    /// PostgreSQL's choice among several candidates; `None` when it stays open.
    pub(super) fn select_candidate(
        &self,
        types: &[Oid],
        mut candidates: Vec<Candidate>,
    ) -> Option<Candidate> {
        let types: Vec<Oid> = types
            .iter()
            .map(|t| if *t == oid::UNKNOWN { *t } else { self.base_type(*t) })
            .collect();
        let known = |i: usize| types[i] != oid::UNKNOWN;
        keep_best(&mut candidates, |c| {
            (0..types.len()).filter(|&i| known(i) && c.args[i] == types[i]).count()
        });
        if candidates.len() == 1 {
            return candidates.pop();
        }
        let categories: Vec<char> = types.iter().map(|t| self.type_info(*t).category).collect();
        keep_best(&mut candidates, |c| {
            let fits = |i: usize| {
                let info = self.type_info(c.args[i]);
                c.args[i] == types[i] || (info.category == categories[i] && info.preferred)
            };
            (0..types.len()).filter(|&i| known(i) && fits(i)).count()
        });
        if candidates.len() == 1 {
            return candidates.pop();
        }
        let unknowns = (0..types.len()).filter(|&i| !known(i)).count();
        if unknowns == 0 {
            return None;
        }
        if let Some(narrowed) = self.by_unknowns(&types, &candidates) {
            candidates = narrowed;
            if candidates.len() == 1 {
                return candidates.pop();
            }
        }
        self.by_the_known_type(&types, candidates)
    }

    /// Literals choose the string category when any candidate takes it there, else the category
    /// that all candidates have there; and in it, the preferred type.
    fn by_unknowns(&self, types: &[Oid], candidates: &[Candidate]) -> Option<Vec<Candidate>> {
        let mut wanted = vec![None; types.len()];
        for (i, slot) in wanted.iter_mut().enumerate() {
            if types[i] != oid::UNKNOWN {
                continue;
            }
            let infos: Vec<_> = candidates.iter().map(|c| self.type_info(c.args[i])).collect();
            let category = match infos.iter().any(|f| f.category == 'S') {
                true => 'S',
                false => {
                    let first = infos.first()?.category;
                    if infos.iter().any(|f| f.category != first) {
                        return None;
                    }
                    first
                }
            };
            let preferred = infos.iter().any(|f| f.category == category && f.preferred);
            *slot = Some((category, preferred));
        }
        let keep: Vec<Candidate> = candidates
            .iter()
            .filter(|c| {
                wanted.iter().enumerate().all(|(i, w)| match w {
                    Some((category, preferred)) => {
                        let info = self.type_info(c.args[i]);
                        info.category == *category && (!preferred || info.preferred)
                    }
                    None => true,
                })
            })
            .cloned()
            .collect();
        (!keep.is_empty()).then_some(keep)
    }

    /// When all known arguments have one type, literals are taken to have it as well.
    fn by_the_known_type(&self, types: &[Oid], candidates: Vec<Candidate>) -> Option<Candidate> {
        let mut known = types.iter().filter(|t| **t != oid::UNKNOWN);
        let first = *known.next()?;
        if known.any(|t| *t != first) {
            return None;
        }
        let all = vec![first; types.len()];
        let mut fitting = self.fitting(candidates, &all);
        if fitting.len() == 1 { fitting.pop() } else { None }
    }

    fn finish_call(
        &mut self,
        candidate: Candidate,
        args: FunctionArgs,
        position: Option<u32>,
    ) -> Result<Call> {
        let row = candidate.row.ok_or_else(|| PgError::internal("an operator is no function"))?;
        let types: Vec<Oid> = args.exprs.iter().map(|(e, _)| e.ty.oid).collect();
        let resolved = self
            .resolve_polymorphic(&candidate.args, &types, row.rettype)
            .map_err(|e| e.at(position))?;
        let last_position = args.exprs.last().and_then(|(_, at)| *at);
        let mut coerced = Vec::with_capacity(args.exprs.len());
        for ((expr, at), ty) in args.exprs.into_iter().zip(&resolved.args) {
            // To this one function a literal's lack of a type is worth telling.
            let kept = row.oid == PG_TYPEOF && matches!(expr.kind, ExprKind::Const(_));
            coerced.push(if kept { expr } else { self.coerce_argument(expr, *ty, at)? });
        }
        // `VARIADIC ARRAY[a, b]` for a tail of any types is the elements themselves.
        let mut func = func_ref(row, None);
        if args.variadic && row.variadic == oid::ANY {
            match coerced.pop() {
                Some(Expr { kind: ExprKind::Array { elements, nested: false }, .. }) => {
                    coerced.extend(elements);
                }
                Some(array) if self.type_info(array.ty.oid).element == 0 => {
                    let text = "VARIADIC argument must be an array";
                    let at = last_position.or(position);
                    return Err(PgError::new(SqlState::DATATYPE_MISMATCH, text).at(at));
                }
                Some(array) => {
                    coerced.push(array);
                    func.prosrc = std::sync::Arc::from(format!("variadic {}", row.src));
                }
                None => {}
            }
        }
        if let Some(from) = candidate.variadic_from.filter(|_| row.variadic != oid::ANY) {
            let element = resolved.args.get(from).copied().unwrap_or(row.variadic);
            let elements = coerced.split_off(from);
            let array = self.array_type(element).unwrap_or(oid::ANYARRAY);
            let kind = ExprKind::Array { elements, nested: false };
            coerced.push(Expr { kind, ty: PgType::new(array) });
        }
        let args = match candidate.order {
            Some(order) => self.in_order(row, order, coerced)?,
            None => self.with_defaults(row, coerced)?,
        };
        Ok(Call { row, func, args, ret: PgType::new(resolved.ret) })
    }

    /// An argument to its parameter's type. A literal for `"any"` becomes `text`, as it has to
    /// have some type when it is run.
    pub(crate) fn coerce_argument(
        &mut self,
        expr: Expr,
        ty: Oid,
        position: Option<u32>,
    ) -> Result<Expr> {
        if expr.ty.oid == ty {
            return Ok(expr);
        }
        if ty == oid::ANY {
            return Ok(match expr.kind {
                ExprKind::Param(_) => expr,
                _ => self.resolve_unknown(expr, position)?,
            });
        }
        self.coerce_to(expr, PgType::new(ty), CoercionContext::Implicit, position)
    }

    fn with_defaults(&mut self, row: &'static ProcRow, mut args: Vec<Expr>) -> Result<Vec<Expr>> {
        let count = row.argtypes.len();
        if row.variadic == oid::ANY || args.len() >= count {
            return Ok(args);
        }
        for i in args.len()..count {
            args.push(self.default_of(row, i)?);
        }
        Ok(args)
    }

    fn in_order(
        &mut self,
        row: &'static ProcRow,
        order: Vec<Option<usize>>,
        args: Vec<Expr>,
    ) -> Result<Vec<Expr>> {
        let mut given: Vec<Option<Expr>> = args.into_iter().map(Some).collect();
        let mut out = Vec::with_capacity(order.len());
        for (i, source) in order.into_iter().enumerate() {
            out.push(match source.and_then(|s| given.get_mut(s).and_then(Option::take)) {
                Some(expr) => expr,
                None => self.default_of(row, i)?,
            });
        }
        Ok(out)
    }

    /// The default of a parameter, which is a constant expression in all built-in functions.
    fn default_of(&mut self, row: &'static ProcRow, parameter: usize) -> Result<Expr> {
        let text = row.defaults.unwrap_or_default();
        let tuple = parse::parse_expression(&format!("ROW({text})"))?;
        let missing = || PgError::internal(format!("no default for a parameter of {}", row.name));
        let ast::Expr::Prefixed { value, .. } = tuple else { return Err(missing()) };
        let ast::Expr::Tuple(defaults) = *value else { return Err(missing()) };
        let first = row.argtypes.len() - defaults.len();
        let default = parameter.checked_sub(first).and_then(|i| defaults.get(i));
        let bound = self.bind_expr(default.ok_or_else(missing)?, Clause::Other)?;
        let ty = PgType::new(row.argtypes[parameter]);
        self.coerce_to(bound, ty, CoercionContext::Assignment, None)
    }
}

fn keep_best(candidates: &mut Vec<Candidate>, score: impl Fn(&Candidate) -> usize) {
    let best = candidates.iter().map(&score).max().unwrap_or(0);
    candidates.retain(|c| score(c) == best);
}

/// All functions of the name that can take these arguments by number and name. Where two would
/// take the same types, the one that spreads no VARIADIC tail and needs fewer defaults stays.
/// The functions of that schema have a common beginning.
fn in_information_schema(name: &str) -> bool {
    name.starts_with("_pg_")
}

fn candidates(name: &str, types: &[Oid], args: &FunctionArgs) -> Vec<Candidate> {
    let named = args.names.iter().any(Option::is_some);
    let mut out: Vec<Candidate> = Vec::new();
    for row in builtin::procs_by_name(name) {
        let candidate = match named {
            true => named_candidate(row, types.len(), &args.names),
            false => positional_candidate(row, types.len(), args.variadic),
        };
        let Some(new) = candidate else { continue };
        let rank = |c: &Candidate| {
            let params = c.row.map_or(0, |r| r.argtypes.len());
            (c.variadic_from.is_some(), params)
        };
        match out.iter_mut().find(|old| old.args == new.args) {
            Some(old) if rank(&new) < rank(old) => *old = new,
            Some(_) => {}
            None => out.push(new),
        }
    }
    out
}

fn positional_candidate(row: &'static ProcRow, count: usize, variadic: bool) -> Option<Candidate> {
    let params = row.argtypes.len();
    let mut args = row.argtypes.clone();
    let mut variadic_from = None;
    if row.variadic != 0 && !variadic && count >= params {
        let from = params - 1;
        args.truncate(from);
        args.resize(count, row.variadic);
        variadic_from = Some(from);
    } else if count > params {
        return None;
    } else if count < params {
        let defaults = usize::try_from(row.ndefaults).unwrap_or(0);
        if count + defaults < params || variadic {
            return None;
        }
        args.truncate(count);
    }
    Some(Candidate { row: Some(row), oid: row.oid, args, variadic_from, order: None })
}

fn named_candidate(
    row: &'static ProcRow,
    count: usize,
    names: &[Option<String>],
) -> Option<Candidate> {
    let params = row.argtypes.len();
    if count > params {
        return None;
    }
    let input_names = input_names(row)?;
    let mut order = vec![None; params];
    let mut args = Vec::with_capacity(count);
    for (i, name) in names.iter().enumerate() {
        let at = match name {
            None => i,
            Some(name) => input_names.iter().position(|n| n == name)?,
        };
        if order.get(at)?.is_some() {
            return None;
        }
        order[at] = Some(i);
        args.push(row.argtypes[at]);
    }
    let first_default = params - usize::try_from(row.ndefaults).unwrap_or(0);
    let complete = order.iter().enumerate().all(|(i, o)| o.is_some() || i >= first_default);
    complete.then_some(Candidate {
        row: Some(row),
        oid: row.oid,
        args,
        variadic_from: None,
        order: Some(order),
    })
}

/// Names of the parameters that take arguments.
fn input_names(row: &'static ProcRow) -> Option<Vec<&'static str>> {
    let names = row.argnames.as_ref()?;
    let Some(modes) = &row.argmodes else { return Some(names.clone()) };
    let input = |m: &char| matches!(m, 'i' | 'b' | 'v');
    Some(names.iter().zip(modes).filter(|(_, m)| input(m)).map(|(n, _)| *n).collect())
}
