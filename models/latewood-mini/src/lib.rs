//! The default encoder of Latewood, as data: the bytes of its files, and nothing that computes.
//!
//! `latewood-encoder` with the feature `embedded` turns them into an encoder; what the files say, where they
//! come from and how good the model is stands in the `README.md` beside them.

/// `config.json`: the shape of the network.
pub static CONFIG: &[u8] = include_bytes!("../config.json");

/// `latewood.json`: from hidden states to embeddings.
pub static DESCRIPTION: &[u8] = include_bytes!("../latewood.json");

/// `tokenizer.json`.
pub static TOKENIZER: &[u8] = include_bytes!("../tokenizer.json");

/// `model.safetensors`: the weights, int8 with a scale for each row.
pub static WEIGHTS: &[u8] = include_bytes!("../model.safetensors");
