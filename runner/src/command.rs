//! From a container's `command`, `args` and `workingDir` to a program on this machine: pure but
//! for the question whether a file is a program, which the caller answers.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Container;

use super::expansion::{START_BYTES_MAX, TooLong, expand};

/// Where Ebb itself runs; found once at its start.
#[derive(Debug, Clone)]
pub(super) struct Surroundings {
    /// The folder of the running executable: programs that ship with Ebb stand there.
    pub(super) beside: Option<PathBuf>,
    /// Ebb's working directory, which a container gets when it names none.
    pub(super) directory: PathBuf,
    /// The variables that every container inherits.
    pub(super) inherited: BTreeMap<String, String>,
}

/// The program to execute, its arguments and its working directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommandLine {
    pub(super) program: PathBuf,
    pub(super) args: Vec<String>,
    pub(super) directory: PathBuf,
}

/// Why a container has no program.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    #[error(
        "image \"{0}\" cannot be run in local mode, which starts programs and not images: set \
         spec.template.spec.containers[0].command to a program on this machine, or apply this \
         manifest to a cluster"
    )]
    Missing(String),
    #[error("a word of command or args is {0}: shorten it")]
    TooLong(TooLong),
    #[error(
        "command and args are larger than {START_BYTES_MAX} bytes once they are expanded, which no \
         program can be started with: use fewer or shorter ones"
    )]
    TooLarge,
    #[error("program \"{program}\" was not found: looked for {places}")]
    NotFound { program: String, places: String },
}

/// The variables of Ebb's own environment that a container sees. The rest stays out: a program
/// should need no more here than a real container would give it.
const INHERITED: [&str; 3] = ["PATH", "HOME", "LANG"];

// === impl Surroundings ===

impl Surroundings {
    /// The surroundings of this process, with variables that a person has said to pass on.
    pub(super) fn here(passed_on: &BTreeMap<String, String>) -> Self {
        let inherited = INHERITED
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
            .chain(passed_on.clone())
            .collect();
        Self {
            beside: std::env::current_exe()
                .ok()
                .and_then(|exe| exe.parent().map(Path::to_path_buf)),
            directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
            inherited,
        }
    }
}

/// Finds the program: an absolute path is taken as it is, one with a slash is relative to
/// `workingDir`, and a bare name is looked for beside the running executable, then on `PATH`.
pub(super) fn resolve(
    container: &Container,
    variables: &BTreeMap<String, String>,
    surroundings: &Surroundings,
    is_program: impl Fn(&Path) -> bool,
) -> Result<CommandLine, CommandError> {
    let directory = directory(container, surroundings);
    let given = container.command.iter().chain(&container.args).flatten();
    let (mut words, mut bytes) = (Vec::new(), 0);
    for word in given {
        let word = expand(word, variables).map_err(CommandError::TooLong)?;
        bytes += word.len();
        if bytes > START_BYTES_MAX {
            return Err(CommandError::TooLarge);
        }
        words.push(word);
    }
    let mut words = words.into_iter();
    let has_command = container.command.as_ref().is_some_and(|c| !c.is_empty());
    let name = words.next().filter(|name| has_command && !name.is_empty());
    let Some(name) = name else {
        let image = container.image.clone().unwrap_or_default();
        return Err(CommandError::Missing(image));
    };
    let program = find(&name, &directory, variables, surroundings, is_program)?;
    Ok(CommandLine { program, args: words.collect(), directory })
}

/// The working directory: `workingDir`, or Ebb's own.
pub(super) fn directory(container: &Container, surroundings: &Surroundings) -> PathBuf {
    surroundings.directory.join(container.working_dir.as_deref().unwrap_or_default())
}

fn find(
    name: &str,
    directory: &Path,
    variables: &BTreeMap<String, String>,
    surroundings: &Surroundings,
    is_program: impl Fn(&Path) -> bool,
) -> Result<PathBuf, CommandError> {
    let missing = |places| CommandError::NotFound { program: name.to_owned(), places };
    if name.contains('/') {
        // `join` keeps an absolute path.
        let path = directory.join(name);
        return if is_program(&path) {
            Ok(path)
        } else {
            Err(missing(format!("an executable file {}", path.display())))
        };
    }
    let path = variables.get("PATH").map_or("", String::as_str);
    let beside = surroundings.beside.clone().into_iter();
    let folders = beside.chain(std::env::split_paths(OsStr::new(path)));
    folders
        .map(|folder| directory.join(folder).join(name))
        .find(|candidate| is_program(candidate))
        .ok_or_else(|| {
            let beside = surroundings.beside.as_deref().unwrap_or_else(|| Path::new(""));
            missing(format!("it in {} and in PATH={path}", beside.display()))
        })
}

/// Whether `path` is a file that somebody may execute.
pub(super) fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(command: &[&str], args: &[&str], directory: Option<&str>) -> Container {
        let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect());
        Container {
            image: Some("example/model".to_owned()),
            command: words(command),
            args: words(args),
            working_dir: directory.map(str::to_owned),
            ..Container::default()
        }
    }

    fn resolved(container: &Container, programs: &[&str]) -> Result<CommandLine, CommandError> {
        let surroundings = Surroundings {
            beside: Some(PathBuf::from("/opt/ebb")),
            directory: PathBuf::from("/home/me"),
            inherited: BTreeMap::new(),
        };
        let variables = BTreeMap::from([
            ("PATH".to_owned(), "/usr/bin:/bin".to_owned()),
            ("PORT".to_owned(), "8080".to_owned()),
        ]);
        resolve(container, &variables, &surroundings, |path| {
            programs.contains(&path.to_str().expect("UTF-8"))
        })
    }

    #[test]
    fn programs_are_found_where_the_command_says() {
        let cases = [
            (container(&["/bin/sh"], &[], None), "/bin/sh"),
            (container(&["./serve"], &[], None), "/home/me/./serve"),
            (container(&["bin/serve"], &[], Some("/srv")), "/srv/bin/serve"),
            (container(&["bin/serve"], &[], Some("model")), "/home/me/model/bin/serve"),
            (container(&["ebb-onnx"], &[], None), "/opt/ebb/ebb-onnx"),
            (container(&["python3"], &[], None), "/usr/bin/python3"),
        ];
        let programs = cases.each_ref().map(|(_, program)| *program);
        for (container, expected) in &cases {
            let line = resolved(container, &programs).expect("it is there");
            assert_eq!(line.program, Path::new(expected));
        }
    }

    #[test]
    fn arguments_follow_the_command_and_are_expanded() {
        let line = resolved(&container(&["/bin/sh", "-c"], &["serve $(PORT)"], None), &["/bin/sh"]);
        let line = line.expect("it is there");
        assert_eq!(line.args, ["-c", "serve 8080"]);
        assert_eq!(line.directory, Path::new("/home/me/"));
    }

    #[test]
    fn an_image_without_a_command_is_refused_with_what_to_do() {
        let error = resolved(&container(&[], &["--verbose"], None), &[]).expect_err("no command");
        assert_eq!(error, CommandError::Missing("example/model".to_owned()));
        assert!(error.to_string().contains("image \"example/model\" cannot be run in local mode"));
    }

    #[test]
    fn a_missing_program_is_named_with_the_places() {
        let error = resolved(&container(&["nope"], &[], None), &[]).expect_err("not there");
        assert_eq!(
            error.to_string(),
            "program \"nope\" was not found: looked for it in /opt/ebb and in PATH=/usr/bin:/bin"
        );
        let error = resolved(&container(&["./nope"], &[], Some("/srv")), &[]);
        assert_eq!(
            error.expect_err("not there").to_string(),
            "program \"./nope\" was not found: looked for an executable file /srv/./nope"
        );
    }
}
