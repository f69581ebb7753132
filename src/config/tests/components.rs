//! What an operator sees of `[[component]]`.

use secrecy::ExposeSecret;

use super::*;
use crate::schedule::Trigger;

const PATH: (&str, &str) = ("PATH", "/usr/local/bin:/usr/bin:/bin");

#[test]
fn both_kinds_are_read_with_what_holds_where_nothing_is_said() {
    let toml = r#"
[[component]]
name = "news"
command = ["sh", "-c", "exit 0"]
trigger = "every 15m while regular"

[[component]]
name = "ticker-feed"
purpose = "feeds the ticker"
command = ["/bin/sh"]
while = ["pre", "regular"]
directory = "/"
breaker = 0
"#;
    let components = load(toml, &[PATH]).unwrap().components;
    let shown: Vec<String> = components.iter().map(|component| format!("{component:?}")).collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    ComponentConfig { name: "news", purpose: "runs sh", command: ["sh", "-c", "exit 0"], directory: None, environment: {"PATH": SecretBox<str>([REDACTED])}, stop_grace: 10s, runs: AtSlots { trigger: EveryWhile { every: TimeDelta { secs: 900, nanos: 0 }, phases: [Regular] }, time_limit: 300s }, misfire: RunOnce, catch_up_max: 10, overlap: Skip, overlap_max: 2, attempts: 1, breaker: 10 }
    ComponentConfig { name: "ticker-feed", purpose: "feeds the ticker", command: ["/bin/sh"], directory: Some("/"), environment: {"PATH": SecretBox<str>([REDACTED])}, stop_grace: 10s, runs: WhilePhases { phases: [Pre, Regular], restart_after: 1s }, misfire: WhilePhaseOpen, catch_up_max: 1, overlap: Skip, overlap_max: 1, attempts: 1, breaker: 0 }
    "#);
    assert_eq!(load("", &[]).unwrap().components.len(), 0);
}

#[test]
fn the_environment_is_what_is_named_and_shown_to_nobody() {
    let toml = r#"
[[component]]
name = "mailer"
command = ["sh"]
trigger = "daily 08:00 America/New_York"
inherit = ["SMTP_PASSWORD", "NOT_THERE", "TZ"]
[component.environment]
SMTP_HOST = "mail.internal"
HOME = " /somewhere else "
EMPTY = ""
"#;
    let environment = [
        PATH,
        ("HOME", "/home/site"),
        ("TZ", "UTC"),
        ("SMTP_PASSWORD", "canary"),
        ("SECRET_KEY", "hidden"),
        ("X", "y"),
    ];
    let config = load(toml, &environment).unwrap();
    let variables: Vec<_> = config.components[0]
        .environment
        .iter()
        .map(|(name, value)| format!("{name}={}", value.expose_secret()))
        .collect();
    insta::assert_snapshot!(variables.join("\n"), @"
    EMPTY=
    HOME= /somewhere else 
    PATH=/usr/local/bin:/usr/bin:/bin
    SMTP_HOST=mail.internal
    SMTP_PASSWORD=canary
    TZ=UTC
    ");
    let shown = format!("{config:?}");
    for value in ["canary", "mail.internal", "somewhere else"] {
        assert!(!shown.contains(value), "{shown}");
    }
    assert!(matches!(config.components[0].runs, ComponentRuns::AtSlots { trigger: Trigger::Daily { .. }, .. }));
}

const MISTAKES: &str = r#"
[[component]]

[[component]]
name = "News!"
command = ["no-such-program"]
trigger = "sometimes"
schedule = "every 15m"
misfier = "skip"
misfire = "later"
overlap_max = 0
restart_after_seconds = 5
inherit = ["DATABASE_URL", "OPERATOR_TOKEN_FILE", "BELLWETHER_INGEST__MASSIVE__API_KEY", "a b"]
environment.BELLWETHER_RUN_ID = "mine"
environment."two words" = "x"
environment.NUMBER = 5

[[component]]
name = "ingest"
command = "/bin/sh -c true"
while = ["lunch"]
trigger = "open"
timeout_seconds = 5

[[component]]
name = "twice"
command = ["bin/relative"]
while = []
directory = "/no/such/place"

[[component]]
name = "twice"
command = ["/etc/passwd", "\u0000"]
trigger = "open"

[[component]]
name = "mode"
command = ["/etc/passwd"]
trigger = "open"
"#;

#[test]
fn every_mistake_in_a_component_is_told_with_its_line() {
    insta::assert_snapshot!(load(MISTAKES, &[PATH]).unwrap_err(), @r#"
    component.1.name (my.toml:2): a component needs a name; fix: write name = "news", say
    component.1.command (my.toml:2): a component needs a command; fix: write command = ["/path/of/program", "argument"]
    component.1.trigger (my.toml:2): nothing says when it runs; fix: write trigger = "every 15m" for a run at each slot, or while = ["regular"] to keep it running
    component.2.name (my.toml:5): "News!" is no name; fix: write lower-case letters, digits and dashes, 40 at most
    component.2.inherit (my.toml:13): DATABASE_URL is the daemon's own and is not handed on; fix: set what it needs for itself in [component.environment]
    component.2.inherit (my.toml:13): OPERATOR_TOKEN_FILE is the daemon's own and is not handed on; fix: set what it needs for itself in [component.environment]
    component.2.inherit (my.toml:13): BELLWETHER_INGEST__MASSIVE__API_KEY is the daemon's own and is not handed on; fix: set what it needs for itself in [component.environment]
    component.2.inherit (my.toml:13): "a b" is not the name of a variable; fix: write names only
    component.2.environment.BELLWETHER_RUN_ID (my.toml:14): this is set by the daemon; fix: choose another name
    component.2.environment.NUMBER (my.toml:16): this must be text, not an integer; fix: put the value in quotes
    component.2.environment.two words (my.toml:15): this is no variable's name; fix: choose another name
    component.2.command (my.toml:6): "no-such-program" is in no directory of its PATH; fix: name a file that may be executed, by its absolute path or as PATH finds it
    component.2.restart_after_seconds (my.toml:12): it runs once at each slot and is not restarted; fix: remove it, or write `while` instead of `trigger`; `attempts` says how often a slot is tried
    component.2.trigger (my.toml:7): "sometimes" is no trigger; write one of: daily HH:MM ZONE, session-day HH:MM, every SPAN [while PHASE,PHASE], while PHASE,PHASE, open[+-SPAN], close[+-SPAN], cron PATTERN ZONE, at INSTANT; a SPAN is a number with s, m, h or d; fix: write one as in docs/schedule.md; `bellwether jobs next --trigger` tries it out
    component.2.misfire (my.toml:10): "later" is none of run-once, skip, while-phase-open, catch-up; fix: write one of them
    component.2.overlap_max (my.toml:11): 0 is out of range; fix: choose 1 to 100
    component.3.name (my.toml:19): "ingest" is a job of the daemon's own; fix: choose another name
    component.3.command (my.toml:20): "/bin/sh -c true" is text, not a list; fix: write ["one", "two"]
    component.3.trigger (my.toml:22): there is `while` as well; fix: write trigger = "every 15m" for a run at each slot, or while = ["regular"] to keep it running
    component.3.timeout_seconds (my.toml:23): it is kept running while the phases last, so there are no single runs; fix: remove it, or write `trigger` instead of `while`
    component.3.while (my.toml:21): "lunch" is not a phase; fix: choose from closed, pre, regular, post, overnight, break, halt
    component.4.command (my.toml:27): "bin/relative" is a path that depends on where the daemon is started; fix: name a file that may be executed, by its absolute path or as PATH finds it
    component.4.directory (my.toml:29): there is no directory /no/such/place; fix: name one that exists
    component.4.while (my.toml:28): no phase is named, so it would never run; fix: choose from closed, pre, regular, post, overnight, break, halt
    component.5.name (my.toml:32): "twice" is the name of a component before it; fix: choose another name
    component.5.command (my.toml:33): there is a zero byte in it, which no program can be given; fix: remove it
    component.6.command (my.toml:38): /etc/passwd may not be executed by anybody; fix: name a file that may be executed, by its absolute path or as PATH finds it
    component.2.misfier (my.toml:9): there is no such key; fix: did you mean component.2.misfire?
    component.2.schedule (my.toml:8): there is no such key; fix: remove it; `bellwether config default` lists every key
    "#);
}

#[test]
fn components_are_said_in_a_file_and_in_two_brackets() {
    let environment = [("BELLWETHER_COMPONENT__1__NAME", "news"), ("BELLWETHER_RUN_ID", "of a daemon that calls us")];
    let toml = "[component]\nname = \"news\"\n";
    insta::assert_snapshot!(load(toml, &environment).unwrap_err(), @"
    component.name (my.toml:2): this belongs to no component; fix: begin each component with a line [[component]], in two brackets
    BELLWETHER_COMPONENT__1__NAME (environment BELLWETHER_COMPONENT__1__NAME): there is no such key; fix: components are said in the file of --config only
    ");
    let one = "component = [{ name = \"news\" }]";
    insta::assert_snapshot!(load(one, &[]).unwrap_err(), @"
    component (my.toml:1): this is not a component; fix: begin each component with a line [[component]], in two brackets
    ");
    insta::assert_snapshot!(load("[[componet]]\nname = \"news\"\n", &[]).unwrap_err(), @"
    componet.1 (my.toml:1): there is no such key; fix: did you mean component.1?
    componet.1.name (my.toml:2): there is no such key; fix: remove it; `bellwether config default` lists every key
    ");
}

#[test]
fn what_is_set_for_a_component_is_redacted_and_what_holds_is_shown() {
    let toml = "[[component]]\nname = \"news\"\ncommand = [\"sh\"]\ntrigger = \"open\"\nenvironment.KEY = \"canary\"\n";
    let config = load(toml, &[PATH]).unwrap();
    let settings = config.settings.iter().filter(|setting| setting.key.starts_with("component."));
    let lines: Vec<_> = settings
        .map(|setting| {
            let origin = setting.origin.to_string();
            let line = origin.rsplit_once(':').map_or(origin.as_str(), |(_, line)| line);
            format!("{} = {} ({line})", setting.key, setting.shown.as_deref().unwrap_or("(not set)"))
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    component.1.name = "news" (2)
    component.1.environment.KEY = [redacted] (5)
    component.1.command = ["sh"] (3)
    component.1.purpose = (not set) (not set)
    component.1.directory = (not set) (not set)
    component.1.trigger = "open" (4)
    component.1.timeout_seconds = 300 (default)
    component.1.stop_grace_seconds = 10 (default)
    component.1.misfire = "run-once" (default)
    component.1.catch_up_max = 10 (default)
    component.1.overlap = "skip" (default)
    component.1.overlap_max = 2 (default)
    component.1.attempts = 1 (default)
    component.1.breaker = 10 (default)
    "#);
}

#[test]
fn the_example_in_the_default_file_is_right_but_for_its_places() {
    let example = DEFAULT_TOML.split_once("\n# [[component]]\n").unwrap().1;
    let example: String =
        example.lines().map(|line| format!("{}\n", line.strip_prefix("# ").unwrap_or(line))).collect();
    insta::assert_snapshot!(load(&format!("[[component]]\n{example}"), &[]).unwrap_err(), @"
    component.1.command (my.toml:7): /opt/site/bin/news cannot be found: No such file or directory (os error 2); fix: name a file that may be executed, by its absolute path or as PATH finds it
    component.1.directory (my.toml:9): there is no directory /opt/site; fix: name one that exists
    ");
}
