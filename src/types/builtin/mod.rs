//! PostgreSQL's built-in catalog rows, with the lookups that a binder needs.
//!
//! The files in `data/` are what PostgreSQL 15 holds in its catalogs right after `initdb`: the
//! facts that drivers and tools rely on (oids, names, signatures, operator families). They are
//! read once, on first use, into [`BUILTIN`]; afterwards every lookup is a hash or a slice. The
//! larger side tables ([`descriptions`], text search) are read on their own first use.
//!
//! A function in the SQL language (`lpad(text, int4)`, `age(timestamp)`, `overlaps` …) has no C
//! name; its kernel is registered under its signature: see [`ProcRow::kernel`].

mod families;
mod format_type;
mod rows;
mod tsv;

use std::collections::HashMap;
use std::sync::LazyLock;

pub use families::{
    BtreeFamily, SortOperators, amop, amproc, binary_coercible, btree_strategies, default_opclass,
    hash_equality,
};
pub(crate) use format_type::numeric_typmod;
pub use format_type::{format_type, type_name};
pub use rows::*;

use crate::oid::{self, Oid};

/// Everything with an index, read on first use.
pub static BUILTIN: LazyLock<Builtin> = LazyLock::new(Builtin::read);

macro_rules! data {
    ($name:literal) => {
        include_str!(concat!("../data/", $name, ".tsv"))
    };
}

macro_rules! side_tables {
    ($($(#[$doc:meta])* $fun:ident: $row:ty = $file:literal;)*) => { $(
        $(#[$doc])*
        pub fn $fun() -> &'static [$row] {
            static ROWS: LazyLock<Vec<$row>> = LazyLock::new(|| <$row>::read(data!($file)));
            &ROWS
        }
    )* };
}

side_tables! {
    /// `pg_description` of built-in objects.
    descriptions: DescriptionRow = "pg_description";
    /// `pg_am`
    access_methods: AmRow = "pg_am";
    /// `pg_range`
    ranges: RangeRow = "pg_range";
    /// `pg_namespace`: `pg_catalog`, `pg_toast`, `public`.
    namespaces: NamedRow = "pg_namespace";
    /// `pg_tablespace`
    tablespaces: NamedRow = "pg_tablespace";
    /// `pg_language`
    languages: LanguageRow = "pg_language";
    /// `pg_collation`
    collations: CollationRow = "pg_collation";
    /// `pg_conversion`
    conversions: ConversionRow = "pg_conversion";
    /// `pg_authid`
    roles: AuthIdRow = "pg_authid";
    /// `pg_database`
    databases: DatabaseRow = "pg_database";
    /// `pg_ts_config`
    ts_configs: TsConfigRow = "pg_ts_config";
    /// `pg_ts_config_map`
    ts_config_maps: TsConfigMapRow = "pg_ts_config_map";
    /// `pg_ts_dict`
    ts_dicts: TsDictRow = "pg_ts_dict";
    /// `pg_ts_parser`
    ts_parsers: TsParserRow = "pg_ts_parser";
    /// `pg_ts_template`
    ts_templates: TsTemplateRow = "pg_ts_template";
}

/// The main catalogs and their indexes.
#[derive(Debug)]
pub struct Builtin {
    /// `pg_type`, by oid.
    pub types: Vec<TypeRow>,
    /// `pg_proc`, by oid.
    pub procs: Vec<ProcRow>,
    /// `pg_operator`, by oid.
    pub operators: Vec<OperatorRow>,
    /// `pg_cast`, by oid.
    pub casts: Vec<CastRow>,
    /// `pg_aggregate`, by function.
    pub aggregates: Vec<AggregateRow>,
    /// `pg_opclass`, by oid.
    pub opclasses: Vec<OpClassRow>,
    /// `pg_opfamily`, by oid.
    pub opfamilies: Vec<OpFamilyRow>,
    /// `pg_amop`, by oid.
    pub amops: Vec<AmOpRow>,
    /// `pg_amproc`, by oid.
    pub amprocs: Vec<AmProcRow>,
    type_oid: HashMap<Oid, usize>,
    type_name: HashMap<&'static str, usize>,
    proc_oid: HashMap<Oid, usize>,
    proc_name: HashMap<&'static str, Vec<usize>>,
    operator_oid: HashMap<Oid, usize>,
    operator_name: HashMap<&'static str, Vec<usize>>,
    cast_pair: HashMap<(Oid, Oid), usize>,
    aggregate_fn: HashMap<Oid, usize>,
    amop_key: HashMap<(Oid, Oid, Oid, i16), usize>,
    amop_operator: HashMap<Oid, Vec<usize>>,
    amproc_key: HashMap<(Oid, Oid, Oid, i16), usize>,
}

fn grouped<K: std::hash::Hash + Eq>(keys: impl Iterator<Item = K>) -> HashMap<K, Vec<usize>> {
    let mut map: HashMap<K, Vec<usize>> = HashMap::new();
    for (i, key) in keys.enumerate() {
        map.entry(key).or_default().push(i);
    }
    map
}

fn unique<K: std::hash::Hash + Eq>(keys: impl Iterator<Item = K>) -> HashMap<K, usize> {
    keys.enumerate().map(|(i, key)| (key, i)).collect()
}

impl Builtin {
    fn read() -> Builtin {
        let types = TypeRow::read(data!("pg_type"));
        let procs = ProcRow::read(data!("pg_proc"));
        let operators = OperatorRow::read(data!("pg_operator"));
        let casts = CastRow::read(data!("pg_cast"));
        let aggregates = AggregateRow::read(data!("pg_aggregate"));
        let amops = AmOpRow::read(data!("pg_amop"));
        let amprocs = AmProcRow::read(data!("pg_amproc"));
        Builtin {
            type_oid: unique(types.iter().map(|r| r.oid)),
            type_name: unique(types.iter().map(|r| r.name)),
            proc_oid: unique(procs.iter().map(|r| r.oid)),
            proc_name: grouped(procs.iter().map(|r| r.name)),
            operator_oid: unique(operators.iter().map(|r| r.oid)),
            operator_name: grouped(operators.iter().map(|r| r.name)),
            cast_pair: unique(casts.iter().map(|r| (r.source, r.target))),
            aggregate_fn: unique(aggregates.iter().map(|r| r.fnoid)),
            amop_key: amops
                .iter()
                .enumerate()
                .filter(|(_, r)| r.purpose == 's')
                .map(|(i, r)| ((r.family, r.left, r.right, r.strategy), i))
                .collect(),
            amop_operator: grouped(amops.iter().map(|r| r.operator)),
            amproc_key: unique(amprocs.iter().map(|r| (r.family, r.left, r.right, r.num))),
            opclasses: OpClassRow::read(data!("pg_opclass")),
            opfamilies: OpFamilyRow::read(data!("pg_opfamily")),
            types,
            procs,
            operators,
            casts,
            aggregates,
            amops,
            amprocs,
        }
    }
}

/// The `pg_type` row with this oid.
pub fn type_by_oid(oid: Oid) -> Option<&'static TypeRow> {
    BUILTIN.type_oid.get(&oid).map(|&i| &BUILTIN.types[i])
}

/// The `pg_type` row with this `typname`, for instance `int4`, `_text`.
pub fn type_by_name(name: &str) -> Option<&'static TypeRow> {
    BUILTIN.type_name.get(name).map(|&i| &BUILTIN.types[i])
}

/// The element type of a true array type (not of `name`, `point` …, which can be subscripted too).
pub fn array_element(array: Oid) -> Option<Oid> {
    if array == RECORD_ARRAY {
        return Some(oid::RECORD);
    }
    let row = type_by_oid(array)?;
    // `record[]` is a pseudo-type by its category, and an array all the same.
    let vector = matches!(array, oid::INT2VECTOR | oid::OIDVECTOR | oid::RECORD_ARRAY);
    (row.elem != 0 && row.len == -1 && (row.category == 'A' || vector)).then_some(row.elem)
}

/// `_record`, whose category is that of pseudo-types.
const RECORD_ARRAY: Oid = 2287;

/// The array type over an element type.
pub fn array_of(element: Oid) -> Option<Oid> {
    type_by_oid(element).map(|r| r.array).filter(|&a| a != 0)
}

/// The `pg_proc` row with this oid.
pub fn proc_by_oid(oid: Oid) -> Option<&'static ProcRow> {
    BUILTIN.proc_oid.get(&oid).map(|&i| &BUILTIN.procs[i])
}

/// All `pg_proc` rows with this name.
pub fn procs_by_name(name: &str) -> impl Iterator<Item = &'static ProcRow> + use<> {
    let indexes: &'static [usize] = BUILTIN.proc_name.get(name).map_or(&[], Vec::as_slice);
    indexes.iter().map(|&i| &BUILTIN.procs[i])
}

/// The `pg_operator` row with this oid.
pub fn operator_by_oid(oid: Oid) -> Option<&'static OperatorRow> {
    BUILTIN.operator_oid.get(&oid).map(|&i| &BUILTIN.operators[i])
}

/// All `pg_operator` rows with this name.
pub fn operators_by_name(name: &str) -> impl Iterator<Item = &'static OperatorRow> + use<> {
    let indexes: &'static [usize] = BUILTIN.operator_name.get(name).map_or(&[], Vec::as_slice);
    indexes.iter().map(|&i| &BUILTIN.operators[i])
}

/// The operator with exactly these operand types (`left` 0 for a prefix operator).
pub fn operator(name: &str, left: Oid, right: Oid) -> Option<&'static OperatorRow> {
    operators_by_name(name).find(|o| o.left == left && o.right == right)
}

/// The `pg_cast` row of this pair.
pub fn cast(source: Oid, target: Oid) -> Option<&'static CastRow> {
    BUILTIN.cast_pair.get(&(source, target)).map(|&i| &BUILTIN.casts[i])
}

/// All casts from a type.
pub fn casts_from(source: Oid) -> impl Iterator<Item = &'static CastRow> {
    BUILTIN.casts.iter().filter(move |c| c.source == source)
}

/// The `pg_aggregate` row of this function.
pub fn aggregate(fnoid: Oid) -> Option<&'static AggregateRow> {
    BUILTIN.aggregate_fn.get(&fnoid).map(|&i| &BUILTIN.aggregates[i])
}

/// The comment on a built-in object itself.
pub fn description(classoid: Oid, objoid: Oid) -> Option<&'static str> {
    let rows = descriptions();
    let at =
        rows.binary_search_by_key(&(classoid, objoid, 0), |r| (r.classoid, r.objoid, r.objsubid));
    at.ok().map(|i| rows[i].description)
}

impl ProcRow {
    /// The key of this function in [`crate::registry`]: the C name; for functions in the SQL
    /// language the signature with `typname`s, for instance `lpad(text,int4)`; for aggregates
    /// likewise, for instance `sum(int4)` and `count()`.
    pub fn kernel(&self) -> std::borrow::Cow<'static, str> {
        const SQL: Oid = 14;
        if self.lang != SQL && self.kind != 'a' {
            return self.src.into();
        }
        let args: Vec<&str> = self.argtypes.iter().map(|&t| type_name(t)).collect();
        format!("{}({})", self.name, args.join(",")).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lookups_answer_postgresql_facts() {
        let int4 = type_by_name("int4").expect("int4");
        assert_eq!((int4.oid, int4.array, int4.category), (oid::INT4, oid::INT4_ARRAY, 'N'));
        assert_eq!(array_element(oid::TEXT_ARRAY), Some(oid::TEXT));
        assert_eq!(array_element(oid::NAME), None);
        let plus = operator("+", oid::INT4, oid::INT4).expect("int4 + int4");
        assert_eq!(proc_by_oid(plus.code).map(|p| p.src), Some("int4pl"));
        assert_eq!(cast(oid::INT4, oid::INT8).map(|c| c.context), Some('i'));
        let sum = procs_by_name("sum").find(|p| p.argtypes == [oid::INT4]).expect("sum(int4)");
        assert_eq!(sum.kernel(), "sum(int4)");
        assert_eq!(aggregate(sum.oid).map(|a| a.kind), Some('n'));
        let lpad = procs_by_name("lpad").find(|p| p.argtypes.len() == 2).expect("lpad/2");
        assert_eq!(lpad.kernel(), "lpad(text,int4)");
        assert_eq!(description(1255, 65), Some("implementation of = operator"));
    }
}
