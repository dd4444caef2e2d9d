//! Models of the Hugging Face hub: where its own tools look, as the environment says.

use std::env;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use latewood::device::Opened;
use latewood::encoder::{ColbertEncoder, CrossEncoder, HubEvent, HubName, HubOptions};
use serde_json::json;

use crate::args::{Args, ModelFetchArgs};
use crate::output;
use crate::progress::Progress;

/// Loads a model, from the cache if it is there.
pub(crate) fn load(args: &Args, name: &HubName, device: &Opened) -> anyhow::Result<ColbertEncoder> {
    let progress = Progress::new(args.quiet);
    let hear = |event: HubEvent<'_>| hear(args, &progress, name, event);
    let encoder = ColbertEncoder::from_hub(name, args.compute(device), &options()?, &hear);
    encoder.map_err(|error| about(name, error))
}

/// Loads a cross-encoder, from the cache if it is there.
pub(crate) fn load_cross_encoder(args: &Args, name: &HubName, device: &Opened) -> anyhow::Result<CrossEncoder> {
    let progress = Progress::new(args.quiet);
    let hear = |event: HubEvent<'_>| hear(args, &progress, name, event);
    let model = CrossEncoder::from_hub(name, args.compute(device), &options()?, &hear);
    model.map_err(|error| about(name, error))
}

/// `latewood model fetch`: brings the newest commit of a model into the cache.
pub(crate) fn fetch(args: &Args, own: &ModelFetchArgs) -> anyhow::Result<ExitCode> {
    let name = HubName::parse(&own.name)
        .with_context(|| format!("{}: a model of the hub is called OWNER/NAME or OWNER/NAME@REVISION", own.name))?;
    let progress = Progress::new(args.quiet);
    let mut options = options()?;
    options.refresh = true;
    let folder = name.fetch(&options, &|event| hear(args, &progress, &name, event)).map_err(|e| about(&name, e))?;
    progress.clear();
    if args.json {
        output::json_line(
            "latewood.model.1",
            &json!({ "model": name.to_string(), "folder": folder.display().to_string() }),
        )?;
    } else {
        writeln!(io::stdout().lock(), "{name}: {}", folder.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn hear(args: &Args, progress: &Progress, name: &HubName, event: HubEvent<'_>) {
    match event {
        HubEvent::Fetching { done, total, .. } => progress.show("downloading", "bytes", done, total),
        HubEvent::Unasked { cause } => {
            let text = format!("{name} is used as it is in the cache: the hub {cause} (HF_HUB_OFFLINE=1 asks nobody)");
            output::note(args.quiet, &text);
        }
        _ => {}
    }
}

/// An error that says which model it is about: those of files name the file.
fn about(name: &HubName, error: latewood::encoder::Error) -> anyhow::Error {
    match error {
        latewood::encoder::Error::Hub(_) => error.into(),
        error => anyhow::Error::new(error).context(name.to_string()),
    }
}

/// What the environment says, in the words of Python's huggingface_hub.
fn options() -> anyhow::Result<HubOptions> {
    let folder = |name| var(name).map(PathBuf::from);
    let user = || folder("XDG_CACHE_HOME").or_else(|| Some(env::home_dir()?.join(".cache")));
    let home = folder("HF_HOME").or_else(|| Some(user()?.join("huggingface")));
    let cache = folder("HF_HUB_CACHE").or_else(|| Some(home.as_ref()?.join("hub")));
    let mut options = HubOptions::new(cache.context("there is no home folder to keep models in: set HF_HOME")?);
    if let Some(endpoint) = var("HF_ENDPOINT") {
        options.endpoint = endpoint;
    }
    let saved = || fs::read_to_string(folder("HF_TOKEN_PATH").or_else(|| Some(home.as_ref()?.join("token")))?).ok();
    let token = var("HF_TOKEN").or_else(saved);
    options.token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
    let offline = var("HF_HUB_OFFLINE").unwrap_or_default().to_ascii_lowercase();
    options.offline = ["1", "true", "yes", "on"].contains(&offline.as_str());
    Ok(options)
}

/// A variable that is set, and to something.
fn var(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}
