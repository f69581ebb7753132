//! The house rules that a compiler does not know: who may use what, how long things may be, what must not be committed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files_under(folder: &str, extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                let name = path.strip_prefix(root()).unwrap().display().to_string();
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "no .{extension} under {folder}");
    found.sort();
    found
}

/// The first part of a path below `src`: the room of the house.
fn room(file: &str) -> &str {
    let below = file.strip_prefix("src/").unwrap_or(file);
    below.split('/').next().unwrap_or(below).trim_end_matches(".rs")
}

/// Lines of code outside of tests and comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let text = text.split("#[cfg(test)]").next().unwrap_or(text);
    text.lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

fn mentions(text: &str, name: &str) -> bool {
    let marks = [format!("{name}::"), format!("use {name};"), format!("use {name} ")];
    code(text).any(|line| marks.iter().any(|mark| has_word(line, mark)))
}

fn has_word(line: &str, mark: &str) -> bool {
    line.match_indices(mark)
        .any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':'))
}

#[test]
fn each_outside_crate_stays_in_its_rooms() {
    let allowed: &[(&str, &[&str])] = &[
        ("sqlx", &["store"]),
        ("poem", &["api", "console", "daemon"]),
        ("hyper", &["api"]),
        ("hyper_util", &["api"]),
        ("reqwest", &["ingest", "webhooks"]),
        ("webpki", &["webhooks"]),
        ("x509_parser", &["webhooks"]),
        ("sentry", &["ops"]),
        ("sd_notify", &["ops"]),
        ("governor", &["ingest", "mail", "clock"]),
        ("lettre", &["mail", "config"]),
        ("askama", &["mail", "console"]),
        ("argon2", &["ops"]),
        ("rustix", &["components", "clock", "daemon", "ops"]),
        ("tokio_cron_scheduler", &["scheduler"]),
        ("metrics_exporter_prometheus", &["metrics", "api", "daemon"]),
        ("clap", &["cli"]),
        ("anyhow", &["cli", "main"]),
        ("toml_edit", &["config", "calendar"]),
        ("std::env", &["config"]),
    ];
    for (file, text) in files_under("src", "rs") {
        for (name, rooms) in allowed {
            let here = mentions(&text, name) && !mentions_only_own_module(&text, name);
            assert!(!here || rooms.contains(&room(&file)), "{file} uses {name}, which only {rooms:?} may");
        }
    }
}

/// `sentry::layer()` of `ops::sentry` is not the crate of that name.
fn mentions_only_own_module(text: &str, name: &str) -> bool {
    name == "sentry" && code(text).any(|line| line.contains("use super::sentry") || line.contains("use crate::ops::"))
}

#[test]
fn arrows_between_rooms_run_down_only() {
    const LEAVES: &[&str] = &["clock", "config", "metrics", "names"];
    let layers: &[&[&str]] = &[
        &["main"],
        &["cli"],
        &["daemon"],
        &["console"],
        &["api"],
        &["jobs"],
        &["ops"],
        &["scheduler"],
        &["store", "ingest", "mail", "components", "webhooks"],
        &["schedule", "billing", "market"],
        &["calendar"],
    ];
    let depth = |room: &str| layers.iter().position(|layer| layer.contains(&room));
    let rooms: BTreeSet<&str> =
        layers.iter().flat_map(|layer| layer.iter().copied()).chain(LEAVES.iter().copied()).collect();
    for (file, text) in files_under("src", "rs") {
        let from = room(&file);
        if from == "lib" {
            continue;
        }
        assert!(rooms.contains(from), "{file}: a room that this test does not know; give it a place");
        for line in code(&text) {
            for to in rooms
                .iter()
                .filter(|to| has_word(line, &format!("crate::{to}::")) || has_word(line, &format!("crate::{to};")))
            {
                let fine = *to == from || LEAVES.contains(to) || depth(from) < depth(to) && depth(from).is_some()
                    // The configuration names phases of the calendar.
                    || (from == "config" || from == "metrics") && *to == "calendar"
                    // It reads the triggers of components, prices, and names of licences.
                    || from == "config" && ["schedule", "billing", "market"].contains(to);
                assert!(fine, "{file}: {line}");
            }
        }
    }
}

/// Pure, in a room that is not.
const PURE_FILES: &[&str] = &[
    "src/mail/letter.rs",
    "src/mail/message.rs",
    "src/ingest/gate.rs",
    "src/ingest/dormant.rs",
    "src/ingest/pace.rs",
    "src/ingest/plan.rs",
    "src/webhooks/certificate.rs",
    "src/webhooks/delivery.rs",
    "src/webhooks/json.rs",
    "src/webhooks/paypal.rs",
    "src/webhooks/standard.rs",
];

#[test]
fn pure_rooms_neither_wait_nor_log_nor_look_at_the_clock() {
    for pure in ["src/calendar", "src/schedule", "src/billing", "src/market"] {
        for (file, text) in files_under(pure, "rs") {
            for forbidden in ["async ", ".await", "tracing::", "tokio::", "std::fs", "crate::clock", "::now()"] {
                assert!(!code(&text).any(|line| line.contains(forbidden)), "{file} is PURE and has {forbidden:?}");
            }
        }
    }
    let explain = files_under("src/ops/explain", "rs").into_iter().map(|(file, _)| file);
    for file in PURE_FILES.iter().map(|file| (*file).to_owned()).chain(explain) {
        let text = std::fs::read_to_string(root().join(&file)).unwrap();
        for forbidden in ["async ", ".await", "tracing::", "tokio::", "std::fs", "crate::clock", "::now()"] {
            assert!(!code(&text).any(|line| line.contains(forbidden)), "{file} is PURE and has {forbidden:?}");
        }
    }
}

#[test]
fn files_stay_under_500_lines_and_functions_on_a_screen() {
    for (file, text) in files_under("src", "rs") {
        let lines = text.lines().count();
        assert!(lines <= 500, "{file} has {lines} lines");
        if file.contains("tests") {
            // A table of dates is as long as it is.
            continue;
        }
        let mut function: Option<(usize, usize, String)> = None;
        for (number, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let begins = ["fn ", "pub fn ", "async fn ", "pub async fn ", "pub(super) fn ", "pub(super) async fn "];
            if function.is_none()
                && begins.iter().any(|begin| line.trim_start().starts_with(begin))
                && !line.ends_with(';')
            {
                function = Some((number, indent, line.trim().to_owned()));
            } else if let Some((start, at, name)) = &function
                && line.trim() == "}"
                && indent == *at
            {
                assert!(number - start < 70, "{file}: {} lines: {name}", number - start);
                function = None;
            }
        }
    }
}

#[test]
fn no_file_names_a_machine_or_a_secret() {
    let mut folders = vec![];
    for folder in ["src", "tests", "config", "docs", "migrations", "systemd", "scripts", "deploy"] {
        if root().join(folder).exists() {
            for extension in ["rs", "toml", "md", "sql", "csv", "service", "yml", "sh"] {
                folders.push((folder, extension));
            }
        }
    }
    let forbidden = [["/wo", "rk/"].concat(), ["/ro", "ot/"].concat(), ["crates", ".io/api"].concat()];
    for (folder, extension) in folders {
        for (file, text) in maybe_files_under(folder, extension) {
            for word in &forbidden {
                assert!(!text.contains(word.as_str()), "{file} has {word:?}");
            }
        }
    }
}

fn maybe_files_under(folder: &str, extension: &str) -> Vec<(String, String)> {
    std::panic::catch_unwind(|| files_under(folder, extension)).unwrap_or_default()
}

#[test]
fn migrations_come_in_pairs_each_with_a_number() {
    let names = |engine: &str| -> Vec<String> {
        let files = files_under(&format!("migrations/{engine}"), "sql");
        files.iter().map(|(file, _)| file.rsplit('/').next().unwrap().to_owned()).collect()
    };
    assert_eq!(names("sqlite"), names("postgres"));
    let mut numbers: Vec<u32> = names("sqlite").iter().map(|name| name[..4].parse().unwrap()).collect();
    assert!(numbers.is_sorted() && numbers.first() == Some(&1), "{numbers:?}");
    numbers.dedup();
    assert_eq!(numbers.len(), names("sqlite").len(), "two migrations have one number");
}

#[test]
fn every_key_of_the_configuration_is_in_the_default_file_with_a_comment() {
    let text = bellwether::config::DEFAULT_TOML;
    let config = bellwether::config::Config::load(None, &bellwether::config::Environment::default()).unwrap();
    for setting in &config.settings {
        let (section, name) =
            setting.key.rsplit_once('.').map_or(("", &*setting.key), |(section, name)| (section, name));
        let header = if section.is_empty() { 0 } else { text.find(&format!("[{section}]")).unwrap_or(usize::MAX) };
        let parts = [
            "database.engine",
            "database.name",
            "database.user",
            "database.password",
            "database.host",
            "database.port",
        ];
        if parts.contains(&&*setting.key) {
            // The parts of a URL exist in the environment only, under the names that are listed beside the URL.
            assert!(text.contains(&format!("DB_{}", name.to_uppercase())), "{}", setting.key);
            continue;
        }
        assert!(header != usize::MAX, "no section for {}", setting.key);
        let line = text[header..]
            .lines()
            .position(|line| line.starts_with(&format!("{name} =")) || line.starts_with(&format!("# {name} =")));
        let before =
            text[header..].lines().nth(line.unwrap_or_else(|| panic!("{} is not there", setting.key)).max(1) - 1);
        assert!(before.is_some_and(|line| line.starts_with('#')), "{} has no comment", setting.key);
    }
}

#[test]
fn each_known_defect_has_a_test_that_exists() {
    let text = std::fs::read_to_string(root().join("docs/defects.md")).unwrap();
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| D"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let numbers: Vec<String> = rows.iter().map(|row| row[0].to_owned()).collect();
    assert_eq!(numbers, (1..=54).map(|n| format!("D{n}")).collect::<Vec<_>>());
    for row in rows {
        let named: Vec<&str> = row[3].split('`').filter(|part| part.contains("::")).collect();
        assert!(!named.is_empty() || row[2].starts_with("not built"), "{}: it names no test", row[0]);
        for name in named {
            let (file, test) = name.split_once("::").unwrap();
            let code = std::fs::read_to_string(root().join(file)).unwrap_or_else(|_| panic!("{}: {file}", row[0]));
            assert!(code.contains(&format!("fn {test}(")), "{}: {file} has no {test}", row[0]);
        }
    }
}
