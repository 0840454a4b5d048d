//! The text form of EXPLAIN.

use super::node::{Node, Property};
use super::{Options, Run};

/// The lines of a plan.
pub(super) fn write(root: &Node, options: Options, run: Option<&Run>) -> Vec<String> {
    let mut lines = Vec::new();
    node(root, 0, options, run, &mut lines);
    lines
}

/// One node at an indentation, in PostgreSQL's units of two blanks.
fn node(n: &Node, indent: usize, options: Options, run: Option<&Run>, out: &mut Vec<String>) {
    let mut line = "  ".repeat(indent);
    if indent > 0 {
        line.push_str("->  ");
    }
    line.push_str(&n.title);
    if options.costs {
        let e = &n.estimate;
        line.push_str(&format!(
            "  (cost={:.2}..{:.2} rows={:.0} width={})",
            e.startup,
            e.total,
            e.rows.max(if e.rows > 0.0 { 1.0 } else { 0.0 }),
            e.width
        ));
    }
    let actual = run.filter(|_| options.analyze).map(|r| r.actuals.get(&n.relation).copied());
    match actual {
        Some(Some(a)) if a.loops > 0 => {
            let rows = a.rows / a.loops;
            if options.timing {
                line.push_str(&format!(
                    " (actual time={:.3}..{:.3} rows={rows} loops={})",
                    a.startup_ms, a.total_ms, a.loops
                ));
            } else {
                line.push_str(&format!(" (actual rows={rows} loops={})", a.loops));
            }
        }
        Some(_) => line.push_str(" (never executed)"),
        None => {}
    }
    out.push(line);
    let below = if indent > 0 { indent + 3 } else { 1 };
    for (name, value) in &n.properties {
        let text = match value {
            Property::Text(t) => t.clone(),
            Property::List(items) => items.join(", "),
        };
        out.push(format!("{}{name}: {text}", "  ".repeat(below)));
        if matches!(*name, "Filter" | "Join Filter")
            && let Some(Some(a)) = actual
            && a.loops > 0
            && a.removed > 0
        {
            let removed = a.removed / a.loops;
            out.push(format!("{}Rows Removed by {name}: {removed}", "  ".repeat(below)));
        }
    }
    for (_, heading, child) in &n.children {
        let mut at = below;
        if let Some(heading) = heading {
            out.push(format!("{}{heading}", "  ".repeat(below)));
            at += 1;
        }
        node(child, at, options, run, out);
    }
}
