//! Results as libpq prints them: columns as wide as their widest value, those that look like numbers
//! to the right, whether or not they are.

/// The text of a result, with its count of rows and an empty line behind it.
pub fn table(names: &[String], rows: &[Vec<Option<String>>]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let value = |row: &[Option<String>], at: usize| row[at].clone().unwrap_or_default();
    let columns: Vec<(usize, bool)> = names
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let width = rows.iter().map(|row| value(row, at).len()).max().unwrap_or(0);
            let words = rows.iter().any(|row| !looks_like_a_number(&value(row, at)));
            (width.max(name.len()), words)
        })
        .collect();
    let line = |cells: Vec<String>| {
        let padded: Vec<String> = cells
            .into_iter()
            .zip(&columns)
            .map(|(cell, (width, words))| {
                // Widths count bytes, as libpq does.
                let blanks = " ".repeat(width - cell.len());
                if *words { cell + &blanks } else { blanks + &cell }
            })
            .collect();
        padded.join("|") + "\n"
    };
    let mut out = line(names.to_vec());
    let dashes: Vec<String> = columns.iter().map(|(width, _)| "-".repeat(*width)).collect();
    out += &(dashes.join("+") + "\n");
    for row in rows {
        out += &line((0..names.len()).map(|at| value(row, at)).collect());
    }
    let plural = if rows.len() == 1 { "" } else { "s" };
    out + &format!("({} row{plural})\n\n", rows.len())
}

/// Nothing but what numbers are made of, and a digit at the end; nothing at all counts as well.
fn looks_like_a_number(text: &str) -> bool {
    let part = |c: char| c.is_ascii_digit() || matches!(c, '.' | 'E' | 'e' | ' ' | '-');
    text.is_empty()
        || text.chars().all(part)
            && !text.starts_with(['E', 'e'])
            && text.ends_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right() {
        let row = |a: &str, b: Option<&str>| vec![Some(a.to_owned()), b.map(str::to_owned)];
        let rows = [row("checking", Some("600")), row("x", None)];
        let text = table(&["id".to_owned(), "balance".to_owned()], &rows);
        assert_eq!(
            text,
            "id      |balance\n--------+-------\nchecking|    600\nx       |       \n(2 rows)\n\n"
        );
        assert!(looks_like_a_number("1.5e-3") && !looks_like_a_number("e5"));
        assert!(!looks_like_a_number("5e"));
    }
}
