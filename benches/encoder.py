#!/usr/bin/env python3
"""The encoder beside ONNX Runtime: same weights, same texts, same number of threads, in one run.

  encoder.py --latewood target/release/latewood --beir SCIFACT_DIR [--documents 400] [--queries 100] [--threads 1]

Documents: tokens a second over whole documents, each side batching them by length as it likes (ONNX Runtime: batches of
up to 4,096 padded tokens, shortest first). Queries: milliseconds one by one, text to rows. Rounds alternate between all
of them; medians are printed. ONNX Runtime runs the network alone (tokenising included, projection not), in float32 and
quantised by its quantize_dynamic: weights in signed bytes, a scale a column, activations as they come.

Needs: numpy, torch, transformers, tokenizers, safetensors, onnx, onnxruntime; zstandard for collections in .zst.
"""
import argparse
import io
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "models/latewood-mini"))
import reference  # noqa: E402

BUDGET = 4096


def lines(folder, name):
    """The lines of a file or of its .zst."""
    if (folder / name).exists():
        return (folder / name).read_text().splitlines()
    import zstandard

    with open(folder / f"{name}.zst", "rb") as file:
        return io.TextIOWrapper(zstandard.ZstdDecompressor().stream_reader(file), "utf-8").read().splitlines()


def subset(source, target, documents, queries):
    """A collection of the first documents and queries, judged so that every query counts."""
    corpus, asked = lines(source, "corpus.jsonl")[:documents], lines(source, "queries.jsonl")
    judged = {line.split("\t")[0] for line in lines(source, "qrels/test.tsv")[1:]}
    asked = [q for q in asked if json.loads(q)["_id"] in judged][:queries]
    (target / "qrels").mkdir(parents=True)
    (target / "corpus.jsonl").write_text("\n".join(corpus))
    (target / "queries.jsonl").write_text("\n".join(asked))
    first = json.loads(corpus[0])["_id"]
    (target / "qrels/test.tsv").write_text("".join(f"{json.loads(q)['_id']}\t{first}\t1\n" for q in asked))
    texts = [json.loads(d) for d in corpus]
    texts = [(d.get("title", "") + " " + d["text"]).strip() for d in texts]
    return [t for t in texts if t], [json.loads(q)["text"] for q in asked]


def sessions(encoder, folder, threads):
    """The network in ONNX Runtime, by precision."""

    class States(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = encoder.model

        def forward(self, ids, mask):
            return self.model(input_ids=ids, attention_mask=mask).last_hidden_state

    path = str(folder / "network.onnx")
    example = (torch.ones(2, 8, dtype=torch.long), torch.ones(2, 8, dtype=torch.long))
    axes = {"ids": {0: "b", 1: "s"}, "mask": {0: "b", 1: "s"}, "states": {0: "b", 1: "s"}}
    names = dict(input_names=["ids", "mask"], output_names=["states"], dynamic_axes=axes)
    torch.onnx.export(States(), example, path, dynamo=False, **names)
    quantised = str(folder / "network-int8.onnx")
    quantize_dynamic(path, quantised, weight_type=QuantType.QInt8, per_channel=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    open_one = lambda path: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])  # noqa: E731
    return {"f32": open_one(path), "int8": open_one(quantised)}


def ort_documents(run, tokenizer, limit, texts):
    """Tokens a second."""
    start = time.perf_counter()
    tokenizer.enable_truncation(limit)
    ids = sorted((e.ids for e in tokenizer.encode_batch(texts)), key=len)
    at = 0
    while at < len(ids):
        end = at + 1
        while end < len(ids) and (end + 1 - at) * len(ids[end]) <= BUDGET:
            end += 1
        batch, width = ids[at:end], len(ids[end - 1])
        padded = np.zeros((len(batch), width), np.int64)
        mask = np.zeros_like(padded)
        for row, tokens in enumerate(batch):
            padded[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        run.run(None, {"ids": padded, "mask": mask})
        at = end
    return sum(map(len, ids)) / (time.perf_counter() - start)


def ort_queries(run, tokenizer, limit, texts):
    """Median milliseconds."""
    tokenizer.enable_truncation(limit)
    taken = []
    for text in texts:
        start = time.perf_counter()
        ids = np.array([tokenizer.encode(text).ids], np.int64)
        run.run(None, {"ids": ids, "mask": np.ones_like(ids)})
        taken.append((time.perf_counter() - start) * 1e3)
    return statistics.median(taken)


def ours(latewood, collection, precision, threads):
    env = {**os.environ, "RAYON_NUM_THREADS": str(threads)}
    command = [latewood, "eval", str(collection), "--no-exact", "--json", "--quiet", "--mode", "semantic", "--precision",
               precision]
    report = json.loads(subprocess.run(command, env=env, check=True, capture_output=True).stdout)
    return report["encode_tokens_per_s"], report["modes"][0]["encode_query_ms"]["p50"]


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--latewood", required=True)
    args.add_argument("--beir", required=True, type=pathlib.Path)
    args.add_argument("--documents", type=int, default=400)
    args.add_argument("--queries", type=int, default=100)
    args.add_argument("--threads", type=int, default=1)
    args.add_argument("--rounds", type=int, default=3)
    args = args.parse_args()
    latewood = shutil.which(args.latewood) or args.latewood
    encoder = reference.Encoder()
    limit = {role: encoder.rules[role]["max_tokens"] for role in ("document", "query")}
    taken = {precision: [] for precision in ("f32", "int8")}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        documents, queries = subset(args.beir, folder / "collection", args.documents, args.queries)
        run = sessions(encoder, folder, args.threads)
        for precision in taken:
            ort_queries(run[precision], encoder.tokenizer, limit["query"], queries[:5])
        for precision in [*taken] * args.rounds:
            speed = ort_documents(run[precision], encoder.tokenizer, limit["document"], documents)
            per_query = ort_queries(run[precision], encoder.tokenizer, limit["query"], queries)
            row = (speed, per_query) + ours(latewood, folder / "collection", precision, args.threads)
            taken[precision].append(row)
    print(f"{args.threads} thread(s), {len(documents)} documents, {len(queries)} queries, medians of {args.rounds} rounds")
    print(f"{'':30}{'ONNX Runtime':>14}{'latewood':>12}{'times as fast':>15}")
    for precision, rows in taken.items():
        theirs_speed, theirs_ms, our_speed, our_ms = (statistics.median(column) for column in zip(*rows))
        label = f"{precision} documents, tokens/s"
        print(f"{label:30}{theirs_speed:>14.0f}{our_speed:>12.0f}{our_speed / theirs_speed:>15.2f}")
        label = f"{precision} query, ms (median)"
        print(f"{label:30}{theirs_ms:>14.2f}{our_ms:>12.2f}{theirs_ms / our_ms:>15.2f}")


if __name__ == "__main__":
    main()
