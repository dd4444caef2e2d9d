#!/usr/bin/env python3
"""Cross-encoders beside sentence-transformers and ONNX Runtime: same random weights, same pairs, same number of threads.

  cross.py --latewood target/release/latewood --beir SCIFACT_DIR [--shape minilm] [--pairs 100] [--queries 5] [--threads 1]

Each query is scored with as many documents, which are not chosen for it: their lengths are what costs. Tokenising is
included everywhere. sentence-transformers runs PyTorch as `predict` does by default, in batches of 32, longest first.
ONNX Runtime is given batches of up to 4,096 padded tokens, shortest first, in float32 and quantised by its
quantize_dynamic; ours is the stage's own time of `latewood rerank --report`, a new process for each query. Rounds
alternate between all of them; medians are printed, and how far the float32 scores of the first query are from PyTorch's.

Needs: numpy, torch, transformers, sentence-transformers, onnx, onnxruntime; zstandard for collections in .zst.
"""
import argparse
import io
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import tempfile
import time

os.environ.setdefault("HF_HUB_OFFLINE", "1")
import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402
import torch  # noqa: E402
from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: E402
from sentence_transformers import CrossEncoder  # noqa: E402
from transformers import AutoConfig, AutoModelForSequenceClassification, BertTokenizer  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOKENIZER = ROOT / "models/latewood-mini/tokenizer.json"
BUDGET = 4096
# The kind of network, its layers, width and heads.
SHAPES = {
    "minilm": ("bert", 6, 384, 12),  # ms-marco-MiniLM-L6
    "base": ("bert", 12, 768, 12),  # bge-reranker-base, but for its words
    "xsmall": ("deberta-v2", 12, 384, 6),  # mxbai-rerank-xsmall-v1, but for its words
}
DEBERTA = {"relative_attention": True, "position_buckets": 256, "norm_rel_ebd": "layer_norm", "share_att_key": True,
           "pos_att_type": ["p2c", "c2p"], "position_biased_input": False, "layer_norm_eps": 1e-7}


def lines(folder, name):
    """The lines of a file or of its .zst."""
    if (folder / name).exists():
        return (folder / name).read_text().splitlines()
    import zstandard

    with open(folder / f"{name}.zst", "rb") as file:
        return io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8").read().splitlines()


def texts(folder, pairs, queries):
    documents = [json.loads(line) for line in lines(folder, "corpus.jsonl")[: pairs * queries]]
    documents = [(d.get("title", "") + " " + d["text"]).strip() for d in documents]
    asked = [json.loads(line)["text"] for line in lines(folder, "queries.jsonl")[:queries]]
    return [(query, documents[at * pairs : (at + 1) * pairs]) for at, query in enumerate(asked)]


def make(folder, shape):
    """A model's folder, as it would be published."""
    kind, layers, width, heads = SHAPES[shape]
    vocabulary = json.loads(TOKENIZER.read_text())["model"]["vocab"]
    tokenizer = BertTokenizer(vocab=vocabulary, model_max_length=512)
    config = AutoConfig.for_model(kind, vocab_size=len(vocabulary), hidden_size=width, num_hidden_layers=layers,
                                  num_attention_heads=heads, intermediate_size=4 * width, num_labels=1,
                                  **(DEBERTA if kind == "deberta-v2" else {}))
    torch.manual_seed(1)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def sessions(model, folder, threads):
    """The network in ONNX Runtime, by precision."""
    inputs = ["input_ids", "attention_mask", "token_type_ids"]

    class Scores(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.network = model.model

        def forward(self, *given):
            return self.network(**dict(zip(inputs, given))).logits

    example = tuple(torch.ones(2, 8, dtype=torch.long) for _ in inputs)
    axes = {name: {0: "b", 1: "s"} for name in inputs}
    path, quantised = str(folder / "network.onnx"), str(folder / "network-int8.onnx")
    torch.onnx.export(Scores().eval(), example, path, dynamo=False, input_names=inputs, output_names=["logits"],
                      dynamic_axes=axes)
    quantize_dynamic(path, quantised, weight_type=QuantType.QInt8, per_channel=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    open_one = lambda path: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])  # noqa: E731
    return {"f32": open_one(path), "int8": open_one(quantised)}


def ort(run, model, query, documents):
    """Scores, in the order given."""
    tokens = model.tokenizer([query] * len(documents), documents, truncation="only_second", max_length=512)
    order = sorted(range(len(documents)), key=lambda at: len(tokens["input_ids"][at]))
    scores, at = np.zeros(len(documents)), 0
    while at < len(order):
        end = at + 1
        while end < len(order) and (end + 1 - at) * len(tokens["input_ids"][order[end]]) <= BUDGET:
            end += 1
        batch, width = order[at:end], len(tokens["input_ids"][order[end - 1]])
        # DeBERTa does not look at types.
        rows = {given.name: np.zeros((len(batch), width), np.int64) for given in run.get_inputs()}
        for name, padded in rows.items():
            for row, pair in enumerate(batch):
                padded[row, : len(tokens[name][pair])] = tokens[name][pair]
        scores[batch] = run.run(None, rows)[0][:, 0]
        at = end
    return scores


def timed(work):
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def ours(latewood, folder, query, documents, precision, threads):
    """Milliseconds, and scores in the order given."""
    (folder / "pairs.jsonl").write_text("".join(
        json.dumps({"id": str(at), "text": text}) + "\n" for at, text in enumerate(documents)))
    (folder / "one.toml").write_text(f'[[stages]]\ntype = "cross-encoder"\nmodel = "{folder / "model"}"\n')
    command = [latewood, "--quiet", "rerank", query, str(folder / "pairs.jsonl"), "--pipeline", str(folder / "one.toml"),
               "--report", "--json", "--precision", precision]
    env = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    scores = {line["id"]: line["score"] for line in map(json.loads, done.stdout.splitlines())}
    ms = float(re.search(r"^cross-encoder .*?([\d.]+) ms", done.stderr, re.M)[1])
    return ms, np.array([scores[str(at)] for at in range(len(documents))])


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--latewood", required=True)
    args.add_argument("--beir", required=True, type=pathlib.Path)
    args.add_argument("--shape", choices=SHAPES, default="minilm")
    args.add_argument("--pairs", type=int, default=100)
    args.add_argument("--queries", type=int, default=5)
    args.add_argument("--threads", type=int, default=1)
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    latewood = shutil.which(args.latewood) or args.latewood
    asked = texts(args.beir, args.pairs, args.queries)
    taken = {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        make(folder / "model", args.shape)
        model = CrossEncoder(str(folder / "model"), device="cpu", local_files_only=True)
        runs = sessions(model, folder, args.threads)
        for query, documents in asked:
            pairs = [(query, document) for document in documents]
            row = {"PyTorch f32": timed(lambda: model.predict(pairs))}
            for precision, run in runs.items():
                row[f"ONNX Runtime {precision}"] = timed(lambda: ort(run, model, query, documents))
                row[f"latewood {precision}"], scores = ours(latewood, folder, query, documents, precision, args.threads)
                if precision == "f32" and not taken:
                    apart = np.abs(scores - model.predict(pairs)).max() / scores.std()
            for name, ms in row.items():
                taken.setdefault(name, []).append(ms)
    tokens = sum(len(ids) for query, documents in asked for ids in
                 model.tokenizer([query] * len(documents), documents, truncation="only_second", max_length=512)["input_ids"])
    print(f"{args.shape}, {args.threads} thread(s), {args.pairs} pairs a query of {tokens / args.pairs / len(asked):.0f} "
          f"tokens, medians of {len(asked)} queries; float32 scores within {apart:.1e} of their "
          "standard deviation")
    for name, all_ms in taken.items():
        print(f"{name:20}{statistics.median(all_ms):>10.0f} ms")


if __name__ == "__main__":
    main()
