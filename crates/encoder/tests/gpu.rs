//! Networks on a GPU against the values of the references that the processor is held to, and against the processor.
//!
//! A software adapter is a GPU here (on Linux lavapipe: Debian's package `mesa-vulkan-drivers`). Where there is none,
//! each test says that it tests nothing; with `LATEWOOD_REQUIRE_GPU_TESTS=wgpu,cuda` it fails if one is missing.
#![cfg(any(feature = "wgpu", feature = "cuda"))]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says what it skips")]

mod reference;

use std::path::{Path, PathBuf};
use std::sync::{LazyLock, OnceLock};

use latewood_encoder::{
    ColbertEncoder, Compute, CrossEncoder, Encoder, EncoderDevice, Error, Precision, RawRows, Side,
};
use latewood_kernels::{Device, Found, Resolved, found};

/// How far a value may be off. In `f32` sums are added up in another order; CUDA's have factors of 11 bits, and so has
/// half precision. Measured on lavapipe: 1.4e-6 in `f32`, 2.1e-3 in `f16`.
const F32: f32 = 1e-4;
const HALF: f32 = 5e-3;

/// Some variants of each network, and of each way to fill queries up, to project, to pool.
const VARIANTS: [&str; 13] = [
    "plain-bert",
    "pylate-attend",
    "pylate-distilbert",
    "pylate-modernbert",
    "pylate-modernbert-attend",
    "pylate-roberta",
    "pylate-two-dense",
    "st-fixed",
    "st-modernbert",
    "st-pooling",
    "st-xlmr",
    "stanford-default",
    "stanford-jina",
];

static MINI: LazyLock<ColbertEncoder> = LazyLock::new(|| ColbertEncoder::open(&mini(), Precision::F32).unwrap());

fn mini() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/latewood-mini")
}

/// Real sentences of some to a hundred tokens, and what trips tokenizers.
fn sentences() -> Vec<&'static str> {
    let paragraphs = include_str!("../../../ARCHITECTURE.md").split("\n\n").filter(|part| part.is_ascii());
    let mut texts: Vec<&str> = paragraphs.map(|part| &part[..part.len().min(400)]).take(5).collect();
    texts.extend(["", "larch", "oak, ash", "<pad> elm [PAD]"]);
    texts
}

/// The GPUs to test on, and how far off their `f32` may be.
fn gpus() -> Vec<(EncoderDevice, f32)> {
    static FOUND: OnceLock<Found> = OnceLock::new();
    let found = FOUND.get_or_init(found);
    let mut gpus = Vec::new();
    for (asked, kind) in [(Device::Cuda(0), "cuda"), (Device::Wgpu(0), "wgpu")] {
        let there = asked.among(found).ok().and_then(|gpu| device(&gpu));
        let required = std::env::var("LATEWOOD_REQUIRE_GPU_TESTS").is_ok_and(|kinds| kinds.contains(kind));
        assert!(there.is_some() || !required, "no {asked} to test on: {found}");
        gpus.extend(there);
    }
    if gpus.is_empty() {
        eprintln!("NOT TESTED, there is no GPU: {found}");
    }
    gpus
}

fn device(gpu: &Resolved) -> Option<(EncoderDevice, f32)> {
    #[cfg(feature = "wgpu")]
    if let Some(device) = gpu.wgpu() {
        return Some((EncoderDevice::Wgpu(device), F32));
    }
    #[cfg(feature = "cuda")]
    if let Some(device) = gpu.cuda() {
        return Some((EncoderDevice::Cuda(device), HALF));
    }
    let _ = (gpu, F32);
    None
}

fn compute(device: &EncoderDevice, precision: Precision) -> Compute {
    Compute::on(device.clone()).in_precision(precision)
}

/// The largest difference of two values, and the least cosine of two rows.
fn apart(found: &[RawRows], expected: &[RawRows], dim: usize) -> (f32, f32) {
    let (mut most, mut least) = (0.0_f32, 1.0_f32);
    for (a, b) in found.iter().zip(expected) {
        assert_eq!((&a.ids, a.attended, &a.token_ids), (&b.ids, b.attended, &b.token_ids));
        assert_eq!(a.values.len(), b.values.len());
        for (a, b) in a.values.chunks_exact(dim).zip(b.values.chunks_exact(dim)) {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
            most = a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(most, f32::max);
            let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
            assert!(cosine.is_finite());
            least = least.min(cosine);
        }
    }
    (most, least)
}

#[test]
fn every_network_is_as_its_reference() {
    for (device, of_f32) in gpus() {
        for (precision, tolerance) in [(Precision::F32, of_f32), (Precision::F16, HALF)] {
            let mut largest = 0.0_f32;
            for variant in VARIANTS {
                let dir = reference::golden().join("models").join(variant);
                let encoder = ColbertEncoder::open(&dir, compute(&device, precision)).unwrap();
                match reference::compare(variant, &encoder, tolerance) {
                    Ok(difference) => largest = largest.max(difference),
                    Err(why) => panic!("{device}, {precision}, {variant}: {why}"),
                }
            }
            eprintln!("{device}, {precision}: {largest} off at most");
            assert!(largest > 0.0, "two ways of computing that agree to the last bit were not two");
        }
    }
}

#[test]
fn real_sentences_are_as_on_the_processor() {
    let texts = sentences();
    for (device, of_f32) in gpus() {
        for (precision, tolerance) in [(Precision::F32, of_f32), (Precision::Auto, HALF)] {
            let encoder = ColbertEncoder::open(&mini(), compute(&device, precision)).unwrap();
            assert_eq!((encoder.model_id(), encoder.device()), (MINI.model_id(), &device));
            for side in [Side::Query, Side::Document] {
                let found = encoder.encode_raw(side, &texts).unwrap();
                let (most, least) = apart(&found, &MINI.encode_raw(side, &texts).unwrap(), encoder.dim());
                eprintln!("{device}, {precision}, {side:?}: {most} off at most, a cosine of {least} at least");
                assert!(most <= tolerance && least >= 1.0 - tolerance, "{device}, {precision}: {most}, {least}");
                // And alone as among others.
                for at in [0, texts.len() - 4, texts.len() - 3] {
                    let alone = encoder.encode_raw(side, &[texts[at]]).unwrap();
                    let (most, _) = apart(&alone, &found[at..=at], encoder.dim());
                    assert!(most <= tolerance, "{device}, {precision}, {at}: {most}");
                }
            }
        }
    }
}

#[test]
fn cross_encoders_score_as_on_the_processor() {
    let long = "A wide ring means a wet spring, a narrow one a dry summer. ".repeat(3);
    let documents = ["larch", "The ring of a tree tells the weather of its year.", "", &long];
    for (device, of_f32) in gpus() {
        // Logits are of some units, and the last layer stays in f32.
        for (precision, tolerance) in [(Precision::F32, 10.0 * of_f32), (Precision::F16, 10.0 * HALF)] {
            for name in ["bert", "electra-small", "jina-reranker", "modernbert-mean", "deberta", "deberta-plain"] {
                let dir = reference::golden().join("cross/models").join(name);
                let open = |compute: Compute| CrossEncoder::open(&dir, compute).unwrap();
                let processor = open(Compute::default().in_precision(Precision::F32));
                let query = "What does a wide ring tell?";
                let found = open(compute(&device, precision)).logits(query, &documents).unwrap();
                let expected = processor.logits(query, &documents).unwrap();
                let most = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                eprintln!("{device}, {precision}, {name}: {most} off at most");
                assert!(found.iter().all(|x| x.is_finite()) && most <= tolerance, "{found:?}, {expected:?}");
            }
        }
    }
}

#[test]
fn several_threads_may_ask_at_once() {
    for (device, tolerance) in gpus() {
        let dir = reference::golden().join("models").join("pylate-default");
        let encoder = ColbertEncoder::open(&dir, compute(&device, Precision::F32)).unwrap();
        let texts = sentences();
        encoder.self_test().unwrap();
        let expected = encoder.encode_raw(Side::Document, &texts).unwrap();
        std::thread::scope(|scope| {
            let ask = || apart(&encoder.encode_raw(Side::Document, &texts).unwrap(), &expected, encoder.dim()).0;
            let threads = [(); 3].map(|()| scope.spawn(ask));
            assert!(threads.into_iter().all(|thread| thread.join().unwrap() <= tolerance));
        });
    }
}

#[test]
fn bytes_are_for_processors() {
    for (device, _) in gpus() {
        let error = ColbertEncoder::open(&mini(), compute(&device, Precision::Int8)).unwrap_err();
        assert!(matches!(error, Error::Option { option: "precision", .. }), "{error}");
    }
}

/// The panic is written to the standard error, by whatever of the libraries below panics.
#[test]
fn a_gpu_that_is_not_there_is_an_error() {
    let mut devices = Vec::new();
    #[cfg(feature = "wgpu")]
    devices.push(EncoderDevice::Wgpu(burn_wgpu::WgpuDevice::DiscreteGpu(99)));
    #[cfg(feature = "cuda")]
    devices.push(EncoderDevice::Cuda(burn_cuda::CudaDevice::new(99)));
    for device in devices {
        let error = ColbertEncoder::open(&mini(), device.clone()).unwrap_err();
        assert!(matches!(error, Error::Device { .. }) && error.to_string().contains("99"), "{error}");
    }
}
