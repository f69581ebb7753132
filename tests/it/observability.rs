//! What Prometheus sees.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};

use bellwether::ops::explain::Code;

use crate::harness::{Engine, World, instant};

/// The most series of a default daemon that has been asked for everything once.
const MOST_SERIES: usize = 1_500;

#[tokio::test]
async fn every_metric_has_help_keeps_the_rules_and_is_in_the_documents() {
    let world = World::at("2027-03-15T13:29:50Z", Engine::Sqlite, &[]).await;
    let running = world.start().await;
    running.stats().await;
    world.advance_to(&running, instant("2027-03-15T13:30:00Z")).await;
    for path in ["/api/stocks/", "/api/stocks/AAPL/", "/api/trending/", "/nope", "/livez", "/readyz"] {
        running.get(path).await;
    }
    let text = running.http.get(format!("http://{}/metrics", running.daemon.metrics)).send().await.unwrap();
    let text = text.text().await.unwrap();
    running.stop().await;

    let of = |mark: &str| -> BTreeSet<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(mark));
        lines.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
    };
    let (helped, typed) = (of("# HELP "), of("# TYPE "));
    assert_eq!(helped, typed, "each has its HELP");
    let known: BTreeSet<String> = bellwether::metrics::names().map(str::to_owned).collect();
    assert!(typed.is_subset(&known), "{:?}", typed.difference(&known));
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/METRICS.md")).unwrap();
    for name in &known {
        assert!(document.contains(&format!("`{name}`")), "{name} is not in docs/METRICS.md");
    }
    let series = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).count();
    assert!(series <= MOST_SERIES, "{series} series");
    assert!(!text.contains("/api/stocks/AAPL"), "routes are templates");
    check_with_promtool(&text);
}

#[expect(clippy::disallowed_methods, reason = "the test command says where it found promtool")]
fn check_with_promtool(text: &str) {
    use std::io::Write;
    let promtool = std::env::var("BELLWETHER_TEST_PROMTOOL").unwrap_or_else(|_| {
        panic!("no promtool: run ./scripts/test, which finds one, or set BELLWETHER_TEST_PROMTOOL")
    });
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let told = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&told));
}

#[test]
fn alerts_ask_for_metrics_that_exist() {
    let known: BTreeSet<&str> = bellwether::metrics::names().collect();
    for file in ["alerts.yml", "alerts_test.yml", "alerts_days_test.yml", "alerts_money_test.yml"] {
        let path = format!("{}/deploy/prometheus/{file}", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).unwrap();
        let words =
            text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("bellwether_"));
        let asked: BTreeSet<&str> = words.collect();
        assert!(asked.len() >= 3, "{file}: {asked:?}");
        assert!(asked.is_subset(&known), "{file}: {:?}", asked.difference(&known));
        let codes = text.split("code=").skip(1).flat_map(|rest| {
            let quoted = rest.trim_start_matches(['~', '\\', '"']);
            quoted.split(['"', '\\']).next().unwrap_or_default().split('|')
        });
        for code in codes {
            assert!(
                Code::FINDINGS.iter().any(|known| known.name() == code),
                "{file}: nothing is ever found as {code:?}"
            );
        }
    }
}
