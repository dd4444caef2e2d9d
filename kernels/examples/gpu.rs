//! Times searches on a GPU over random codes, beside what copying memory takes, and what it does of builds, beside the
//! processor: `gpu DEVICE [DOCUMENTS]` (`benches/gpu/README.md`).
#![allow(clippy::print_stdout, reason = "a program for people")]

#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    gpu::main()
}

#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
fn main() {
    println!("built without a GPU: say --features wgpu, cuda or both");
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
#[path = "gpu/build.rs"]
mod build;

#[cfg(any(feature = "wgpu", feature = "cuda"))]
mod gpu {
    use std::error::Error;
    use std::time::Instant;

    use cubecl::prelude::*;
    use latewood_kernels::{
        Buffer, Client, Codec, CodecParts, Device, GpuError, Queries, Resolved, Shard, ShardParts, Top, fitting_parts,
        outline, residual, table, top,
    };
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    pub(super) const DIM: usize = 128;
    const BITS: u32 = 4;
    pub(super) const TOKENS: usize = 80;
    const ROWS: usize = 32;
    const CENTROIDS: usize = 1 << 15;
    const RESCORED: usize = 1024;
    const K: usize = 10;
    /// Bytes of a token: codes, centroid and factors.
    const TOKEN_BYTES: usize = DIM * BITS as usize / 8 + 4;
    const ROUNDS: usize = 15;
    /// Values that are copied to learn how fast memory is.
    const COPIED: usize = 1 << 26;

    pub(super) fn main() -> Result<(), Box<dyn Error>> {
        let mut args = std::env::args().skip(1);
        let device: Device = args.next().as_deref().unwrap_or("auto").parse()?;
        let docs = args.next().map_or(Ok(1_000_000), |docs| docs.parse())?;
        let gpu = device.resolve()?;
        println!("{}: {}", gpu.device, gpu.adapter.as_ref().map_or_else(|| gpu.reason.clone(), ToString::to_string));
        #[cfg(feature = "wgpu")]
        if let Some(device) = gpu.wgpu() {
            return run(&Client::<cubecl::wgpu::WgpuRuntime>::connect(&device)?, &gpu, docs);
        }
        #[cfg(feature = "cuda")]
        if let Some(device) = gpu.cuda() {
            return run(&Client::<cubecl::cuda::CudaRuntime>::connect(&device)?, &gpu, docs);
        }
        Err("there is no GPU to measure on".into())
    }

    fn run<R: Runtime>(client: &Client<R>, gpu: &Resolved, docs: usize) -> Result<(), Box<dyn Error>> {
        measure(client, docs)?;
        super::build::measure(client, gpu, docs)
    }

    /// An index of random codes on the device.
    struct Loaded {
        codec: Codec,
        parts: Vec<(Shard, Buffer<u32>)>,
        tokens: usize,
    }

    fn measure<R: Runtime>(client: &Client<R>, docs: usize) -> Result<(), GpuError> {
        let copy = copied(client)?;
        println!("copying memory: {:.0} GB/s read and written", 2.0 * 4.0 * COPIED as f64 / copy / 1e9);
        let read = 2.0 * 4.0 * COPIED as f64 / copy;
        let start = Instant::now();
        let index = load(client, docs)?;
        client.check()?;
        let bytes = (index.tokens * TOKEN_BYTES) as f64;
        println!(
            "{docs} documents, {} tokens of {DIM} dimensions at {BITS} bits, {:.2} GB in {} parts; made in {:.1} s\n",
            index.tokens,
            bytes / 1e9,
            index.parts.len(),
            start.elapsed().as_secs_f64()
        );
        match client.matrix_units() {
            Ok(()) => println!("Codes are scored with matrix units.\n"),
            Err(reason) => println!("Codes are scored without matrix units: {reason}.\n"),
        }
        println!("| search, {ROWS} rows a query | ms | ms a query | GB/s of the index | of a copy's |");
        println!("| --- | ---: | ---: | ---: | ---: |");
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for count in [1, 8, 32] {
            let rows = unit_rows(count * ROWS, &mut rng);
            let queries: Vec<&[f32]> = rows.chunks_exact(ROWS * DIM).collect();
            let plain = client.clone().without_matrix_units();
            let ways = [(client, ""), (&plain, ", without matrix units")];
            // Where there are none, both are the same.
            for (client, how) in &ways[..1 + usize::from(client.matrix_units().is_ok())] {
                let seconds = median(|| exhaustive(client, &index, &queries))?;
                let rate = bytes / seconds;
                println!(
                    "| exhaustive, {count} at once{how} | {:.3} | {:.3} | {:.0} | {:.0}% |",
                    seconds * 1e3,
                    seconds * 1e3 / count as f64,
                    rate / 1e9,
                    rate / read * 100.0
                );
            }
        }
        let query = unit_rows(ROWS, &mut rng);
        let seconds = median(|| chosen(client, &index, &query))?;
        println!("| best {RESCORED} by outlines, then codes | {0:.3} | {0:.3} | | |", seconds * 1e3);
        let seconds = median(|| {
            let queries = Queries::rotated(client, &index.codec, &[&query])?;
            table(client, &index.codec, &queries)?;
            client.check()
        })?;
        println!("| of it, the table of {CENTROIDS} centroids | {0:.3} | {0:.3} | | |", seconds * 1e3);
        parts_of(client, &index, &query)
    }

    /// Where the time goes, each part by itself: with the wait for it, which the whole has twice.
    fn parts_of<R: Runtime>(client: &Client<R>, index: &Loaded, query: &[f32]) -> Result<(), GpuError> {
        let seconds = median(|| client.check())?;
        println!("| of it, a wait for nothing | {0:.3} | {0:.3} | | |", seconds * 1e3);
        let queries = Queries::rotated(client, &index.codec, &[query])?;
        let table = table(client, &index.codec, &queries)?;
        let outlined = || -> Result<Vec<Buffer<f32>>, GpuError> {
            let score =
                |(shard, docs): &(Shard, Buffer<u32>)| outline(client, &index.codec, shard, &queries, &table, docs);
            index.parts.iter().map(score).collect()
        };
        let seconds = median(|| outlined().and_then(|_| client.check()))?;
        println!("| of it, outlines | {0:.3} | {0:.3} | | |", seconds * 1e3);
        let scores = outlined()?;
        for k in [K, RESCORED] {
            let seconds = median(|| {
                let tops =
                    scores.iter().map(|scores| top(client, scores, scores.len(), k)).collect::<Result<Vec<_>, _>>()?;
                Top::read_all(client, &tops.iter().collect::<Vec<_>>()).map(drop)
            })?;
            println!("| the best {k} of their scores, read | {0:.3} | {0:.3} | | |", seconds * 1e3);
        }
        let (shard, docs) = &index.parts[0];
        let step = docs.len().div_ceil(RESCORED).max(1);
        let some: Vec<u32> = (0..docs.len() as u32).step_by(step).collect();
        let some = client.upload("documents", &some)?;
        let seconds = median(|| {
            residual(client, &index.codec, shard, &queries, &table, &some)?;
            client.check()
        })?;
        println!("| codes of {} documents | {1:.3} | {1:.3} | | |", some.len(), seconds * 1e3);
        Ok(())
    }

    fn exhaustive<R: Runtime>(client: &Client<R>, index: &Loaded, queries: &[&[f32]]) -> Result<(), GpuError> {
        let queries = Queries::rotated(client, &index.codec, queries)?;
        let table = table(client, &index.codec, &queries)?;
        let best = index.parts.iter().map(|(shard, docs)| {
            top(client, &residual(client, &index.codec, shard, &queries, &table, docs)?, docs.len(), K)
        });
        let best: Vec<Top> = best.collect::<Result<_, _>>()?;
        Top::read_all(client, &best.iter().collect::<Vec<_>>()).map(drop)
    }

    fn chosen<R: Runtime>(client: &Client<R>, index: &Loaded, query: &[f32]) -> Result<(), GpuError> {
        let queries = Queries::rotated(client, &index.codec, &[query])?;
        let table = table(client, &index.codec, &queries)?;
        let best = index.parts.iter().map(|(shard, docs)| {
            top(client, &outline(client, &index.codec, shard, &queries, &table, docs)?, docs.len(), RESCORED)
        });
        let best: Vec<Top> = best.collect::<Result<_, _>>()?;
        let mut all = Vec::new();
        for (part, found) in Top::read_all(client, &best.iter().collect::<Vec<_>>())?.iter().enumerate() {
            all.extend(found[0].iter().map(|&(doc, score)| (score, part, doc)));
        }
        all.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        all.truncate(RESCORED);
        let mut found = Vec::new();
        for (part, (shard, _)) in index.parts.iter().enumerate() {
            let mut docs: Vec<u32> = all.iter().filter(|x| x.1 == part).map(|x| x.2).collect();
            docs.sort_unstable();
            let buffer = client.upload("documents", &docs)?;
            found.push(top(client, &residual(client, &index.codec, shard, &queries, &table, &buffer)?, docs.len(), K)?);
        }
        Top::read_all(client, &found.iter().collect::<Vec<_>>()).map(drop)
    }

    fn load<R: Runtime>(client: &Client<R>, docs: usize) -> Result<Loaded, GpuError> {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let centroids: Vec<u8> = (0..CENTROIDS * DIM).map(|_| rng.random_range(1..=127)).collect();
        let levels: [i8; 16] = std::array::from_fn(|i| (i as i8 - 8) * 7 + 3);
        let scales: [f32; 64] = std::array::from_fn(|i| i as f32 * 1e-4);
        let parts = CodecParts {
            dim: DIM,
            bits: BITS,
            levels: &levels,
            scales: &scales,
            centroids: &centroids,
            centroid_scales: &vec![0.0025; CENTROIDS],
            weights: &[0.75; 64],
            leans: &[0.1; 64],
        };
        let codec = Codec::new(client, &parts)?;
        let offsets: Vec<u32> = (0..=docs as u32).map(|doc| doc * TOKENS as u32).collect();
        let mut parts = Vec::new();
        for run in fitting_parts(client.limits(), &offsets, DIM, BITS) {
            let tokens = run.len() * TOKENS;
            let ids: Vec<u16> = (0..tokens).map(|_| rng.random_range(0..CENTROIDS as u32) as u16).collect();
            let factors: Vec<u16> = (0..tokens).map(|_| rng.random()).collect();
            let mut codes = vec![0u8; tokens * DIM * BITS as usize / 8];
            rng.fill(&mut codes[..]);
            let offsets: Vec<u32> = (0..=run.len() as u32).map(|doc| doc * TOKENS as u32).collect();
            let shard = ShardParts { offsets: &offsets, centroids: &ids, factors: &factors, codes: &codes };
            let all: Vec<u32> = (0..run.len() as u32).collect();
            parts.push((Shard::new(client, &codec, &shard)?, client.keep("documents", &all)?));
        }
        Ok(Loaded { codec, parts, tokens: docs * TOKENS })
    }

    pub(super) fn unit_rows(count: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
        let rows: Vec<f32> = (0..count * DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
        let unit = |row: &[f32]| {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter().map(|x| x / norm).collect::<Vec<f32>>()
        };
        rows.chunks_exact(DIM).flat_map(unit).collect()
    }

    /// Seconds, the median of some rounds after two.
    fn median(mut run: impl FnMut() -> Result<(), GpuError>) -> Result<f64, GpuError> {
        run()?;
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

    /// Seconds that copying so many values takes on the device.
    fn copied<R: Runtime>(client: &Client<R>) -> Result<f64, GpuError> {
        let len = COPIED.min((client.limits().allocation / 4) as usize);
        let from = client.upload("values", &vec![1.0f32; len])?;
        // Several at a time, so that launching does not count.
        const TIMES: usize = 8;
        let seconds = median(|| {
            (0..TIMES).try_for_each(|_| latewood_kernels::copy(client, &from).map(drop))?;
            client.check()
        })?;
        Ok(seconds / TIMES as f64 * COPIED as f64 / len as f64)
    }
}
