//! Values as PostgreSQL 15 prints them, and the transaction rules.

use super::*;

#[test]
fn values_are_shown_as_postgresql_shows_them() {
    let mut s = Settings::default();
    for (name, given, shown) in [
        ("statement_timeout", "90000", "90s"),
        ("statement_timeout", "1.5h", "90min"),
        ("work_mem", "65536", "64MB"),
        ("enable_seqscan", "FAL", "off"),
        ("datestyle", "postgres, dmy", "Postgres, DMY"),
        ("DATESTYLE", "iso", "ISO, DMY"),
        ("datestyle", "german", "German, DMY"),
        ("effective_cache_size", "1 GB", "1GB"),
        ("extra_float_digits", "-3", "-3"),
        ("app.user", "42", "42"),
        ("client_encoding", "utf-8", "UTF8"),
    ] {
        s.set(name, given, false, false).expect(name);
        assert_eq!(s.show(name).expect(name), shown, "{name} = {given}");
    }
}

#[test]
fn bad_values_are_refused_with_postgresqls_words() {
    let mut s = Settings::default();
    for (name, given, message) in [
        ("nonsense", "1", "unrecognized configuration parameter \"nonsense\""),
        (
            "work_mem",
            "1",
            "1 kB is outside the valid range for parameter \"work_mem\" (64 kB .. 2147483647 kB)",
        ),
        ("enable_sort", "maybe", "parameter \"enable_sort\" requires a Boolean value"),
        ("server_version", "16", "parameter \"server_version\" cannot be changed"),
        ("intervalstyle", "x", "invalid value for parameter \"IntervalStyle\": \"x\""),
        ("deadlock_timeout", "5s", "permission denied to set parameter \"deadlock_timeout\""),
    ] {
        let error = s.set(name, given, false, false).expect_err(name);
        assert_eq!(error.fields().message, message);
    }
}

#[test]
fn local_values_end_with_the_transaction_and_set_is_undone_by_rollback() {
    let mut s = Settings::default();
    s.set("application_name", "a", false, false).expect("valid");
    s.push(0);
    s.set("application_name", "b", true, false).expect("valid");
    assert_eq!(s.get("application_name"), "b");
    s.end_transaction(true);
    assert_eq!(s.get("application_name"), "a");

    s.push(0);
    s.set("application_name", "c", false, false).expect("valid");
    s.push(1);
    s.set("application_name", "d", false, false).expect("valid");
    s.restore(1);
    assert_eq!(s.get("application_name"), "c");
    s.end_transaction(false);
    assert_eq!(s.get("application_name"), "a");
}

#[test]
fn identifier_lists_keep_quotes_apart() {
    assert_eq!(identifier_list("\"$user\", Public,\"A\"\"b, c\" "), ["$user", "public", "A\"b, c"]);
    assert!(identifier_list("").is_empty());
}
