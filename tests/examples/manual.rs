//! Writes the manual pages and the shell completions of Ebb's programs, for `make release`:
//! `cargo run --package ebb-tests --example manual FOLDER`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;

/// Shells that Ebb's programs are completed in.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Fish, Shell::Zsh];

fn main() -> anyhow::Result<()> {
    let folder: PathBuf = std::env::args_os().nth(1).context("name a folder to write to")?.into();
    for command in commands() {
        let folder = folder.join(command.get_name());
        write(&folder, &command)
            .with_context(|| format!("{} was not written", folder.display()))?;
    }
    Ok(())
}

/// The programs of a release.
fn commands() -> [Command; 4] {
    [
        ebb_local::cli::Cli::command(),
        ebb_activator::cli::ActivatorFlags::command(),
        ebb_autoscaler::cli::AutoscalerFlags::command(),
        ebb_controller::cli::ControllerFlags::command(),
    ]
}

fn write(folder: &Path, command: &Command) -> anyhow::Result<()> {
    let (completions, manual) = (folder.join("completions"), folder.join("man"));
    std::fs::create_dir_all(&completions)?;
    std::fs::create_dir_all(&manual)?;
    let name = command.get_name().to_owned();
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut without_hidden(command), &name, &completions)?;
    }
    clap_mangen::generate_to(command.clone(), &manual)?;
    Ok(())
}

/// A copy of a command without its hidden subcommands, which `clap_complete` would complete.
fn without_hidden(command: &Command) -> Command {
    let shown = command.get_subcommands().filter(|each| !each.is_hide_set());
    // A `Command` takes a `'static` name; the leak does no harm, because this program ends at once.
    let name: &'static str = command.get_name().to_owned().leak();
    Command::new(name)
        // With any version `--version` is completed; the number itself appears in no completion.
        .version(env!("CARGO_PKG_VERSION"))
        .propagate_version(true)
        .about(command.get_about().cloned().unwrap_or_default())
        .args(command.get_arguments().cloned())
        .subcommands(shown.map(without_hidden))
}
