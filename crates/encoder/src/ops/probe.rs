//! Whether a device computes attention in one kernel as it should be: compared once, or it is left to chains of kernels,
//! which a warning says.

use std::any::type_name;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use burn::prelude::*;
use burn::tensor::FloatDType;
use burn_cubecl::CubeRuntime;

use super::attention::{attention, offered, tiles};
use super::gpu::{Gpu, primitive, tensor};
use crate::batch::Span;

const HEADS: usize = 2;
/// How far a value may be off: half precision makes some thousandths, bfloat16 a few hundredths.
const TOLERANCE: f64 = 0.05;

/// Whether the device has what the kernel takes, for heads of `width` dimensions in `numbers`, and computes right.
pub(super) fn works<R: CubeRuntime>(width: usize, numbers: FloatDType, device: &R::Device) -> bool {
    /// What was found of a runtime's devices, for widths and numbers.
    static FOUND: Mutex<Option<HashMap<String, bool>>> = Mutex::new(None);
    if !offered(&R::client(device), width, numbers.into()) {
        return false;
    }
    let name = format!("{} {device:?} {width} {numbers:?}", type_name::<R>());
    let known = |found: &Option<HashMap<String, bool>>| found.as_ref().and_then(|found| found.get(&name).copied());
    if let Some(works) = known(&FOUND.lock().unwrap_or_else(PoisonError::into_inner)) {
        return works;
    }
    // CubeCL panics where a driver or its compiler is not as it expects. A window, too, as some layers have one.
    let right = || [usize::MAX, 3].iter().try_for_each(|&window| compare::<R>(width, numbers, window, device));
    let compared = catch_unwind(AssertUnwindSafe(right)).unwrap_or_else(|_| Err("its kernel cannot be run".into()));
    if let Err(reason) = &compared {
        tracing::warn!(device = name, "attention is left to several kernels, which are slower: {reason}");
    }
    let works = compared.is_ok();
    FOUND.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_default().insert(name, works);
    works
}

/// Compares the kernel's values for three texts, of one of which some tokens are not seen, and of another none is.
fn compare<R: CubeRuntime>(width: usize, numbers: FloatDType, window: usize, device: &R::Device) -> Result<(), String> {
    let texts = [(0, 37, 37), (37, 18, 11), (55, 2, 0)];
    let texts = texts.map(|(first, len, attended)| Span { first, len, attended });
    let (n, wide) = (57, 3 * HEADS * width);
    let mut state = 1u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Quarters, which half precision tells exactly.
        ((state >> 24) % 13) as f32 / 4.0 - 1.5
    };
    let qkv: Vec<f32> = std::iter::repeat_with(next).take(n * wide).collect();
    let places = tiles(&texts);
    let count = places.len();
    let given = Tensor::<Gpu<R>, 2>::from_data(TensorData::new(qkv.clone(), [n, wide]), device).cast(numbers);
    let places = Tensor::<Gpu<R>, 1, Int>::from_data(TensorData::new(places, [count]), device).into_primitive();
    let found = tensor::<R, 2>(attention(primitive(given), places, HEADS, window)).cast(FloatDType::F32);
    let found = found.try_into_data().map_err(|error| error.to_string())?;
    let found: Vec<f32> = found.into_vec().map_err(|error| format!("{error:?}"))?;
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
pub(super) fn expected(
    qkv: &[f32],
    text: &Span,
    query: usize,
    at: usize,
    [wide, width]: [usize; 2],
    window: usize,
) -> Vec<f64> {
    let part = |token: usize, part: usize| &qkv[(text.first + token) * wide + part * wide / 3 + at..][..width];
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let seen: Vec<usize> = (0..text.attended).filter(|key| key.abs_diff(query) <= window).collect();
    let score = |&key: &usize| dot(part(query, 0), part(key, 1)) / (width as f64).sqrt();
    let weights: Vec<f64> = seen.iter().map(score).map(f64::exp).collect();
    let total: f64 = weights.iter().sum();
    let value = |i| seen.iter().zip(&weights).map(|(&key, w)| w / total * f64::from(part(key, 2)[i])).sum();
    (0..width).map(value).collect()
}
