//! Token embeddings in JSON: rows of numbers, or their bytes in base64.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use half::f16;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Number;
use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::json::{or_default, to_whole};

/// A matrix `[n, dim]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Matrix {
    /// Row-major.
    pub(crate) values: Vec<f32>,
    pub(crate) dim: usize,
}

/// The numbers of packed values, little-endian.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Dtype {
    #[default]
    F32,
    F16,
}

/// A matrix as bytes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Packed {
    /// Little-endian numbers, row after row, in base64.
    #[schema(pattern = "^[A-Za-z0-9+/]*={0,2}$")]
    base64: String,
    /// Rows and values a row.
    #[serde(deserialize_with = "shape")]
    #[schema(value_type = Vec<u32>, min_items = 2, max_items = 2)]
    shape: [usize; 2],
    /// The numbers: f32 unless said.
    #[serde(default, deserialize_with = "or_default")]
    #[schema(nullable)]
    dtype: Dtype,
}

fn shape<'de, D: Deserializer<'de>>(value: D) -> Result<[usize; 2], D::Error> {
    let [rows, dim] = <[Number; 2]>::deserialize(value)?;
    Ok([to_whole(rows)?, to_whole(dim)?])
}

/// `values` as little-endian bytes in base64.
pub(crate) fn to_base64(values: &[f32]) -> String {
    STANDARD.encode(values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

impl Packed {
    fn unpack(&self) -> Result<Matrix, String> {
        let bytes = STANDARD.decode(&self.base64).map_err(|e| format!("base64: {e}"))?;
        let [rows, dim] = self.shape;
        let width = if self.dtype == Dtype::F32 { 4 } else { 2 };
        if rows.checked_mul(dim).and_then(|n| n.checked_mul(width)) != Some(bytes.len()) {
            return Err(format!("base64 holds {} bytes, and shape [{rows}, {dim}] takes {width} each", bytes.len()));
        }
        let values = match self.dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        };
        Ok(Matrix { values, dim })
    }
}

impl<'de> Deserialize<'de> for Matrix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MatrixVisitor)
    }
}

struct MatrixVisitor;

impl<'de> Visitor<'de> for MatrixVisitor {
    type Value = Matrix;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("rows of numbers, or {\"base64\", \"shape\", \"dtype\"}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Matrix, A::Error> {
        let (mut values, mut dim, mut count) = (Vec::new(), 0, 0);
        while let Some(row) = rows.next_element::<Vec<f32>>()? {
            if count == 0 {
                dim = row.len();
            }
            if row.len() != dim || dim == 0 {
                let found = row.len();
                return Err(de::Error::custom(format!(
                    "embeddings: row {count} has {found} values, and row 0 has {dim}"
                )));
            }
            values.extend(row);
            count += 1;
        }
        match count {
            0 => Err(de::Error::custom("embeddings: there is no row")),
            _ => Ok(Matrix { values, dim }),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Matrix, A::Error> {
        let packed = Packed::deserialize(de::value::MapAccessDeserializer::new(map))?;
        packed.unpack().map_err(|e| de::Error::custom(format!("embeddings: {e}")))
    }
}

impl PartialSchema for Matrix {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new().schema_type(Type::Number).build();
        let row = ArrayBuilder::new().items(number).min_items(Some(1));
        let rows = ArrayBuilder::new().items(row).min_items(Some(1)).description(Some("Rows of equal length."));
        OneOfBuilder::new()
            .item(rows)
            .item(utoipa::openapi::Ref::from_schema_name("Packed"))
            .description(Some("Token embeddings [n, dim]: rows of numbers, or their bytes."))
            .into()
    }
}

impl ToSchema for Matrix {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push(("Packed".into(), Packed::schema()));
        schemas.push(("Dtype".into(), Dtype::schema()));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use serde_json::json;

    fn read(value: serde_json::Value) -> Result<Matrix, String> {
        serde_json::from_value(value).map_err(|e| e.to_string())
    }

    #[test]
    fn rows_and_bytes_are_the_same() {
        let values = vec![1.0, -0.5, 0.25, 2.0];
        let matrix = Matrix { values: values.clone(), dim: 2 };
        assert_eq!(read(json!([[1, -0.5], [0.25, 2]])).unwrap(), matrix);
        assert_eq!(read(json!({ "base64": to_base64(&values), "shape": [2, 2] })).unwrap(), matrix);
        let halves: Vec<u8> = values.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect();
        let packed = json!({ "base64": STANDARD.encode(halves), "shape": [2, 2], "dtype": "f16" });
        assert_eq!(read(packed).unwrap(), matrix);
    }

    #[test]
    fn what_is_no_matrix_is_told() {
        for (value, part) in [
            (json!([]), "there is no row"),
            (json!([[]]), "row 0 has 0 values"),
            (json!([[1, 2], [3]]), "row 1 has 1 values, and row 0 has 2"),
            (json!("x"), "rows of numbers, or"),
            (json!({ "base64": "AAAA", "shape": [1, 2] }), "3 bytes"),
            (json!({ "base64": "!", "shape": [1, 1] }), "base64: "),
            (json!({ "base64": "", "shape": [usize::MAX, 3] }), "takes 4 each"),
            (json!({ "base64": "", "shape": [0, 0], "kind": 1 }), "unknown field"),
        ] {
            let text = read(value).unwrap_err();
            assert!(text.contains(part), "{text}");
        }
    }
}
