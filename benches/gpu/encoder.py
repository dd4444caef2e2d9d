#!/usr/bin/env python3
"""The encoder beside PyTorch on one GPU: same weights, same texts, in one run; prints a table in Markdown.

  encoder.py --latewood target/gpu/latewood [--device cuda:0] [--models mini,base] [--documents 4096] [--beir DIR]

`mini` is the embedded model, given four times as many documents; `base` a BERT of 12 layers of 768 with random weights.
Texts: 1,024 documents of the collection, or passages of 100 to 200 words and signs of this repository, again and again. The
CLI encodes so many at a time, and before them its queries, which are the same, so that all kernels are there when the clock
starts. What a new process loses where no two texts are alike, compiling for shapes as they come, is told apart.

PyTorch: bf16, sdpa attention, texts by length in batches of so many padded tokens, the best of --budgets; rows projected,
of unit norm, in f16 on the host. Ours: the device's default (f16), `encode_tokens_per_s` of `latewood eval`: tokenising
and choosing rows included, read back in f32. Padding does not count. Medians of alternating rounds; none but a model's
first begins after --seconds. Cosines, least and mean: the rows of 32 documents beside those of reference.py in f32.

Needs: numpy, torch, transformers, tokenizers, safetensors; zstandard for .zst. --device cpu tries it out, all in f32.
"""
import argparse
import json
import pathlib
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn.functional import normalize
from transformers import BertConfig, BertModel

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
MINI = ROOT / "models/latewood-mini"
sys.path.insert(0, str(MINI))
import reference  # noqa: E402

MODELS = {"mini": 4, "base": 1}  # how many times --documents
AT_A_TIME, COMPARED = 1024, 32  # documents
HEADER = ("model | tokens | batches of PyTorch | PyTorch but for tokenising | PyTorch | latewood | times PyTorch's | "
          "lost to compiling | rounds | cosines, PyTorch | cosines, latewood")


def collected(folder):
    """The documents of a collection."""
    documents = [json.loads(line) for line in reference.lines(folder / "corpus.jsonl") if line.strip()]
    return [text for d in documents if (text := f"{d.get('title', '')} {d['text']}".strip())]


def cut():
    """What this repository says, in passages of 100 to 200 words and signs."""
    files = [path for glob in ("*.md", "docs/**/*.md", "crates/**/*.rs") for path in sorted(ROOT.glob(glob))]
    whole = "\n".join(path.read_text("utf-8") for path in files)
    spans, chance, texts = [m.span() for m in re.finditer(r"\w+|[^\w\s]", whole)], random.Random(1), []
    at, end = 0, chance.randint(100, 200)
    while end <= len(spans):
        texts.append(whole[spans[at][0] : spans[end - 1][1]])
        at, end = end, end + chance.randint(100, 200)
    return texts


def collection(folder, documents, queries):
    """A collection in the layout of BEIR; every query counts."""
    (folder / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", documents), ("queries", queries)):
        lines = (json.dumps({"_id": str(at), "text": text}) + "\n" for at, text in enumerate(texts))
        (folder / f"{name}.jsonl").write_text("".join(lines))
    (folder / "qrels/test.tsv").write_text("".join(f"{at}\t0\t1\n" for at in range(len(queries))))
    return folder


def make(folder):
    """A model of the size of BERT base, in the format of the embedded one; without rows for the text as a whole."""
    config, rules = (json.loads((MINI / name).read_text()) for name in ("config.json", "latewood.json"))
    config |= {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}
    rules = {k: v for k, v in rules.items() if k not in ("base", "made_from", "pooled_rows")} | {"name": "base"}
    torch.manual_seed(1)
    weights = BertModel(BertConfig(**config), add_pooling_layer=False).state_dict()
    weights[rules["projection"]] = torch.randn(rules["dim"], config["hidden_size"]) * 0.02
    save_file(weights, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "latewood.json").write_text(json.dumps(rules))
    shutil.copy(MINI / "tokenizer.json", folder)
    return folder


class Theirs:
    def __init__(self, encoder, device, dtype):
        self.tokenizer, self.device, self.rules = encoder.tokenizer, device, encoder.rules["document"]
        self.tokenizer.enable_truncation(self.rules["max_tokens"])
        self.model = encoder.model.to(device, dtype)
        self.model.set_attn_implementation("sdpa")
        of = lambda matrix: torch.from_numpy(matrix).to(device, dtype).T  # noqa: E731
        self.projection, self.pooled = of(encoder.projection), encoder.pooled and of(encoder.pooled_projection)

    def tokenise(self, texts):
        return [np.array(e.ids) for e in self.tokenizer.encode_batch_fast(texts)]

    @torch.inference_mode()
    def rows(self, ids, budget):
        """Batches: which texts, and `[texts, rows, dim]`: rows of all tokens, and those of the text as a whole."""
        order, batches, at = sorted(range(len(ids)), key=lambda text: len(ids[text])), [], 0
        while at < len(order):
            end = at + 1
            while end < len(order) and (end + 1 - at) * len(ids[order[end]]) <= budget:
                end += 1
            batch, lens = order[at:end], np.array([[len(ids[text])] for text in order[at:end]])
            padded = np.zeros((len(batch), lens[-1, 0]), np.int64)
            seen = np.arange(padded.shape[1]) < lens
            padded[seen] = np.concatenate([ids[text] for text in batch])
            padded, mask = torch.from_numpy(padded).to(self.device), torch.from_numpy(seen).to(self.device)
            states = self.model(input_ids=padded, attention_mask=None if seen.all() else mask).last_hidden_state
            rows = normalize(states @ self.projection, dim=-1)
            if self.pooled is not None:
                whole = normalize((states * mask[:, :, None]).sum(1), dim=-1) @ self.pooled
                rows = torch.cat([rows, normalize(whole.view(len(batch), -1, rows.shape[2]), dim=-1)], 1)
            batches.append((batch, rows.half().to("cpu", non_blocking=True)))  # while the next one is under way
            at = end
        if self.device != "cpu":
            torch.cuda.synchronize(self.device)
        return batches

    def kept(self, texts, budget):
        """The rows that are kept, text after text."""
        ids, out = self.tokenise(texts), {}
        dropped = [self.tokenizer.token_to_id(token) for token in self.rules["drop_tokens"]]
        for batch, rows in self.rows(ids, budget):
            for text, values in zip(batch, rows.float().numpy()):
                keep = ~np.isin(ids[text], dropped)
                out[text] = [values[: len(keep)][keep if keep.any() else ~keep], values[len(ids[batch[-1]]) :]]
        return np.concatenate([rows for text in range(len(texts)) for rows in out[text]])


def timed(work, *given):
    start = time.perf_counter()
    return work(*given), time.perf_counter() - start


def measure(name, args, here, texts, folder, until):
    """A line of the table."""
    model = MINI if name == "mini" else make(folder)
    options = ["--device", args.device] + ["--model", model] * (name != "mini") + ["--precision", "f32"] * (here == "cpu")

    def latewood(*command):
        return json.loads(subprocess.check_output([args.latewood, *command, *options, "--json", "--quiet"]))

    encoder, sample = reference.Encoder(model), texts[: min(AT_A_TIME, args.documents)]
    compared, documents = sample[:COMPARED], sample * max(1, args.documents * MODELS[name] // len(sample))
    expected = np.concatenate([rows for _, _, rows in encoder.encode(compared, "document")])
    theirs = Theirs(encoder, here, torch.float32 if here == "cpu" else torch.bfloat16)
    ids = theirs.tokenise(documents)
    tokens = sum(map(len, ids))
    budget = min(args.budgets * 2, key=lambda budget: timed(theirs.rows, ids, budget)[1])  # each warmed up once
    # By words: then queries are encoded all at once, and only so.
    how = ["--no-exact", "--mode", "keyword", "--query-maxlen", str(theirs.rules["max_tokens"])]
    fresh = latewood("eval", collection(folder / "unlike", texts[: len(documents)], sample[:1]), *how)
    latewood("vectors", "encode", collection(folder / "few", compared, compared), "--out", folder / "rows")
    again, rounds = collection(folder / "again", documents, sample), []
    while len(rounds) < args.rounds and (not rounds or time.monotonic() < until):
        ids, tokenising = timed(theirs.tokenise, documents)
        network, report = timed(theirs.rows, ids, budget)[1], latewood("eval", again, *how)
        assert round(report["encode_s"] * report["encode_tokens_per_s"]) == tokens, "they do not read the same tokens"
        rounds.append([tokens / network, tokens / (tokenising + network), report["encode_tokens_per_s"]])
    network, whole, ours = map(statistics.median, zip(*rounds))
    lost = fresh["encode_s"] * (1 - fresh["encode_tokens_per_s"] / ours)
    line = [name, tokens, budget] + [f"{speed:.0f} tokens/s" for speed in (network, whole, ours)]
    line += [f"**{ours / whole:.2f}**", f"{lost:.1f} s", len(rounds)]
    for rows in (theirs.kept(compared, budget), np.load(folder / "rows/vectors.npy").astype(np.float32)):
        cosines = (reference.unit(rows) * reference.unit(expected)).sum(1)
        line.append(f"{cosines.min():.4f}, {cosines.mean():.4f}")
    return line


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("--latewood", required=True)
    args.add_argument("--device", default="cuda:0")
    args.add_argument("--models", type=lambda names: names.split(","), default=[*MODELS])
    for name, default in (("--documents", 4096), ("--rounds", 3), ("--seconds", 100)):
        args.add_argument(name, type=int, default=default)
    args.add_argument("--budgets", type=int, nargs="+", default=[8192, 32768, 131072])
    args.add_argument("--beir", type=pathlib.Path)
    args = args.parse_args()
    start, texts = time.monotonic(), collected(args.beir) if args.beir else cut()
    random.Random(1).shuffle(texts)
    here = "cpu" if args.device == "cpu" else f"cuda:{args.device.partition(':')[2] or 0}"
    on = "the processor" if here == "cpu" else torch.cuda.get_device_name(here)
    print(f"PyTorch {torch.__version__} on {on}, latewood on {args.device}\n\n| {HEADER} |")
    print("| --- " + "| ---: " * HEADER.count("|") + "|", flush=True)
    for at, name in enumerate(args.models, 1):
        with tempfile.TemporaryDirectory() as folder:
            line = measure(name, args, here, texts, pathlib.Path(folder), start + args.seconds * at / len(args.models))
            print(f"| {' | '.join(map(str, line))} |", flush=True)


if __name__ == "__main__":
    main()
