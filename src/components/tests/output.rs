//! What a component writes, and what it is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::*;

/// Counts what is logged, and the longest of it.
#[derive(Default, Clone)]
struct Logged {
    lines: Arc<AtomicU64>,
    longest: Arc<AtomicU64>,
    said: Arc<std::sync::Mutex<Vec<String>>>,
}

struct Fields<'a>(&'a Logged);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.0.said.lock().unwrap().push(format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "line" {
            self.0.lines.fetch_add(1, Ordering::Relaxed);
            self.0.longest.fetch_max(value.len() as u64, Ordering::Relaxed);
        }
    }
}

impl<S: tracing::Subscriber> Layer<S> for Logged {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        event.record(&mut Fields(self));
    }
}

#[tokio::test]
async fn endless_output_is_taken_without_a_stall_and_logged_within_bounds() {
    let logged = Logged::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(logged.clone()));
    let directory = tempfile::tempdir().unwrap();
    let ended = run_to_end(&shell("yes | head -c 50000000; echo done >&2", directory.path())).await;
    assert!(ended.is_success());
    assert_eq!((ended.lines, ended.bytes), (25_000_001, 50_000_005));
    let lines = logged.lines.load(Ordering::Relaxed);
    assert_eq!(lines + ended.left_out, ended.lines);
    let most = f64::from(Limits::default().lines_per_second) * (10.0 + ended.took.as_secs_f64());
    assert!((500..=most as u64).contains(&lines), "{lines} of at most {most}");
    assert_eq!(ended.last_lines.len(), 20);
    assert!(ended.report().to_string().len() < 2_000);
    let said = logged.said.lock().unwrap();
    for once in ["more output than is logged", "output was left out"] {
        assert_eq!(said.iter().filter(|message| *message == once).count(), 1, "{once}");
    }
}

#[tokio::test]
async fn a_line_without_an_end_is_held_up_to_its_limit() {
    let logged = Logged::default();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(logged.clone()));
    let directory = tempfile::tempdir().unwrap();
    let ended = run_to_end(&shell("head -c 20000000 /dev/zero | tr '\\0' x", directory.path())).await;
    assert_eq!((ended.lines, ended.bytes), (1, 20_000_000));
    let kept = format!("{} [{} more bytes cut]", "x".repeat(512), 20_000_000 - 512);
    assert_eq!(ended.last_lines, [kept]);
    assert_eq!(logged.longest.load(Ordering::Relaxed), 4_096 + " [19995904 more bytes cut]".len() as u64);
}

#[tokio::test]
async fn what_is_no_text_is_shown_as_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let script = r"printf '\377ok\n\033[31mred\007\n\n a\tb\r\n'; printf 'eeeeeee\303\251e\n'; printf 'no newline'";
    let mut command = shell(script, directory.path());
    command.limits.line_bytes = 10;
    let ended = run_to_end(&command).await;
    let expected =
        ["\u{fffd}ok", r"\u{1b}[31mred\u{7}", "", " a\tb", "eeeeeee\u{e9}e", "no newline"].map(str::to_owned);
    assert_eq!(ended.last_lines, expected);
    command.limits.line_bytes = 8;
    let ended = run_to_end(&command).await;
    assert_eq!(ended.last_lines[1], r"\u{1b}[31mred [1 more bytes cut]");
    assert_eq!(ended.last_lines[4], "eeeeeee [3 more bytes cut]");
    assert_eq!(ended.last_lines[5], "no newli [2 more bytes cut]");
}

#[tokio::test]
async fn only_what_is_allowed_and_our_marks_are_in_its_environment() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(&["env"], directory.path());
    command.environment.insert("FEED_KEY".to_owned(), SecretString::from(" canary ".to_owned()));
    let mark = mark();
    let ended = run(&command, &mark, &CancellationToken::new()).await.unwrap();
    let mut lines = ended.last_lines;
    lines.sort();
    assert_eq!(
        lines,
        [
            "BELLWETHER_JOB=scraper".to_owned(),
            format!("BELLWETHER_PARENT={}", platform::own_mark()),
            format!("BELLWETHER_RUN_ID={}", mark.run_id),
            "BELLWETHER_SLOT=2027-03-15T13:30:00Z".to_owned(),
            "FEED_KEY= canary ".to_owned(),
            "PATH=/usr/local/bin:/usr/bin:/bin".to_owned(),
        ]
    );
    assert!(!format!("{command:?}").contains("canary"), "{command:?}");
}
