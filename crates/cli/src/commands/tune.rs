//! `latewood tune`

use std::io::{self, Write};
use std::process::ExitCode;

use latewood::device::Device;
use latewood::eval::{self, FitReport, OwnQuestions, Trial, TuneOptions, TuneReport};
use latewood::rerank::Ranker;

use crate::args::{Args, EncoderArgs, TuneArgs};
use crate::output;
use crate::pipeline::{self, Loader};
use crate::progress::Progress;

pub(crate) fn run(args: &Args, own: &TuneArgs) -> anyhow::Result<ExitCode> {
    let device = super::device(args, Device::Cpu)?;
    let index = super::open(args, own.path.as_deref(), &EncoderArgs::default(), &device)?;
    if own.reset {
        index.set_tuned(None)?;
        output::note(args.quiet, "searches look at as much as is usual");
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(named), Some(file)) = (&own.fit, &own.questions) {
        let load = |read| Ranker::new(read, &Loader { args, device: &device }).map_err(latewood::Error::from);
        let report = eval::fit_index(
            &index.reader()?,
            &OwnQuestions::read(file, own.feedback_on.as_deref())?,
            &pipeline::read(named)?,
            &load,
        )?;
        fitted(args, &report)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut options = TuneOptions::default();
    (options.recall, options.k) = (own.recall, own.k as usize);
    if let Some(file) = &own.questions {
        options.queries = OwnQuestions::read(file, own.feedback_on.as_deref())?
            .questions
            .queries
            .into_iter()
            .map(|query| query.text)
            .collect();
    }
    let progress = Progress::new(args.quiet);
    let show = |done, total| progress.show("searching", "", done as u64, total as u64);
    let report = eval::tune(&index.reader()?, &options, &show)?;
    progress.clear();
    let tuned = report.tuned().filter(|_| !own.dry_run);
    if tuned.is_some() {
        index.set_tuned(tuned)?;
    }
    if args.json {
        output::json_line("latewood.tune.1", &report)?;
    } else {
        print(&report, own)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The weights of a metadata stage.
fn fitted(args: &Args, report: &FitReport) -> anyhow::Result<()> {
    if args.json {
        return output::json_line("latewood.fit.1", report);
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{} questions, stage {}", report.queries, report.stage)?;
    for (name, (before, after)) in &report.weights {
        writeln!(out, "{name:20} weight = {after}  (was {before})")?;
    }
    let ((before, after), (held_before, held_after)) = (report.ndcg, report.ndcg_held_out);
    writeln!(out, "NDCG@10 {before:.4} to {after:.4}; of questions held out {held_before:.4} to {held_after:.4}")?;
    if after <= before {
        writeln!(out, "nothing fits better than what is there")?;
    } else if held_after <= held_before {
        writeln!(out, "no gain where it was not fitted: leave the weights as they are, or ask more questions")?;
    }
    Ok(())
}

fn print(report: &TuneReport, own: &TuneArgs) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let source = if report.sampled { "sentences out of the index" } else { "questions" };
    writeln!(out, "{} {source}, {} passages", report.queries, report.passages)?;
    writeln!(
        out,
        "{:8}{:>8}{:>13}{:>10}{:>12}{:>12}{:>10}{:>10}",
        "", "probes", "shortlisted", "rescored", "recall", "held out", "p50", "p95"
    )?;
    line(&mut out, "before", &report.before)?;
    let Some(chosen) = &report.chosen else {
        if !report.trials.is_empty() {
            writeln!(
                out,
                "of {} budgets none finds {} of what is nearest; nothing is kept",
                report.trials.len(),
                own.recall
            )?;
            return Ok(());
        }
        writeln!(out, "the index is so small that searches score all of it: there is nothing to tune")?;
        return Ok(());
    };
    line(&mut out, "chosen", chosen)?;
    let saved =
        if own.dry_run { "not kept (--dry-run)" } else { "kept in the index; `latewood tune --reset` forgets it" };
    writeln!(out, "the fastest of {} that finds {} of what is nearest; {saved}", report.trials.len(), own.recall)?;
    Ok(())
}

fn line(out: &mut impl Write, name: &str, trial: &Trial) -> io::Result<()> {
    let (budget, times) = (trial.budget, trial.search_ms);
    writeln!(
        out,
        "{name:8}{:>8}{:>13}{:>10}{:>12.4}{:>12.4}{:>7.2} ms{:>7.2} ms",
        budget.probes, budget.shortlisted, budget.rescored, trial.recall, trial.recall_held_out, times.p50, times.p95
    )
}
