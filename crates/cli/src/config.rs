//! What the user has settled once: options in a file, and names for folders.
//!
//! An option is taken from the command line, or else from the environment (`LATEWOOD_MODE` is `--mode`), or else from the
//! file, or else it is as the program has it. A flag of the two is taken back by `--quiet=false` (`flags.rs`). The file is
//! `config.toml` in `latewood` of the user's folder for settings, or what `LATEWOOD_CONFIG` names:
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

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command, FromArgMatches, ValueHint};
use etcetera::BaseStrategy;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use crate::args::Args;
use crate::flags;

/// Names for folders.
const INDEXES: &str = "indexes";
const VARIABLE: &str = "LATEWOOD_CONFIG";

/// The file's place, if the system has one for it.
pub(crate) fn path() -> Option<PathBuf> {
    named().or_else(|| Some(etcetera::choose_base_strategy().ok()?.config_dir().join("latewood/config.toml")))
}

fn named() -> Option<PathBuf> {
    variable(VARIABLE).map(PathBuf::from)
}

/// What a variable says. An empty one is as if it were not set, as with most programs.
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// The file of settings.
#[derive(Default)]
struct File {
    path: PathBuf,
    text: String,
    table: Table,
}

impl File {
    /// What the file says; nothing where there is none.
    fn read() -> anyhow::Result<Self> {
        let Some(path) = path() else { return Ok(Self::default()) };
        match fs::read_to_string(&path) {
            Ok(text) => match text.parse::<Table>() {
                Ok(table) => Ok(Self { path, text, table }),
                Err(error) => {
                    let line = error.span().map(|span| line_of(&text, span.start));
                    bail!("{}: {}", in_line(&path, line), error.message())
                }
            },
            // It need not be there unless somebody says where it is.
            Err(e) if e.kind() == io::ErrorKind::NotFound && named().is_none() => Ok(Self { path, ..Self::default() }),
            Err(e) if named().is_some() => {
                Err(e).with_context(|| format!("{}: cannot read the settings, which {VARIABLE} names", path.display()))
            }
            Err(e) => Err(e).with_context(|| format!("{}: cannot read the settings", path.display())),
        }
    }

    /// Where it says something, for people: the path of a key.
    fn place(&self, keys: &[&str]) -> String {
        format!("{}: {}", in_line(&self.path, self.line(keys)), keys.join("."))
    }

    fn line(&self, keys: &[&str]) -> Option<usize> {
        let parsed = DeTable::parse(&self.text).ok()?;
        let (mut table, mut line) = (parsed.get_ref(), None);
        for key in keys {
            let (name, value) = table.iter().find(|(name, _)| name.get_ref() == key)?;
            line = Some(line_of(&self.text, name.span().start));
            match value.get_ref() {
                DeValue::Table(inner) => table = inner,
                _ => break,
            }
        }
        line
    }
}

/// The line that a byte is in, from 1.
fn line_of(text: &str, byte: usize) -> usize {
    1 + text.bytes().take(byte).filter(|&b| b == b'\n').count()
}

fn in_line(path: &Path, line: Option<usize>) -> String {
    format!("{}{}", path.display(), line.map(|line| format!(", line {line}")).unwrap_or_default())
}

/// The program's command with what environment and file say.
pub(crate) struct Settled {
    command: Command,
    said: Vec<Said>,
}

/// A value of an option that was not typed.
struct Said {
    /// As on the command line: `--mode`.
    option: String,
    value: String,
    place: String,
}

impl Settled {
    pub(crate) fn read(command: Command) -> anyhow::Result<Self> {
        let file = File::read()?;
        let mut settled = Self { command, said: Vec::new() };
        for (key, value) in &file.table {
            match value {
                Value::Table(_) if key == INDEXES => {}
                Value::Table(options) => settled.of_command(&file, key, options)?,
                value => settled.everywhere(&file, key, value)?,
            }
        }
        settled.command = with_variables(settled.command, &mut settled.said);
        Ok(settled)
    }

    /// As if neither said anything.
    pub(crate) fn nothing(command: Command) -> Self {
        Self { command: without_variables(command), said: Vec::new() }
    }

    /// What was typed, over what is settled.
    pub(crate) fn parse(&self, typed: Vec<OsString>) -> Result<Args, clap::Error> {
        let (mut command, typed) = flags::take_back(self.command.clone(), typed);
        let matches = command.try_get_matches_from_mut(typed)?;
        Args::from_arg_matches(&matches).map_err(|error| error.format(&mut command))
    }

    /// Where the value stands of which an error is, if it was not typed.
    pub(crate) fn fault(&self, error: &clap::Error) -> Option<anyhow::Error> {
        let text = |kind| match error.get(kind) {
            Some(ContextValue::String(text)) => text.as_str(),
            _ => "",
        };
        // The option is called `--mode <MODE>` here.
        let option = text(ContextKind::InvalidArg).split(' ').next().unwrap_or_default();
        let wrong = |said: &&Said| said.option == option && said.value == text(ContextKind::InvalidValue);
        let said = self.said.iter().rev().find(wrong)?;
        Some(anyhow!("{}: {}", said.place, in_one_line(error)))
    }

    /// Sets options of one command.
    fn of_command(&mut self, file: &File, name: &str, options: &Table) -> anyhow::Result<()> {
        let Some(mut sub) = self.command.find_subcommand(name).cloned() else {
            bail!("{}: there is no such command", file.place(&[name]));
        };
        for (option, value) in options {
            let place = file.place(&[name, option]);
            if id(&sub, option).is_none() {
                bail!("{place}: the command has no such option");
            }
            sub = self.set(sub, option, value, &place)?;
        }
        self.change(|command| command.mut_subcommand(name, |_| sub));
        Ok(())
    }

    /// Sets an option of the program, or of every command that has it.
    fn everywhere(&mut self, file: &File, option: &str, value: &Value) -> anyhow::Result<()> {
        let place = file.place(&[option]);
        if id(&self.command, option).is_some() {
            self.command = self.set(self.command.clone(), option, value, &place)?;
            return Ok(());
        }
        let subs = self.command.get_subcommands().filter(|sub| id(sub, option).is_some());
        let subs: Vec<Command> = subs.cloned().collect();
        if subs.is_empty() {
            bail!("{place}: there is no such option; they are called as on the command line, without --");
        }
        for sub in subs {
            let name = sub.get_name().to_owned();
            let sub = self.set(sub, option, value, &place)?;
            self.change(|command| command.mut_subcommand(name, |_| sub));
        }
        Ok(())
    }

    fn change(&mut self, change: impl FnOnce(Command) -> Command) {
        self.command = change(std::mem::take(&mut self.command));
    }

    /// `command` with the file's value of an option.
    fn set(&mut self, command: Command, option: &str, value: &Value, place: &str) -> anyhow::Result<Command> {
        let Some(arg) = command.get_arguments().find(|arg| Some(arg.get_id()) == id(&command, option).as_ref()) else {
            return Ok(command);
        };
        let text = |value: &Value| match value {
            // On the command line the shell does it.
            Value::String(text) if is_path(arg) => Ok(at_home(text).into_os_string()),
            Value::String(text) => Ok(text.into()),
            Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Ok(value.to_string().into()),
            _ => bail!("{place}: a text, a number, true, false, or a list of them is expected"),
        };
        let values: Vec<OsString> = match value {
            Value::Array(values) => values.iter().map(text).collect::<anyhow::Result<_>>()?,
            value => vec![text(value)?],
        };
        self.said.extend(values.iter().map(|value| Said::of(arg, value, place.to_owned())));
        let id = arg.get_id().clone();
        Ok(command.mut_arg(id, |arg| arg.default_values(values)))
    }
}

impl Said {
    fn of(arg: &Arg, value: &OsString, place: String) -> Self {
        let option = match (arg.get_long(), arg.get_short()) {
            (Some(long), _) => format!("--{long}"),
            (None, short) => short.map(|short| format!("-{short}")).unwrap_or_default(),
        };
        Self { option, value: value.to_string_lossy().into_owned(), place }
    }
}

/// The id of an option by the name that users know.
fn id(command: &Command, option: &str) -> Option<clap::Id> {
    let named = |arg: &&Arg| {
        !arg.is_positional() && (arg.get_long() == Some(option) || (arg.get_long().is_none() && arg.get_id() == option))
    };
    command.get_arguments().find(named).map(|arg| arg.get_id().clone())
}

fn is_path(arg: &Arg) -> bool {
    matches!(arg.get_value_hint(), ValueHint::AnyPath | ValueHint::DirPath | ValueHint::FilePath)
}

/// Every option from the environment, too.
fn with_variables(command: Command, said: &mut Vec<Said>) -> Command {
    let command = command.mut_args(|arg| {
        let name = arg.get_long().unwrap_or(arg.get_id().as_str());
        if arg.is_positional() || matches!(name, "help" | "version") {
            return arg;
        }
        let name = format!("LATEWOOD_{}", name.to_uppercase().replace('-', "_"));
        let Some(value) = variable(&name) else {
            // Some are shown in the help, and would be taken empty.
            return if std::env::var_os(&name).is_some() { arg.env(NONE) } else { arg };
        };
        said.push(Said::of(&arg, &value, name.clone()));
        match arg.get_action() {
            // A default: `LATEWOOD_JSON=false` is not `--json`, with which others do not go together.
            ArgAction::SetTrue => arg.default_value(value),
            _ => {
                let hidden = arg.get_env().is_none();
                arg.env(name).hide_env(hidden)
            }
        }
    });
    command.mut_subcommands(|sub| with_variables(sub, said))
}

/// No name of a variable.
const NONE: Option<&str> = None;

fn without_variables(command: Command) -> Command {
    command.mut_args(|arg| arg.env(NONE)).mut_subcommands(without_variables)
}

/// An error of clap's without the advice that is for what was typed.
fn in_one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let lines = text.lines().map(str::trim).take_while(|line| !line.starts_with("For more information"));
    lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ")
}

/// A folder as the user names it: `@name` is what the file calls so.
pub(crate) fn folder(named: &str) -> Result<PathBuf, String> {
    let Some(name) = named.strip_prefix('@') else { return Ok(named.into()) };
    let file = File::read().map_err(|e| format!("{e:#}"))?;
    let indexes = file.table.get(INDEXES).and_then(Value::as_table);
    match indexes.and_then(|indexes| indexes.get(name)) {
        Some(Value::String(folder)) => Ok(at_home(folder)),
        Some(_) => Err(format!("{}: a folder is expected", file.place(&[INDEXES, name]))),
        None => {
            let known: Vec<&str> = indexes.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            Err(format!(
                "no folder is called {name} under [{INDEXES}] in {} (there is {known}); ./{named} is a folder of that name",
                file.path.display()
            ))
        }
    }
}

/// `~/notes` of whoever runs this.
fn at_home(folder: &str) -> PathBuf {
    let rest = if folder == "~" { Some("") } else { folder.strip_prefix("~/") };
    match (rest, etcetera::home_dir()) {
        (Some(rest), Ok(home)) => home.join(rest),
        _ => Path::new(folder).into(),
    }
}
