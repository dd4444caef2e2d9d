//! What a GPU does of builds, beside the processor.

use std::cell::RefCell;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cubecl::prelude::Runtime;
use latewood_engine::{
    Backend, Coder, CpuBackend, DocId, Index, IndexOptions, Progress, RamDirectory, ResidualCodec, Stage,
    TokenEmbeddings,
};
use latewood_kernels::{Centroids, Client, Device, GpuBackend, GpuOptions, Resolved, nearest};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::gpu::{DIM, TOKENS, unit_rows};

/// Rows coded together, as a build does.
const BATCH: usize = 1 << 15;
/// An index of fewer has so few centroids that the processor does it all.
const LEAST_TOKENS: usize = 1 << 14;
/// Products of rows and centroids from which a device is asked, and some more.
const PRODUCTS: usize = 5 << 20;
/// Times that each thing is done after the first.
const ROUNDS: usize = 3;

/// Training and coding for an index of so many documents, and of one in 64 of them.
pub(super) fn measure<R: Runtime>(client: &Client<R>, gpu: &Resolved, docs: usize) -> Result<(), Box<dyn Error>> {
    let backend = GpuBackend::connect(client.clone(), gpu, &GpuOptions::new(Device::Wgpu(0)))?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    println!("\nBuilds, {DIM} dimensions of 4 bits; the processor on {threads} threads, {}.", CpuBackend::new().name());
    println!("\n| | rows | centroids | rows/s on the GPU | on the processor |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    let mut sizes = [docs * TOKENS / 64, docs * TOKENS].map(|tokens| tokens.max(LEAST_TOKENS)).to_vec();
    sizes.dedup();
    sizes.into_iter().try_for_each(|tokens| case(client, &backend, tokens as u64))
}

fn case<R: Runtime>(client: &Client<R>, backend: &GpuBackend, tokens: u64) -> Result<(), Box<dyn Error>> {
    let mut rng = ChaCha8Rng::seed_from_u64(tokens);
    let (there, _) = trained(backend.clone(), tokens, &mut rng)?;
    let (here, index) = trained(CpuBackend::new(), tokens, &mut rng)?;
    let codec = codec_of(index, &mut rng)?;
    let count = codec.centroid_count();
    println!("| a pass of k-means | {} | {count} | {:.0} | {:.0} |", there.rows, there.speed(), here.speed());

    let (rows, centroids) = (unit_rows(BATCH, &mut rng), unit_rows(count, &mut rng));
    let kept = Centroids::new(client, DIM, &centroids)?;
    let seconds = median(|| {
        let rows = client.upload("rows", &rows)?;
        client.read(&nearest(client, &kept, &rows)?).map(drop)
    })?;
    println!("| of it, nearest centroids | {BATCH} | {count} | {:.0} | |", BATCH as f64 / seconds);
    let coder = backend.coder(&codec)?.ok_or("the GPU has failed")?;
    let device = BATCH as f64 / median(|| coder.code(&rows).map(drop))?;
    let cpu = CpuBackend::new();
    let processor = median(|| -> latewood_engine::Result<()> {
        drop(codec.encode_on(&cpu, &rows));
        Ok(())
    })?;
    let processor = BATCH as f64 / processor;
    println!("| coding | {BATCH} | {count} | {device:.0} | {processor:.0} |");
    Ok(())
}

/// Rows of a sample, and the seconds of a pass over it.
struct Training {
    rows: usize,
    seconds: f64,
}

impl Training {
    fn speed(&self) -> f64 {
        self.rows as f64 / self.seconds
    }
}

/// Trains a codec on `backend` for an index of so many tokens.
fn trained(
    backend: impl Backend + 'static,
    tokens: u64,
    rng: &mut ChaCha8Rng,
) -> Result<(Training, Index), Box<dyn Error>> {
    let index = Index::create(RamDirectory::new(), IndexOptions::new(DIM))?.with_backend(backend);
    let mut writer = index.writer()?;
    let mut sampler = writer.sampler(tokens);
    let rows = (0..tokens).filter(|_| sampler.take()).count();
    let passes = Passes::default();
    writer.train(TokenEmbeddings::new(unit_rows(rows, rng), DIM)?, tokens, &passes)?;
    writer.commit(None, &())?;
    drop(writer);
    let starts = passes.0.into_inner();
    let mut seconds: Vec<f64> = starts.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    seconds.sort_by(f64::total_cmp);
    let seconds = seconds.get(seconds.len() / 2).copied().unwrap_or(f64::NAN);
    Ok((Training { rows, seconds }, index))
}

/// When each pass began.
#[derive(Default)]
struct Passes(RefCell<Vec<Instant>>);

impl Progress for Passes {
    fn report(&self, stage: Stage, _: u64, _: u64) {
        if stage == Stage::Train {
            self.0.borrow_mut().push(Instant::now());
        }
    }
}

/// The codec of an index, which shows it to whoever may code with it.
fn codec_of(index: Index, rng: &mut ChaCha8Rng) -> Result<Arc<ResidualCodec>, Box<dyn Error>> {
    let spy = Arc::new(Spy::default());
    let index = index.with_backend(spy.clone());
    let mut writer = index.writer()?;
    // The fewest centroids are those of the smallest index.
    writer.add(DocId(0), TokenEmbeddings::new(unit_rows(PRODUCTS / 1024, rng), DIM)?.view())?;
    writer.commit(None, &())?;
    let codec = spy.codec.lock().map_err(|_| "it panicked")?.take();
    Ok(codec.ok_or("too few rows for a device")?)
}

#[derive(Debug, Default)]
struct Spy {
    cpu: CpuBackend,
    codec: Mutex<Option<Arc<ResidualCodec>>>,
}

impl Backend for Spy {
    fn name(&self) -> String {
        "spy".into()
    }

    fn cpu(&self) -> &CpuBackend {
        &self.cpu
    }

    fn coder(&self, codec: &Arc<ResidualCodec>) -> latewood_engine::Result<Option<Box<dyn Coder>>> {
        if let Ok(mut seen) = self.codec.lock() {
            *seen = Some(codec.clone());
        }
        Ok(None)
    }
}

/// Seconds, the median of some rounds after one.
fn median<E>(mut run: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    run()?;
    let mut seconds = Vec::new();
    for _ in 0..ROUNDS {
        let start = Instant::now();
        run()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[ROUNDS / 2])
}
