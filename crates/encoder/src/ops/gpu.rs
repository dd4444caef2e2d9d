//! [`Ops`] on GPUs: the operations of [`super::composed`], through CubeCL, for wgpu and CUDA alike. Where there are matrix
//! units and it is computed in half precision, attention is one kernel, and so are products with what follows them.

use std::cell::OnceCell;

use burn::prelude::*;
use burn::tensor::{FloatDType, TensorPrimitive};
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{CubeBackend, CubeRuntime};

use super::attention;
use super::composed::{self, Distances, Linear, Parts};
use super::kernels::{self, Beside, Steps, Sum, Turn};
use super::padded::Padded;
use super::probe::{attends, multiplies};
use super::product;
use super::{DistanceSource, Hidden, LinearSource, Middle, Ops, Precision, Seen, Sight, refused};
use crate::backbone::{LayerNorm, activate};
use crate::batch::{Budget, Span};
use crate::error::{Error, Result};
use crate::recipe::Activation;

/// The backend of a runtime. Its tensors say themselves whether they are `f32` or in half precision.
pub(crate) type Gpu<R> = CubeBackend<R, f32, i32, u32>;

/// Tokens of a batch: enough to keep a large GPU busy.
const TOKENS: usize = 16_384;

/// Bytes of the scores of a piece of attention, at most.
const SCORES: u64 = 1 << 30;

impl<R: CubeRuntime> Ops for Gpu<R> {
    type Linear = Linear<Self>;
    type Distances = Distances<Self>;
    type Prepared = Prepared<R>;

    fn precision(asked: Precision, device: &Self::Device) -> Result<Precision> {
        let has = |numbers: FloatDType| Self::supports_dtype(device, numbers.into());
        match asked {
            Precision::Auto if has(FloatDType::F16) => Ok(Precision::F16),
            Precision::Auto => Ok(Precision::F32),
            Precision::Int8 => Err(refused(asked, "a GPU computes in f16, bf16 or f32")),
            _ if has(numbers(asked)) => Ok(asked),
            _ => Err(refused(asked, format!("{device:?} does not compute with such numbers"))),
        }
    }

    fn budget(widest: usize, device: &Self::Device) -> Budget {
        let values = allocation::<R>(device) / size_of::<f32>() as u64;
        Budget { tokens: TOKENS.min((values / widest.max(1) as u64) as usize), padded: true }
    }

    fn pack(source: LinearSource<'_>, device: &Self::Device) -> Result<Linear<Self>> {
        let LinearSource { shape: [input, output], bias, precision, read } = source;
        let mut values = vec![0.0; input * output];
        for (at, row) in values.chunks_exact_mut(input).enumerate() {
            read(at, row)?;
        }
        let numbers = numbers(precision);
        let bytes = (values.len() * size_of::<f32>()) as u64;
        if bytes > allocation::<R>(device) {
            let detail = format!("a matrix of {bytes} bytes is more than one allocation may hold");
            return Err(Error::Device { device: format!("{device:?}"), detail });
        }
        // As it is stored, `[output, input]`; what is multiplied with is a view of that.
        let weight = Tensor::<Self, 2>::from_data(TensorData::new(values, [output, input]), device);
        let bias = bias.map(|bias| Tensor::from_data(TensorData::new(bias, [output]), device));
        Ok(Linear { weight: weight.cast(numbers).transpose(), bias, numbers })
    }

    fn pack_distances(source: DistanceSource<Self>) -> Distances<Self> {
        let numbers = numbers(source.precision);
        Distances::new(source, numbers)
    }

    fn prepare(_: &Sight<'_>, width: usize, device: &Self::Device) -> Prepared<R> {
        Prepared { width, ragged: OnceCell::new(), padded: OnceCell::new(), device: device.clone() }
    }

    fn linear_layer(x: Tensor<Self, 2>, layer: &Linear<Self>, activation: Activation) -> Tensor<Self, 2> {
        composed::linear(x, layer, activation)
    }

    fn self_attention(x: Tensor<Self, 2>, layer: &Linear<Self>, seen: &Seen<'_, Self>) -> Tensor<Self, 2> {
        let (prepared, sight) = (&seen.prepared, &seen.sight);
        if attends::<R>(prepared.width, layer.numbers, &prepared.device) {
            prepared.ragged(sight).attention(x, layer, sight)
        } else {
            composed::self_attention(x, layer, None, sight.heads, prepared.padded(sight))
        }
    }

    fn distance_attention(
        x: Tensor<Self, 2>,
        layer: &Linear<Self>,
        distances: &Distances<Self>,
        seen: &Seen<'_, Self>,
    ) -> Tensor<Self, 2> {
        composed::self_attention(x, layer, Some(distances), seen.sight.heads, seen.prepared.padded(&seen.sight))
    }

    fn feed_forward(x: Tensor<Self, 2>, layers: [&Linear<Self>; 2], middle: Middle) -> Tensor<Self, 2> {
        composed::feed_forward(x, layers, middle)
    }

    fn lookup(x: Tensor<Self, 2>, ids: Tensor<Self, 1, Int>) -> Tensor<Self, 2> {
        Self::rows(x, ids)
    }

    fn add_norm(x: Tensor<Self, 2>, added: Option<Tensor<Self, 2>>, norm: &LayerNorm<Self>) -> Tensor<Self, 2> {
        <Self as Parts>::add_norm(x, added, norm)
    }

    fn linear_add_norm(
        a: Tensor<Self, 2>,
        layer: &Linear<Self>,
        x: Tensor<Self, 2>,
        norm: &LayerNorm<Self>,
    ) -> Hidden<Self> {
        normed(a, layer, x, norm, Beside::Norm)
    }

    fn feed_forward_add_norm(
        x: Hidden<Self>,
        [up, down]: [&Linear<Self>; 2],
        middle: Middle,
        norm: &LayerNorm<Self>,
    ) -> Hidden<Self> {
        normed(composed::wide(x.factor, up, middle, down.numbers), down, x.exact, norm, Beside::Norm)
    }

    fn linear_add_then_norm(
        a: Tensor<Self, 2>,
        layer: &Linear<Self>,
        x: Tensor<Self, 2>,
        norm: &LayerNorm<Self>,
    ) -> Hidden<Self> {
        normed(a, layer, x, norm, Beside::Sum)
    }

    fn feed_forward_add_then_norm(
        x: Hidden<Self>,
        [up, down]: [&Linear<Self>; 2],
        middle: Middle,
        norm: &LayerNorm<Self>,
    ) -> Hidden<Self> {
        normed(composed::wide(x.factor, up, middle, down.numbers), down, x.exact, norm, Beside::Sum)
    }

    fn means(hidden: Tensor<Self, 2>, texts: &[Span]) -> Tensor<Self, 2> {
        let spans = texts.iter().flat_map(|text| [text.first as i32, text.attended as i32]).collect();
        let device = hidden.device();
        tensor(kernels::means(primitive(hidden), ints::<R>(spans, &device)))
    }
}

/// Whole numbers on the device.
fn ints<R: CubeRuntime>(values: Vec<i32>, device: &R::Device) -> CubeTensor<R> {
    let n = values.len();
    Tensor::<Gpu<R>, 1, Int>::from_data(TensorData::new(values, [n]), device).into_primitive()
}

/// A batch as attention likes it, in the one way or the other, as layers ask for it.
pub(crate) struct Prepared<R: CubeRuntime> {
    width: usize,
    ragged: OnceCell<Ragged<R>>,
    padded: OnceCell<Padded<Gpu<R>>>,
    device: R::Device,
}

impl<R: CubeRuntime> Prepared<R> {
    fn ragged(&self, sight: &Sight<'_>) -> &Ragged<R> {
        self.ragged.get_or_init(|| Ragged::new(sight, self.width, &self.device))
    }

    fn padded(&self, sight: &Sight<'_>) -> &Padded<Gpu<R>> {
        self.padded.get_or_init(|| {
            // Products with vectors of distances are up to twice as large as the scores that they are added to.
            let parts = if sight.distances { 2 } else { 1 };
            let most = SCORES.min(allocation::<R>(&self.device)) / size_of::<f32>() as u64 / parts;
            Padded::new(sight, self.width, most as usize, &self.device)
        })
    }
}

/// A batch without padding.
struct Ragged<R: CubeRuntime> {
    tiles: CubeTensor<R>,
    turn: Option<Turn<R>>,
}

impl<R: CubeRuntime> Ragged<R> {
    fn new(sight: &Sight<'_>, width: usize, device: &R::Device) -> Self {
        let texts = sight.texts;
        let turn = sight.rotary.map(|rotary| {
            let longest = texts.iter().map(|text| text.len).max().unwrap_or(0);
            let angles = rotary.angles(longest);
            let [cos, sin] = [&angles.cos, &angles.sin].map(|values| {
                let values = values[..longest * width / 2].to_vec();
                let count = values.len();
                primitive(Tensor::<Gpu<R>, 1>::from_data(TensorData::new(values, [count]), device))
            });
            let places = texts.iter().flat_map(|text| 0..text.len as i32).collect();
            Turn { places: ints::<R>(places, device), cos, sin, heads: sight.heads }
        });
        Self { tiles: ints::<R>(attention::tiles(texts), device), turn }
    }

    fn attention(&self, x: Tensor<Gpu<R>, 2>, layer: &Linear<Gpu<R>>, sight: &Sight<'_>) -> Tensor<Gpu<R>, 2> {
        let numbers = layer.numbers;
        let qkv = match &self.turn {
            Some(turn) => {
                let x = primitive(Gpu::<R>::multiplied(x, layer, true));
                kernels::turned(x, layer.bias.clone().map(primitive), turn, numbers.into())
            }
            None => primitive(Gpu::<R>::layer(x, layer, Activation::Identity, numbers)),
        };
        tensor(attention::attention(qkv, self.tiles.clone(), sight.heads, sight.window))
    }
}

impl<R: CubeRuntime> Parts for Gpu<R> {
    fn product<const D: usize>(x: Tensor<Self, D>, w: Tensor<Self, D>, numbers: FloatDType) -> Tensor<Self, D> {
        product(x, w, numbers, FloatDType::F32)
    }

    fn multiplied(x: Tensor<Self, 2>, layer: &Linear<Self>, rounded: bool) -> Tensor<Self, 2> {
        // bfloat16 has 8 bits: rounding twice would show.
        let rounded = rounded && layer.numbers == FloatDType::F16;
        let out = if rounded { FloatDType::F16 } else { FloatDType::F32 };
        layer_in_one(&x, layer, None, false, out)
            .unwrap_or_else(|| product(x, layer.weight.clone(), layer.numbers, out))
    }

    fn layer(x: Tensor<Self, 2>, layer: &Linear<Self>, activation: Activation, numbers: FloatDType) -> Tensor<Self, 2> {
        let in_one = match activation {
            Activation::Identity => layer_in_one(&x, layer, layer.bias.clone(), false, numbers),
            Activation::Gelu => layer_in_one(&x, layer, layer.bias.clone(), true, numbers),
            _ => None,
        };
        in_one.unwrap_or_else(|| {
            let x = Self::multiplied(x, layer, numbers != FloatDType::F32);
            Self::biased(x, layer.bias.clone(), activation, numbers)
        })
    }

    fn rows(x: Tensor<Self, 2>, ids: Tensor<Self, 1, Int>) -> Tensor<Self, 2> {
        tensor(kernels::rows(primitive(x), ids.into_primitive()))
    }

    fn biased(
        x: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
        activation: Activation,
        numbers: FloatDType,
    ) -> Tensor<Self, 2> {
        let steps = |gelu| Steps { gelu, gated: false };
        match activation {
            Activation::Gelu => fused(x, bias, steps(true), numbers),
            Activation::Identity if bias.is_none() => x.cast(numbers),
            Activation::Identity => fused(x, bias, steps(false), numbers),
            other if bias.is_none() => activate(other, x.cast(FloatDType::F32)).cast(numbers),
            other => activate(other, fused(x, bias, steps(false), FloatDType::F32)).cast(numbers),
        }
    }

    fn gated(
        x: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
        activation: Activation,
        numbers: FloatDType,
    ) -> Tensor<Self, 2> {
        if activation == Activation::Gelu {
            return fused(x, bias, Steps { gelu: true, gated: true }, numbers);
        }
        let half = x.dims()[1] / 2;
        let x = Self::biased(x, bias, Activation::Identity, FloatDType::F32);
        (activate(activation, x.clone().narrow(1, 0, half)) * x.narrow(1, half, half)).cast(numbers)
    }

    fn attention_weights(
        scores: Tensor<Self, 4>,
        scale: f32,
        hidden: Option<Tensor<Self, 3>>,
        numbers: FloatDType,
    ) -> Tensor<Self, 4> {
        let hidden = hidden.map(primitive);
        tensor(kernels::attention_weights(primitive(scores), scale, hidden, numbers.into()))
    }

    fn add_norm(x: Tensor<Self, 2>, added: Option<Tensor<Self, 2>>, norm: &LayerNorm<Self>) -> Tensor<Self, 2> {
        let sum = Sum { x: primitive(x), bias: None, added: added.map(primitive) };
        tensor(kernels::add_norm(sum, vectors(norm), norm.epsilon as f32))
    }
}

/// The norm of `x + a W + b` as a factor in the layer's numbers, and what is `beside`.
fn normed<R: CubeRuntime>(
    a: Tensor<Gpu<R>, 2>,
    layer: &Linear<Gpu<R>>,
    x: Tensor<Gpu<R>, 2>,
    norm: &LayerNorm<Gpu<R>>,
    beside: Beside,
) -> Hidden<Gpu<R>> {
    let product = primitive(Gpu::multiplied(a, layer, false));
    let sum = Sum { x: product, bias: layer.bias.clone().map(primitive), added: Some(primitive(x)) };
    let (vectors, epsilon) = (vectors(norm), norm.epsilon as f32);
    if layer.numbers == FloatDType::F32 && beside == Beside::Norm {
        return tensor(kernels::add_norm(sum, vectors, epsilon)).into();
    }
    let [exact, factor] = kernels::add_norm_both(sum, vectors, epsilon, beside, layer.numbers.into()).map(tensor);
    Hidden { exact, factor }
}

fn vectors<R: CubeRuntime>(norm: &LayerNorm<Gpu<R>>) -> [CubeTensor<R>; 2] {
    [&norm.gamma, &norm.beta].map(|vector| primitive(vector.clone()))
}

/// `x w`, both first rounded to `numbers`, sums in `f32`, as `out`.
fn product<R: CubeRuntime, const D: usize>(
    x: Tensor<Gpu<R>, D>,
    w: Tensor<Gpu<R>, D>,
    numbers: FloatDType,
    out: FloatDType,
) -> Tensor<Gpu<R>, D> {
    let [left, right] = [&x, &w].map(|factor| primitive(factor.clone().cast(numbers)));
    match matmul(left, right, None, MatmulStrategy::default(), out.into()) {
        Ok(product) => tensor(product),
        // No kernel for this mixture.
        Err(_) => x.cast(FloatDType::F32).matmul(w.cast(FloatDType::F32)),
    }
}

/// `x w + b` as `out`, and its GELU, in one kernel; not where another does better, or there is none.
fn layer_in_one<R: CubeRuntime>(
    x: &Tensor<Gpu<R>, 2>,
    layer: &Linear<Gpu<R>>,
    bias: Option<Tensor<Gpu<R>, 1>>,
    gelu: bool,
    out: FloatDType,
) -> Option<Tensor<Gpu<R>, 2>> {
    if !product::pays(x.dims()[0]) || !multiplies::<R>(layer.numbers, &x.device()) {
        return None;
    }
    let (x, weight) = (primitive(x.clone().cast(layer.numbers)), primitive(layer.weight.clone().transpose()));
    let takes = product::takes(&x, &weight);
    takes.then(|| tensor(product::product(x, weight, bias.map(primitive), gelu, out.into())))
}

/// `steps` of `x + bias` as `numbers`.
fn fused<R: CubeRuntime>(
    x: Tensor<Gpu<R>, 2>,
    bias: Option<Tensor<Gpu<R>, 1>>,
    steps: Steps,
    numbers: FloatDType,
) -> Tensor<Gpu<R>, 2> {
    tensor(kernels::biased(primitive(x), bias.map(primitive), steps, numbers.into()))
}

pub(super) fn primitive<R: CubeRuntime, const D: usize>(x: Tensor<Gpu<R>, D>) -> CubeTensor<R> {
    x.into_primitive().tensor()
}

pub(super) fn tensor<R: CubeRuntime, const D: usize>(primitive: CubeTensor<R>) -> Tensor<Gpu<R>, D> {
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// The type of weights and factors.
fn numbers(precision: Precision) -> FloatDType {
    match precision {
        Precision::F16 => FloatDType::F16,
        Precision::Bf16 => FloatDType::BF16,
        Precision::Auto | Precision::Int8 | Precision::F32 => FloatDType::F32,
    }
}

/// Bytes that one allocation may hold.
fn allocation<R: CubeRuntime>(device: &R::Device) -> u64 {
    R::client(device).properties().memory.max_page_size
}
