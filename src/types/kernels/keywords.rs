//! `pg_get_keywords()`: PostgreSQL's key words with their classes.

use std::sync::LazyLock;

use crate::Datum;
use crate::registry::SetKernel;

static ROWS: LazyLock<Vec<Datum>> = LazyLock::new(|| {
    include_str!("../data/keywords.tsv").lines().skip(1).filter_map(row).collect()
});

fn row(line: &str) -> Option<Datum> {
    let mut fields = line.split('\t');
    let (word, class, bare) = (fields.next()?, fields.next()?, fields.next()? == "t");
    let meaning = match class {
        "U" => "unreserved",
        "C" => "unreserved (cannot be function or type name)",
        "T" => "reserved (can be function or type name)",
        _ => "reserved",
    };
    let label = if bare { "can be bare label" } else { "requires AS" };
    let fields = [
        Datum::text(word),
        Datum::text(class),
        Datum::Bool(bare),
        Datum::text(meaning),
        Datum::text(label),
    ];
    Some(Datum::Record(fields.into()))
}

pub(crate) const SETS: &[(&str, SetKernel)] = &[("pg_get_keywords", |_, _| Ok(ROWS.clone()))];
