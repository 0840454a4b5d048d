//! Foreign keys: checks of the referencing side, actions of the referenced side.
//!
//! Writes leave [`Event`]s behind. At the end of the statement, with its writes in the transaction,
//! each is looked at: a new child row must have a parent, which is then locked KEY SHARE; a parent
//! whose key is gone must have no children, or they follow it (CASCADE, SET NULL, SET DEFAULT).
//! Actions leave events of their own. Deferred constraints wait for the commit.
//!
//! Under READ COMMITTED the checks take a new snapshot, since the children of a locked parent may
//! have been committed after the statement began, and again after the locks of each round of actions.
//! Above it a parent's children are looked for in the transaction's snapshot and in the newest one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use meridian_catalog::{ConstraintDesc, ConstraintKind, FkAction, TableDesc};
use meridian_cluster::{Txn, TxnOptions};
use meridian_kv::api::{Isolation, Span, Strength};
use meridian_types::oid::Oid;
use meridian_types::{Datum, PgError, Result};

use super::{Writes, changed, describe, rules};
use crate::codecs::{Table, column};
use crate::context::StatementContext;
use crate::error::from_kv;
use crate::ops::scan::fit;
use crate::shared::Cx;

/// Something to check about a foreign key.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    child: Arc<TableDesc>,
    /// Position in the child's constraints.
    constraint: usize,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// These are a new child row's values of the referencing columns.
    Child(Vec<Datum>),
    /// A parent's key changed from the first to the second, or the parent went away.
    Parent(Arc<TableDesc>, Vec<Datum>, Option<Vec<Datum>>),
}

impl Event {
    pub(crate) fn child(child: &Arc<TableDesc>, constraint: usize, row: &[Datum]) -> Event {
        let values = match &child.constraints[constraint].kind {
            ConstraintKind::ForeignKey { columns, .. } => pick(row, columns),
            _ => vec![],
        };
        Event { child: child.clone(), constraint, what: What::Child(values) }
    }

    pub(crate) fn parent(
        parent: &Arc<TableDesc>,
        child: &Arc<TableDesc>,
        constraint: usize,
        old: &[Datum],
        new: Option<&[Datum]>,
    ) -> Event {
        let columns = match &child.constraints[constraint].kind {
            ConstraintKind::ForeignKey { ref_columns, .. } => &ref_columns[..],
            _ => &[],
        };
        let (old, new) = (pick(old, columns), new.map(|n| pick(n, columns)));
        Event { child: child.clone(), constraint, what: What::Parent(parent.clone(), old, new) }
    }

    /// A new child row's values of the referencing columns.
    pub(super) fn child_values(&self) -> &[Datum] {
        match &self.what {
            What::Child(values) => values,
            What::Parent(..) => &[],
        }
    }

    fn desc(&self) -> &ConstraintDesc {
        &self.child.constraints[self.constraint]
    }
}

fn pick(row: &[Datum], attnums: &[i16]) -> Vec<Datum> {
    attnums.iter().map(|a| column(row, *a).clone()).collect()
}

/// What of a transaction is checked at commit, and what SET CONSTRAINTS said.
#[derive(Clone, Debug, Default)]
pub struct Deferred {
    events: Vec<Event>,
    all: Option<bool>,
    named: HashMap<Oid, bool>,
}

impl Deferred {
    /// SET CONSTRAINTS ALL DEFERRED (true) or IMMEDIATE.
    pub fn set_all(&mut self, deferred: bool) {
        self.all = Some(deferred);
        self.named.clear();
    }

    /// SET CONSTRAINTS of one constraint, by its oid.
    pub fn set(&mut self, constraint: Oid, deferred: bool) {
        self.named.insert(constraint, deferred);
    }

    /// Whether nothing waits for the commit.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    fn defers(&self, constraint: &ConstraintDesc) -> bool {
        constraint.deferrable
            && self.named.get(&constraint.oid).copied().or(self.all).unwrap_or(constraint.deferred)
    }
}

/// Checks what was deferred: at commit, or at SET CONSTRAINTS … IMMEDIATE.
pub async fn check_deferred(
    ctx: &Arc<StatementContext>,
    txn: &mut Txn,
) -> Result<(), crate::error::ExecError> {
    let events = std::mem::take(&mut ctx.deferred.lock().events);
    Ok(run(events, txn, ctx, true).await?)
}

/// Looks at events until none is left.
pub(crate) async fn run(
    events: Vec<Event>,
    txn: &mut Txn,
    ctx: &Arc<StatementContext>,
    at_commit: bool,
) -> Result<()> {
    let mut queue: VecDeque<Event> = events.into();
    let mut round = 0;
    while let Some(event) = queue.pop_front() {
        if round == 0 {
            txn.begin_statement();
            round = queue.len() + 1;
        }
        round -= 1;
        let restrict = matches!(&event.desc().kind,
            ConstraintKind::ForeignKey { on_delete, on_update, .. } if matches!(
                (&event.what, on_delete, on_update),
                (What::Parent(_, _, None), FkAction::Restrict, _)
                    | (What::Parent(_, _, Some(_)), _, FkAction::Restrict)));
        if !at_commit && !restrict && defers(ctx, &event) {
            ctx.deferred.lock().events.push(event);
            continue;
        }
        let mut writes = Writes::default();
        match &event.what {
            What::Child(values) => check_child(&event, values, txn, ctx).await?,
            What::Parent(parent, old, new) => {
                parent_gone(&event, parent, old, new.as_deref(), txn, &mut writes, ctx).await?;
            }
        }
        queue.extend(std::mem::take(&mut writes.events));
        writes.settle()?;
        writes.flush(txn);
    }
    Ok(())
}

/// Only checks are deferred; actions are not.
fn defers(ctx: &StatementContext, event: &Event) -> bool {
    let ConstraintKind::ForeignKey { on_delete, on_update, .. } = &event.desc().kind else {
        return false;
    };
    let checks = match &event.what {
        What::Child(_) => true,
        What::Parent(_, _, None) => *on_delete == FkAction::NoAction,
        What::Parent(_, _, Some(_)) => *on_update == FkAction::NoAction,
    };
    checks && ctx.deferred.lock().defers(event.desc())
}

/// The key of the row with these values in a unique index, whether or not it exists.
async fn parent_key(
    parent: &Table,
    index_id: u16,
    columns: &[i16],
    values: &[Datum],
    txn: &mut Txn,
) -> Result<Option<Bytes>> {
    let Some(at) = parent.desc.indexes.iter().position(|i| i.index_id == index_id) else {
        return Err(PgError::internal("a foreign key names an unknown index"));
    };
    let index = &parent.desc.indexes[at];
    let mut ordered = Vec::with_capacity(index.columns.len());
    for key in &index.columns {
        let from = columns.iter().position(|c| Some(*c) == key.attnum);
        let value = from.and_then(|i| values.get(i)).cloned().unwrap_or(Datum::Null);
        let Some(value) = fit(value, key.ty) else { return Ok(None) };
        ordered.push(value);
    }
    let key = parent.indexes[at].key(&ordered)?;
    if at == 0 {
        return Ok(Some(key.into()));
    }
    match txn.get(&key).await.map_err(from_kv)? {
        Some(value) => Ok(Some(parent.indexes[at].row_key(&parent.desc, &key, &value)?.into())),
        None => Ok(None),
    }
}

async fn check_child(
    event: &Event,
    values: &[Datum],
    txn: &mut Txn,
    ctx: &Arc<StatementContext>,
) -> Result<()> {
    let ConstraintKind::ForeignKey {
        columns,
        ref_table,
        ref_columns,
        ref_index_id,
        match_full,
        ..
    } = &event.desc().kind
    else {
        return Ok(());
    };
    let name = &event.desc().name;
    let nulls = values.iter().filter(|v| v.is_null()).count();
    if nulls == values.len() || (nulls > 0 && !match_full) {
        return Ok(());
    }
    if nulls > 0 {
        return Err(describe::foreign_error(&event.child, name, &ctx.catalog)
            .detail("MATCH FULL does not allow mixing of null and nonnull key values."));
    }
    let parent = ctx
        .catalog
        .table(*ref_table)
        .ok_or_else(|| PgError::internal("a foreign key names an unknown table"))?;
    let parent = ctx.node.table(parent)?;
    let key = parent_key(&parent, *ref_index_id, ref_columns, values, txn).await?;
    if let Some(key) = key {
        let writes = Writes::default();
        let newest = writes.lock(txn, &key, Strength::KeyShare).await?;
        let mut same = false;
        if let Some(row) = newest.row {
            let row = parent.codec.decode(&key, &row)?;
            same = pick(&row, ref_columns).iter().zip(values).all(|(a, b)| {
                a == b || (a.as_i64().is_some() && a.as_i64() == b.as_i64()) || a.as_i64().is_none()
            });
        }
        // To REPEATABLE READ a parent that its snapshot doesn't show is none. SERIALIZABLE doesn't ask:
        // it would have read the row, and be refused for any change of it.
        let level = txn.isolation();
        if same && (!newest.changed || level != Isolation::RepeatableRead) {
            return Ok(());
        }
        let keeps = newest.changed && level != Isolation::ReadCommitted;
        match keeps && txn.get(&key).await.map_err(from_kv)?.is_some() {
            true if same => return Ok(()),
            // It may be back at the next try.
            true => return Err(changed(txn)),
            false => {}
        }
    }
    let text = describe::key_text(&event.child, columns, values, &ctx.eval);
    Err(describe::missing_parent(&event.child, name, &parent.desc.name, &text, &ctx.catalog))
}

/// Child rows with these values: (key, row).
async fn children(
    child: &Table,
    columns: &[i16],
    wanted: &[Datum],
    txn: &mut Txn,
    ctx: &StatementContext,
) -> Result<Vec<(Bytes, Vec<Datum>)>> {
    let leading = |at: &usize| {
        let keys = &child.desc.indexes[*at].columns;
        keys.len() >= columns.len()
            && keys[..columns.len()].iter().all(|k| k.attnum.is_some_and(|a| columns.contains(&a)))
    };
    let usable = (0..child.indexes.len()).find(leading);
    let span = match usable {
        None => {
            let (start, end) = child.codec.primary().span();
            Span::new(start, end)
        }
        Some(at) => {
            let order = child.desc.indexes[at].columns[..columns.len()].iter();
            let ordered: Vec<Datum> = order
                .filter_map(|k| columns.iter().position(|c| Some(*c) == k.attnum))
                .map(|i| wanted[i].clone())
                .collect();
            Span::prefix(&child.indexes[at].key(&ordered)?)
        }
    };
    let mut scan = txn.scan(span, false).await.map_err(from_kv)?;
    let (mut found, mut batch) = (vec![], vec![]);
    loop {
        batch.clear();
        let more = scan.next_batch(1024, &mut batch).await.map_err(from_kv)?;
        ctx.check_cancel()?;
        for (key, value) in &batch {
            let (key, value) = match usable {
                Some(at) if at > 0 => {
                    let key = Bytes::from(child.indexes[at].row_key(&child.desc, key, value)?);
                    match txn.get(&key).await.map_err(from_kv)? {
                        Some(value) => (key, value),
                        None => continue,
                    }
                }
                _ => (key.clone(), value.clone()),
            };
            let row = child.codec.decode(&key, &value)?;
            if pick(&row, columns) == wanted {
                found.push((key, row));
            }
        }
        if !more {
            return Ok(found);
        }
    }
}

/// Child rows with these values that were committed after the snapshot that a transaction keeps.
async fn hidden_children(
    child: &Table,
    columns: &[i16],
    wanted: &[Datum],
    seen: &[(Bytes, Vec<Datum>)],
    txn: &mut Txn,
    ctx: &StatementContext,
) -> Result<Vec<(Bytes, Vec<Datum>)>> {
    if txn.isolation() == Isolation::ReadCommitted {
        return Ok(vec![]);
    }
    let seen: HashSet<&Bytes> = seen.iter().map(|(key, _)| key).collect();
    let options = TxnOptions { read_only: true, ..TxnOptions::default() };
    let mut newest = ctx.node.store().begin(options);
    let found = children(child, columns, wanted, &mut newest, ctx).await?;
    let mut hidden = vec![];
    for (key, _) in found.into_iter().filter(|(key, _)| !seen.contains(key)) {
        // Unless this transaction has changed it itself.
        hidden.extend(still(child, columns, wanted, &key, txn).await?.map(|row| (key, row)));
    }
    Ok(hidden)
}

/// A child, if it still has these values once those who were about to change it are done.
async fn still(
    child: &Table,
    columns: &[i16],
    wanted: &[Datum],
    key: &Bytes,
    txn: &mut Txn,
) -> Result<Option<Vec<Datum>>> {
    let newest = Writes::default().lock(txn, key, Strength::KeyShare).await?;
    let Some(row) = newest.row else { return Ok(None) };
    let row = child.codec.decode(key, &row)?;
    Ok((pick(&row, columns) == wanted).then_some(row))
}

async fn parent_gone(
    event: &Event,
    parent: &Arc<TableDesc>,
    old: &[Datum],
    new: Option<&[Datum]>,
    txn: &mut Txn,
    writes: &mut Writes,
    ctx: &Arc<StatementContext>,
) -> Result<()> {
    let ConstraintKind::ForeignKey {
        columns, ref_columns, ref_index_id, on_delete, on_update, ..
    } = &event.desc().kind
    else {
        return Ok(());
    };
    if old.iter().any(Datum::is_null) {
        return Ok(());
    }
    // The child may have been changed by DDL of this transaction since.
    let desc = ctx.catalog.table(event.child.oid).unwrap_or(&event.child);
    let child = ctx.node.table(desc)?;
    let action = if new.is_some() { on_update } else { on_delete };
    let mut taken = false;
    if matches!(action, FkAction::NoAction | FkAction::SetDefault) {
        // Another row may have taken the key in the meantime.
        let table = ctx.node.table(parent)?;
        if let Some(key) = parent_key(&table, *ref_index_id, ref_columns, old, txn).await? {
            taken = txn.get(&key).await.map_err(from_kv)?.is_some();
        }
    }
    if taken && *action == FkAction::NoAction {
        return Ok(());
    }
    let mut wanted = Vec::with_capacity(old.len());
    for (attnum, value) in columns.iter().zip(old) {
        let ty = child.desc.column(*attnum).map(|c| c.ty);
        let Some(value) = ty.and_then(|ty| fit(value.clone(), ty)) else { return Ok(()) };
        wanted.push(value);
    }
    let mut rows = children(&child, columns, &wanted, txn, ctx).await?;
    let hidden = hidden_children(&child, columns, &wanted, &rows, txn, ctx).await?;
    rows.extend(hidden);
    let referenced = || {
        let key = describe::key_text(parent, ref_columns, old, &ctx.eval);
        let name = &event.desc().name;
        describe::still_referenced(parent, &child.desc, name, &key, &ctx.catalog)
    };
    if matches!(action, FkAction::NoAction | FkAction::Restrict) {
        for (key, _) in &rows {
            if still(&child, columns, &wanted, key, txn).await?.is_some() {
                return Err(referenced());
            }
        }
        return Ok(());
    }
    if rows.is_empty() {
        return Ok(());
    }
    let (writer, defaults) = rules::writer(&child, *action, columns, ctx)?;
    let cx = Cx::plain(ctx);
    for (key, row) in rows {
        if *action == FkAction::Cascade && new.is_none() {
            if writer.lock_row(&key, Strength::Update, txn, writes).await? {
                writer.delete(&key, &row, writes)?;
            }
            continue;
        }
        let mut after = row.clone();
        for (i, attnum) in columns.iter().enumerate() {
            let value = match (action, new) {
                (FkAction::Cascade, Some(new)) => new[i].clone(),
                (FkAction::SetDefault, _) => defaults[i].row(&row, &cx)?,
                _ => Datum::Null,
            };
            let at = usize::try_from(attnum - 1).unwrap_or(0);
            after[at] = fit(value, child.desc.columns[at].ty).unwrap_or(Datum::Null);
        }
        writer.check_row(&mut after, &cx, ctx)?;
        if *action == FkAction::SetDefault && !taken && pick(&after, columns) == pick(&row, columns)
        {
            return Err(referenced());
        }
        let strength = writer.strength(&row, &after);
        if writer.lock_row(&key, strength, txn, writes).await? {
            writer.update(&key, &row, &after, txn, writes, ctx).await?;
        }
    }
    Ok(())
}
