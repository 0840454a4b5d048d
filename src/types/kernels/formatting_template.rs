//! Templates of `to_char`, `to_date` and `to_timestamp`: from text to a list of [`Item`]s.

/// A field of a template. Fields that differ only in the case of their output share a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Meridiem,
    MeridiemDots,
    Era,
    EraDots,
    Century,
    DayName,
    DayAbbrev,
    DayOfYear,
    IsoDayOfYear,
    Day,
    Weekday,
    IsoWeekday,
    Fixed,
    Fraction(u32),
    Hour12,
    Hour24,
    IsoWeek,
    IsoYear(usize),
    Julian,
    Minute,
    Month,
    MonthName,
    MonthAbbrev,
    Millis,
    Micros,
    Offset,
    Quarter,
    Roman,
    SecondOfDay,
    Second,
    ZoneHour,
    ZoneMinute,
    Zone,
    Week,
    WeekOfMonth,
    YearComma,
    Year(usize),
}

/// The case of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    Upper,
    Capital,
    Lower,
}

/// A field with its modifiers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) kind: Kind,
    /// As the template has it.
    pub(super) name: &'static str,
    pub(super) case: Case,
    /// `FM`: no padding.
    pub(super) fill: bool,
    /// `TH` or `th` follows.
    pub(super) ordinal: Option<Case>,
}

/// A piece of a template.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Field(Field),
    /// Punctuation.
    Separator(String),
    /// White space.
    Space(String),
    /// Any other text.
    Text(String),
}

impl Kind {
    /// True for fields that are read as numbers.
    pub(super) fn is_digits(self) -> bool {
        !matches!(
            self,
            Kind::Meridiem
                | Kind::MeridiemDots
                | Kind::Era
                | Kind::EraDots
                | Kind::DayName
                | Kind::DayAbbrev
                | Kind::Fixed
                | Kind::MonthName
                | Kind::MonthAbbrev
                | Kind::Offset
                | Kind::Roman
                | Kind::ZoneHour
                | Kind::Zone
        )
    }
}

/// Names of the fields; of two that match the longer one stands first.
const FIELDS: &[(&str, Kind, Case)] = &[
    ("A.D.", Kind::EraDots, Case::Upper),
    ("a.d.", Kind::EraDots, Case::Lower),
    ("A.M.", Kind::MeridiemDots, Case::Upper),
    ("a.m.", Kind::MeridiemDots, Case::Lower),
    ("B.C.", Kind::EraDots, Case::Upper),
    ("b.c.", Kind::EraDots, Case::Lower),
    ("P.M.", Kind::MeridiemDots, Case::Upper),
    ("p.m.", Kind::MeridiemDots, Case::Lower),
    ("AD", Kind::Era, Case::Upper),
    ("ad", Kind::Era, Case::Lower),
    ("AM", Kind::Meridiem, Case::Upper),
    ("am", Kind::Meridiem, Case::Lower),
    ("BC", Kind::Era, Case::Upper),
    ("bc", Kind::Era, Case::Lower),
    ("PM", Kind::Meridiem, Case::Upper),
    ("pm", Kind::Meridiem, Case::Lower),
    ("CC", Kind::Century, Case::Upper),
    ("DAY", Kind::DayName, Case::Upper),
    ("Day", Kind::DayName, Case::Capital),
    ("day", Kind::DayName, Case::Lower),
    ("DDD", Kind::DayOfYear, Case::Upper),
    ("DD", Kind::Day, Case::Upper),
    ("DY", Kind::DayAbbrev, Case::Upper),
    ("Dy", Kind::DayAbbrev, Case::Capital),
    ("dy", Kind::DayAbbrev, Case::Lower),
    ("D", Kind::Weekday, Case::Upper),
    ("FF1", Kind::Fraction(1), Case::Upper),
    ("FF2", Kind::Fraction(2), Case::Upper),
    ("FF3", Kind::Fraction(3), Case::Upper),
    ("FF4", Kind::Fraction(4), Case::Upper),
    ("FF5", Kind::Fraction(5), Case::Upper),
    ("FF6", Kind::Fraction(6), Case::Upper),
    ("FX", Kind::Fixed, Case::Upper),
    ("HH24", Kind::Hour24, Case::Upper),
    ("HH12", Kind::Hour12, Case::Upper),
    ("HH", Kind::Hour12, Case::Upper),
    ("IDDD", Kind::IsoDayOfYear, Case::Upper),
    ("ID", Kind::IsoWeekday, Case::Upper),
    ("IW", Kind::IsoWeek, Case::Upper),
    ("IYYY", Kind::IsoYear(4), Case::Upper),
    ("IYY", Kind::IsoYear(3), Case::Upper),
    ("IY", Kind::IsoYear(2), Case::Upper),
    ("I", Kind::IsoYear(1), Case::Upper),
    ("J", Kind::Julian, Case::Upper),
    ("MI", Kind::Minute, Case::Upper),
    ("MM", Kind::Month, Case::Upper),
    ("MONTH", Kind::MonthName, Case::Upper),
    ("Month", Kind::MonthName, Case::Capital),
    ("month", Kind::MonthName, Case::Lower),
    ("MON", Kind::MonthAbbrev, Case::Upper),
    ("Mon", Kind::MonthAbbrev, Case::Capital),
    ("mon", Kind::MonthAbbrev, Case::Lower),
    ("MS", Kind::Millis, Case::Upper),
    ("OF", Kind::Offset, Case::Upper),
    ("Q", Kind::Quarter, Case::Upper),
    ("RM", Kind::Roman, Case::Upper),
    ("rm", Kind::Roman, Case::Lower),
    ("SSSSS", Kind::SecondOfDay, Case::Upper),
    ("SSSS", Kind::SecondOfDay, Case::Upper),
    ("SS", Kind::Second, Case::Upper),
    ("TZH", Kind::ZoneHour, Case::Upper),
    ("TZM", Kind::ZoneMinute, Case::Upper),
    ("TZ", Kind::Zone, Case::Upper),
    ("tz", Kind::Zone, Case::Lower),
    ("US", Kind::Micros, Case::Upper),
    ("WW", Kind::Week, Case::Upper),
    ("W", Kind::WeekOfMonth, Case::Upper),
    ("Y,YYY", Kind::YearComma, Case::Upper),
    ("YYYY", Kind::Year(4), Case::Upper),
    ("YYY", Kind::Year(3), Case::Upper),
    ("YY", Kind::Year(2), Case::Upper),
    ("Y", Kind::Year(1), Case::Upper),
];

/// The field at the start of a text. Names in lower case mean the same, but cases are not mixed.
fn field_at(text: &str) -> Option<(&'static str, Kind, Case)> {
    let matches = |name: &str| {
        text.get(..name.len()).is_some_and(|t| {
            t == name
                || (t.eq_ignore_ascii_case(name) && t.bytes().all(|b| !b.is_ascii_uppercase()))
        })
    };
    // `tz` and its like have entries of their own, which stand behind the upper-case ones.
    let exact = FIELDS.iter().find(|(name, ..)| text.starts_with(name));
    let found = FIELDS.iter().find(|(name, ..)| matches(name));
    match (exact, found) {
        (Some(e), Some(f)) if e.0.len() >= f.0.len() => Some(*e),
        (_, f) => f.copied(),
    }
}

/// Splits a template.
pub(super) fn parse(template: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut rest = template;
    while !rest.is_empty() {
        let mut fill = false;
        for (prefix, is_fill) in [("FM", true), ("fm", true), ("TM", false), ("tm", false)] {
            if let Some(after) = rest.strip_prefix(prefix) {
                fill = is_fill;
                rest = after;
                break;
            }
        }
        if let Some((name, kind, case)) = field_at(rest) {
            rest = &rest[name.len()..];
            let mut ordinal = None;
            if let Some(after) = rest.strip_prefix("TH") {
                (ordinal, rest) = (Some(Case::Upper), after);
            } else if let Some(after) = rest.strip_prefix("th") {
                (ordinal, rest) = (Some(Case::Lower), after);
            } else if let Some(after) = rest.strip_prefix("SP") {
                rest = after;
            }
            items.push(Item::Field(Field { kind, name, case, fill, ordinal }));
        } else if !rest.is_empty() {
            rest = literal(rest, &mut items);
        }
    }
    items
}

/// Takes quoted text or one character.
fn literal<'a>(text: &'a str, items: &mut Vec<Item>) -> &'a str {
    let mut chars = text.chars();
    match chars.next() {
        Some('"') => {
            while let Some(c) = chars.next() {
                if c == '"' {
                    break;
                }
                let mut c = c;
                if c == '\\'
                    && let Some(next) = chars.next()
                {
                    c = next;
                }
                items.push(Item::Text(c.to_string()));
            }
        }
        Some('\\') if text[1..].starts_with('"') => {
            chars.next();
            items.push(Item::Text("\"".to_owned()));
        }
        Some(c) if c.is_ascii_whitespace() => items.push(Item::Space(c.to_string())),
        Some(c) if c.is_ascii_punctuation() => items.push(Item::Separator(c.to_string())),
        Some(c) => items.push(Item::Text(c.to_string())),
        None => {}
    }
    chars.as_str()
}

/// The ending of an ordinal number.
pub(super) fn ordinal(number: &str, case: Case) -> &'static str {
    let digits = number.as_bytes();
    let n = digits.len();
    let teen = n > 1 && digits[n - 2] == b'1';
    let index = match digits.last() {
        Some(b'1') if !teen => 0,
        Some(b'2') if !teen => 1,
        Some(b'3') if !teen => 2,
        _ => 3,
    };
    match case {
        Case::Lower => ["st", "nd", "rd", "th"][index],
        _ => ["ST", "ND", "RD", "TH"][index],
    }
}

/// Roman numerals of the months, January first.
pub(super) const ROMAN_MONTHS: [&str; 12] =
    ["I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII"];
