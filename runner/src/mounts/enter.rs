//! The program that makes the mounts and becomes the model.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use super::Plan;
use super::mounter::ALLOCATOR;
use super::space::{Space, SpaceError, join};

/// The exit code of programs that start others and cannot, as of `env` and of shells.
const CANNOT_RUN: u8 = 126;

/// Why the program of a plan does not run.
#[derive(Debug, thiserror::Error)]
enum EnterError {
    #[error("the plan of the mounts cannot be read: {0}")]
    Plan(#[from] serde_json::Error),
    #[error(transparent)]
    Space(#[from] SpaceError),
    #[error("cannot enter workingDir {directory}: {source}")]
    Directory { directory: String, source: io::Error },
    #[error("cannot start {program}: {source}")]
    Program { program: String, source: io::Error },
}

/// Makes the mounts of `plan` and becomes the program that `words` name, with its arguments; without
/// words, ends well. Comes back only if the program does not start: a line on standard error says
/// why. To be called before the process has a second thread.
pub fn main(plan: &str, words: &[OsString]) -> ExitCode {
    match enter(plan, words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // There is nobody else to tell if it cannot be written.
            let _ = writeln!(io::stderr(), "{error}");
            ExitCode::from(CANNOT_RUN)
        }
    }
}

fn enter(plan: &str, words: &[OsString]) -> Result<(), EnterError> {
    let plan: Plan = serde_json::from_str(plan)?;
    match plan.joins {
        Some(leader) => join(leader)?,
        None => Space::enter()?.fill(&plan.mounts)?,
    }
    let Some((program, arguments)) = words.split_first() else {
        return Ok(());
    };
    std::env::set_current_dir(&plan.directory).map_err(|source| EnterError::Directory {
        directory: plan.directory.display().to_string(),
        source,
    })?;
    let mut command = Command::new(program);
    command.args(arguments).env_remove(ALLOCATOR);
    command.envs(plan.held);
    let source = command.exec();
    Err(EnterError::Program { program: program.display().to_string(), source })
}
