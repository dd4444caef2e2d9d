//! `--opt key=value`: every knob of the engine by name.

use std::num::NonZeroUsize;
use std::str::FromStr;

use anyhow::{Context, bail};
use latewood::engine::{IndexOptions, SearchParams};
use latewood::vectors::BuildOptions;

/// Build options from `key=value` pairs.
pub(super) fn build(dim: usize, pairs: &[String]) -> anyhow::Result<BuildOptions> {
    let mut options = BuildOptions::new(IndexOptions::new(dim));
    for pair in pairs {
        let (key, value) = split(pair)?;
        match key {
            "bits" => options.index.bits = parse(key, value)?,
            "fine" => options.index.fine = parse::<u8>(key, value)? > 0,
            "seed" => options.index.seed = parse(key, value)?,
            "token_ids" => options.token_ids = parse::<u8>(key, value)? > 0,
            "memory" => options.memory = Some(bytes(key, value)?),
            "part_rows" => options.part_rows = Some(parse::<NonZeroUsize>(key, value)?.get()),
            _ => bail!(
                "--opt {pair}: a build has the settings bits, fine (0 or 1), seed, token_ids (0 or 1), memory (such as \
                 512M), part_rows"
            ),
        }
    }
    Ok(options)
}

/// A number of bytes, of KiB with K behind it, of MiB with M, of GiB with G.
fn bytes(key: &str, value: &str) -> anyhow::Result<usize> {
    let (number, shift) = match value.char_indices().last() {
        Some((at, 'K')) => (&value[..at], 10),
        Some((at, 'M')) => (&value[..at], 20),
        Some((at, 'G')) => (&value[..at], 30),
        _ => (value, 0),
    };
    let bytes = number.parse::<usize>().ok().and_then(|n| n.checked_mul(1 << shift));
    bytes.with_context(|| format!("--opt {key}={value}: write it as a number of bytes, or with K, M or G behind it"))
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
