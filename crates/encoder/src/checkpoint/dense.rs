//! The config of a Dense layer, in PyLate's words and in Sentence Transformers'.

use serde::Deserialize;

use super::Module;
use super::folder::Folder;
use crate::error::{Error, Result};
use crate::recipe::{Activation, Dense, Place};

#[derive(Deserialize)]
struct Config {
    in_features: usize,
    out_features: usize,
    #[serde(default = "yes")]
    bias: bool,
    activation_function: Option<String>,
    #[serde(default)]
    use_residual: bool,
    module_input_name: Option<String>,
    module_output_name: Option<String>,
}

fn yes() -> bool {
    true
}

const TOKENS: &str = "token_embeddings";

/// The layer of `module`, which takes `input` values. `unsaid` is the activation of a config that has none; without
/// one, it must say.
pub(super) fn read(folder: &mut Folder, module: &Module, input: usize, unsaid: Option<Activation>) -> Result<Dense> {
    let at = module.at();
    let file = format!("{at}config.json");
    let config: Config = folder.json(&file)?;
    let refused = |what: &str, found: &str, supported| {
        Err(Error::Unsupported { file: file.clone(), what: what.into(), found: format!("{found:?}"), supported })
    };
    for (what, name) in
        [("module_input_name", &config.module_input_name), ("module_output_name", &config.module_output_name)]
    {
        if let Some(name) = name
            && name != TOKENS
        {
            return refused(what, name, "a Dense layer makes token_embeddings of token_embeddings");
        }
    }
    let activation = match (&config.activation_function, unsaid) {
        (Some(name), _) => Activation::of_class(name),
        (None, unsaid) => unsaid,
    };
    let Some(activation) = activation else {
        let name = config.activation_function.as_deref().unwrap_or("missing");
        let supported = "torch.nn's Identity, GELU, ReLU, LeakyReLU, SiLU, Sigmoid and Tanh are";
        return refused("activation_function", name, supported);
    };
    if config.in_features != input || config.out_features == 0 || config.out_features > 1 << 16 {
        return Err(Error::Disagrees {
            file,
            what: "in_features, out_features".into(),
            found: format!("{}, {}", config.in_features, config.out_features),
            expected: format!("{input}, which the layer before gives, and 1 to 65536"),
        });
    }
    Ok(Dense {
        place: Place::Folder(at),
        input,
        output: config.out_features,
        bias: config.bias,
        activation,
        residual: config.use_residual,
    })
}

/// The layers of `modules`, each of which takes what the one before gives; the first takes `input` values.
pub(super) fn chain<'a>(
    folder: &mut Folder,
    modules: impl Iterator<Item = &'a Module>,
    mut input: usize,
    unsaid: Option<Activation>,
) -> Result<Vec<Dense>> {
    modules
        .map(|module| {
            let dense = read(folder, module, input, unsaid)?;
            input = dense.output;
            Ok(dense)
        })
        .collect()
}
