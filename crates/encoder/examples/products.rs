//! Times the encoder's way to multiply matrices and those of CubeCL, on the matrices of BERT base: `products DEVICE [ROWS]`.
//!
//! Factors are `f16`, sums `f32`, as an encoder has them; its own way is the first, and what CubeCL chooses the second. Each
//! runs in a process of its own, since one that a device does not like may leave it unusable.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people")]

use std::error::Error;
use std::process::Command;
use std::time::Instant;

use burn::prelude::*;
use burn::tensor::{DType, FloatDType};
use burn_cubecl::ops::numeric::empty_device_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};
use cubek_matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek_matmul::launch::{Strategy, launch_ref};
use cubek_std::InputBinding;
use latewood_kernels::Device;

type Gpu<R> = CubeBackend<R, f32, i32, u32>;

/// Columns of the left factor, and of the result.
const SHAPES: [[usize; 2]; 4] = [[768, 2304], [768, 768], [768, 3072], [3072, 768]];
const ROUNDS: usize = 20;

fn ways() -> Vec<(&'static str, Option<Strategy>)> {
    let of_cubecl = [
        ("auto", Strategy::Auto),
        ("simple cyclic cmma", Strategy::SimpleCyclicCmma(Default::default())),
        ("simple cyclic mma", Strategy::SimpleCyclicMma(Default::default())),
        ("simple strided mma", Strategy::SimpleStridedMma(Default::default())),
        ("simple async cyclic mma", Strategy::SimpleAsyncCyclicMma(Default::default())),
        ("simple TMA cmma", Strategy::SimpleTmaCmma(Default::default())),
        ("simple TMA mma", Strategy::SimpleTmaMma(Default::default())),
        ("double cyclic cmma", Strategy::DoubleCyclicCmma(Default::default())),
        ("double cyclic mma", Strategy::DoubleCyclicMma(Default::default())),
        ("double hybrid mma", Strategy::DoubleHybridMma(Default::default())),
        ("double async cyclic mma", Strategy::DoubleAsyncCyclicMma(Default::default())),
        ("double TMA mma", Strategy::DoubleTmaMma(Default::default())),
        ("specialized cyclic mma", Strategy::SpecializedCyclicMma(Default::default())),
        ("specialized TMA mma", Strategy::SpecializedTmaMma(Default::default())),
        ("ordered double cmma", Strategy::OrderedDoubleCmma(Default::default())),
        ("ordered double mma", Strategy::OrderedDoubleMma(Default::default())),
    ];
    let of_cubecl = of_cubecl.into_iter().map(|(name, strategy)| (name, Some(strategy)));
    std::iter::once(("own", None)).chain(of_cubecl).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let device = args.first().map_or("auto", String::as_str);
    let rows: usize = args.get(1).map_or(Ok(16_384), |rows| rows.parse())?;
    if let Some(way) = args.get(2) {
        // What is returned would be told with its quotes.
        one(device, rows, way.parse()?).unwrap_or_else(|error| {
            eprintln!("{error}");
            std::process::exit(1);
        });
        return Ok(());
    }
    let columns = SHAPES.map(|[k, n]| format!("{rows} x {k} x {n}")).join(" | ");
    println!("| TFLOP/s | {columns} |\n| --- | ---: | ---: | ---: | ---: |");
    for (way, (name, _)) in ways().iter().enumerate() {
        let own = [device.to_string(), rows.to_string(), way.to_string()];
        let ran = Command::new(std::env::current_exe()?).args(own).output()?;
        let (told, failed) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        let why = failed.lines().find(|line| !line.is_empty() && !line.starts_with("thread")).unwrap_or("");
        println!("| {name} | {} |", if ran.status.success() { told.trim() } else { why.trim() });
    }
    Ok(())
}

/// Times one of the ways.
fn one(device: &str, rows: usize, way: usize) -> Result<(), Box<dyn Error>> {
    let gpu = device.parse::<Device>()?.resolve()?;
    let ways = ways();
    let strategy = ways[way].1.as_ref();
    #[cfg(feature = "wgpu")]
    if let Some(device) = gpu.wgpu() {
        return times::<burn_wgpu::WgpuRuntime>(&device, rows, strategy);
    }
    #[cfg(feature = "cuda")]
    if let Some(device) = gpu.cuda() {
        return times::<cubecl::cuda::CudaRuntime>(&device, rows, strategy);
    }
    Err(format!("{} is no GPU", gpu.device).into())
}

fn times<R: CubeRuntime>(device: &R::Device, rows: usize, strategy: Option<&Strategy>) -> Result<(), Box<dyn Error>> {
    let mut told = Vec::new();
    for [k, n] in SHAPES {
        let (left, right) = (values::<R>(device, rows, k), values::<R>(device, n, k).transpose());
        let a = primitive(left.clone().cast(FloatDType::F16));
        // As an encoder stores it: rows are columns of what is multiplied with.
        let b = primitive(right.clone().transpose().cast(FloatDType::F16).transpose());
        let multiplied = || multiply::<R>(strategy, &a, &b);
        let out = multiplied()?;
        Gpu::<R>::sync(device).map_err(|e| e.to_string())?;
        let (wanted, found) = (corner(left, right)?, tensor::<R>(out.clone()).slice([0..8, 0..8]));
        let off =
            (found.try_into_data().map_err(|e| e.to_string())?.into_vec::<f32>().map_err(|e| format!("{e:?}"))?)
                .iter()
                .zip(&wanted)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
        let start = Instant::now();
        for _ in 0..ROUNDS {
            multiplied()?;
        }
        Gpu::<R>::sync(device).map_err(|e| e.to_string())?;
        let speed = (2 * rows * k * n * ROUNDS) as f64 / start.elapsed().as_secs_f64() / 1e12;
        // Products are of the size of 1 or 2.
        told.push(if off < 0.05 { format!("{speed:.3}") } else { format!("wrong by {off}") });
    }
    println!("{}", told.join(" | "));
    Ok(())
}

fn multiply<R: CubeRuntime>(
    strategy: Option<&Strategy>,
    a: &CubeTensor<R>,
    b: &CubeTensor<R>,
) -> Result<CubeTensor<R>, String> {
    let Some(strategy) = strategy else {
        let stored = primitive(tensor::<R>(b.clone()).transpose());
        return Ok(latewood_encoder::product(a.clone(), stored));
    };
    let shape = [a.meta.shape()[0], b.meta.shape()[1]];
    let out = empty_device_dtype(a.client.clone(), a.device.clone(), shape.into(), DType::F32);
    let [lhs, rhs] = [a, b].map(|x| InputBinding::new(x.clone().binding(), DType::F16.into()));
    let (half, single) = (DType::F16.into(), DType::F32.into());
    let mut types = MatmulElems::from_globals(&MatmulGlobalElems { lhs: half, rhs: half, out: single });
    launch_ref(strategy, &out.client, lhs, rhs, out.clone().binding(), &mut types)
        .map_err(|e| format!("{e:?}").replace('\n', " "))?;
    Ok(out)
}

/// Always the same, of about unit length a row.
fn values<R: CubeRuntime>(device: &R::Device, rows: usize, columns: usize) -> Tensor<Gpu<R>, 2> {
    let mut state = columns as u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 24) as f32 - 127.5) / 96.0 / (columns as f32).sqrt().sqrt()
    };
    let values = std::iter::repeat_with(next).take(rows * columns).collect::<Vec<f32>>();
    Tensor::from_data(TensorData::new(values, [rows, columns]), device)
}

/// The first 8 by 8 of the product, computed here.
fn corner<R: CubeRuntime>(left: Tensor<Gpu<R>, 2>, right: Tensor<Gpu<R>, 2>) -> Result<Vec<f32>, Box<dyn Error>> {
    let k = left.dims()[1];
    let host = |x: Tensor<Gpu<R>, 2>| -> Result<Vec<f32>, String> {
        x.try_into_data().map_err(|e| e.to_string())?.into_vec().map_err(|e| format!("{e:?}"))
    };
    let (a, b) = (host(left.slice([0..8, 0..k]))?, host(right.transpose().slice([0..8, 0..k]))?);
    let dot = |i: usize, j: usize| a[i * k..][..k].iter().zip(&b[j * k..][..k]).map(|(a, b)| a * b).sum();
    Ok((0..8).flat_map(|i| (0..8).map(move |j| (i, j))).map(|(i, j)| dot(i, j)).collect())
}

fn primitive<R: CubeRuntime>(x: Tensor<Gpu<R>, 2>) -> CubeTensor<R> {
    x.into_primitive().tensor()
}

fn tensor<R: CubeRuntime>(primitive: CubeTensor<R>) -> Tensor<Gpu<R>, 2> {
    Tensor::from_primitive(burn::tensor::TensorPrimitive::Float(primitive))
}
