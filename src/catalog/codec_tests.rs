//! Keys compare as values do, and rows come back from every version of their table.

use meridian_types::oid;
use meridian_types::{ArrayValue, Datum, Interval, PgType, Result};

use crate::{ColumnDesc, IndexCodec, IndexColumn, IndexDesc, IndexState, TableCodec, TableDesc};

fn column(attnum: i16, name: &str, ty: u32) -> ColumnDesc {
    ColumnDesc {
        attnum,
        name: name.into(),
        ty: PgType::new(ty),
        not_null: false,
        default: None,
        generated: false,
        identity: None,
        sequence: None,
        missing: None,
        dropped: false,
        hidden: false,
        collation: None,
        comment: None,
    }
}

fn index(index_id: u16, columns: &[(i16, u32, bool, bool)], unique: bool) -> IndexDesc {
    IndexDesc {
        oid: 0,
        index_id,
        name: format!("i{index_id}"),
        unique,
        nulls_not_distinct: false,
        primary: index_id == 1,
        method: "btree".into(),
        columns: columns
            .iter()
            .map(|(attnum, ty, desc, nulls_first)| IndexColumn {
                attnum: Some(*attnum),
                expr: None,
                ty: PgType::new(*ty),
                desc: *desc,
                nulls_first: *nulls_first,
            })
            .collect(),
        include: Vec::new(),
        predicate: None,
        state: IndexState::Public,
        comment: None,
    }
}

fn table(columns: Vec<ColumnDesc>, indexes: Vec<IndexDesc>) -> TableDesc {
    TableDesc {
        oid: 16384,
        row_type: 16386,
        database: 5,
        schema: 2200,
        name: "t".into(),
        owner: 10,
        storage_id: 16384,
        schema_version: 1,
        columns_added: vec![1; columns.len()],
        columns,
        next_index_id: 9,
        indexes,
        constraints: Vec::new(),
        temp_session: None,
        unlogged: false,
        options: Vec::new(),
        comment: None,
        acl: Vec::new(),
        row_estimate: None,
    }
}

fn no_text(_: PgType, text: &str) -> Result<Datum> {
    Ok(Datum::text(text))
}

fn assert_ascending(codec: &IndexCodec, values: &[Datum]) {
    let keys: Vec<Vec<u8>> =
        values.iter().map(|v| codec.key(std::slice::from_ref(v)).expect("key")).collect();
    for (i, pair) in keys.windows(2).enumerate() {
        assert!(pair[0] < pair[1], "{:?} before {:?}", values[i], values[i + 1]);
    }
}

#[test]
fn keys_sort_as_values_do() {
    let t = table(
        vec![column(1, "a", oid::INT4)],
        vec![index(1, &[(1, oid::INT4, false, false)], true)],
    );
    let with = |ty, desc, first| IndexCodec::new(&t, &index(2, &[(1, ty, desc, first)], false));
    let ints = [i32::MIN, -7, 0, 1, i32::MAX].map(Datum::Int4);
    assert_ascending(&with(oid::INT4, false, false), &ints);
    assert_ascending(
        &with(oid::FLOAT8, false, false),
        &[
            Datum::Float8(f64::NEG_INFINITY),
            Datum::Float8(-1.5),
            Datum::Float8(-0.0),
            Datum::Float8(1e-300),
            Datum::Float8(f64::INFINITY),
            Datum::Float8(f64::NAN),
        ],
    );
    let texts = ["", "a", "a b", "ab", "é"].map(Datum::text);
    assert_ascending(&with(oid::TEXT, false, false), &texts);
    assert_ascending(
        &with(oid::BYTEA, false, false),
        &[
            Datum::Bytea(vec![].into()),
            Datum::Bytea(vec![0].into()),
            Datum::Bytea(vec![0, 0].into()),
            Datum::Bytea(vec![0, 1].into()),
            Datum::Bytea(vec![1].into()),
        ],
    );
    let day = Interval { days: 1, ..Interval::default() };
    let month = Interval { months: 1, ..Interval::default() };
    assert_ascending(
        &with(oid::INTERVAL, false, false),
        &[
            Datum::Interval(Interval { days: -1, ..Interval::default() }),
            Datum::Interval(day),
            Datum::Interval(month),
        ],
    );
    // The four places of NULL.
    let (one, two) = (Datum::Int4(1), Datum::Int4(2));
    for (desc, first, want) in [
        (false, false, [&one, &two, &Datum::Null]),
        (false, true, [&Datum::Null, &one, &two]),
        (true, true, [&Datum::Null, &two, &one]),
        (true, false, [&two, &one, &Datum::Null]),
    ] {
        assert_ascending(&with(oid::INT4, desc, first), &want.map(Clone::clone));
    }
}

#[test]
fn entries_lead_back_to_their_row() {
    let columns = vec![column(1, "id", oid::INT8), column(2, "v", oid::TEXT)];
    let primary = index(1, &[(1, oid::INT8, false, false)], true);
    for (unique, desc) in [(true, false), (true, true), (false, false), (false, true)] {
        let secondary = index(2, &[(2, oid::TEXT, desc, false)], unique);
        let t = table(columns.clone(), vec![primary.clone(), secondary]);
        let rows = TableCodec::new(&t, no_text).expect("codec");
        let entries = IndexCodec::new(&t, &t.indexes[1]);
        let row_key = rows.row_key(&[Datum::Int8(42), Datum::Null]).expect("key");
        for v in [Datum::text("hi"), Datum::text(""), Datum::Null] {
            let (key, value) = entries.entry(std::slice::from_ref(&v), &row_key).expect("entry");
            assert_eq!(value.is_empty(), !unique || v.is_null());
            assert_eq!(entries.row_key(&t, &key, &value).expect("row key"), row_key);
        }
    }
}

#[test]
fn rows_come_back() {
    let kinds = [
        oid::INT4,
        oid::TEXT,
        oid::BOOL,
        oid::FLOAT8,
        oid::INT4_ARRAY,
        oid::UUID,
        oid::TIMESTAMPTZ,
        oid::BPCHAR,
        oid::BYTEA,
    ];
    let columns = kinds.iter().zip(1..).map(|(ty, n)| column(n, &format!("c{n}"), *ty)).collect();
    let key = [
        (2, oid::TEXT, false, false),
        (1, oid::INT4, false, false),
        (8, oid::BPCHAR, false, false),
    ];
    let t = table(columns, vec![index(1, &key, true)]);
    let codec = TableCodec::new(&t, no_text).expect("codec");
    let array = ArrayValue::from_elements(oid::INT4, vec![Datum::Int4(1), Datum::Null]);
    let full = vec![
        Datum::Int4(-5),
        Datum::text("key"),
        Datum::Bool(true),
        Datum::Float8(-0.0),
        Datum::Array(array.into()),
        Datum::Uuid([7; 16]),
        Datum::TimestampTz(123),
        Datum::text("ab   "),
        Datum::Bytea(vec![9; 70_000].into()),
    ];
    let mut sparse = vec![Datum::Null; 9];
    for i in [0, 1, 7] {
        sparse[i] = full[i].clone();
    }
    for row in [full, sparse] {
        let (key, value) = (codec.row_key(&row).expect("key"), codec.encode(&row).expect("value"));
        assert_eq!(codec.decode(&key, &value).expect("row"), row);
    }
}

#[test]
fn an_old_row_has_the_missing_value_of_a_new_column() {
    let mut t = table(
        vec![column(1, "id", oid::INT4), column(2, "v", oid::TEXT)],
        vec![index(1, &[(1, oid::INT4, false, false)], true)],
    );
    let old = TableCodec::new(&t, no_text).expect("codec");
    let row = [Datum::Int4(1), Datum::text("x")];
    let (key, value) = (old.row_key(&row).expect("key"), old.encode(&row).expect("value"));
    t.columns.push(ColumnDesc { missing: Some("new".into()), ..column(3, "w", oid::TEXT) });
    t.columns_added.push(2);
    t.columns[1].dropped = true;
    t.schema_version = 3;
    let new = TableCodec::new(&t, no_text).expect("codec");
    let read = new.decode(&key, &value).expect("row");
    assert_eq!(read[2], Datum::text("new"));
    let again = [Datum::Int4(1), Datum::Null, Datum::text("y")];
    let value = new.encode(&again).expect("value");
    assert_eq!(new.decode(&key, &value).expect("row"), again);
}
