//! What the user has settled once: options in a file, and names for folders.
//!
//! An option is taken from the command line, or else from the environment (`LATEWOOD_MODE` is `--mode`), or else from the
//! file, or else it is as the program has it. The file is `config.toml` in `latewood` of the user's folder for settings, or
//! what `LATEWOOD_CONFIG` names:
//!
//! ```toml
//! mode = "semantic"            # an option of the program, or of every command that has it
//!
//! [serve]                      # options of one command
//! addr = "127.0.0.1:9000"
//!
//! [indexes]                    # latewood search QUESTION @notes
//! notes = "~/notes"
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Arg, Command};
use etcetera::BaseStrategy;
use toml::{Table, Value};

/// Names for folders.
const INDEXES: &str = "indexes";
const VARIABLE: &str = "LATEWOOD_CONFIG";

/// The file's place, if the system has one for it.
pub(crate) fn path() -> Option<PathBuf> {
    named().or_else(|| Some(etcetera::choose_base_strategy().ok()?.config_dir().join("latewood/config.toml")))
}

fn named() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from)
}

/// What the file says; nothing where there is none.
fn read() -> anyhow::Result<(PathBuf, Table)> {
    let Some(path) = path() else { return Ok((PathBuf::new(), Table::new())) };
    match fs::read_to_string(&path) {
        Ok(text) => {
            let table = text.parse().with_context(|| format!("{}", path.display()))?;
            Ok((path, table))
        }
        // It need not be there unless somebody says where it is.
        Err(e) if e.kind() == io::ErrorKind::NotFound && named().is_none() => Ok((path, Table::new())),
        Err(e) => Err(e).with_context(|| format!("{}: cannot read the settings", path.display())),
    }
}

/// `command` with what environment and file say as the defaults of its options.
pub(crate) fn apply(command: Command) -> anyhow::Result<Command> {
    let (path, table) = read()?;
    let mut command = with_variables(command);
    for (key, value) in &table {
        let at = || format!("{}: {key}", path.display());
        command = match value {
            Value::Table(_) if key == INDEXES => command,
            Value::Table(options) => {
                let Some(sub) = command.find_subcommand(key) else { bail!("{}: there is no such command", at()) };
                let mut sub = sub.clone();
                for (option, value) in options {
                    if id(&sub, option).is_none() {
                        bail!("{}.{option}: the command has no such option", at());
                    }
                    sub = default(sub, option, value).with_context(|| format!("{}.{option}", at()))?;
                }
                command.mut_subcommand(key, |_| sub)
            }
            value => everywhere(command, key, value).with_context(at)?,
        };
    }
    Ok(command)
}

/// Sets an option of the program, or of every command that has it.
fn everywhere(command: Command, option: &str, value: &Value) -> anyhow::Result<Command> {
    if id(&command, option).is_some() {
        return default(command, option, value);
    }
    let subs = command.get_subcommands().filter(|sub| id(sub, option).is_some());
    let names: Vec<String> = subs.map(|sub| sub.get_name().to_owned()).collect();
    if names.is_empty() {
        bail!("there is no such option; they are called as on the command line, without --");
    }
    names.iter().try_fold(command, |command, name| {
        let sub = command.find_subcommand(name).cloned().unwrap_or_default();
        let sub = default(sub, option, value)?;
        Ok(command.mut_subcommand(name, |_| sub))
    })
}

/// The id of an option by the name that users know.
fn id(command: &Command, option: &str) -> Option<clap::Id> {
    let named = |arg: &&Arg| {
        !arg.is_positional() && (arg.get_long() == Some(option) || (arg.get_long().is_none() && arg.get_id() == option))
    };
    command.get_arguments().find(named).map(|arg| arg.get_id().clone())
}

fn default(command: Command, option: &str, value: &Value) -> anyhow::Result<Command> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Ok(value.to_string()),
        _ => bail!("a text, a number, true, false, or a list of them is expected"),
    };
    let values = match value {
        Value::Array(values) => values.iter().map(text).collect::<anyhow::Result<Vec<_>>>()?,
        value => vec![text(value)?],
    };
    let Some(id) = id(&command, option) else { return Ok(command) };
    Ok(command.mut_arg(id, |arg| arg.default_values(values)))
}

/// Every option from the environment, too.
fn with_variables(command: Command) -> Command {
    let variable = |arg: Arg| {
        let name = arg.get_long().unwrap_or(arg.get_id().as_str());
        if arg.is_positional() || arg.get_env().is_some() || matches!(name, "help" | "version") {
            return arg;
        }
        let name = format!("LATEWOOD_{}", name.to_uppercase().replace('-', "_"));
        arg.env(name).hide_env(true)
    };
    command.mut_args(variable).mut_subcommands(with_variables)
}

/// A folder as the user names it: `@name` is what the file calls so.
pub(crate) fn folder(named: &str) -> Result<PathBuf, String> {
    let Some(name) = named.strip_prefix('@') else { return Ok(named.into()) };
    let (path, table) = read().map_err(|e| format!("{e:#}"))?;
    let indexes = table.get(INDEXES).and_then(Value::as_table);
    match indexes.and_then(|indexes| indexes.get(name)) {
        Some(Value::String(folder)) => Ok(at_home(folder)),
        Some(_) => Err(format!("{}: {INDEXES}.{name}: a folder is expected", path.display())),
        None => {
            let known: Vec<&str> = indexes.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            Err(format!(
                "no folder is called {name} under [{INDEXES}] in {} (there is {known}); ./{named} is a folder of that name",
                path.display()
            ))
        }
    }
}

/// `~/notes` of whoever runs this.
fn at_home(folder: &str) -> PathBuf {
    match (folder.strip_prefix("~/"), etcetera::home_dir()) {
        (Some(rest), Ok(home)) => home.join(rest),
        _ => Path::new(folder).into(),
    }
}
