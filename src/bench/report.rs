//! The result of a run, as a table for people and as JSON for programs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::Trouble;
use crate::record::{Operation, Record};

/// A result: what was measured, for how long, and the driver's own figures.
#[derive(Debug)]
pub struct Report<'a> {
    /// The benchmark's name.
    pub benchmark: &'a str,
    /// How long was measured.
    pub measured: Duration,
    /// What all workers measured.
    pub record: &'a Record,
    /// Figures that only this benchmark has (tpmC …) and the settings of the run.
    pub figures: Vec<(&'a str, Value)>,
}

impl Report<'_> {
    /// The table.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.figures {
            text += &format!("{name:24} {}\n", plain(value));
        }
        text += &format!("{:24} {:.1} s\n", "measured", self.measured.as_secs_f64());
        text += &format!("{:24} {:.1}\n\n", "operations per second", self.throughput());
        text += &self.latencies("operation", self.record.operations());
        if !self.record.statements().is_empty() {
            text += "\n";
            text += &self.latencies("statement", self.record.statements());
        }
        text += &self.troubles();
        text
    }

    /// All of it.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut object = Map::new();
        object.insert("benchmark".into(), self.benchmark.into());
        for (name, value) in &self.figures {
            object.insert((*name).to_owned(), value.clone());
        }
        object.insert("measured_seconds".into(), self.measured.as_secs_f64().into());
        object.insert("operations_per_second".into(), self.throughput().into());
        object.insert("operations".into(), self.group(self.record.operations()));
        object.insert("statements".into(), self.group(self.record.statements()));
        object.insert("errors".into(), json!(self.record.errors()));
        Value::Object(object)
    }

    /// Prints the table, and writes the JSON if a file is named.
    pub fn publish(&self, file: Option<&Path>) -> Result<()> {
        print(&self.table());
        let Some(file) = file else { return Ok(()) };
        fs::write(file, format!("{:#}\n", self.json()))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    fn throughput(&self) -> f64 {
        let all: u64 = self.record.operations().values().map(|op| op.latency.len()).sum();
        self.per_second(all)
    }

    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.measured.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    fn latencies<'o>(
        &self,
        kind: &str,
        group: impl IntoIterator<Item = (&'o &'static str, &'o Operation)>,
    ) -> String {
        let mut text = format!(
            "{kind:24} {:>10} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}\n",
            "count", "per s", "mean ms", "p50", "p90", "p95", "p99", "max"
        );
        for (name, operation) in group {
            let latency = &operation.latency;
            text += &format!(
                "{name:24} {:>10} {:>10.1} {:>9.3}",
                latency.len(),
                self.per_second(latency.len()),
                latency.mean() / 1000.0
            );
            for micros in [0.5, 0.9, 0.95, 0.99].map(|q| latency.value_at_quantile(q)) {
                text += &format!(" {:>9.3}", millis(micros));
            }
            text += &format!(" {:>9.3}\n", millis(latency.max()));
        }
        text
    }

    fn group<'o>(
        &self,
        group: impl IntoIterator<Item = (&'o &'static str, &'o Operation)>,
    ) -> Value {
        let one = |(name, op): (&&str, &Operation)| ((*name).to_owned(), self.operation(op));
        Value::Object(group.into_iter().map(one).collect())
    }

    fn operation(&self, operation: &Operation) -> Value {
        let latency = &operation.latency;
        let at = |quantile| millis(latency.value_at_quantile(quantile));
        let retries = Trouble::RETRIED.iter().zip(operation.retries);
        let retries: Map<_, _> =
            retries.map(|(trouble, count)| (trouble.name().to_owned(), count.into())).collect();
        json!({
            "count": latency.len(),
            "per_second": self.per_second(latency.len()),
            "rolled_back": operation.rolled_back,
            "latency_ms": {
                "mean": latency.mean() / 1000.0, "p50": at(0.5), "p90": at(0.9), "p95": at(0.95),
                "p99": at(0.99), "p99_9": at(0.999), "max": millis(latency.max()),
            },
            "retries": retries,
            "errors": operation.errors,
        })
    }

    fn troubles(&self) -> String {
        let mut text = String::new();
        for (name, operation) in self.record.operations() {
            let mut notes = Vec::new();
            if operation.rolled_back > 0 {
                notes.push(format!("{} rolled back as asked", operation.rolled_back));
            }
            for (trouble, count) in Trouble::RETRIED.iter().zip(operation.retries) {
                if count > 0 {
                    notes.push(format!("{count} retries ({})", trouble.name()));
                }
            }
            if operation.errors > 0 {
                notes.push(format!("{} ERRORS", operation.errors));
            }
            if !notes.is_empty() {
                text += &format!("{name}: {}\n", notes.join(", "));
            }
        }
        for (error, count) in self.record.errors() {
            text += &format!("ERROR {count} x {error}\n");
        }
        if text.is_empty() { text } else { format!("\n{text}") }
    }
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => {
            format!("{:.1}", number.as_f64().unwrap_or_default())
        }
        value => value.to_string(),
    }
}

/// Prints a driver's answer.
#[expect(clippy::print_stdout, reason = "a program that reports")]
pub fn print(text: &str) {
    print!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_and_json_say_the_same() {
        let mut record = Record::default();
        (1..=100).for_each(|n| record.success("read", n * 1000));
        record.rollback("write", 5000);
        let report = Report {
            benchmark: "test",
            measured: Duration::from_secs(10),
            record: &record,
            figures: vec![("tpmC", 12.5.into())],
        };
        let json = report.json();
        assert_eq!(json["tpmC"], 12.5);
        assert_eq!(json["operations"]["read"]["count"], 100);
        assert_eq!(json["operations"]["write"]["rolled_back"], 1);
        let p90 = json["operations"]["read"]["latency_ms"]["p90"].as_f64().expect("a number");
        assert!((89.9..91.2).contains(&p90), "{p90}");
        let table = report.table();
        assert!(table.contains("operations per second    10.1\n"), "{table}");
        assert!(table.contains("write: 1 rolled back as asked"), "{table}");
    }
}
