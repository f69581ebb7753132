//! `[[component]]`: the site's own commands, each checked as far as it can be before it is ever started.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::reader::Reader;
use super::sources::{self, Environment};
use super::value::{Origin, Value};
use crate::calendar::Phase;
use crate::schedule::Trigger;

/// The variables that mark the processes of a component: run, slot, component, daemon. They are nobody's to set, and no
/// settings of a program that a component calls.
pub const COMPONENT_MARKS: [&str; 4] = ["BELLWETHER_RUN_ID", "BELLWETHER_SLOT", "BELLWETHER_JOB", "BELLWETHER_PARENT"];

/// Names that are taken by the daemon's own jobs.
const BUILT_IN_JOBS: [&str; 10] = [
    "renewals",
    "ingest",
    "ingest-close",
    "history",
    "dunning",
    "universe",
    "outbox",
    "inbox",
    "reconcile-paypal",
    "backup",
];

/// What every component is given of the daemon's environment.
const ALWAYS_INHERITED: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];

/// Where a program is looked for when there is no PATH, as the C library does.
const USUAL_PATH: &str = "/bin:/usr/bin";

/// The longest name of a component, in characters.
const LONGEST_NAME: usize = 40;

const TWO_BRACKETS: &str = "begin each component with a line [[component]], in two brackets";

/// What about a slot that is noticed late, or not at all until the daemon is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComponentMisfire {
    /// The newest runs once, late.
    RunOnce,
    /// None runs.
    Skip,
    /// The newest runs if its phase is still under way.
    WhilePhaseOpen,
    /// Each runs, the newest `catch_up_max` at most.
    CatchUp,
}

named!(ComponentMisfire {
    RunOnce => "run-once",
    Skip => "skip",
    WhilePhaseOpen => "while-phase-open",
    CatchUp => "catch-up",
});

/// What about a slot that comes due while the run before it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComponentOverlap {
    /// It is left out.
    Skip,
    /// It waits.
    Queue,
    /// The run before it is stopped.
    Cancel,
    /// Both run, `overlap_max` at most.
    Allow,
}

named!(ComponentOverlap { Skip => "skip", Queue => "queue", Cancel => "cancel", Allow => "allow" });

/// When a component runs.
#[derive(Debug, Clone, PartialEq)]
pub enum ComponentRuns {
    /// To its end, at each slot.
    AtSlots {
        /// The slots.
        trigger: Trigger,
        /// The longest a run may take.
        time_limit: Duration,
    },
    /// All the time while the market is in one of the phases.
    WhilePhases {
        /// The phases.
        phases: Vec<Phase>,
        /// From an end of its own to the next start, the first time.
        restart_after: Duration,
    },
}

/// One `[[component]]`.
#[derive(Debug, Clone)]
pub struct ComponentConfig {
    /// Its name everywhere; it lives as long as the process.
    pub name: &'static str,
    /// What it does, for people.
    pub purpose: &'static str,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Where it runs.
    pub directory: Option<PathBuf>,
    /// Its environment: what it inherits and what is set for it. The values are shown to nobody.
    pub environment: BTreeMap<String, SecretString>,
    /// From SIGTERM to SIGKILL.
    pub stop_grace: Duration,
    /// When.
    pub runs: ComponentRuns,
    /// What about late slots.
    pub misfire: ComponentMisfire,
    /// The most late slots that are run with [`ComponentMisfire::CatchUp`].
    pub catch_up_max: u32,
    /// What about a slot while the run before it goes on.
    pub overlap: ComponentOverlap,
    /// The most runs at once with [`ComponentOverlap::Allow`].
    pub overlap_max: u32,
    /// Tries of one slot, the first included.
    pub attempts: u32,
    /// Failed runs in a row after which it is paused; 0 for never.
    pub breaker: u32,
}

/// Reads all of them.
pub(super) fn read(reader: &mut Reader<'_>, environment: &Environment) -> Vec<ComponentConfig> {
    reader.refuse_here("component", "this is not a component", TWO_BRACKETS);
    for name in reader.names_below("component") {
        let key = format!("component.{name}");
        if !sources::in_array(&key) {
            reader.refuse_here(&key, "this belongs to no component", TWO_BRACKETS);
        }
    }
    let mut names = BTreeSet::new();
    let entries = reader.entries("component");
    let read = |(key, origin)| Entry { reader, key, origin }.read(environment, &mut names);
    entries.into_iter().filter_map(read).collect()
}

/// One entry as it is being read.
struct Entry<'r, 'e> {
    reader: &'r mut Reader<'e>,
    /// `component.1`
    key: String,
    /// The line of its `[[component]]`.
    origin: Origin,
}

impl Entry<'_, '_> {
    /// `None` only where a problem says why.
    fn read(mut self, environment: &Environment, names: &mut BTreeSet<String>) -> Option<ComponentConfig> {
        let name = self.name(names);
        let environment = self.environment(environment);
        let command = self.command(environment.get("PATH"));
        let purpose = self.purpose(&command);
        let directory = self.directory();
        let runs = self.runs();
        self.default("stop_grace_seconds", Value::Integer(10));
        self.default("breaker", Value::Integer(10));
        let stop_grace = self.seconds("stop_grace_seconds", 0..=300);
        let misfire = self.one_of("misfire").unwrap_or(ComponentMisfire::WhilePhaseOpen);
        let catch_up_max = self.count("catch_up_max", 1..=1_000);
        let overlap = self.one_of("overlap").unwrap_or(ComponentOverlap::Skip);
        let overlap_max = self.count("overlap_max", 1..=100);
        let attempts = self.count("attempts", 1..=20);
        let breaker = self.count("breaker", 0..=1_000);
        Some(ComponentConfig {
            name: name?.leak(),
            purpose: purpose.leak(),
            command,
            directory,
            environment,
            stop_grace,
            runs: runs?,
            misfire,
            catch_up_max,
            overlap,
            overlap_max,
            attempts,
            breaker,
        })
    }

    fn at(&self, name: &str) -> String {
        format!("{}.{name}", self.key)
    }

    fn default(&mut self, name: &str, value: Value) {
        self.reader.or_default(self.at(name), value);
    }

    fn refuse(&mut self, name: &str, message: impl Into<String>, fix: impl Into<String>) {
        self.reader.refuse(&self.at(name), message, fix);
    }

    /// For what is not said: the place is the entry's.
    fn missing(&mut self, name: &str, message: &str, fix: &str) {
        self.reader.refuse_at(&self.at(name), self.origin.clone(), message, fix);
    }

    fn seconds(&mut self, name: &str, range: std::ops::RangeInclusive<u32>) -> Duration {
        Duration::from_secs(u64::from(self.reader.integer(&self.at(name), range)))
    }

    /// A key that does not belong to the kind of this component has no default, and its problem is told elsewhere.
    fn count(&mut self, name: &str, range: std::ops::RangeInclusive<u32>) -> u32 {
        let key = self.at(name);
        if self.reader.is_said(&key) { self.reader.integer(&key, range) } else { *range.start() }
    }

    fn one_of<T: std::str::FromStr<Err = String>>(&mut self, name: &str) -> Option<T> {
        let key = self.at(name);
        let text = if self.reader.is_said(&key) { self.reader.text(&key)? } else { return None };
        match text.parse() {
            Ok(found) => Some(found),
            Err(fault) => {
                self.refuse(name, fault, "write one of them");
                None
            }
        }
    }

    fn name(&mut self, others: &mut BTreeSet<String>) -> Option<String> {
        let Some(name) = self.reader.text(&self.at("name")) else {
            self.missing("name", "a component needs a name", "write name = \"news\", say");
            return None;
        };
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.len() > LONGEST_NAME || !name.chars().all(fits) {
            let fix = format!("write lower-case letters, digits and dashes, {LONGEST_NAME} at most");
            self.refuse("name", format!("{name:?} is no name"), fix);
        } else if BUILT_IN_JOBS.contains(&name.as_str()) {
            self.refuse("name", format!("{name:?} is a job of the daemon's own"), "choose another name");
        } else if !others.insert(name.clone()) {
            self.refuse("name", format!("{name:?} is the name of a component before it"), "choose another name");
        }
        Some(name)
    }

    fn purpose(&mut self, command: &[String]) -> String {
        // Arguments can hold what is not for everybody.
        let program = command.first().map_or("nothing", String::as_str);
        self.reader.text(&self.at("purpose")).unwrap_or_else(|| format!("runs {program}"))
    }

    fn command(&mut self, path: Option<&SecretString>) -> Vec<String> {
        let fix = "write command = [\"/path/of/program\", \"argument\"]";
        if !self.reader.is_said(&self.at("command")) {
            self.missing("command", "a component needs a command", fix);
        }
        let Some(command) = self.reader.arguments(&self.at("command")) else { return Vec::new() };
        let Some(program) = command.first().filter(|program| !program.is_empty()) else {
            self.refuse("command", "no program is named", fix);
            return command;
        };
        let path = path.map_or(USUAL_PATH, ExposeSecret::expose_secret);
        if command.iter().any(|word| word.contains('\0')) {
            self.refuse("command", "there is a zero byte in it, which no program can be given", "remove it");
        } else if let Err(fault) = find(program, path) {
            self.refuse("command", fault, "name a file that may be executed, by its absolute path or as PATH finds it");
        }
        command
    }

    fn directory(&mut self) -> Option<PathBuf> {
        let directory = PathBuf::from(self.reader.text(&self.at("directory"))?);
        if !directory.is_dir() {
            let message = format!("there is no directory {}", directory.display());
            self.refuse("directory", message, "name one that exists");
        }
        Some(directory)
    }

    fn runs(&mut self) -> Option<ComponentRuns> {
        let (has_trigger, has_while) =
            (self.reader.is_said(&self.at("trigger")), self.reader.is_said(&self.at("while")));
        let fix = "write trigger = \"every 15m\" for a run at each slot, or while = [\"regular\"] to keep it running";
        if !has_trigger && !has_while {
            self.missing("trigger", "nothing says when it runs", fix);
        }
        if has_while {
            if has_trigger {
                self.reader.refuse_here(&self.at("trigger"), "there is `while` as well", fix);
            }
            for name in ["timeout_seconds", "misfire", "catch_up_max", "overlap", "overlap_max", "attempts"] {
                let message = "it is kept running while the phases last, so there are no single runs";
                self.reader.refuse_here(&self.at(name), message, "remove it, or write `trigger` instead of `while`");
            }
            self.default("restart_after_seconds", Value::Integer(1));
            let (phases, restart_after) = (self.phases(), self.seconds("restart_after_seconds", 1..=60));
            return (!has_trigger).then_some(ComponentRuns::WhilePhases { phases, restart_after });
        }
        let message = "it runs once at each slot and is not restarted";
        let fix = "remove it, or write `while` instead of `trigger`; `attempts` says how often a slot is tried";
        self.reader.refuse_here(&self.at("restart_after_seconds"), message, fix);
        for (name, value) in [("timeout_seconds", 300), ("catch_up_max", 10), ("overlap_max", 2), ("attempts", 1)] {
            self.default(name, Value::Integer(value));
        }
        self.default("misfire", Value::Text(ComponentMisfire::RunOnce.name().to_owned()));
        self.default("overlap", Value::Text(ComponentOverlap::Skip.name().to_owned()));
        let (trigger, time_limit) = (self.trigger(), self.seconds("timeout_seconds", 1..=86_400));
        Some(ComponentRuns::AtSlots { trigger: trigger?, time_limit })
    }

    fn trigger(&mut self) -> Option<Trigger> {
        match self.reader.text(&self.at("trigger"))?.parse() {
            Ok(trigger) => Some(trigger),
            Err(fault) => {
                let fix = "write one as in docs/schedule.md; `bellwether jobs next --trigger` tries it out";
                self.refuse("trigger", fault, fix);
                None
            }
        }
    }

    fn phases(&mut self) -> Vec<Phase> {
        let names = Phase::ALL.map(Phase::name).join(", ");
        let mut phases = Vec::new();
        let said = self.reader.list(&self.at("while"));
        if said.is_empty() {
            self.refuse("while", "no phase is named, so it would never run", format!("choose from {names}"));
        }
        for name in said {
            match name.parse() {
                Ok(phase) if !phases.contains(&phase) => phases.push(phase),
                Ok(_) => {}
                Err(fault) => self.refuse("while", fault, format!("choose from {names}")),
            }
        }
        phases
    }

    /// Nothing but what is allowed by name: an environment is where secrets are.
    fn environment(&mut self, environment: &Environment) -> BTreeMap<String, SecretString> {
        let mut names: Vec<String> = ALWAYS_INHERITED.map(str::to_owned).into();
        if self.reader.is_said(&self.at("inherit")) {
            for name in self.reader.list(&self.at("inherit")) {
                let fix = "set what it needs for itself in [component.environment]";
                if !is_variable(&name) {
                    self.refuse("inherit", format!("{name:?} is not the name of a variable"), "write names only");
                } else if sources::is_own_name(&name) {
                    self.refuse("inherit", format!("{name} is the daemon's own and is not handed on"), fix);
                } else {
                    names.push(name);
                }
            }
        }
        let inherited = names.into_iter().filter_map(|name| {
            let value = SecretString::from(environment.get(&name)?.to_owned());
            Some((name, value))
        });
        let mut variables: BTreeMap<_, _> = inherited.collect();
        for name in self.reader.names_below(&self.at("environment")) {
            let below = format!("environment.{name}");
            if !is_variable(&name) || COMPONENT_MARKS.contains(&name.as_str()) {
                let message =
                    if is_variable(&name) { "this is set by the daemon" } else { "this is no variable's name" };
                self.reader.refuse_here(&self.at(&below), message, "choose another name");
            } else if let Some(value) = self.reader.secret_text(&self.at(&below)) {
                if value.expose_secret().contains('\0') {
                    self.refuse(&below, "there is a zero byte in it, which no program can be given", "remove it");
                }
                variables.insert(name, value);
            }
        }
        variables
    }
}

fn is_variable(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(fits) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// Whether `program` is there and may be executed by somebody.
fn find(program: &str, path: &str) -> Result<(), String> {
    if program.contains('/') {
        return if program.starts_with('/') {
            executable(Path::new(program))
        } else {
            Err(format!("{program:?} is a path that depends on where the daemon is started"))
        };
    }
    let found = path.split(':').filter(|folder| !folder.is_empty()).any(|folder| {
        let candidate = Path::new(folder).join(program);
        executable(&candidate).is_ok()
    });
    if found { Ok(()) } else { Err(format!("{program:?} is in no directory of its PATH")) }
}

fn executable(path: &Path) -> Result<(), String> {
    match path.metadata() {
        Err(error) => Err(format!("{} cannot be found: {error}", path.display())),
        Ok(found) if !found.is_file() => Err(format!("{} is not a file", path.display())),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => {
            Err(format!("{} may not be executed by anybody", path.display()))
        }
        Ok(_) => Ok(()),
    }
}
