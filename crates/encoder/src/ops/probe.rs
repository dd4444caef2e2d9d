//! Whether a device computes as it should what only devices with matrix units compute: compared once, or it is left to chains of
//! kernels, which a warning says.

use std::any::type_name;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use burn::prelude::*;
use burn::tensor::FloatDType;
use burn_cubecl::CubeRuntime;
use latewood_kernels::failures::{Fault, tried};

use super::attention::{attention, offered, tiles};
use super::gpu::{Gpu, primitive, tensor};
use super::product::{self, STEP, TILE};
use crate::batch::Span;

const HEADS: usize = 2;
/// How far a value may be off: half precision makes some thousandths, bfloat16 a few hundredths.
const TOLERANCE: f64 = 0.05;

/// Whether the device has what [`attention`] takes, for heads of `width` dimensions in `numbers`, and computes right.
pub(super) fn attends<R: CubeRuntime>(width: usize, numbers: FloatDType, device: &R::Device) -> bool {
    // A window, too, as some layers have one.
    let right = || [usize::MAX, 3].iter().try_for_each(|&window| compare::<R>(width, numbers, window, device));
    offered(&R::client(device), width, numbers.into()) && agrees::<R>("attention", width, numbers, device, right)
}

/// Whether the device has what [`product::product`] takes in `numbers`, and computes right.
pub(super) fn multiplies<R: CubeRuntime>(numbers: FloatDType, device: &R::Device) -> bool {
    let right = || {
        let ways = [(false, numbers), (true, numbers), (false, FloatDType::F32)];
        ways.into_iter().try_for_each(|(gelu, out)| compare_product::<R>(gelu, numbers, out, device))
    };
    product::offered(&R::client(device), numbers.into()) && agrees::<R>("a product", 0, numbers, device, right)
}

/// What `right` says, which is asked once for `what` of a `width` in `numbers` on a device.
fn agrees<R: CubeRuntime>(
    what: &str,
    width: usize,
    numbers: FloatDType,
    device: &R::Device,
    right: impl Fn() -> Result<(), String>,
) -> bool {
    static FOUND: Mutex<Option<HashMap<String, bool>>> = Mutex::new(None);
    let name = format!("{} {device:?} {what} {width} {numbers:?}", type_name::<R>());
    let known = |found: &Option<HashMap<String, bool>>| found.as_ref().and_then(|found| found.get(&name).copied());
    if let Some(works) = known(&FOUND.lock().unwrap_or_else(PoisonError::into_inner)) {
        return works;
    }
    let compared = match tried(right) {
        // Another time there may be room for it.
        Err(Fault::Full { .. }) => return false,
        compared => compared.unwrap_or_else(|fault| Err(format!("its kernel cannot be run: {fault}"))),
    };
    if let Err(reason) = &compared {
        tracing::warn!(device = name, "{what} is left to other kernels, which are slower: {reason}");
    }
    let works = compared.is_ok();
    FOUND.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(name, works);
    works
}

/// Compares the kernel's values where a tile is not full, for several steps.
fn compare_product<R: CubeRuntime>(
    gelu: bool,
    numbers: FloatDType,
    out: FloatDType,
    device: &R::Device,
) -> Result<(), String> {
    let [n, k, m] = [TILE + 30, 3 * STEP, TILE + 24];
    let mut next = quarters();
    let [x, weight, bias] = [n * k, m * k, m].map(|count| next.by_ref().take(count).collect::<Vec<f32>>());
    let factor = |values: &Vec<f32>, rows| {
        primitive(Tensor::<Gpu<R>, 2>::from_data(TensorData::new(values.clone(), [rows, k]), device).cast(numbers))
    };
    let added = primitive(Tensor::<Gpu<R>, 1>::from_data(TensorData::new(bias.clone(), [m]), device));
    let found = product::product(factor(&x, n), factor(&weight, m), Some(added), gelu, out.into());
    let found = values(tensor::<R, 2>(found))?;
    let row = |values: &[f32], at: usize| values[at * k..][..k].iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    let expected = |(i, j): (usize, usize)| {
        let dot: f64 = row(&x, i).iter().zip(row(&weight, j)).map(|(a, b)| a * b).sum();
        let sum = dot + f64::from(bias[j]);
        // By the logistic function, which is off by two hundredths at most.
        if gelu { sum / (1.0 + (-1.702 * sum).exp()) } else { sum }
    };
    let near = |(at, &found): (usize, &f32)| {
        let expected = expected((at / m, at % m));
        (f64::from(found) - expected).abs() <= TOLERANCE + expected.abs() / 100.0
    };
    let right = found.len() == n * m && found.iter().enumerate().all(near);
    if right { Ok(()) } else { Err(format!("its values are off by more than {TOLERANCE}")) }
}

/// Values between -1.5 and 1.5, always the same: quarters, which half precision tells exactly.
fn quarters() -> impl Iterator<Item = f32> {
    let mut state = 1u32;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 24) % 13) as f32 / 4.0 - 1.5
    })
}

fn values<R: CubeRuntime>(x: Tensor<Gpu<R>, 2>) -> Result<Vec<f32>, String> {
    let data = x.cast(FloatDType::F32).try_into_data().map_err(|error| error.to_string())?;
    data.into_vec().map_err(|error| format!("{error:?}"))
}

/// Compares the kernel's values for three texts, of one of which some tokens are not seen, and of another none is.
fn compare<R: CubeRuntime>(width: usize, numbers: FloatDType, window: usize, device: &R::Device) -> Result<(), String> {
    let texts = [(0, 37, 37), (37, 18, 11), (55, 2, 0)];
    let texts = texts.map(|(first, len, attended)| Span { first, len, attended });
    let (n, wide) = (57, 3 * HEADS * width);
    let qkv: Vec<f32> = quarters().take(n * wide).collect();
    let places = tiles(&texts);
    let count = places.len();
    let given = Tensor::<Gpu<R>, 2>::from_data(TensorData::new(qkv.clone(), [n, wide]), device).cast(numbers);
    let places = Tensor::<Gpu<R>, 1, Int>::from_data(TensorData::new(places, [count]), device).into_primitive();
    let found = values(tensor::<R, 2>(attention(primitive(given), places, HEADS, window)))?;
    let alike = |(text, query, head): (&Span, usize, usize)| {
        let at = (text.first + query) * wide / 3 + head * width;
        let values = expected(&qkv, text, query, head * width, [wide, width], window);
        let near = |(found, expected): (&f32, f64)| (f64::from(*found) - expected).abs() <= TOLERANCE;
        found.get(at..at + width).is_some_and(|found| found.iter().zip(values).all(near))
    };
    let rows = texts.iter().flat_map(|text| (0..text.len).map(move |query| (text, query)));
    let right = rows.flat_map(|(text, query)| (0..HEADS).map(move |head| (text, query, head))).all(alike);
    if right { Ok(()) } else { Err(format!("its values are off by more than {TOLERANCE}")) }
}

/// A token's head, `[width]`, by the formula.
fn expected(qkv: &[f32], text: &Span, query: usize, at: usize, [wide, width]: [usize; 2], window: usize) -> Vec<f64> {
    let part = |token: usize, part: usize| &qkv[(text.first + token) * wide + part * wide / 3 + at..][..width];
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let seen: Vec<usize> = (0..text.attended).filter(|key| key.abs_diff(query) <= window).collect();
    let score = |&key: &usize| dot(part(query, 0), part(key, 1)) / (width as f64).sqrt();
    let weights: Vec<f64> = seen.iter().map(score).map(f64::exp).collect();
    let total: f64 = weights.iter().sum();
    let value = |i| seen.iter().zip(&weights).map(|(&key, w)| w / total * f64::from(part(key, 2)[i])).sum();
    (0..width).map(value).collect()
}

#[cfg(all(test, feature = "cuda"))]
mod tests {
    use burn_cuda::CudaDevice;
    use cubecl::cuda::CudaRuntime;
    use latewood_kernels::Device;

    use super::*;

    #[test]
    #[allow(clippy::print_stderr, reason = "a test says what it skips")]
    fn devices_with_matrix_units_compute_right() {
        let Some(device): Option<CudaDevice> = Device::Cuda(0).resolve().ok().and_then(|gpu| gpu.cuda()) else {
            let required = std::env::var("LATEWOOD_REQUIRE_GPU_TESTS").is_ok_and(|kinds| kinds.contains("cuda"));
            assert!(!required, "no CUDA device");
            eprintln!("NOT TESTED, there is no CUDA device");
            return;
        };
        for numbers in [FloatDType::F16, FloatDType::BF16] {
            for width in [32, 48, 64, 96, 128] {
                assert!(attends::<CudaRuntime>(width, numbers, &device), "{width} dimensions in {numbers:?}");
            }
            assert!(multiplies::<CudaRuntime>(numbers, &device), "{numbers:?}");
        }
        assert!(!attends::<CudaRuntime>(24, FloatDType::F16, &device));
    }
}
