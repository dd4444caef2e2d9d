//! `latewood model`

use std::io::{self, Write};
use std::process::ExitCode;

use latewood::device::Device;
use latewood::encoder::recipe::{Dense, Norm, Recipe, RoleRecipe};
use latewood::encoder::{ColbertEncoder, Encoder, SelfTest};
use serde_json::json;

use crate::args::{Args, ModelCheckArgs, ModelCommand};
use crate::{model, output};

/// Symbols and words are named one by one up to so many.
const NAMED: usize = 6;

pub(crate) fn run(args: &Args, command: &ModelCommand) -> anyhow::Result<ExitCode> {
    match command {
        ModelCommand::Check(own) => check(args, own),
        #[cfg(feature = "hub")]
        ModelCommand::Fetch(own) => crate::hub::fetch(args, own),
    }
}

/// Loads a model, says what was understood of it, and tries it.
fn check(args: &Args, own: &ModelCheckArgs) -> anyhow::Result<ExitCode> {
    let encoder = model::open(args, own.path.as_deref().or(args.model.as_deref()), &super::device(args, Device::Cpu)?)?;
    let encoder = encoder.with_options(&own.encoder.options())?;
    let recipe = encoder.recipe();
    let tried = encoder.self_test()?;
    if args.json {
        output::json_line(
            "latewood.check.1",
            &json!({
                "id": encoder.model_id().as_str(), "format": recipe.format.name(), "network": encoder.network(),
                "dim": recipe.dim, "indexable": recipe.indexable(), "projection": projection(recipe),
                "query": role(&recipe.query), "document": role(&recipe.document),
                "self_test": {
                    "query_rows": tried.query_rows, "document_rows": tried.document_rows, "difference": tried.difference,
                },
            }),
        )?;
    } else {
        print(&encoder, recipe, &tried)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(encoder: &ColbertEncoder, recipe: &Recipe, tried: &SelfTest) -> anyhow::Result<()> {
    let norm = match recipe.norm {
        Norm::Unit => "of unit norm",
        Norm::Raw => "of any norm: they can be compared, not indexed",
        Norm::Unsaid => "scaled to unit norm, as the model says nothing",
    };
    let lines = [
        ("model", format!("{} ({})", encoder.model_id().as_str(), recipe.format.name())),
        ("network", encoder.network().to_owned()),
        ("projection", projection(recipe)),
        ("rows", format!("{} values, {norm}", recipe.dim)),
        ("query", role(&recipe.query)),
        ("document", role(&recipe.document)),
        (
            "self-test",
            format!(
                "{} query rows and {} document rows; a text alone and among others differs by {:.1e}",
                tried.query_rows, tried.document_rows, tried.difference
            ),
        ),
    ];
    let mut out = io::stdout().lock();
    for (name, value) in lines {
        writeln!(out, "{name:<11}{}", output::printable(&value))?;
    }
    Ok(())
}

/// The layers between hidden states and rows.
fn projection(recipe: &Recipe) -> String {
    let layer = |dense: &Dense| {
        let mut text = format!("{} to {}", dense.input, dense.output);
        for (there, what) in [(dense.bias, ", bias"), (dense.residual, ", residual")] {
            text += if there { what } else { "" };
        }
        match dense.activation.name() {
            "identity" => text,
            name => format!("{text}, {name}"),
        }
    };
    let layers: Vec<String> = recipe.projection.iter().map(layer).collect();
    if layers.is_empty() { "none: hidden states are the rows".into() } else { layers.join("; ") }
}

/// What happens to the texts of a role, in words.
fn role(role: &RoleRecipe) -> String {
    let mut parts = vec![format!("up to {} tokens", role.max_tokens)];
    if !role.prompt.is_empty() {
        parts.push(format!("after the prompt {:?}", role.prompt));
    }
    parts.extend(role.marker.as_ref().map(|marker| format!("marked {marker:?}")));
    if role.lowercase {
        parts.push("lowercased".into());
    }
    if let Some(expansion) = &role.expansion {
        let (seen, rows) =
            (if expansion.attend { "" } else { "not " }, if expansion.rows { "" } else { ", without rows" });
        parts.push(format!("filled up with {} to {} ({seen}attended to{rows})", expansion.token, expansion.length));
    }
    match role.rows.skip.len() {
        0 => {}
        n if n <= NAMED => parts.push(format!("no rows for {}", role.rows.skip.join(" "))),
        n => parts.push(format!("no rows for {} and {} more", role.rows.skip[..NAMED].join(" "), n - NAMED)),
    }
    if let Some(only) = &role.rows.only {
        parts.push(format!("rows for {} ids only", only.len()));
    }
    parts.extend(role.pooling.as_ref().map(|pooling| format!("rows pooled by {}", pooling.factor)));
    parts.join(", ")
}
