//! next-plaid behind the commands of `latewood vectors`: the same arrays in, the same run and timings out.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser};
use half::f16;
use ndarray::Array2;
use next_plaid::{IndexConfig, MmapIndex, SearchParameters};
use serde_json::json;

#[derive(Parser)]
enum Command {
    Build {
        #[arg(long)]
        embeddings: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    Search {
        #[arg(long)]
        queries: PathBuf,
        #[arg(short, long, default_value_t = 10)]
        k: usize,
        #[arg(long)]
        run: PathBuf,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Args)]
struct Common {
    #[arg(long)]
    index: PathBuf,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    #[arg(long)]
    timings: PathBuf,
    #[arg(long = "opt")]
    options: Vec<String>,
}

impl Common {
    fn option(&self, name: &str) -> Result<Option<usize>> {
        let pairs = self.options.iter().filter_map(|pair| pair.split_once('='));
        let value = pairs.into_iter().rfind(|(key, _)| *key == name).map(|(_, value)| value);
        value.map(|value| value.parse().with_context(|| format!("{name}={value}"))).transpose()
    }
}

fn main() -> Result<()> {
    let command = Command::parse();
    let common = match &command {
        Command::Build { common, .. } | Command::Search { common, .. } => common,
    };
    rayon::ThreadPoolBuilder::new().num_threads(common.threads).build_global()?;
    match &command {
        Command::Build { embeddings, common } => build(embeddings, common),
        Command::Search { queries, k, run, common } => search(queries, *k, run, common),
    }
}

fn build(dir: &Path, common: &Common) -> Result<()> {
    let (shape, values) = array::<f16>(&dir.join("vectors.npy"))?;
    let (_, lens) = array::<i32>(&dir.join("doclens.npy"))?;
    let dim = shape[1] as usize;
    let mut rest = &values[..];
    let mut docs = Vec::with_capacity(lens.len());
    for len in lens {
        let (doc, after) = rest.split_at(len as usize * dim);
        docs.push(Array2::from_shape_vec((len as usize, dim), doc.iter().map(|x| x.to_f32()).collect())?);
        rest = after;
    }
    drop(values);
    let mut config = IndexConfig::default();
    config.nbits = common.option("nbits")?.unwrap_or(config.nbits);
    config.kmeans_niters = common.option("kmeans_niters")?.unwrap_or(config.kmeans_niters);
    config.n_samples_kmeans = common.option("n_samples_kmeans")?.or(config.n_samples_kmeans);
    fs::create_dir_all(&common.index)?;
    let path = common.index.to_str().context("the index's path")?;
    let start = Instant::now();
    MmapIndex::create_with_kmeans(&docs, path, &config)?;
    let timings = json!({ "build_s": start.elapsed().as_secs_f64(), "peak_rss_kb": memory("VmHWM") });
    Ok(fs::write(&common.timings, timings.to_string())?)
}

fn search(dir: &Path, k: usize, run: &Path, common: &Common) -> Result<()> {
    let (shape, values) = array::<f32>(&dir.join("queries.npy"))?;
    let (_, lens) = array::<i32>(&dir.join("qlens.npy"))?;
    let [_, longest, dim] = shape[..] else { bail!("queries.npy has the shape {shape:?}") };
    let padded = values.chunks_exact((longest * dim) as usize);
    let queries = padded.zip(&lens).map(|(query, &len)| {
        let len = len as usize;
        Array2::from_shape_vec((len, dim as usize), query[..len * dim as usize].to_vec())
    });
    let queries = queries.collect::<std::result::Result<Vec<_>, _>>()?;
    let start = Instant::now();
    let index = MmapIndex::load(common.index.to_str().context("the index's path")?)?;
    let load = start.elapsed().as_secs_f64();
    let mut params = SearchParameters { top_k: k, ..SearchParameters::default() };
    params.n_ivf_probe = common.option("n_ivf_probe")?.unwrap_or(params.n_ivf_probe);
    params.n_full_scores = common.option("n_full_scores")?.unwrap_or(params.n_full_scores);
    for query in &queries {
        index.search(query, &params, None)?;
    }
    let mut out = BufWriter::new(File::create(run)?);
    let (mut latency, mut cpu) = (Vec::new(), Vec::new());
    for (number, query) in queries.iter().enumerate() {
        let (start, cpu_start) = (Instant::now(), cpu_us());
        let found = index.search(query, &params, None)?;
        cpu.push(cpu_us() - cpu_start);
        latency.push(start.elapsed().as_secs_f64() * 1e6);
        for (rank, (doc, score)) in (1..).zip(found.passage_ids.iter().zip(&found.scores)) {
            writeln!(out, "{number} {doc} {rank} {score}")?;
        }
    }
    out.flush()?;
    latency.sort_by(f64::total_cmp);
    let at = |share: f64| latency[((latency.len() - 1) as f64 * share).round() as usize];
    let timings = json!({
        "load_s": load, "nq": queries.len(), "peak_rss_kb": memory("VmHWM"),
        "latency_us": { "p50": at(0.5), "p95": at(0.95), "p99": at(0.99) },
        "cpu_us": { "mean": cpu.iter().sum::<f64>() / cpu.len() as f64 },
    });
    Ok(fs::write(&common.timings, timings.to_string())?)
}

fn array<T: npyz::Deserialize>(path: &Path) -> Result<(Vec<u64>, Vec<T>)> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let npy = npyz::NpyFile::new(BufReader::new(file))?;
    let shape = npy.shape().to_vec();
    Ok((shape, npy.into_vec()?))
}

fn cpu_us() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
}

fn memory(name: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().nth(1)?.parse().ok())
}
