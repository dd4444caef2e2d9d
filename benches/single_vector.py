#!/usr/bin/env python3
"""What single-vector retrieval brings: the first hundred of all-MiniLM-L6-v2 over a BEIR folder, as a TREC run.

  single_vector.py BEIR_DIR RUN [--threads 2]
  latewood eval BEIR_DIR --pipeline late.toml --candidates RUN

The vector of a text is the mean of its hidden states, all 384 values, to length 1, of its first 256 tokens, as the model's
card has it; documents are ranked by cosine. The weights are those of the embedded model, which is that network read token by
token, its bytes dequantised.

Needs: numpy, torch, transformers, tokenizers, safetensors; zstandard for collections in .zst.
"""
import argparse
import json
import pathlib
import sys

import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "models/latewood-mini"))
import reference  # noqa: E402

TOKENS = 256
DEPTH = 100


def vectors(encoder, texts, what):
    """`[n, 384]`, of length 1."""
    encoder.tokenizer.enable_truncation(TOKENS)
    rows = []
    for first in range(0, len(texts), 256):
        ids = [e.ids for e in encoder.tokenizer.encode_batch(texts[first : first + 256])]
        rows += [states.mean(0) for states in reference.hidden_states(encoder.model, ids)]
        print(f"\r{len(rows)} of {len(texts)} {what}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return reference.unit(np.array(rows))


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("beir", type=pathlib.Path)
    args.add_argument("run", type=pathlib.Path)
    args.add_argument("--threads", type=int, default=2)
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    read = lambda name: [json.loads(line) for line in reference.lines(args.beir / name) if line.strip()]  # noqa: E731
    documents, queries = read("corpus.jsonl"), read("queries.jsonl")
    encoder = reference.Encoder()
    texts = [(d.get("title", "") + " " + d["text"]).strip() for d in documents]
    found = vectors(encoder, [q["text"] for q in queries], "queries") @ vectors(encoder, texts, "documents").T
    with args.run.open("w") as run:
        for query, scores in zip(queries, found):
            for rank, at in enumerate(np.argsort(-scores, kind="stable")[:DEPTH], 1):
                run.write(f"{query['_id']} Q0 {documents[at]['_id']} {rank} {scores[at]:.6f} minilm\n")


if __name__ == "__main__":
    main()
