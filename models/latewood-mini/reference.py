#!/usr/bin/env python3
"""Reference encoder for a model folder of this kind, in PyTorch: slow, plain, and the yardstick for the engine's own encoder.

  reference.py golden OUT.json           expected embeddings of a few difficult texts, for the encoder's tests
  reference.py measure BEIR_DIR...       NDCG@10 and recall@100 of exact MaxSim over a BEIR folder

Every rule (which tokens are dropped, how long a text may be, how the pooled rows are made) is read from `latewood.json`;
the weights are the int8 ones of `model.safetensors`, dequantised. A BEIR folder holds `corpus.jsonl`, `queries.jsonl`
(each also as `.zst`, which needs the package zstandard) and `qrels/test.tsv`.

Needs: numpy, torch, transformers, tokenizers, safetensors.
"""
import argparse
import base64
import hashlib
import json
import pathlib

import numpy as np
import torch
from safetensors.numpy import load_file
from tokenizers import Tokenizer
from transformers import BertConfig, BertModel

HERE = pathlib.Path(__file__).resolve().parent


def unit(x):
    """Rows of x scaled to length 1; a zero row stays zero."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-12)


def dequantise(tensors):
    """Tensors of a model folder with every int8 tensor and its row scales turned back into one float32 tensor."""
    out = {}
    for name, t in tensors.items():
        if t.dtype == np.int8:
            out[name] = t.astype(np.float32) * tensors[name + ".scale"][:, None]
        elif not name.endswith(".scale"):
            out[name] = t
    return out


def backbone(config, weights):
    """The BERT encoder without its pooler, carrying `weights` (float32 arrays by Hugging Face name)."""
    model = BertModel(BertConfig(**config), add_pooling_layer=False).eval()
    state = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in weights.items()}
    missing = [k for k in model.load_state_dict(state, strict=False).missing_keys if not k.endswith("_ids")]
    if missing:
        raise ValueError(f"weights missing: {missing}")
    return model


def hidden_states(model, batch, budget=4096):
    """Last hidden states, one [len, hidden] float32 array for each list of token ids, in the order given."""
    out, order, start = [None] * len(batch), sorted(range(len(batch)), key=lambda i: len(batch[i])), 0
    with torch.inference_mode():
        while start < len(order):
            end = start + 1
            while end < len(order) and (end + 1 - start) * len(batch[order[end]]) <= budget:
                end += 1
            part = order[start:end]
            ids = torch.zeros(len(part), len(batch[part[-1]]), dtype=torch.long)
            mask = torch.zeros_like(ids)
            for row, i in enumerate(part):
                ids[row, : len(batch[i])] = torch.as_tensor(batch[i])
                mask[row, : len(batch[i])] = 1
            states = model(input_ids=ids, attention_mask=mask).last_hidden_state.numpy()
            for row, i in enumerate(part):
                out[i] = states[row, : len(batch[i])]
            start = end
    return out


class Encoder:
    """A finished model folder. `encode` gives, for each text, its token ids, the ids of its rows and the rows."""

    def __init__(self, folder=HERE):
        folder = pathlib.Path(folder)
        self.rules = json.loads((folder / "latewood.json").read_text())
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        weights = dequantise(load_file(folder / "model.safetensors"))
        self.pooled = self.rules.get("pooled_rows")
        self.projection = weights.pop(self.rules["projection"])
        self.pooled_projection = weights.pop(self.pooled["projection"]) if self.pooled else None
        self.model = backbone(json.loads((folder / "config.json").read_text()), weights)

    def encode(self, texts, role):
        """role: "query" or "document". -> [(token ids, row ids, rows)]; a pooled row has the id None."""
        rules = self.rules[role]
        self.tokenizer.enable_truncation(rules["max_tokens"])
        ids = [e.ids for e in self.tokenizer.encode_batch(texts)]
        dropped = {self.tokenizer.token_to_id(t) for t in rules["drop_tokens"]}
        out = []
        for tokens, states in zip(ids, hidden_states(self.model, ids)):
            kept = [i for i, t in enumerate(tokens) if t not in dropped] or list(range(len(tokens)))
            rows, row_ids = states[kept] @ self.projection.T, [tokens[i] for i in kept]
            rows = unit(rows) if self.rules["normalize"] else rows
            if self.pooled:
                mean = unit(states.mean(0)) @ self.pooled_projection.T
                extra = unit(mean.reshape(self.pooled["rows"], self.rules["dim"]))
                if role == "query":
                    extra = extra * (self.pooled["query_weight"] * len(kept) / self.pooled["rows"])
                rows, row_ids = np.concatenate([rows, extra]), row_ids + [None] * self.pooled["rows"]
            out.append((tokens, row_ids, rows.astype(np.float32)))
        return out


# ------------------------------------------------------------------------------------------------ golden

LONG = ("The ring width of a tree is set by the weather of its year: a wet spring gives broad earlywood, a dry summer "
        "ends the season with a narrow, dense band of latewood. ")
GOLDEN = [
    ("sentence", "document", "Latewood forms in summer and is denser than earlywood."),
    ("question", "query", "what makes latewood denser than earlywood?"),
    ("one_word", "query", "dendrochronology"),
    ("accents", "document", "Café déjà vu, naïve Ångström, Dvořák, İstanbul, ﬁne; cafe\u0301 decomposed."),
    ("scripts", "document", "Древесина, ξύλο, خشب, עץ, लकड़ी and หมายเหตุ in one line."),
    ("cjk", "query", "晩材 (late wood) 목재 年輪の幅"),
    ("emoji", "document", "Trees 🌲🌳 grow 👩🏽‍🔬 measure ❤️‍🔥 done ✅"),
    ("punctuation_only", "document", "?! ... -- (#)"),
    ("punctuation_query", "query", "?!"),
    ("empty", "document", ""),
    ("empty_query", "query", ""),
    ("whitespace", "document", " \t\r\n\u00a0\u3000 "),
    ("control", "document", "a\u0000b\u200bc\ufffdd\u00ade"),
    ("code", "document", "fn max_sim(q: &[f32], d: &[f32]) -> f32 {\n    q.iter().zip(d).map(|(a, b)| a * b).sum()\n}"),
    ("url", "query", "https://example.org/a/b?id=42&lang=en#top"),
    ("repeated", "document", "tree " * 40),
    ("long_word", "document", "x" * 120 + " rings"),
    ("long", "document", LONG * 20),
    ("long_query", "query", LONG * 20),
]


def golden(encoder, folder, out):
    cases = []
    for name, role, text in GOLDEN:
        (tokens, row_ids, rows), = encoder.encode([text], role)
        n = len(rows)
        stored = list(range(n)) if n <= 40 else list(range(8)) + list(range(n - 8, n))
        data = base64.b64encode(rows[stored].astype("<f4").tobytes()).decode()
        cases.append({"name": name, "role": role, "text": text, "token_ids": tokens, "row_ids": row_ids,
                      "stored_rows": stored, "data": data})
    sha = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    doc = {"model": encoder.rules["name"], "dim": encoder.rules["dim"], "weights_sha256": sha, "cases": cases}
    pathlib.Path(out).write_text(json.dumps(doc, ensure_ascii=True, indent=0) + "\n")


# ------------------------------------------------------------------------------------------------ measure

def lines(path):
    if path.exists():
        return path.read_text("utf-8").splitlines()
    import zstandard
    with open(path.with_name(path.name + ".zst"), "rb") as f:
        return zstandard.ZstdDecompressor().stream_reader(f).read().decode("utf-8").split("\n")


def measure(encoder, folder):
    folder = pathlib.Path(folder)
    qrels = {}
    for line in lines(folder / "qrels" / "test.tsv")[1:]:
        query, doc, grade = line.split("\t")
        if int(grade) > 0:
            qrels.setdefault(query, {})[doc] = int(grade)
    docs = [json.loads(x) for x in lines(folder / "corpus.jsonl") if x.strip()]
    queries = [q for q in map(json.loads, filter(str.strip, lines(folder / "queries.jsonl"))) if q["_id"] in qrels]
    encoded = [rows for _, _, rows in encoder.encode([q["text"] for q in queries], "query")]
    lengths = np.array([len(r) for r in encoded])
    columns = np.concatenate(encoded).T
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    scores = np.empty((len(queries), len(docs)), np.float32)
    for first in range(0, len(docs), 256):
        texts = [(d.get("title", "") + " " + d["text"]).strip() for d in docs[first : first + 256]]
        for i, (_, _, rows) in enumerate(encoder.encode(texts, "document")):
            scores[:, first + i] = np.add.reduceat((rows @ columns).max(0), starts)
        print(f"\r{first + len(texts)} of {len(docs)} documents", end="", flush=True)
    ndcg, recall = [], []
    for query, row in zip(queries, scores):
        relevant = qrels[query["_id"]]
        ranked = [docs[i]["_id"] for i in np.argsort(-row, kind="stable")[:100]]
        gain = sum(relevant.get(d, 0) / np.log2(r + 2) for r, d in enumerate(ranked[:10]))
        ideal = sum(g / np.log2(r + 2) for r, g in enumerate(sorted(relevant.values(), reverse=True)[:10]))
        ndcg.append(gain / ideal)
        recall.append(sum(d in relevant for d in ranked) / len(relevant))
    print(f"\r{folder.name}: NDCG@10 {np.mean(ndcg):.4f}, recall@100 {np.mean(recall):.4f}, "
          f"{len(docs)} documents, {len(queries)} queries")


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("command", choices=["golden", "measure"])
    ap.add_argument("paths", nargs="+", help="golden: the output file; measure: BEIR folders")
    ap.add_argument("--model", type=pathlib.Path, default=HERE, help="model folder (default: this one)")
    ap.add_argument("--threads", type=int, default=1)
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    encoder = Encoder(a.model)
    for path in a.paths:
        if a.command == "golden":
            golden(encoder, a.model, path)
        else:
            measure(encoder, path)


if __name__ == "__main__":
    main()
