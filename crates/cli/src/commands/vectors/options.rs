//! `--opt key=value`: every knob of the engine by name.

use std::num::NonZeroUsize;
use std::str::FromStr;

use anyhow::{Context, bail};
use latewood::engine::{IndexOptions, SearchParams};
use latewood::vectors;

/// Index options and the rows of a part from `key=value` pairs.
pub(super) fn index(dim: usize, pairs: &[String]) -> anyhow::Result<(IndexOptions, usize)> {
    let (mut options, mut part_rows) = (IndexOptions::new(dim), vectors::PART_ROWS);
    for pair in pairs {
        let (key, value) = split(pair)?;
        match key {
            "bits" => options.bits = parse(key, value)?,
            "fine" => options.fine = parse::<u8>(key, value)? > 0,
            "seed" => options.seed = parse(key, value)?,
            "part_rows" => part_rows = parse::<NonZeroUsize>(key, value)?.get(),
            _ => bail!("--opt {pair}: a build has the settings bits, fine (0 or 1), seed, part_rows"),
        }
    }
    Ok((options, part_rows))
}

/// Search parameters from `key=value` pairs.
pub(super) fn search(k: usize, pairs: &[String]) -> anyhow::Result<SearchParams> {
    let mut params = SearchParams::new(k);
    for pair in pairs {
        let (key, value) = split(pair)?;
        match key {
            "probes" => params.probes = parse(key, value)?,
            "shortlisted" => params.shortlisted = parse(key, value)?,
            "rescored" => params.rescored = parse(key, value)?,
            "confidence" => params.confidence = parse(key, value)?,
            "refined" => params.refined = Some(parse(key, value)?),
            _ => bail!("--opt {pair}: a search has the settings probes, shortlisted, rescored, confidence, refined"),
        }
    }
    Ok(params)
}

fn split(pair: &str) -> anyhow::Result<(&str, &str)> {
    pair.split_once('=').with_context(|| format!("--opt {pair}: write it as key=value"))
}

fn parse<T: FromStr>(key: &str, value: &str) -> anyhow::Result<T> {
    value.parse().ok().with_context(|| format!("--opt {key}={value}: not a value of {key}"))
}
