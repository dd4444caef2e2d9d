#!/usr/bin/env python3
"""Builds the tiny model folders of `models/` and the values the reference implementations give for them, `golden/`.

  make.py all --st PYTHON --pylate PYTHON [NAME...]   everything; the two interpreters have the two references
  make.py list                                        the variants and what each is for

sentence-transformers 6 and pylate 1.6 cannot be installed together, hence two virtual environments; README.md says how.
The steps by themselves: `build`, `encode` (once in each environment, into --raw) and `merge`.
"""
import argparse
import base64
import hashlib
import importlib.metadata
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
MODELS, GOLDEN = HERE / "models", HERE / "golden"
AGREE = 2e-6

LONG = "A wide ring means a wet spring, a narrow ring means a dry summer; the tree tells the weather of its year. "
TEXTS = [
    ("sentence", "The ring of a tree tells the weather of its year."),
    ("short", "larch"),
    ("accents", "Café, naïve Ångström déjà vu; cafe\u0301 decomposed"),
    ("cjk", "年輪の幅, 목재 (木)"),
    ("rtl", "עץ خشب tree ξύλο"),
    ("emoji", "oak 🌲 ❤️‍🔥 👩🏽‍🔬 ash"),
    ("punctuation", "?! ... -- (#)"),
    ("empty", ""),
    ("blank", " \t\r\n\u00a0\u3000 "),
    ("padded", "  wide \n ring\t "),
    ("upper", "THE RING OF A TREE"),
    ("unknown", "Жqx §𝕏 ring " + "w" * 120 + " oak"),
    ("markers", "[Q] oak <pad> ash [MASK] [SEP] [unused0] [PAD] <mask></s> elm"),
    ("long", LONG * 3),
]
LONGER = LONG * 14
LONG_NAMES = ("no-metadata", "no-options", "null-options", "stanford-markers")


def texts_of(name):
    for label, text in TEXTS:
        yield label, LONGER if label == "long" and name.endswith(LONG_NAMES) else text


def pack(rows):
    return base64.b64encode(rows.astype("<f4").tobytes()).decode()


def bits(mask):
    return "".join(str(int(x)) for x in mask)


# ------------------------------------------------------------------------------------------------ the references

class SentenceTransformers:
    package = "sentence-transformers"

    def __init__(self, folder):
        import torch
        from sentence_transformers import MultiVectorEncoder
        self.model = MultiVectorEncoder(str(folder), device="cpu", local_files_only=True,
                                        model_kwargs={"dtype": torch.float32, "attn_implementation": "sdpa"})

    def encode(self, text, role):
        call = self.model.encode_query if role == "query" else self.model.encode_document
        raw = call(text, output_value=None)
        names = ("query",) if role == "query" else ("document", "passage", "corpus")
        prompt = next((self.model.prompts[n] for n in names if n in self.model.prompts), None)
        before = self.model.preprocess([text], prompt=prompt, task=role)
        return {"ids": before["input_ids"][0].tolist(), "attention": bits(before["attention_mask"][0]),
                "kept": bits(raw["attention_mask"]), "rows": call(text, convert_to_numpy=True)}

    def batch(self, texts, role):
        call = self.model.encode_query if role == "query" else self.model.encode_document
        return call(texts, convert_to_numpy=True)


class PlainSentenceTransformers:
    package = "sentence-transformers"

    def __init__(self, folder):
        from sentence_transformers import SentenceTransformer
        self.model = SentenceTransformer(str(folder), device="cpu", local_files_only=True)

    def encode(self, text, role):
        prompt = self.model.prompts.get(role) or None
        before = self.model.preprocess([text], prompt=prompt)
        rows, = self.batch([text], role)
        return {"ids": before["input_ids"][0].tolist(), "attention": bits(before["attention_mask"][0]),
                "kept": bits(before["attention_mask"][0]), "rows": rows}

    def batch(self, texts, role):
        call = self.model.encode_query if role == "query" else self.model.encode_document
        return [x.cpu().numpy() for x in call(texts, output_value="token_embeddings", convert_to_numpy=False)]


class PyLate:
    package = "pylate"

    def __init__(self, folder):
        import torch
        from pylate import models
        torch.manual_seed(0)
        self.model = models.ColBERT(str(folder), device="cpu", local_files_only=True,
                                    model_kwargs={"torch_dtype": torch.float32, "attn_implementation": "sdpa"})

    def encode(self, text, role):
        query = role == "query"
        raw = self.model.encode([text], is_query=query, prompt_name=self.prompt(role), output_value=None,
                                show_progress_bar=False)
        return {"ids": raw["input_ids"][0].tolist(), "attention": bits(raw["attention_mask"][0]),
                "kept": bits(raw["masks"][0]), "rows": self.batch([text], role)[0]}

    def prompt(self, role):
        return role if self.model.prompts.get(role) else None

    def batch(self, texts, role):
        return self.model.encode(texts, is_query=role == "query", prompt_name=self.prompt(role),
                                 show_progress_bar=False)


class Transformers:
    package = "transformers"

    def __init__(self, folder):
        import torch
        from transformers import AutoModel, AutoTokenizer
        self.tokenizer = AutoTokenizer.from_pretrained(str(folder))
        self.model = AutoModel.from_pretrained(str(folder), dtype=torch.float32, attn_implementation="sdpa").eval()

        # transformers itself reads past the positions and fails.
        config = self.model.config
        offset = config.pad_token_id + 1 if config.model_type in ("roberta", "xlm-roberta") else 0
        self.longest = min(self.tokenizer.model_max_length, config.max_position_embeddings - offset)

    def tokens(self, texts):
        return self.tokenizer(texts, padding=True, truncation=True, max_length=self.longest, return_tensors="pt")

    def encode(self, text, role):
        tokens = self.tokens([text])
        ones = "1" * tokens["input_ids"].shape[1]
        return {"ids": tokens["input_ids"][0].tolist(), "attention": ones, "kept": ones,
                "rows": self.batch([text], role)[0]}

    def batch(self, texts, role):
        import torch
        tokens = self.tokens(texts)
        with torch.inference_mode():
            states = self.model(**tokens).last_hidden_state
        return [s[m.bool()].numpy() for s, m in zip(states, tokens["attention_mask"])]


def loader(reference, name):
    if reference == "sentence-transformers":
        return PlainSentenceTransformers if name == "plain-sentence-transformers" else SentenceTransformers
    return {"pylate": PyLate, "transformers": Transformers}[reference]


def encode(names, reference, raw):
    """The values of one reference for every variant it can read, into `raw`."""
    import numpy as np
    import torch
    import variants
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    raw.mkdir(parents=True, exist_ok=True)
    for name in names:
        entry = variants.VARIANTS[name]
        wanted = (entry["reference"], entry["other"])
        kinds = {"pylate": ["pylate"], "st": ["sentence-transformers", "transformers"]}[reference]
        for kind in [k for k in kinds if k in wanted]:
            with tempfile.TemporaryDirectory() as scratch:
                model = loader(kind, name)(variants.reference_folder(MODELS, name, scratch))
            cases, batched = [], 0.0
            for role in ["document"] if kind == "transformers" else ["query", "document"]:
                values = [(label, text, model.encode(text, role)) for label, text in texts_of(name)]
                for (_, _, one), many in zip(values, model.batch([t for _, t, _ in values], role)):
                    same = one["rows"].shape == many.shape
                    batched = max(batched, np.abs(one["rows"] - many).max(initial=0) if same else np.inf)
                for label, text, v in values:
                    cases.append({"name": label, "role": role, "text": text, "ids": v["ids"],
                                  "attention": v["attention"], "kept": v["kept"], "rows": len(v["rows"]),
                                  "data": pack(v["rows"])})
            version = f"{kind} {importlib.metadata.version(kind)}"
            if kind != "transformers":
                version += f", transformers {importlib.metadata.version('transformers')}"
            dim = next(v["rows"].shape[1] for _, _, v in values)
            doc = {"reference": f"{version}, torch {importlib.metadata.version('torch')}", "dim": dim, "cases": cases}
            (raw / f"{name}.{kind}.json").write_text(json.dumps(doc))
            print(f"{name}: {kind}, dim {dim}, batched within {batched:.1e}", flush=True)


# ------------------------------------------------------------------------------------------------ merging

def rows(case, dim):
    import numpy as np
    return np.frombuffer(base64.b64decode(case["data"]), "<f4").reshape(-1, dim)


def merge(names, raw):
    """One file for each variant: its reference's cases, and those of the other reference that differ."""
    import numpy as np
    import variants
    GOLDEN.mkdir(exist_ok=True)
    for name in names:
        entry = variants.VARIANTS[name]
        doc = json.loads((raw / f"{name}.{entry['reference']}.json").read_text())
        digest = hashlib.sha256()
        for path in sorted(p for p in (MODELS / name).rglob("*") if p.is_file()):
            digest.update(path.read_bytes())
        out = {"model": name, "purpose": entry["note"], "reference": doc["reference"], "dim": doc["dim"],
               "folder_sha256": digest.hexdigest(), "cases": doc["cases"]}
        if entry["other"]:
            other = json.loads((raw / f"{name}.{entry['other']}.json").read_text())
            differs, largest = [], 0.0
            for a, b in zip(doc["cases"], other["cases"]):
                same = all(a[k] == b[k] for k in ("ids", "attention", "kept", "rows"))
                gap = float(np.abs(rows(a, doc["dim"]) - rows(b, other["dim"])).max(initial=0)) if same else np.inf
                if not gap <= AGREE:
                    differs.append(b)
                else:
                    largest = max(largest, gap)
            out["other"] = {"reference": other["reference"], "dim": other["dim"], "differs": differs}
            print(f"{name}: {len(differs)} of {len(doc['cases'])} differ from {other['reference'].split(',')[0]}, "
                  f"the rest within {largest:.1e}: {' '.join(c['role'][0] + '/' + c['name'] for c in differs)}")
        lines = json.dumps({k: v for k, v in out.items() if k not in ("cases", "other")}, ensure_ascii=True)[1:-1]
        body = ",\n".join(json.dumps(c) for c in out["cases"])
        tail = ""
        if "other" in out:
            cases = ",\n".join(json.dumps(c) for c in out["other"]["differs"])
            head = json.dumps({k: v for k, v in out["other"].items() if k != "differs"})[1:-1]
            tail = f',\n"other": {{{head}, "differs": [\n{cases}\n]}}'
        (GOLDEN / f"{name}.json").write_text(f'{{{lines}, "cases": [\n{body}\n]{tail}}}\n')


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("command", choices=["all", "list", "build", "encode", "merge"])
    ap.add_argument("names", nargs="*")
    ap.add_argument("--st", default=sys.executable, help="interpreter with sentence-transformers 6")
    ap.add_argument("--pylate", default=sys.executable, help="interpreter with pylate")
    ap.add_argument("--reference", choices=["st", "pylate"])
    ap.add_argument("--raw", type=pathlib.Path)
    a = ap.parse_args()
    if a.command == "all":
        with tempfile.TemporaryDirectory() as scratch:
            def step(python, *args):
                subprocess.run([python, __file__, *args, *a.names, "--raw", scratch], check=True)
            step(a.st, "build")
            step(a.st, "encode", "--reference", "st")
            step(a.pylate, "encode", "--reference", "pylate")
            step(a.st, "merge")
        return
    import variants
    names = a.names or list(variants.VARIANTS)
    if a.command == "list":
        for name in names:
            print(f"{name}: {variants.VARIANTS[name]['note']}")
    elif a.command == "build":
        variants.build(MODELS, names)
    elif a.command == "encode":
        encode(names, a.reference, a.raw)
    else:
        merge(names, a.raw)


if __name__ == "__main__":
    main()
