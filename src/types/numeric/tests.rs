//! Expected values are PostgreSQL 15's.
use super::*;

fn n(s: &str) -> Numeric {
    Numeric::parse(s).expect(s)
}

#[track_caller]
fn shows(v: Result<Numeric>, want: &str) {
    assert_eq!(v.expect("a value").to_string(), want);
}

#[test]
fn scales_follow_postgresql() {
    shows(n("1.5").add(&n("2.25")), "3.75");
    shows(n("1.50").mul(&n("2.0")), "3.000");
    shows(n("1").div(&n("3")), "0.33333333333333333333");
    shows(n("10").div(&n("4")), "2.5000000000000000");
    shows(n("-7.5").rem(&n("2")), "-1.5");
    shows(n("2").sqrt(), "1.414213562373095");
    shows(n("1").exp(), "2.7182818284590452");
    shows(n("2").ln(), "0.6931471805599453");
    shows(n("100").log(&n("10")), "2.0000000000000000");
    shows(n("2").power(&n("0.5")), "1.4142135623730950");
    shows(n("2").power(&n("10")), "1024.0000000000000000");
    shows(n("2.5").round(0), "3");
    shows(n("-1234.5").round(-2), "-1200");
}

#[test]
fn bytes_round_trip_and_keys_sort() {
    let values = [
        "-Infinity",
        "-1e30",
        "-100",
        "-99.99",
        "-1",
        "-0.001",
        "0",
        "0.0001",
        "0.5",
        "1",
        "1.01",
        "9.99",
        "10",
        "12345678901234567890.123",
        "1e131071",
        "Infinity",
        "NaN",
    ];
    let mut last: Option<Vec<u8>> = None;
    for text in values {
        let v = n(text);
        let (mut stored, mut wire, mut key) = (vec![], vec![], vec![]);
        v.encode(&mut stored);
        v.write_wire(&mut wire);
        v.write_key(&mut key);
        assert_eq!(Numeric::decode(&stored).expect("stored"), v);
        assert_eq!(Numeric::read_wire(&wire).expect("wire"), v);
        let (back, used) = Numeric::read_key(&key).expect("key");
        assert!(back.compare(&v).is_eq() && used == key.len(), "{text} {back}");
        assert!(last.is_none_or(|l| l < key), "{text} out of order");
        last = Some(key);
    }
}
