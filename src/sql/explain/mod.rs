//! EXPLAIN: a plan as PostgreSQL shows one.
//!
//! A [`crate::rel::Rel`] becomes a tree of [`Node`]s with PostgreSQL's node names and properties
//! (`node.rs`), which is written as text or JSON (`text.rs`, `json.rs`). Projections are not nodes
//! in PostgreSQL and are left out; predicates appear as properties of the node that applies them.
//!
//! ANALYZE: the executor counts per relation and hands in [`Actuals`]. A relation's number is its
//! place in the pre-order walk by [`crate::walk::each_input`] from the root (the root is 0), with
//! sub-queries of expressions left out.

use std::collections::BTreeMap;

use crate::plan::Query;

pub mod expr;
mod json;
mod node;
mod text;

pub use node::Node;

/// What EXPLAIN was asked to show.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are EXPLAIN's own options")]
pub struct Options {
    /// ANALYZE: actual counters are shown.
    pub analyze: bool,
    /// COSTS
    pub costs: bool,
    /// VERBOSE: output columns are shown.
    pub verbose: bool,
    /// TIMING: with ANALYZE, times are shown.
    pub timing: bool,
    /// SUMMARY: planning and execution times are shown.
    pub summary: bool,
    /// FORMAT JSON rather than TEXT.
    pub json: bool,
    /// DISTRIBUTED, an option of our own: how the statement's writes will be committed.
    pub distributed: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            analyze: false,
            costs: true,
            verbose: false,
            timing: true,
            summary: false,
            json: false,
            distributed: false,
        }
    }
}

/// What happened in one relation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Actual {
    /// How often it was started.
    pub loops: u64,
    /// Rows that it gave in all.
    pub rows: u64,
    /// Milliseconds to the first row, of an average loop.
    pub startup_ms: f64,
    /// Milliseconds to the last row, of an average loop.
    pub total_ms: f64,
    /// Rows that its predicates refused.
    pub removed: u64,
}

/// Counters by relation number.
pub type Actuals = BTreeMap<usize, Actual>;

/// What was measured around the plan.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Counters of the relations.
    pub actuals: Actuals,
    /// Milliseconds of planning.
    pub planning_ms: f64,
    /// Milliseconds of execution.
    pub execution_ms: f64,
}

/// The lines of EXPLAIN's answer. `commit` tells how the statement's writes will be committed.
pub fn explain(
    query: &Query,
    options: Options,
    run: Option<&Run>,
    commit: Option<&str>,
) -> Vec<String> {
    let root = node::build(query, options.verbose);
    if options.json {
        return vec![json::write(&root, options, run, commit)];
    }
    let mut lines = text::write(&root, options, run);
    if let Some(commit) = commit {
        lines.push(format!("Commit: {commit}"));
    }
    if options.summary
        && let Some(run) = run
    {
        lines.push(format!("Planning Time: {:.3} ms", run.planning_ms));
        if options.analyze {
            lines.push(format!("Execution Time: {:.3} ms", run.execution_ms));
        }
    }
    lines
}
