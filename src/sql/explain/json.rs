//! The JSON form of EXPLAIN.

use super::node::{Node, Property};
use super::{Options, Run};

/// The document.
pub(super) fn write(
    root: &Node,
    options: Options,
    run: Option<&Run>,
    commit: Option<&str>,
) -> String {
    let mut out = String::from("[\n  {\n    \"Plan\": ");
    node(root, None, 4, options, run, &mut out);
    if let Some(commit) = commit {
        out.push_str(&format!(",\n    \"Commit\": {}", quoted(commit)));
    }
    if options.summary
        && let Some(run) = run
    {
        out.push_str(&format!(",\n    \"Planning Time\": {:.3}", run.planning_ms));
    }
    if options.analyze
        && let Some(run) = run
    {
        out.push_str(&format!(
            ",\n    \"Triggers\": [\n    ],\n    \"Execution Time\": {:.3}",
            run.execution_ms
        ));
    }
    out.push_str("\n  }\n]");
    out
}

fn node(
    n: &Node,
    parent: Option<(&str, Option<&String>)>,
    indent: usize,
    options: Options,
    run: Option<&Run>,
    out: &mut String,
) {
    let pad = " ".repeat(indent + 2);
    let mut fields: Vec<String> = vec![format!("\"Node Type\": {}", quoted(&n.kind))];
    if let Some((relationship, heading)) = parent {
        fields.push(format!("\"Parent Relationship\": {}", quoted(relationship)));
        if let Some(heading) = heading {
            fields.push(format!("\"Subplan Name\": {}", quoted(heading)));
        }
    }
    if let Some((verb, _)) = n.title.split_once(" on ").filter(|_| n.kind == "ModifyTable") {
        fields.insert(1, format!("\"Operation\": {}", quoted(verb)));
    }
    fields.push("\"Parallel Aware\": false".into());
    fields.push("\"Async Capable\": false".into());
    fields.extend(title_fields(n));
    if options.costs {
        let e = &n.estimate;
        fields.push(format!("\"Startup Cost\": {:.2}", e.startup));
        fields.push(format!("\"Total Cost\": {:.2}", e.total));
        fields.push(format!("\"Plan Rows\": {:.0}", e.rows));
        fields.push(format!("\"Plan Width\": {}", e.width));
    }
    if options.analyze
        && let Some(run) = run
    {
        let a = run.actuals.get(&n.relation).copied().unwrap_or_default();
        if options.timing {
            fields.push(format!("\"Actual Startup Time\": {:.3}", a.startup_ms));
            fields.push(format!("\"Actual Total Time\": {:.3}", a.total_ms));
        }
        fields.push(format!("\"Actual Rows\": {}", a.rows / a.loops.max(1)));
        fields.push(format!("\"Actual Loops\": {}", a.loops));
    }
    for (name, value) in &n.properties {
        fields.push(match value {
            Property::Text(t) => format!("{}: {}", quoted(name), quoted(t)),
            Property::List(items) => {
                let items: Vec<String> = items.iter().map(|i| quoted(i)).collect();
                format!("{}: [{}]", quoted(name), items.join(", "))
            }
        });
    }
    out.push_str("{\n");
    for (i, field) in fields.iter().enumerate() {
        let comma = if i + 1 < fields.len() || !n.children.is_empty() { "," } else { "" };
        out.push_str(&format!("{pad}{field}{comma}\n"));
    }
    if !n.children.is_empty() {
        out.push_str(&format!("{pad}\"Plans\": [\n"));
        for (i, (relationship, heading, child)) in n.children.iter().enumerate() {
            out.push_str(&" ".repeat(indent + 4));
            let parent = Some((*relationship, heading.as_ref()));
            node(child, parent, indent + 4, options, run, out);
            out.push_str(if i + 1 < n.children.len() { ",\n" } else { "\n" });
        }
        out.push_str(&format!("{pad}]\n"));
    }
    out.push_str(&format!("{}}}", " ".repeat(indent)));
}

/// What the text form says in the title.
fn title_fields(n: &Node) -> Vec<String> {
    let mut fields = Vec::new();
    if let Some((head, relation)) = n.title.split_once(" on ") {
        if let Some((_, index)) = head.split_once(" using ") {
            let direction = if head.contains("Backward") { "Backward" } else { "Forward" };
            fields.push(format!("\"Scan Direction\": {}", quoted(direction)));
            fields.push(format!("\"Index Name\": {}", quoted(index)));
        }
        let name = match n.kind.as_str() {
            "CTE Scan" => "CTE Name",
            "Function Scan" => "Function Name",
            _ => "Relation Name",
        };
        let (relation, alias) = relation.split_once(' ').unwrap_or((relation, relation));
        fields.push(format!("{}: {}", quoted(name), quoted(relation)));
        fields.push(format!("\"Alias\": {}", quoted(alias)));
    }
    if matches!(n.kind.as_str(), "Hash Join" | "Nested Loop") {
        let words: Vec<&str> = n.title.split(' ').collect();
        let kind =
            ["Left", "Right", "Full", "Semi", "Anti"].into_iter().find(|k| words.contains(k));
        fields.push(format!("\"Join Type\": {}", quoted(kind.unwrap_or("Inner"))));
    }
    if n.kind == "Aggregate" {
        let strategy = match n.title.as_str() {
            "HashAggregate" => "Hashed",
            "MixedAggregate" => "Mixed",
            _ => "Plain",
        };
        fields.push(format!("\"Strategy\": {}", quoted(strategy)));
    }
    fields
}

/// A JSON string.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if u32::from(c) < 32 => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
