//! Running a pipeline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use latewood_encoder::CrossEncoder;

use crate::budget::{Cost, dropped};
use crate::cache::Cache;
use crate::candidate::Candidate;
use crate::error::{Error, Result};
#[cfg(feature = "llm")]
use crate::llm;
use crate::pipeline::{LlmMethod, Pipeline, RETRIEVE, Stage, StageKind};
use crate::report::{Distribution, Estimate, Report, StageReport};
use crate::stages::{fusion, signals};

/// What stages need of an index, or of an encoder where there is none. Errors are in words.
pub trait Scorers: Sync {
    /// MaxSim of `query` with each candidate.
    ///
    /// # Errors
    /// When encoding or reading fails.
    fn late_interaction(&self, query: &str, candidates: &[Candidate]) -> Result<Vec<f32>, String>;

    /// Whether what late interaction needs is stored: what it costs otherwise says nothing of searches.
    fn is_stored(&self) -> bool {
        true
    }

    /// BM25 of each candidate.
    ///
    /// # Errors
    /// When there are no keywords.
    fn keywords(&self, query: &str, candidates: &[Candidate]) -> Result<Vec<f32>, String>;
}

/// Does some work when there is room for it.
pub type Room<'a> = dyn Fn(&mut (dyn FnMut() + Send)) + Send + Sync + 'a;

/// What a program that runs pipelines for others has to say: nothing, by default.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    /// Whether nobody waits for the end any more; asked between stages, batches of a network, and requests.
    pub stopped: &'a (dyn Fn() -> bool + Sync),
    /// Room for a network to run over texts; stages that wait for others do not ask for it.
    pub room: &'a Room<'a>,
    /// When nobody waits any more: stages that wait for others end before, and the old order is the answer.
    pub until: Option<Instant>,
}

impl Default for Host<'_> {
    fn default() -> Self {
        Self { stopped: &|| false, room: &|work| work(), until: None }
    }
}

impl Host<'_> {
    /// What `work` gives, when there is room for it.
    fn in_room<T: Send>(&self, work: impl FnOnce() -> Result<T, String> + Send) -> Result<T, String> {
        let (mut work, mut done) = (Some(work), None);
        (self.room)(&mut || done = work.take().map(|work| work()));
        done.unwrap_or_else(|| Err("there was no room for it".into()))
    }
}

impl std::fmt::Debug for Host<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Host")
    }
}

/// One run of a pipeline.
#[derive(Clone, Copy)]
struct Run<'a> {
    query: &'a str,
    scorers: &'a dyn Scorers,
    host: &'a Host<'a>,
    /// When a stage that waits for others is to end: the pipeline's budget or the host's time is over.
    until: Option<Instant>,
}

impl Run<'_> {
    /// Whether no time is left for a stage that waits for others.
    fn is_over(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

/// Loads the models that stages name. Errors are in words.
pub trait Models {
    /// The cross-encoder of that name or in that folder.
    ///
    /// # Errors
    /// When there is none, or it is another kind of model.
    fn cross_encoder(&self, name: &str) -> Result<Arc<CrossEncoder>, String>;
}

/// A pipeline with its models, to be asked again and again: scores of dear stages and what stages cost are remembered.
pub struct Ranker {
    pipeline: Pipeline,
    stages: Vec<Loaded>,
    cache: Cache,
}

/// A stage and what it needs.
struct Loaded {
    cost: Cost,
    cross_encoder: Option<Arc<CrossEncoder>>,
    #[cfg(feature = "llm")]
    llm: Option<llm::Client>,
}

/// What a pipeline made of candidates.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Ranked {
    /// Those that are left, best first.
    pub candidates: Vec<Candidate>,
    /// What each stage did.
    pub report: Report,
}

/// What a stage gave.
pub(crate) struct Given {
    pub(crate) scores: Vec<f32>,
    pub(crate) cached: usize,
    pub(crate) note: Option<String>,
    /// Whether that is because something failed.
    pub(crate) failed: bool,
}

impl Given {
    pub(crate) fn all(scores: Vec<f32>) -> Self {
        Self { scores, cached: 0, note: None, failed: false }
    }
}

impl std::fmt::Debug for Ranker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ranker").field("pipeline", &self.pipeline).finish_non_exhaustive()
    }
}

impl Ranker {
    /// One that only says what stages are going to cost: no model is loaded, and stages that have one fail.
    pub fn unloaded(pipeline: Pipeline) -> Self {
        let load = |stage: &Stage| Loaded {
            cost: Cost::new(usual_ms(&stage.kind)),
            cross_encoder: None,
            #[cfg(feature = "llm")]
            llm: None,
        };
        let stages = pipeline.stages.iter().map(load).collect();
        Self { pipeline, stages, cache: Cache::new() }
    }

    /// Loads the models of `pipeline`.
    ///
    /// # Errors
    /// When one does not load, or this build has no language models and the pipeline has one.
    pub fn new(pipeline: Pipeline, models: &dyn Models) -> Result<Self> {
        let load = |stage: &Stage| -> Result<Loaded> {
            let failed = |model: &str, detail| Error::Model { stage: stage.name.clone(), model: model.into(), detail };
            let cross_encoder = match &stage.kind {
                StageKind::CrossEncoder(cross) => {
                    Some(models.cross_encoder(&cross.model).map_err(|detail| failed(&cross.model, detail))?)
                }
                _ => None,
            };
            #[cfg(feature = "llm")]
            let llm = match &stage.kind {
                StageKind::Llm(llm) => Some(llm::Client::new(llm)),
                _ => None,
            };
            #[cfg(not(feature = "llm"))]
            if let StageKind::Llm(llm) = &stage.kind {
                return Err(failed(&llm.model, "this program was built without language models (feature llm)".into()));
            }
            Ok(Loaded {
                cost: Cost::new(usual_ms(&stage.kind)),
                cross_encoder,
                #[cfg(feature = "llm")]
                llm,
            })
        };
        let stages = pipeline.stages.iter().map(load).collect::<Result<_>>()?;
        Ok(Self { pipeline, stages, cache: Cache::new() })
    }

    /// What it runs.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// What each stage is going to cost for so many candidates.
    pub fn estimate(&self, candidates: usize) -> Vec<Estimate> {
        let mut left = candidates;
        let of = |(stage, loaded): (&Stage, &Loaded)| {
            let entering = left.min(stage.top_k.unwrap_or(usize::MAX));
            left = entering.min(stage.top_n.unwrap_or(usize::MAX));
            let requests = requests(&stage.kind, entering);
            let units = if matches!(stage.kind, StageKind::Llm(_)) { requests } else { entering };
            let (name, ms) = (stage.name.clone(), loaded.cost.ms() * units as f64);
            Estimate {
                name,
                candidates: entering,
                ms,
                requests,
                dropped: false,
                refused: refused(&stage.kind, requests),
            }
        };
        let mut estimates: Vec<Estimate> = self.pipeline.stages.iter().zip(&self.stages).map(of).collect();
        let ms: Vec<f64> = estimates.iter().map(|estimate| estimate.ms).collect();
        for (estimate, dropped) in estimates.iter_mut().zip(dropped(&ms, self.pipeline.budget_ms)) {
            estimate.dropped = dropped;
        }
        estimates
    }

    /// Puts `candidates`, the best first, in order. An empty list stays one.
    ///
    /// # Errors
    /// When a candidate comes with a score that is no number. When a stage fails or gives such scores, but for language
    /// models: their stage passes its input on in the old order, and the report says so.
    pub fn rank(&self, query: &str, candidates: Vec<Candidate>, scorers: &dyn Scorers) -> Result<Ranked> {
        self.rank_watched(query, candidates, scorers, &Host::default(), &mut |_, _| {})
    }

    /// [`Ranker::rank`] as `host` says; `watch` sees what each stage left.
    ///
    /// # Errors
    /// As [`Ranker::rank`]; [`Error::Stopped`] where nobody waits any more.
    pub fn rank_watched(
        &self,
        query: &str,
        mut candidates: Vec<Candidate>,
        scorers: &dyn Scorers,
        host: &Host<'_>,
        watch: &mut dyn FnMut(&StageReport, &[Candidate]),
    ) -> Result<Ranked> {
        let budget = self.pipeline.budget_ms.and_then(|ms| Duration::try_from_secs_f64(ms / 1e3).ok());
        let budget = budget.and_then(|budget| Instant::now().checked_add(budget));
        let run = Run { query, scorers, host, until: budget.into_iter().chain(host.until).min() };
        let came: Vec<f32> = candidates.iter().map(|candidate| candidate.score).collect();
        numbers(&candidates, &came).map_err(|detail| Error::Stage { stage: RETRIEVE.into(), detail })?;
        for (place, candidate) in candidates.iter_mut().enumerate() {
            candidate.came_as = place;
            candidate.scores.insert(RETRIEVE.into(), candidate.score);
        }
        let mut report = Report::default();
        let dropped: Vec<bool> = self.estimate(candidates.len()).iter().map(|estimate| estimate.dropped).collect();
        let mut clear = None;
        for (at, stage) in self.pipeline.stages.iter().enumerate() {
            let skipped = match &clear {
                _ if candidates.is_empty() => Some("there is no candidate".to_owned()),
                Some(before) => Some(format!("left out: after {before} the best is clear")),
                _ if dropped[at] => {
                    self.stages[at].cost.left_out();
                    Some("left out: over the latency budget".to_owned())
                }
                _ => None,
            };
            if (host.stopped)() {
                return Err(Error::Stopped);
            }
            let done = self.run_stage(at, run, &mut candidates, skipped)?;
            if clear.is_none() && is_clear(stage, &done) {
                clear = Some(stage.name.clone());
            }
            watch(&done, &candidates);
            report.stages.push(done);
        }
        report.finish(&candidates);
        Ok(Ranked { candidates, report })
    }

    /// One stage; where it is `skipped`, and why, candidates are cut and otherwise stay as they are.
    fn run_stage(
        &self,
        at: usize,
        run: Run<'_>,
        candidates: &mut Vec<Candidate>,
        skipped: Option<String>,
    ) -> Result<StageReport> {
        let stage = &self.pipeline.stages[at];
        candidates.truncate(stage.top_k.unwrap_or(usize::MAX));
        let mut report = StageReport { name: stage.name.clone(), candidates: candidates.len(), ..Default::default() };
        let before: Vec<usize> = candidates.iter().map(|candidate| candidate.came_as).collect();
        if skipped.is_none() {
            if let Some(Err(error)) = self.stages[at].cross_encoder.as_ref().map(|model| model.check_query(run.query)) {
                return Err(Error::QueryTooLong { stage: stage.name.clone(), detail: error.to_string() });
            }
            let start = Instant::now();
            let given = self.score(at, run, candidates).and_then(|given| sound(stage, candidates, given));
            report.ms = start.elapsed().as_secs_f64() * 1e3;
            if (run.host.stopped)() {
                self.learn(at, &report, run.scorers, true);
                return Err(Error::Stopped);
            }
            let given = match given {
                Ok(given) => given,
                Err(detail) if matches!(stage.kind, StageKind::Llm(_)) => {
                    // Waiting for nothing costs, too.
                    self.learn(at, &report, run.scorers, run.is_over());
                    report.note = Some(format!("failed, the order stays: {detail}"));
                    report.failed = true;
                    Given::all(Vec::new())
                }
                Err(detail) => return Err(Error::Stage { stage: stage.name.clone(), detail }),
            };
            if !given.scores.is_empty() {
                (report.failed, report.note) = (given.failed, given.note);
                report.cached = given.cached;
                self.learn(at, &report, run.scorers, false);
                report.scores = Distribution::of(&given.scores);
                order(stage, candidates, &given.scores);
            }
        } else {
            report.note = skipped;
        }
        candidates.truncate(stage.top_n.unwrap_or(usize::MAX));
        report.kept = candidates.len();
        report.moved =
            candidates.iter().zip(&before).filter(|(candidate, before)| candidate.came_as != **before).count();
        Ok(report)
    }

    /// What a stage took. One that was cut `short` takes longer than that, for all that is known twice as long: what never has
    /// the time that it needs would otherwise never look dear.
    fn learn(&self, at: usize, report: &StageReport, scorers: &dyn Scorers, short: bool) {
        let stage = &self.pipeline.stages[at];
        if matches!(stage.kind, StageKind::LateInteraction(_)) && !scorers.is_stored() {
            return;
        }
        let computed = report.candidates - report.cached;
        let units = if matches!(stage.kind, StageKind::Llm(_)) { requests(&stage.kind, computed) } else { computed };
        let ms = report.ms / units as f64 * if short { 2.0 } else { 1.0 };
        if units > 0 && !(short && ms < self.stages[at].cost.ms()) {
            self.stages[at].cost.measured(ms);
        }
    }

    fn score(&self, at: usize, run: Run<'_>, candidates: &mut [Candidate]) -> Result<Given, String> {
        let Run { query, scorers, host, .. } = run;
        let loaded = &self.stages[at];
        match &self.pipeline.stages[at].kind {
            StageKind::LateInteraction(_) if scorers.is_stored() => {
                Ok(Given::all(scorers.late_interaction(query, candidates)?))
            }
            StageKind::LateInteraction(_) => {
                Ok(Given::all(host.in_room(|| scorers.late_interaction(query, candidates))?))
            }
            StageKind::Keyword(_) => Ok(Given::all(scorers.keywords(query, candidates)?)),
            StageKind::CrossEncoder(_) => match &loaded.cross_encoder {
                Some(model) => host.in_room(|| cross_encoder(model, &self.cache, query, candidates, host.stopped)),
                None => Err("its model is not loaded".into()),
            },
            #[cfg(feature = "llm")]
            StageKind::Llm(stage) => match &loaded.llm {
                Some(client) => {
                    let asking =
                        llm::Asking { client, stage, cache: &self.cache, stopped: host.stopped, until: run.until };
                    llm::score(&asking, query, candidates)
                }
                None => Err("its model is not there".into()),
            },
            #[cfg(not(feature = "llm"))]
            StageKind::Llm(_) => Err("this program was built without language models".into()),
            StageKind::Metadata(stage) => {
                let note = signals::unknown_fields(stage, candidates);
                Ok(Given { note, ..Given::all(signals::score(stage, query, candidates)) })
            }
            StageKind::Fusion(stage) => Ok(Given::all(fusion::score(stage, candidates))),
        }
    }
}

/// Milliseconds a candidate, or a request to a language model, as is usual.
fn usual_ms(kind: &StageKind) -> f64 {
    match kind {
        StageKind::LateInteraction(_) | StageKind::Keyword(_) => 0.02,
        StageKind::CrossEncoder(_) => 5.0,
        // Several at a time, where none waits for another's answer.
        StageKind::Llm(stage) if stage.method != LlmMethod::Listwise => 800.0 / stage.concurrency as f64,
        StageKind::Llm(_) => 800.0,
        StageKind::Metadata(_) | StageKind::Fusion(_) => 0.002,
    }
}

/// Whether a language model is not asked at all, so many requests being needed.
fn refused(kind: &StageKind, requests: usize) -> bool {
    matches!(kind, StageKind::Llm(stage) if requests > stage.max_requests)
}

/// Requests to a language model for so many candidates.
fn requests(kind: &StageKind, candidates: usize) -> usize {
    #[cfg(feature = "llm")]
    if let StageKind::Llm(stage) = kind {
        return llm::requests(stage, candidates);
    }
    let _ = (kind, candidates);
    0
}

/// `given`, where there is a score for each candidate and each is a number.
fn sound(stage: &Stage, candidates: &[Candidate], given: Given) -> Result<Given, String> {
    let (found, expected) = (given.scores.len(), candidates.len());
    if found != expected {
        return Err(format!("{found} scores were given for {expected} candidates"));
    }
    // Where no candidate has a score of a stage that was left out, a sum of scores as they are is infinite.
    if !matches!(stage.kind, StageKind::Fusion(_)) {
        numbers(candidates, &given.scores)?;
    }
    Ok(given)
}

/// That nothing is infinite and nothing is no number: there is no order of such, and nothing to compare them with.
fn numbers(candidates: &[Candidate], scores: &[f32]) -> Result<(), String> {
    match candidates.iter().zip(scores).find(|(_, score)| !score.is_finite()) {
        Some((candidate, score)) => Err(format!("the score of {:?} is {score}, which is no number", candidate.id)),
        None => Ok(()),
    }
}

/// Scores `candidates`, and puts the best first; of equals, the one that was before.
fn order(stage: &Stage, candidates: &mut [Candidate], scores: &[f32]) {
    for (candidate, &score) in candidates.iter_mut().zip(scores) {
        candidate.score = score;
        candidate.scores.insert(stage.name.clone(), score);
    }
    // Zero and minus zero are equals.
    candidates.sort_by(|a, b| (b.score + 0.0).total_cmp(&(a.score + 0.0)));
}

/// Whether the best is so far ahead that no further stage is needed.
fn is_clear(stage: &Stage, report: &StageReport) -> bool {
    let (Some(margin), Some(scores)) = (stage.exit_margin, report.scores) else { return false };
    let range = scores.most - scores.least;
    // Of two, one is always as far ahead as scores reach.
    report.candidates > 2 && range > 0.0 && scores.margin >= margin * range
}

fn cross_encoder(
    model: &CrossEncoder,
    cache: &Cache,
    query: &str,
    candidates: &[Candidate],
    stopped: &(dyn Fn() -> bool + Sync),
) -> Result<Given, String> {
    let texts: Vec<String> = candidates.iter().map(Candidate::full_text).collect();
    let keys: Vec<u128> = texts.iter().map(|text| Cache::key(&[model.model_id().as_str(), query, text])).collect();
    let mut scores: Vec<Option<f32>> = keys.iter().map(|key| cache.get(*key)).collect();
    let new: Vec<usize> = (0..texts.len()).filter(|&at| scores[at].is_none()).collect();
    let unknown: Vec<&str> = new.iter().map(|&at| texts[at].as_str()).collect();
    // Kept as they come: who asks again finds what was done for somebody who has gone.
    let keep = |at: usize, score| cache.put(keys[new[at]], score);
    let given = model.score_each(query, &unknown, stopped, &keep).map_err(|e| e.to_string())?;
    for (&at, score) in new.iter().zip(given) {
        scores[at] = Some(score);
    }
    let cached = texts.len() - new.len();
    Ok(Given { cached, ..Given::all(scores.into_iter().map(Option::unwrap_or_default).collect()) })
}
