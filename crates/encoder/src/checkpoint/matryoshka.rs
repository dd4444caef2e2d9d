//! Which of a model's first values can stand alone (Kusupati et al. 2022, arXiv:2205.13147).

use serde::Deserialize;

use super::folder::Folder;
use crate::error::Result;
use crate::recipe::{Format, Recipe};

#[derive(Deserialize)]
struct Config {
    /// Not of Hugging Face, but understood by others too (vLLM).
    matryoshka_dimensions: Option<Vec<usize>>,
    model_type: Option<String>,
    position_embedding_type: Option<String>,
}

/// The sizes of rows that the config in the folder `at` says the model was trained for, largest first.
pub(super) fn dims(folder: &mut Folder, at: &str, recipe: &Recipe) -> Result<Vec<usize>> {
    let config: Config = folder.json(&format!("{at}config.json"))?;
    let mut dims = match config.matryoshka_dimensions {
        Some(dims) => dims,
        // It says so in its card alone (arXiv:2408.16672), and is known by its network: no other ColBERT has it.
        None if recipe.format == Format::Stanford
            && config.model_type.as_deref() == Some("xlm-roberta")
            && config.position_embedding_type.as_deref() == Some("rotary") =>
        {
            vec![128, 96, 64]
        }
        None => Vec::new(),
    };
    dims.sort_unstable_by(|a, b| b.cmp(a));
    dims.dedup();
    // Where the largest is not the row, the list is about something else: the sentence vectors of the network's origin.
    if dims.first() != Some(&recipe.dim) {
        return Ok(Vec::new());
    }
    dims.retain(|dim| *dim > 0 && dim.is_multiple_of(8));
    Ok(dims)
}
