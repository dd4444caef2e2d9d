//! `latewood status`

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::process::ExitCode;

use latewood::device::{Device, Opened};
use serde_json::json;

use crate::args::{Args, EncoderArgs, StatusArgs};
use crate::output::{self, bytes};

pub(crate) fn run(args: &Args, own: &StatusArgs) -> anyhow::Result<ExitCode> {
    let index = super::open(args, own.path.as_deref(), &EncoderArgs::default(), &Opened::new(Device::Cpu)?)?;
    // The model is not asked anything here.
    let index = index.on(&super::device(args, Device::Cpu)?);
    let reader = index.reader()?;
    let info = reader.info();
    let catalog = reader.catalog();
    let text_bytes = reader.text_bytes();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    catalog.files.iter().for_each(|file| *kinds.entry(&file.kind).or_default() += 1);
    let skipped: Vec<_> = catalog.skipped.iter().map(latewood::LeftOut::from).collect();
    if args.json {
        let shard = |s: &latewood::engine::ShardInfo| {
            json!({
                "file": s.file, "documents": s.docs, "deleted": s.deleted, "tokens": s.tokens,
                "centroids": s.centroids, "bytes": s.bytes,
                "sections": s.sections.iter().copied().collect::<BTreeMap<_, _>>(),
            })
        };
        let shards: Vec<_> = info.shards.iter().map(shard).collect();
        output::json_line(
            "latewood.status.1",
            &json!({
                "index": index.path().display().to_string(), "root": index.root().display().to_string(), "model": info.model, "generation": info.generation,
                "dim": info.dim, "bits": info.bits, "fine_codes": info.fine, "codec_bytes": info.codec_bytes, "files": catalog.files.len(), "passages": info.docs(),
                "tokens": info.tokens(), "vector_bytes": info.bytes(), "text_bytes": text_bytes, "keyword_bytes": reader.keyword_bytes(), "kinds": kinds, "shards": shards,
                "skipped": output::skipped_by_reason(&skipped).into_iter().collect::<BTreeMap<_, _>>(),
                "tuned": catalog.tuned, "backend": reader.backend(),
            }),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = io::stdout().lock();
    writeln!(out, "index      {}", index.path().display())?;
    writeln!(out, "documents  {} files of {}", catalog.files.len(), index.root().display())?;
    writeln!(
        out,
        "passages   {}, {} token vectors of {} dimensions at {} bits",
        info.docs(),
        info.tokens(),
        info.dim,
        info.bits
    )?;
    let a_token = info.bytes() as f64 / info.tokens().max(1) as f64;
    writeln!(
        out,
        "size       {} of vectors ({a_token:.1} bytes a token), {} of text, {} of keywords",
        bytes(info.bytes()),
        bytes(text_bytes),
        bytes(reader.keyword_bytes())
    )?;
    let mut by_count: Vec<_> = kinds.iter().collect();
    by_count.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let kinds: Vec<String> = by_count.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    writeln!(out, "kinds      {}", kinds.join(", "))?;
    writeln!(out, "shards     {}, commit {}", info.shards.len(), info.generation)?;
    writeln!(out, "model      {}", info.model.as_deref().unwrap_or("unknown"))?;
    if let Some(tuned) = &catalog.tuned {
        let grown = if tuned.is_outgrown(info.docs()) { "; it has grown since: tune it again" } else { "" };
        writeln!(
            out,
            "tuned      for {} passages {:.1}% of the nearest, scoring {} of {}{grown}",
            tuned.k,
            tuned.recall * 100.0,
            tuned.budget.rescored,
            tuned.passages
        )?;
    }
    writeln!(out, "runs on    {}", reader.backend())?;
    for (reason, count) in output::skipped_by_reason(&skipped) {
        writeln!(out, "skipped    {count}: {reason}")?;
    }
    Ok(ExitCode::SUCCESS)
}
