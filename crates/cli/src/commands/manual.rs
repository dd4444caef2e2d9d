//! `latewood completions`, `latewood man`

use std::io::{self, Write};
use std::process::ExitCode;

use clap::CommandFactory;

use crate::args::{Args, CompletionsArgs};

pub(crate) fn completions(own: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    // Written here: a pipe that is closed is an error to it, and not to us.
    let mut script = Vec::new();
    clap_complete::generate(own.shell, &mut Args::command(), "latewood", &mut script);
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}

/// One page: the program, and a section for each of its commands.
pub(crate) fn man() -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let mut command = Args::command();
    command.build();
    clap_mangen::Man::new(command.clone()).render(&mut out)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let name = format!("latewood-{}", sub.get_name());
        clap_mangen::Man::new(sub.clone()).title(name).render(&mut out)?;
    }
    Ok(ExitCode::SUCCESS)
}
