//! Reading and printing one value.

use meridian_types::context::{DateOrder, DateStyle, IntervalStyle, Settings as Formatting};
use meridian_types::datetime::TimeZone;
use meridian_types::io::chars::parse_bool;
use meridian_types::{PgError, Result, SqlState};

use super::{Context, Kind, Setting, SettingRow, Unit};

/// The value as it is kept and shown.
pub(super) fn canonical(setting: &Setting, text: &str, date_style: &str) -> Result<String> {
    match setting.kind {
        Kind::Bool => match parse_bool(text) {
            Some(v) => Ok(if v { "on" } else { "off" }.to_owned()),
            None => {
                Err(invalid(format!("parameter \"{}\" requires a Boolean value", setting.name)))
            }
        },
        Kind::Int { min, max, unit } => canonical_int(setting, text, (min, max), unit),
        Kind::Real { min, max } => {
            let value: f64 = text.trim().parse().map_err(|_| bad_value(setting, text))?;
            if !(min..=max).contains(&value) {
                return Err(out_of_range(
                    setting,
                    &value.to_string(),
                    &min.to_string(),
                    &max.to_string(),
                ));
            }
            Ok(value.to_string())
        }
        Kind::Enum(values) => canonical_enum(setting, values, text),
        Kind::Text => match setting.name {
            "DateStyle" => {
                let (style, order) = parse_date_style(text, date_style)?;
                Ok(format!("{}, {}", style_name(style), order_name(order)))
            }
            "TimeZone" => TimeZone::from_setting(text)
                .map(|zone| zone.name().to_owned())
                .ok_or_else(|| bad_value(setting, text)),
            "client_encoding" => match letters_and_digits(text).as_str() {
                "utf8" | "unicode" | "sqlascii" => Ok("UTF8".to_owned()),
                _ => Err(PgError::unsupported(format!(
                    "conversion between {text} and UTF8 is not supported"
                ))),
            },
            _ => Ok(text.to_owned()),
        },
    }
}

/// As PostgreSQL reads the names of encodings: some drivers even send quotes.
fn letters_and_digits(text: &str) -> String {
    text.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn canonical_int(
    setting: &Setting,
    text: &str,
    (min, max): (i64, i64),
    unit: Unit,
) -> Result<String> {
    let Some(value) = base_units(text, unit) else {
        let mut error = bad_value(setting, text);
        if unit != Unit::None && text.trim().starts_with(|c: char| c.is_ascii_digit()) {
            error = error.hint(match unit {
                Unit::Milliseconds | Unit::Seconds => {
                    "Valid units for this parameter are \"us\", \"ms\", \"s\", \"min\", \"h\", and \"d\"."
                }
                _ => "Valid units for this parameter are \"B\", \"kB\", \"MB\", \"GB\", and \"TB\".",
            });
        }
        return Err(error);
    };
    if !(min..=max).contains(&value) {
        let suffix = unit_name(unit).map(|u| format!(" {u}")).unwrap_or_default();
        let show = |v: i64| format!("{v}{suffix}");
        return Err(out_of_range(setting, &show(value), &show(min), &show(max)));
    }
    Ok(with_unit(value, unit))
}

fn canonical_enum(
    setting: &Setting,
    values: &'static [&'static str],
    text: &str,
) -> Result<String> {
    let wanted = text.trim().to_lowercase();
    if let Some(value) = values.iter().find(|v| **v == wanted) {
        return Ok((*value).to_owned());
    }
    // Enumerations with "on" and "off" take the spellings of booleans.
    if let Some(b) = parse_bool(text)
        && let Some(value) = values.iter().find(|v| **v == if b { "on" } else { "off" })
    {
        return Ok((*value).to_owned());
    }
    Err(bad_value(setting, text).hint(format!("Available values: {}.", values.join(", "))))
}

/// A number with an optional unit, in the base unit of the setting.
pub(super) fn base_units(text: &str, unit: Unit) -> Option<i64> {
    let text = text.trim();
    let digits = text
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '-' | '+' | '.')))
        .unwrap_or(text.len());
    let number: f64 = text[..digits].parse().ok()?;
    let (numerator, denominator) = match (text[digits..].trim(), unit) {
        ("", _) => (1.0, 1.0),
        ("us", Unit::Milliseconds) => (1.0, 1e3),
        ("ms", Unit::Milliseconds) | ("s", Unit::Seconds) | ("kB", Unit::Kilobytes) => (1.0, 1.0),
        ("s", Unit::Milliseconds) | ("ms", Unit::Seconds) => {
            if unit == Unit::Seconds {
                (1.0, 1e3)
            } else {
                (1e3, 1.0)
            }
        }
        ("min", Unit::Milliseconds) => (6e4, 1.0),
        ("h", Unit::Milliseconds) => (3.6e6, 1.0),
        ("d", Unit::Milliseconds) => (8.64e7, 1.0),
        ("min", Unit::Seconds) => (60.0, 1.0),
        ("h", Unit::Seconds) => (3600.0, 1.0),
        ("d", Unit::Seconds) => (86400.0, 1.0),
        ("B", Unit::Kilobytes) => (1.0, 1024.0),
        ("MB", Unit::Kilobytes) => (1024.0, 1.0),
        ("GB", Unit::Kilobytes) => (1_048_576.0, 1.0),
        ("TB", Unit::Kilobytes) => (1_073_741_824.0, 1.0),
        ("B", Unit::Blocks) => (1.0, 8192.0),
        ("kB", Unit::Blocks) => (1.0, 8.0),
        ("MB", Unit::Blocks) => (128.0, 1.0),
        ("GB", Unit::Blocks) => (131_072.0, 1.0),
        ("TB", Unit::Blocks) => (134_217_728.0, 1.0),
        _ => return None,
    };
    let value = (number * numerator / denominator).round_ties_even();
    #[expect(clippy::cast_possible_truncation, reason = "bounds are checked just before")]
    (value.abs() < 9e18).then_some(value as i64)
}

/// The largest unit that divides the value, as SHOW prints it.
fn with_unit(value: i64, unit: Unit) -> String {
    let steps: &[(i64, &str)] = match unit {
        Unit::None => &[(1, "")],
        Unit::Milliseconds => {
            &[(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"), (1, "ms")]
        }
        Unit::Seconds => &[(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")],
        Unit::Kilobytes => &[(1 << 30, "TB"), (1 << 20, "GB"), (1 << 10, "MB"), (1, "kB")],
        Unit::Blocks => &[(1 << 27, "TB"), (1 << 17, "GB"), (1 << 7, "MB")],
    };
    if value <= 0 {
        return value.to_string();
    }
    match steps.iter().find(|(factor, _)| value % factor == 0) {
        Some((factor, name)) => format!("{}{name}", value / factor),
        None => format!("{}kB", value * 8),
    }
}

fn parse_date_style(text: &str, current: &str) -> Result<(DateStyle, DateOrder)> {
    let (mut style, mut order) = (DateStyle::Iso, DateOrder::Mdy);
    let mut given = (false, false);
    let items = current
        .split(',')
        .map(|item| (item, false))
        .chain(text.split(',').map(|item| (item, true)));
    for (item, new) in items {
        match item.trim().to_lowercase().as_str() {
            "iso" => (style, given.0) = (DateStyle::Iso, new),
            "sql" => (style, given.0) = (DateStyle::Sql, new),
            "postgres" => (style, given.0) = (DateStyle::Postgres, new),
            "german" => {
                (style, given.0) = (DateStyle::German, new);
                // German dates are read day first unless something else is asked for.
                if !given.1 {
                    order = DateOrder::Dmy;
                }
            }
            "ymd" => (order, given.1) = (DateOrder::Ymd, new),
            "dmy" | "euro" | "european" => (order, given.1) = (DateOrder::Dmy, new),
            "mdy" | "us" | "noneuro" | "noneuropean" => (order, given.1) = (DateOrder::Mdy, new),
            "default" => (style, order) = (DateStyle::Iso, DateOrder::Mdy),
            other => {
                return Err(invalid(format!(
                    "invalid value for parameter \"DateStyle\": \"{text}\""
                ))
                .detail(format!("Unrecognized key word: \"{other}\".")));
            }
        }
    }
    Ok((style, order))
}

fn style_name(style: DateStyle) -> &'static str {
    match style {
        DateStyle::Iso => "ISO",
        DateStyle::Sql => "SQL",
        DateStyle::Postgres => "Postgres",
        DateStyle::German => "German",
    }
}

fn order_name(order: DateOrder) -> &'static str {
    match order {
        DateOrder::Mdy => "MDY",
        DateOrder::Dmy => "DMY",
        DateOrder::Ymd => "YMD",
    }
}

/// What kernels need to know of the settings.
pub(super) fn formatting(get: impl Fn(&str) -> String) -> Result<Formatting> {
    let (date_style, date_order) = parse_date_style(&get("DateStyle"), "ISO, MDY")?;
    Ok(Formatting {
        date_style,
        date_order,
        interval_style: match get("IntervalStyle").as_str() {
            "postgres_verbose" => IntervalStyle::PostgresVerbose,
            "sql_standard" => IntervalStyle::SqlStandard,
            "iso_8601" => IntervalStyle::Iso8601,
            _ => IntervalStyle::Postgres,
        },
        time_zone: TimeZone::from_setting(&get("TimeZone"))
            .ok_or_else(|| invalid("invalid value for parameter \"TimeZone\"".to_owned()))?,
        extra_float_digits: get("extra_float_digits").parse().unwrap_or(1),
        bytea_hex: get("bytea_output") == "hex",
        search_path: identifier_list(&get("search_path")).into_iter().map(Into::into).collect(),
    })
}

/// Splits `"$user", public` into its names; unquoted ones are folded to lower case.
pub(super) fn identifier_list(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace() || *c == ',').is_some() {}
        let Some(first) = chars.peek() else { return names };
        let mut name = String::new();
        if *first == '"' {
            chars.next();
            while let Some(c) = chars.next() {
                match c {
                    '"' if chars.next_if_eq(&'"').is_some() => name.push('"'),
                    '"' => break,
                    c => name.push(c),
                }
            }
        } else {
            while let Some(c) = chars.next_if(|c| *c != ',') {
                name.extend(c.to_lowercase());
            }
            name.truncate(name.trim_end().len());
        }
        names.push(name);
    }
}

/// The line of `pg_settings`.
pub(super) fn row(setting: &Setting, current: &str, source: &'static str) -> SettingRow {
    let (vartype, min, max, unit, enum_values) = match setting.kind {
        Kind::Bool => ("bool", None, None, Unit::None, None),
        Kind::Int { min, max, unit } => {
            ("integer", Some(min.to_string()), Some(max.to_string()), unit, None)
        }
        Kind::Real { min, max } => {
            ("real", Some(min.to_string()), Some(max.to_string()), Unit::None, None)
        }
        Kind::Enum(values) => ("enum", None, None, Unit::None, Some(values)),
        Kind::Text => ("string", None, None, Unit::None, None),
    };
    let plain = match setting.kind {
        Kind::Int { unit, .. } => base_units(current, unit).map(|v| v.to_string()),
        _ => None,
    };
    SettingRow {
        name: setting.name,
        setting: plain.unwrap_or_else(|| current.to_owned()),
        unit: unit_name(unit),
        category: setting.category,
        description: setting.description,
        context: match setting.context {
            Context::Internal => "internal",
            Context::Postmaster => "postmaster",
            Context::Superuser => "superuser",
            Context::User => "user",
        },
        vartype,
        source,
        min,
        max,
        enum_values,
        boot: setting.default,
    }
}

fn unit_name(unit: Unit) -> Option<&'static str> {
    match unit {
        Unit::None => None,
        Unit::Milliseconds => Some("ms"),
        Unit::Seconds => Some("s"),
        Unit::Kilobytes => Some("kB"),
        Unit::Blocks => Some("8kB"),
    }
}

fn bad_value(setting: &Setting, text: &str) -> PgError {
    invalid(format!("invalid value for parameter \"{}\": \"{text}\"", setting.name))
}

fn out_of_range(setting: &Setting, value: &str, min: &str, max: &str) -> PgError {
    invalid(format!(
        "{value} is outside the valid range for parameter \"{}\" ({min} .. {max})",
        setting.name
    ))
}

fn invalid(message: String) -> PgError {
    PgError::new(SqlState::INVALID_PARAMETER_VALUE, message)
}
