//! The flags that the programs parse.

use std::collections::BTreeMap;

use clap::CommandFactory as _;
use ebb_local::cli::Cli;

use super::pattern;

/// Variable and default of each flag.
type Flags = BTreeMap<String, [String; 2]>;

/// The flags of each program, by the heading of its table. Those of a daemon are read from its
/// source; for those of `ebb` clap is asked.
pub(super) fn parsed(code: &[String]) -> BTreeMap<String, Flags> {
    let common = code.iter().find(|code| code.contains("pub struct Common {")).unwrap();
    let mut all = BTreeMap::from([
        ("### `ebb local`".to_owned(), of_command()),
        ("### Every daemon".to_owned(), of_struct(common, "Common", code)),
    ]);
    let program = pattern(r#"(?s)#\[command\(name = "(ebb-\w+)".*?\bstruct (\w+) "#);
    for text in code {
        for found in program.captures_iter(text) {
            all.insert(format!("### `{}`", &found[1]), of_struct(text, &found[2], code));
        }
    }
    // Its flags lie in a struct of its library, which `ebb` parses as well.
    let fetch = code.iter().find(|code| code.contains("pub struct FetchOptions {")).unwrap();
    all.insert("### `ebb-fetch`".to_owned(), of_struct(fetch, "FetchOptions", code));
    assert_eq!(all.len(), 6, "{:?}", all.keys());
    all
}

fn of_command() -> Flags {
    let command = Cli::command();
    let local = command.find_subcommand("local").unwrap();
    let row = |argument: &clap::Arg| {
        let text = |value: Option<&std::ffi::OsStr>| {
            value.unwrap_or_default().to_string_lossy().into_owned()
        };
        let short = argument.get_short().map(|short| format!("-{short}, ")).unwrap_or_default();
        let default = argument.get_default_values().first().map(|value| &**value);
        Some((
            format!("{short}--{}", argument.get_long()?),
            [text(argument.get_env()), text(default)],
        ))
    };
    local.get_arguments().filter_map(row).collect()
}

/// The flags of a struct that derives clap's traits; an argument without a name of its own is none.
fn of_struct(text: &str, name: &str, code: &[String]) -> Flags {
    let body = pattern(&format!(r"(?s)struct {name} \{{(.*?)\n\}}"));
    let body = body.captures(text).unwrap()[1].to_owned();
    let field = pattern(r"(?s)((?:#\[arg\(.*?\)\]\s*(?://[^\n]*\s*)*)+)(?:pub )?(\w+): ");
    let variable = pattern(r#"\benv = "(\w+)""#);
    let default = pattern(r#"default_value(?:_t)? = (?:"([^"]*)"|(\d+)|([\w:]+))"#);
    let row = |field: regex::Captures<'_>| {
        if !field[1].contains("long") {
            return None;
        }
        let variable = variable.captures(&field[1]).map(|found| found[1].to_owned());
        let default = default.captures(&field[1]).map(|found| {
            let literal =
                found.get(1).or_else(|| found.get(2)).map(|text| text.as_str().to_owned());
            literal.unwrap_or_else(|| constant(&found[3], code))
        });
        let flag = format!("--{}", field[2].replace('_', "-"));
        Some((flag, [variable.unwrap_or_default(), default.unwrap_or_default()]))
    };
    field.captures_iter(&body).filter_map(row).collect()
}

/// The text of a constant that a default names.
fn constant(path: &str, code: &[String]) -> String {
    let name = path.rsplit("::").next().unwrap_or_default();
    let value = pattern(&format!(r#"const {name}: &str =\s*"([^"]*)""#));
    let found = code.iter().find_map(|code| value.captures(code));
    found.unwrap_or_else(|| panic!("what is {path}?"))[1].to_owned()
}
