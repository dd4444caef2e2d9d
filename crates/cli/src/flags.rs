//! Flags that can be given a value: `--quiet=false` takes back what the file of settings or the environment say.
//!
//! This is done before clap sees the words, to which they stay flags: in the help, in completions, and where two of them do
//! not go together.

use std::ffi::{OsStr, OsString};

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, Command};

/// True or false, in the usual words.
fn boolean(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("true, 1, yes or on, or false, 0, no or off is expected".into()),
    }
}

fn is_flag(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::SetTrue)
}

/// `typed` without values of flags, and `command` without the defaults of those that are false.
pub(crate) fn take_back(command: Command, typed: Vec<OsString>) -> (Command, Vec<OsString>) {
    let mut command = lenient(command);
    let mut words = typed.into_iter();
    let mut rest: Vec<OsString> = Vec::new();
    for word in words.by_ref() {
        if word == "--" {
            rest.push(word);
            break;
        }
        let Some((flag, value)) = split(&word).filter(|(flag, _)| has(&command, flag)) else {
            rest.push(word);
            continue;
        };
        // The last one counts.
        rest.retain(|before| before != OsStr::new(flag));
        match boolean(value) {
            Ok(true) => rest.push(flag.into()),
            Ok(false) => command = without_default(command, flag),
            Err(error) => {
                let text = format!("invalid value '{value}' for '{flag}': {error}");
                command.error(ErrorKind::ValueValidation, text).exit()
            }
        }
    }
    rest.extend(words);
    (command, rest)
}

/// `command` with flags whose defaults may be any of the words.
fn lenient(command: Command) -> Command {
    let command = command.mut_args(|arg| if is_flag(&arg) { arg.value_parser(boolean) } else { arg });
    command.mut_subcommands(lenient)
}

/// `--quiet` and `false`.
fn split(word: &OsStr) -> Option<(&str, &str)> {
    word.to_str().filter(|word| word.starts_with("--"))?.split_once('=')
}

/// Whether a flag is the program's or that of a command. None has the name of another command's option.
fn has(command: &Command, flag: &str) -> bool {
    command.get_arguments().any(|arg| is_flag(arg) && arg.get_long() == Some(&flag[2..]))
        || command.get_subcommands().any(|sub| has(sub, flag))
}

fn without_default(command: Command, flag: &str) -> Command {
    let command = command.mut_args(|arg| match is_flag(&arg) && arg.get_long() == Some(&flag[2..]) {
        true => arg.default_value("false"),
        false => arg,
    });
    command.mut_subcommands(|sub| without_default(sub, flag))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn names(command: &Command, flags: bool) -> Vec<String> {
        let own = command.get_arguments().filter(|arg| is_flag(arg) == flags).filter_map(|arg| arg.get_long());
        let own: Vec<String> = own.map(str::to_owned).collect();
        own.into_iter().chain(command.get_subcommands().flat_map(|sub| names(sub, flags))).collect()
    }

    #[test]
    fn no_flag_has_the_name_of_an_option_that_takes_values() {
        let command = crate::args::Args::command();
        let options = names(&command, false);
        let flags = names(&command, true);
        assert!(flags.len() > 10 && flags.iter().all(|flag| !options.contains(flag)), "{flags:?} {options:?}");
    }

    #[test]
    fn the_last_word_counts() {
        let words = |typed: &[&str]| {
            let typed = typed.iter().map(OsString::from).collect();
            let (_, words) = take_back(crate::args::Args::command(), typed);
            words.into_iter().map(|word| word.into_string().unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(words(&["latewood", "--quiet=off", "status"]), ["latewood", "status"]);
        assert_eq!(words(&["latewood", "--quiet", "status", "--quiet=No"]), ["latewood", "status"]);
        assert_eq!(words(&["latewood", "--quiet=0", "status", "--quiet=YES"]), ["latewood", "status", "--quiet"]);
        assert_eq!(words(&["latewood", "search", "--", "--full=false"]), ["latewood", "search", "--", "--full=false"]);
        assert_eq!(words(&["latewood", "search", "--mode=keyword"]), ["latewood", "search", "--mode=keyword"]);
    }
}
