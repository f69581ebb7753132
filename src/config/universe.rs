//! `[ingest.universe]`: where the list of symbols comes from, and which of them are quoted.

use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use url::Url;

use super::reader::Reader;
use super::seconds;

/// Where a list is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file of this host.
    File(PathBuf),
    /// An `http` or `https` URL.
    Url(Url),
}

impl FromStr for Place {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let url = Url::parse(text).ok().filter(|url| url.has_host() && ["http", "https"].contains(&url.scheme()));
        Ok(url.map_or_else(|| Self::File(PathBuf::from(text)), Self::Url))
    }
}

/// Without what may be secret in it: user, password and query of a URL.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Url(url) => {
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                write!(f, "{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
            }
        }
    }
}

/// Where the symbols come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UniverseSource {
    /// The list of well-known stocks that comes with the program.
    BuiltIn,
    /// The operator's own CSV file.
    File(PathBuf),
    /// The symbol directories of the exchanges.
    Directories {
        /// `nasdaqlisted.txt`.
        nasdaq_listed: Place,
        /// `otherlisted.txt`.
        other_listed: Place,
    },
}

impl UniverseSource {
    /// The name in the configuration, in answers and in the database.
    pub fn name(&self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::File(_) => "file",
            Self::Directories { .. } => "directories",
        }
    }
}

/// What a directory says of a line by its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListingKind {
    /// Made up by an exchange to try its systems.
    TestIssue,
    /// A fund that is traded.
    Etf,
    /// A NextShares fund.
    NextShares,
    /// Below the exchange's requirements.
    Deficient,
    /// Late with its reports.
    Delinquent,
    /// Bankrupt.
    Bankrupt,
}

impl ListingKind {
    const ALL: [Self; 6] =
        [Self::TestIssue, Self::Etf, Self::NextShares, Self::Deficient, Self::Delinquent, Self::Bankrupt];

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::TestIssue => "test-issue",
            Self::Etf => "etf",
            Self::NextShares => "next-shares",
            Self::Deficient => "deficient",
            Self::Delinquent => "delinquent",
            Self::Bankrupt => "bankrupt",
        }
    }
}

/// The list of symbols.
#[derive(Debug, Clone)]
pub struct UniverseConfig {
    /// Where it comes from.
    pub source: UniverseSource,
    /// The SEC's list of companies, for names and CIKs.
    pub sec_tickers: Option<Place>,
    /// Whom a source may write to: part of the User-Agent.
    pub contact: Option<String>,
    /// Lines of the directories that are left out.
    pub leave_out: Vec<ListingKind>,
    /// Symbols that are quoted whatever the source says.
    pub include: Vec<String>,
    /// More of them, as a CSV file.
    pub include_file: Option<PathBuf>,
    /// Symbols that are never quoted.
    pub exclude: Vec<String>,
    /// More of them, as a CSV file.
    pub exclude_file: Option<PathBuf>,
    /// A list that lost more than this share of its lines is refused.
    pub max_shrink_percent: u8,
    /// The longest one download may take.
    pub timeout: Duration,
    /// Whether the built-in list is one to be quoted here: not in production.
    pub built_in_will_do: bool,
}

pub(super) fn read(reader: &mut Reader<'_>) -> UniverseConfig {
    let named = reader.text("ingest.universe.source");
    let file = file(reader, "ingest.universe.file", "name a CSV file with a `symbol` column");
    let nasdaq_listed = place(reader, "ingest.universe.nasdaq_listed");
    let other_listed = place(reader, "ingest.universe.other_listed");
    let sec_tickers = place(reader, "ingest.universe.sec_tickers");
    let contact = reader.text("ingest.universe.contact");
    if let Some(contact) = contact.as_ref().filter(|contact| contact.chars().any(|c| !c.is_ascii() || c.is_control())) {
        let message = format!("{contact:?} has characters that no HTTP header takes");
        reader.refuse("ingest.universe.contact", message, "write a mail address");
    }
    if matches!(sec_tickers, Some(Place::Url(_))) && contact.is_none() {
        let fix = "write a mail address at which its operator reaches you";
        reader.refuse("ingest.universe.contact", "the SEC demands a contact in the User-Agent", fix);
    }
    let source = source(reader, named.as_deref(), file, nasdaq_listed.zip(other_listed));
    UniverseConfig {
        source,
        sec_tickers,
        contact,
        leave_out: leave_out(reader),
        include: reader.list("ingest.universe.include"),
        include_file: self::file(reader, "ingest.universe.include_file", "name a CSV file with a `symbol` column"),
        exclude: reader.list("ingest.universe.exclude"),
        exclude_file: self::file(reader, "ingest.universe.exclude_file", "name a CSV file with a `symbol` column"),
        max_shrink_percent: u8::try_from(reader.integer("ingest.universe.max_shrink_percent", 0_u16..=100))
            .unwrap_or(100),
        timeout: seconds(reader, "ingest.universe.timeout_seconds", 1..=600),
        built_in_will_do: true,
    }
}

fn source(
    reader: &mut Reader<'_>,
    named: Option<&str>,
    file: Option<PathBuf>,
    directories: Option<(Place, Place)>,
) -> UniverseSource {
    const KEY: &str = "ingest.universe.source";
    match (named, file, directories) {
        (None | Some("file"), Some(path), _) => UniverseSource::File(path),
        (None | Some("built-in"), None, _) => UniverseSource::BuiltIn,
        (Some("directories"), None, Some((nasdaq_listed, other_listed))) => {
            UniverseSource::Directories { nasdaq_listed, other_listed }
        }
        (Some("directories"), None, None) => {
            let fix = "set ingest.universe.nasdaq_listed and ingest.universe.other_listed";
            reader.refuse(KEY, "one of the two directories has no place", fix);
            UniverseSource::BuiltIn
        }
        (Some("file"), None, _) => {
            reader.refuse(KEY, "no file is named", "set ingest.universe.file");
            UniverseSource::BuiltIn
        }
        (Some(named @ ("built-in" | "directories")), Some(_), _) => {
            let message = format!("the source is {named:?} and ingest.universe.file is set as well");
            reader.refuse(KEY, message, "remove one of them; symbols to add go into ingest.universe.include_file");
            UniverseSource::BuiltIn
        }
        (Some(other), ..) => {
            let message = format!("there is no source {other:?}");
            reader.refuse(KEY, message, "write \"built-in\", \"file\" or \"directories\"");
            UniverseSource::BuiltIn
        }
    }
}

fn file(reader: &mut Reader<'_>, key: &str, fix: &str) -> Option<PathBuf> {
    let path = reader.text(key).map(PathBuf::from)?;
    if !path.is_file() {
        reader.refuse(key, format!("there is no file {}", path.display()), fix);
    }
    Some(path)
}

/// A file or a URL. One that names another scheme is a mistake, not a file.
fn place(reader: &mut Reader<'_>, key: &str) -> Option<Place> {
    let text =
        reader.text_shown(key, |text| text.parse::<Place>().map(|place| place.to_string()).unwrap_or_default())?;
    let place = text.parse::<Place>().ok()?;
    if let Place::File(path) = &place
        && text.contains("://")
    {
        let message = format!("{} is not an http URL", path.display());
        reader.refuse(key, message, "write https://HOST/PATH, or the path of a file");
    }
    Some(place)
}

fn leave_out(reader: &mut Reader<'_>) -> Vec<ListingKind> {
    let mut kinds = Vec::new();
    for name in reader.list("ingest.universe.leave_out") {
        match ListingKind::ALL.into_iter().find(|kind| kind.name() == name) {
            Some(kind) => kinds.push(kind),
            None => {
                let known = ListingKind::ALL.map(ListingKind::name).join("\", \"");
                let message = format!("there is no kind of listing {name:?}");
                reader.refuse("ingest.universe.leave_out", message, format!("choose from \"{known}\""));
            }
        }
    }
    kinds
}
