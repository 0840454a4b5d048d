//! The rules.

use tidy::{dependencies, files, functions};

/// The layers: each crate and those that it may import. Adding a word here is an architectural
/// change and belongs in ARCHITECTURE.md.
const LAYERS: &[(&str, &[&str])] = &[
    ("base", &[]),
    ("storage", &["base"]),
    ("kv", &["base", "storage"]),
    ("rpc", &["base"]),
    ("replication", &["base", "storage", "kv", "rpc"]),
    ("cluster", &["base", "storage", "kv", "rpc", "replication"]),
    ("types", &["base"]),
    ("catalog", &["base", "types"]),
    ("sql", &["base", "types", "catalog"]),
    ("exec", &["base", "storage", "kv", "cluster", "types", "catalog", "sql"]),
    ("session", &["base", "kv", "cluster", "types", "catalog", "sql", "exec"]),
    ("gateway", &["base", "types", "session"]),
    ("server", &["base", "types", "cluster", "exec", "session", "gateway"]),
    ("sim", &["base", "storage", "kv"]),
    ("bench", &["base"]),
    ("tidy", &[]),
];

/// A third-party system and the only crates that may name it in their manifests.
const ROOMS: &[(&str, &[&str])] = &[
    ("fjall", &["storage"]),
    ("openraft", &["replication"]),
    ("sqlparser", &["sql"]),
    ("datafusion-physical-plan", &["exec"]),
    ("datafusion-physical-expr", &["exec"]),
    ("datafusion-execution", &["exec"]),
    ("datafusion-common", &["exec"]),
    ("datafusion-expr", &["exec"]),
    ("pgwire", &["gateway"]),
    ("axum", &["server"]),
    ("clap", &["server", "bench"]),
    ("rcgen", &["server"]),
];

/// Crates that are pure: no async runtime, no consensus, no query engine.
const PURE: &[&str] = &["base", "storage", "kv", "types", "catalog", "sql"];
const IMPURE: &[&str] = &["tokio", "openraft", "tonic", "futures", "datafusion-physical-plan"];

const FILE_LINES_MAX: usize = 600;
const FUNCTION_LINES_MAX: usize = 70;

#[test]
fn layers_import_only_downwards() {
    let crates = dependencies();
    for (name, imports) in &crates {
        let allowed = LAYERS.iter().find(|(layer, _)| layer == name);
        let Some((_, allowed)) = allowed else { panic!("src/{name} is not in the layer table") };
        for import in imports.iter().filter(|i| LAYERS.iter().any(|(layer, _)| layer == i)) {
            assert!(allowed.contains(&import.as_str()), "src/{name} must not import {import}");
        }
    }
    for (layer, _) in LAYERS {
        assert!(
            crates.contains_key(*layer),
            "the layer table names src/{layer}, which is not there"
        );
    }
}

#[test]
fn third_party_systems_live_in_one_room() {
    for (name, imports) in dependencies() {
        for import in &imports {
            if let Some((_, rooms)) = ROOMS.iter().find(|(system, _)| system == import) {
                assert!(rooms.contains(&name.as_str()), "{import} does not belong in src/{name}");
            }
            let pure = PURE.contains(&name.as_str());
            assert!(
                !(pure && IMPURE.contains(&import.as_str())),
                "src/{name} is pure: no {import}"
            );
        }
    }
}

#[test]
fn one_version_of_each_shared_library() {
    let lock = std::fs::read_to_string(tidy::root().join("Cargo.lock")).expect("a lock file");
    for library in ["arrow", "sqlparser", "rustls", "openraft", "datafusion-physical-plan", "fjall"]
    {
        let count = lock.matches(&format!("name = \"{library}\"\n")).count();
        assert_eq!(count, 1, "{library} must be there in one version");
    }
}

#[test]
fn files_and_functions_stay_short() {
    let mut offenders = Vec::new();
    for file in files(&["rs"]) {
        let lines = file.text.lines().count();
        let is_test = file.path.contains("tests");
        if lines > FILE_LINES_MAX && !is_test {
            offenders.push(format!("{}: {lines} lines", file.path));
        }
        for (line, name, length) in functions(&file.text) {
            if length > FUNCTION_LINES_MAX && !is_test {
                offenders.push(format!("{}:{line}: fn {name} has {length} lines", file.path));
            }
        }
    }
    let old = old_offenders();
    let new: Vec<_> = offenders.iter().filter(|o| !is_old(o, &old)).collect();
    assert!(new.is_empty(), "too long; split by idea: {new:#?}");
}

/// Files and functions that were too long when the rule was last tightened, in
/// `src/tidy/too-long.txt`: a path, or `path fn name`, on each line. The list only gets shorter.
fn old_offenders() -> Vec<String> {
    include_str!("../too-long.txt").lines().map(str::to_owned).collect()
}

fn is_old(offender: &str, old: &[String]) -> bool {
    let path = offender.split(':').next().unwrap_or_default();
    let entry = match offender.split_once(": fn ") {
        Some((_, rest)) => format!("{path} fn {}", rest.split(' ').next().unwrap_or_default()),
        None => path.to_owned(),
    };
    old.contains(&entry)
}

#[test]
fn modules_open_with_their_idea() {
    for file in files(&["rs"]) {
        assert!(file.text.starts_with("//!"), "{} has no module documentation", file.path);
    }
}

#[test]
fn nothing_unfinished_is_left() {
    // Put together from halves, so that this file does not find itself.
    let banned =
        [["todo", "!("], ["unimplemented", "!("], ["FIX", "ME"], ["dbg", "!("], ["#[ign", "ore]"]];
    for file in files(&["rs"]) {
        for halves in banned {
            let word = halves.concat();
            assert!(!file.text.contains(&word), "{} contains {word}", file.path);
        }
    }
}

#[test]
fn every_crate_takes_the_lints_of_the_workspace() {
    for file in files(&["toml"]).iter().filter(|f| f.path.ends_with("/Cargo.toml")) {
        assert!(file.text.contains("[lints]\nworkspace = true"), "{}", file.path);
    }
}

#[test]
fn paths_in_documents_exist() {
    for document in files(&["md"]) {
        for path in named_paths(&document.text) {
            let there = tidy::root().join(&path).exists();
            assert!(there, "{} names {path}, which is not there", document.path);
        }
    }
}

/// Words in backquotes that look like paths of this repository.
fn named_paths(text: &str) -> Vec<String> {
    let quoted = text.split('`').skip(1).step_by(2);
    let roots = ["src/", "sql/", "compat-tests/", "docs/", "tpcc/", "ycsb/"];
    quoted
        .filter(|word| roots.iter().any(|root| word.starts_with(root)))
        .filter(|word| !word.contains(['*', '<', ' ', '{', '…']))
        .map(|word| word.split(':').next().unwrap_or(word).to_owned())
        .collect()
}

#[test]
fn functions_are_measured() {
    let text = "fn a() {\n    1\n}\n\nimpl X {\n    pub(crate) async fn b<T>(x: T) {\n        {\n        }\n    }\n}\n";
    assert_eq!(functions(text), [(1, "a".to_owned(), 3), (6, "b".to_owned(), 4)]);
}
