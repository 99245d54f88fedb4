//! Where the files of a model come from: the text of `serving.ebb.dev/model`.

use std::fmt;

use crate::field_error::clip;

mod http;
mod names;

use self::names::{is_name, is_path};

/// Longest source. It stands in an annotation and in a command line.
pub const SOURCE_BYTES_MAX: usize = 1024;
/// Longest readable part of [`ModelSource::key`]; with the hash it stays within a label's 63.
const SLUG_BYTES_MAX: usize = 40;
/// Hexadecimal digits of a SHA-256.
const SHA256_DIGITS: usize = 64;
/// The branch of a repository that names no revision.
const MAIN: &str = "main";

/// Files of a model and where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelSource {
    /// Where they are.
    pub place: ModelPlace,
    /// What the one file, or the archive, must hash to, in small letters.
    pub sha256: Option<String>,
}

/// A place of model files, by protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelPlace {
    /// `hf://ORGANISATION/NAME[@REVISION][/PATH]`: a repository of Hugging Face's API.
    HuggingFace {
        /// `ORGANISATION/NAME`.
        repository: String,
        /// A branch, a tag or a commit.
        revision: String,
        /// One file of it, or a folder if it ends with `/`; `None`: all files.
        path: Option<String>,
    },
    /// `https://...`, or `http://...` with a SHA-256: one file or archive.
    Http {
        /// All but the fragment.
        url: String,
    },
    /// `s3://BUCKET/KEY`: one object, or every one below it if the key is empty or ends with `/`.
    S3 {
        /// The bucket.
        bucket: String,
        /// The object's key, without its first `/`.
        key: String,
    },
    /// `file:///PATH`: a file or a folder of this machine, for local mode.
    File {
        /// The absolute path.
        path: String,
    },
}

/// How files are packed into one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveKind {
    /// `.tar`.
    Tar,
    /// `.tar.gz`, `.tgz`.
    TarGz,
    /// `.zip`.
    Zip,
}

/// Why a text is no source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelSourceError {
    /// Too long.
    #[error("it has {0} bytes: at most {SOURCE_BYTES_MAX} are taken")]
    Long(usize),
    /// Another protocol, or none.
    #[error(
        "{0:?} is no place of a model: write hf://ORGANISATION/NAME/FILE, https://HOST/FILE, \
         s3://BUCKET/FILE or file:///FILE"
    )]
    Protocol(String),
    /// No repository.
    #[error(
        "{0:?} names no file of a repository: write hf://ORGANISATION/NAME, then @REVISION and /FILE \
         if they matter, of letters, digits, \".\", \"_\", \"-\" and \"+\""
    )]
    Repository(String),
    /// No URL.
    #[error(
        "{0:?} is no URL of a file: write https://HOST/PATH with a name at its end, without user and \
         password, other characters than those of ASCII as %XX"
    )]
    Url(String),
    /// Nothing vouches for the bytes.
    #[error("http:// proves nothing about the file: write https://, or add #sha256=...")]
    Plain,
    /// No object.
    #[error("{0:?} names no object: write s3://BUCKET/KEY, or s3://BUCKET/KEY/ for all below it")]
    Object(String),
    /// No path.
    #[error("{0:?} is no absolute path: write file:///PATH, without \"..\" and control characters")]
    Path(String),
    /// No checksum.
    #[error("what follows # must be sha256= with 64 hexadecimal digits")]
    Checksum,
    /// A checksum of many files.
    #[error("#sha256= is for one file or archive, and this is a folder")]
    ChecksumOfFolder,
    /// A checksum of one part, and all parts are fetched.
    #[error(
        "#sha256= is for one file, and a part of a split model brings all its parts: leave it out"
    )]
    ChecksumOfPart,
    /// A checksum of what nobody fetches.
    #[error(
        "#sha256= is for files that are fetched, and file:// is used where it is: leave it out"
    )]
    ChecksumOfLocal,
}

// === impl ModelSource ===

impl ModelSource {
    /// Reads a source.
    ///
    /// # Errors
    ///
    /// What to write instead, without anything of a URL's query.
    pub fn parse(text: &str) -> Result<Self, ModelSourceError> {
        if text.len() > SOURCE_BYTES_MAX {
            return Err(ModelSourceError::Long(text.len()));
        }
        let (place, fragment) = match text.split_once('#') {
            Some((place, fragment)) => (place, Some(fragment)),
            None => (text, None),
        };
        let sha256 = fragment.map(checksum).transpose()?;
        let place = place_of(place, sha256.is_some())?;
        let source = Self { place, sha256 };
        if source.sha256.is_some() {
            source.check_one_file()?;
        }
        Ok(source)
    }

    /// Whether it is one file that is fetched, which alone can have a checksum.
    fn check_one_file(&self) -> Result<(), ModelSourceError> {
        let file = self.file_name();
        if matches!(self.place, ModelPlace::File { .. }) {
            return Err(ModelSourceError::ChecksumOfLocal);
        }
        if file.is_none() && self.archive().is_none() {
            return Err(ModelSourceError::ChecksumOfFolder);
        }
        // Of a URL its own file is fetched alone, whatever its name says.
        let has_parts = !matches!(self.place, ModelPlace::Http { .. });
        if has_parts && file.is_some_and(|name| names::is_part(&name)) {
            return Err(ModelSourceError::ChecksumOfPart);
        }
        Ok(())
    }

    /// Name of the folder that holds the files in a cache: small letters, digits and `-`, at most 63.
    ///
    /// It depends on the source alone, a URL's query included, and never changes. A revision that is a
    /// branch is fetched once. Two sources that hash to one name are told apart by the cache's record,
    /// which has a SHA-256 of [`Self::whole`].
    pub fn key(&self) -> String {
        let whole = self.whole();
        let text = self.to_string();
        let named = text.split_once("://").map_or(&*text, |(_, rest)| rest);
        let named = named.split('#').next().unwrap_or(named);
        let tail = named.trim_matches('/');
        let letter = |letter: char| match letter {
            'a'..='z' | '0'..='9' => letter,
            'A'..='Z' => letter.to_ascii_lowercase(),
            _ => '-',
        };
        let slug: Vec<char> = tail.chars().map(letter).collect();
        let slug: String = slug[slug.len().saturating_sub(SLUG_BYTES_MAX)..].iter().collect();
        let hash = names::hash(&whole);
        format!("{}-{hash:016x}", slug.trim_matches('-')).trim_start_matches('-').to_owned()
    }

    /// Name of the one file, within the folder of the model; `None`: the folder is the model.
    pub fn file_name(&self) -> Option<String> {
        if self.archive().is_some() {
            return None;
        }
        let name = self.last()?;
        (!name.is_empty()).then(|| name.to_owned())
    }

    /// How the files are packed, by the end of the name; a repository's files are taken as they are,
    /// and so are those of this machine.
    pub fn archive(&self) -> Option<ArchiveKind> {
        if !matches!(self.place, ModelPlace::Http { .. } | ModelPlace::S3 { .. }) {
            return None;
        }
        let name = self.last()?.to_ascii_lowercase();
        let kinds = [
            (".tar", ArchiveKind::Tar),
            (".tar.gz", ArchiveKind::TarGz),
            (".tgz", ArchiveKind::TarGz),
            (".zip", ArchiveKind::Zip),
        ];
        kinds.into_iter().find(|(end, _)| name.ends_with(end)).map(|(_, kind)| kind)
    }

    /// The last part of the path, empty where it ends with `/`.
    fn last(&self) -> Option<&str> {
        let path = match &self.place {
            ModelPlace::HuggingFace { path, .. } => path.as_deref()?,
            ModelPlace::Http { url } => http::path(url),
            ModelPlace::S3 { key, .. } => key,
            ModelPlace::File { path } => path,
        };
        path.rsplit('/').next()
    }

    /// All of it, with a URL's query, as [`ModelSource::parse`] reads it. It is for whoever fetches the
    /// files; everybody else sees what [`fmt::Display`] writes.
    pub fn whole(&self) -> String {
        match (&self.place, &self.sha256) {
            (ModelPlace::Http { url }, Some(sha256)) => format!("{url}#sha256={sha256}"),
            (ModelPlace::Http { url }, None) => url.clone(),
            _ => self.to_string(),
        }
    }
}

/// As it was written, but for a URL's query: that may hold a signature.
impl fmt::Display for ModelSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            ModelPlace::HuggingFace { repository, revision, path } => {
                write!(formatter, "hf://{repository}@{revision}")?;
                if let Some(path) = path {
                    write!(formatter, "/{path}")?;
                }
            }
            ModelPlace::Http { url } => formatter.write_str(http::without_query(url))?,
            ModelPlace::S3 { bucket, key } => write!(formatter, "s3://{bucket}/{key}")?,
            ModelPlace::File { path } => write!(formatter, "file://{path}")?,
        }
        match &self.sha256 {
            Some(sha256) => write!(formatter, "#sha256={sha256}"),
            None => Ok(()),
        }
    }
}

fn checksum(fragment: &str) -> Result<String, ModelSourceError> {
    fragment
        .strip_prefix("sha256=")
        .filter(|digits| digits.len() == SHA256_DIGITS)
        .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
        .map(str::to_ascii_lowercase)
        .ok_or(ModelSourceError::Checksum)
}

fn place_of(text: &str, has_checksum: bool) -> Result<ModelPlace, ModelSourceError> {
    let (protocol, rest) = text.split_once("://").unwrap_or(("", text));
    match protocol {
        "hf" => repository(rest).ok_or_else(|| ModelSourceError::Repository(echo(text))),
        "https" => url(text),
        "http" if has_checksum => url(text),
        "http" => Err(ModelSourceError::Plain),
        "s3" => object(rest).ok_or_else(|| ModelSourceError::Object(echo(text))),
        "file" => file(rest).ok_or_else(|| ModelSourceError::Path(echo(text))),
        _ => Err(ModelSourceError::Protocol(echo(text))),
    }
}

/// What an error may show of a text: neither a URL's query nor what may be a user and a password.
fn echo(text: &str) -> String {
    let (protocol, rest) = match text.split_once("://") {
        Some((protocol, rest)) => (Some(protocol), rest),
        None => (None, text),
    };
    // A password may have a slash or a `?` in it, where it makes the text no URL.
    let has_password = rest.rsplit_once('@').is_some_and(|(before, _)| before.contains(':'));
    let has_user = rest.split(['/', '?']).next().is_some_and(|first| first.contains('@'));
    match protocol {
        _ if !has_password && !has_user => clip(http::without_query(text)).into_owned(),
        // What stands before "://" may be the beginning of a password as well.
        Some(protocol) if protocol.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            format!("{}://...@...", clip(protocol))
        }
        _ => "...@...".to_owned(),
    }
}

fn repository(rest: &str) -> Option<ModelPlace> {
    let (organisation, rest) = rest.split_once('/')?;
    let (repository, path) = match rest.split_once('/') {
        Some((repository, path)) => (repository, Some(path)),
        None => (rest, None),
    };
    let (name, revision) = repository.split_once('@').unwrap_or((repository, MAIN));
    let path = path.filter(|path| !path.is_empty());
    let are_names = [organisation, name, revision].into_iter().all(is_name);
    (are_names && path.is_none_or(is_path)).then(|| ModelPlace::HuggingFace {
        repository: format!("{organisation}/{name}"),
        revision: revision.to_owned(),
        path: path.map(str::to_owned),
    })
}

fn url(text: &str) -> Result<ModelPlace, ModelSourceError> {
    let name = http::path(text).rsplit('/').next().unwrap_or_default();
    if http::is_url(text) && is_name(name) {
        Ok(ModelPlace::Http { url: text.to_owned() })
    } else {
        Err(ModelSourceError::Url(echo(text)))
    }
}

fn object(rest: &str) -> Option<ModelPlace> {
    let (bucket, key) = rest.split_once('/')?;
    let is_bucket = (3..=63).contains(&bucket.len())
        && bucket.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-'))
        && is_name(bucket);
    (is_bucket && (key.is_empty() || is_path(key)))
        .then(|| ModelPlace::S3 { bucket: bucket.to_owned(), key: key.to_owned() })
}

fn file(rest: &str) -> Option<ModelPlace> {
    let is_whole = rest.starts_with('/')
        && rest.len() > 1
        && !rest.contains(|letter: char| letter.is_control())
        && !rest.split('/').any(|part| part == "..");
    is_whole.then(|| ModelPlace::File { path: rest.to_owned() })
}

#[cfg(test)]
mod tests;
