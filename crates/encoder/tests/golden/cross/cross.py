#!/usr/bin/env python3
"""Builds the tiny cross-encoder folders of `models/` and the values sentence-transformers gives for them, `golden/`.

  cross.py all [NAME...]   everything (the steps by themselves: `build`, `encode`)
  cross.py list            the variants and what each is for

README.md says which versions; tokenizers, sizes and the way weights are drawn are those of `../tiny.py`.
"""
import argparse
import hashlib
import importlib.metadata
import json
import os
import pathlib
import shutil
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")
HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
MODELS, GOLDEN = HERE / "models", HERE / "golden"

import numpy as np  # noqa: E402
import tiny  # noqa: E402
from tiny import draw, dump  # noqa: E402

IDENTITY, SIGMOID = "torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Sigmoid"
VARIANTS = {}


def variant(note, refused=False, few=False, like=None):
    """`like`: the variant whose values it has, because the reference cannot run its code."""
    def register(build):
        VARIANTS[build.__name__.replace("_", "-")] = {"build": build, "note": note, "refused": refused,
                                                      "few": few, "like": like}
        return build
    return register


# ------------------------------------------------------------------------------------------------ folders

CLASSES = {"bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta", "distilbert": "DistilBert",
           "electra": "Electra", "modernbert": "ModernBert", "deberta-v2": "DebertaV2"}
PREFIX = {"xlm-roberta": "roberta", "modernbert": "model", "deberta-v2": "deberta"}


SPREAD = {"distilbert": 0.15, "electra": 0.4}


def electra(vocab, embedding=None, layers=tiny.LAYERS):
    config = {**tiny.bert(vocab), "num_hidden_layers": layers, "model_type": "electra",
              "embedding_size": embedding or tiny.HIDDEN}
    return {**config, "summary_activation": "gelu", "summary_last_dropout": 0.1, "summary_type": "first",
            "summary_use_proj": True}


def weights(config, labels=1):
    """State of the classifier that transformers makes of `config`; the parts it shares with `../models` are equal."""
    from transformers import AutoConfig, AutoModelForSequenceClassification
    kind = dict(config)
    made = AutoConfig.for_model(kind.pop("model_type"), **kind)
    made.num_labels = labels
    prefix = PREFIX.get(config["model_type"], config["model_type"]) + "."
    state = {}
    for name, old in AutoModelForSequenceClassification.from_config(made).state_dict().items():
        if not old.is_floating_point() or "inv_freq" in name:
            continue
        plain = name.removeprefix(prefix)
        if "token_type" in name:
            state[name] = draw(plain, old.shape, std=1.0)
        elif name.endswith(("classifier.weight", "out_proj.weight")):
            state[name] = draw(plain, old.shape, std=SPREAD.get(config["model_type"], 1.2))
        elif name.startswith(("classifier", "pre_classifier", "head.dense")) or "pooler" in name:
            state[name] = draw(plain, old.shape, std=0.1 if name.endswith("bias") else 0.25)
        elif name.endswith("bias"):
            state[name] = draw(plain, old.shape, std=0.1)
        elif "norm" in name.lower():
            state[name] = draw(plain, old.shape, 1.0, 0.1)
        else:
            state[name] = draw(plain, old.shape, std=0.4 if "embeddings." in name else 0.15)
    return state


def published(folder, config, words, labels=1, dtype=np.float32, pickled=False, **keys):
    """A folder as transformers saves it; `keys` go into config.json."""
    words.save(folder)
    names = {str(i): f"LABEL_{i}" for i in range(labels)}
    more = {"dtype": "float16" if dtype is np.float16 else dtype} if dtype is not np.float32 else {}
    dump(folder / "config.json", {
        **config, "architectures": [CLASSES[config["model_type"]] + "ForSequenceClassification"],
        "id2label": names, "label2id": {v: int(k) for k, v in names.items()}, **more, **keys})
    state = weights(config, labels)
    if pickled:
        import torch
        state["bert.embeddings.position_ids"] = np.arange(64)[None]  # as old files have it
        torch.save({k: torch.from_numpy(v) for k, v in state.items()}, str(folder / "pytorch_model.bin"))
    else:
        tiny.save_weights(folder / "model.safetensors", state, dtype)


def bert_model(folder, words=None, layers=tiny.LAYERS, **more):
    words = words or tiny.wordpiece()
    published(folder, {**tiny.bert(words.size()), "num_hidden_layers": layers}, words, **more)


def stated(path=IDENTITY, version="4.0.1"):
    return {"sentence_transformers": {"activation_fn": path, "version": version}}


def saved(folder, source, **options):
    """The folder `source` once more, as CrossEncoder.save_pretrained of the installed version writes it."""
    from sentence_transformers import CrossEncoder
    base = folder.parent / f".{folder.name}"
    shutil.rmtree(base, ignore_errors=True)
    base.mkdir()
    source(base)
    model = CrossEncoder(str(base), device="cpu", local_files_only=True, **options)
    model.save_pretrained(str(folder), create_model_card=False)
    shutil.rmtree(base)


@variant("BERT as ms-marco-MiniLM-L6-v2 is published: sentence_transformers.activation_fn Identity in config.json")
def bert(folder):
    bert_model(folder, **stated())


@variant("BERT, the older key sbert_ce_default_activation_function, Identity", few=True)
def bert_legacy(folder):
    bert_model(folder, sbert_ce_default_activation_function=IDENTITY)


@variant("BERT without any key: Sigmoid", few=True)
def bert_default(folder):
    bert_model(folder)


@variant("BERT, both keys of config.json, which contradict each other: the newer wins, Sigmoid", few=True)
def bert_both(folder):
    bert_model(folder, **stated(SIGMOID), sbert_ce_default_activation_function=IDENTITY)


@variant("BERT, a null under the newer key hides the older one: Sigmoid", few=True)
def bert_null(folder):
    bert_model(folder, **stated(None), sbert_ce_default_activation_function=IDENTITY)


@variant("BERT, model_max_length 40 below the positions; sentence_bert_config.json says 24, which counts for nothing "
         "without modules.json")
def bert_lengths(folder):
    bert_model(folder, words=tiny.wordpiece(max_length=40), **stated())
    dump(folder / "sentence_bert_config.json", {"max_seq_length": 24, "do_lower_case": False})


@variant("BERT, weights of 16 bits (float16), computed in 32")
def bert_f16(folder):
    bert_model(folder, dtype=np.float16, **stated())


@variant("BERT, weights in bfloat16, computed in 32 bits", few=True)
def bert_bf16(folder):
    bert_model(folder, dtype="bfloat16", **stated())


@variant("BERT, pytorch_model.bin", few=True)
def bert_bin(folder):
    bert_model(folder, pickled=True, **stated())


@variant("BERT, PreTrainedTokenizerFast and no model_input_names: the network is given no token types, so all are 0",
         few=True)
def bert_fast(folder):
    words = tiny.wordpiece(kind="PreTrainedTokenizerFast")
    del words.config["model_input_names"]
    bert_model(folder, words=words, **stated())


@variant("BERT as CrossEncoder.save_pretrained writes it: modules.json and its two companions", few=True)
def bert_saved(folder):
    saved(folder, bert)


@variant("BERT as CrossEncoder.save_pretrained writes it, with a prompt by default; config_sentence_transformers.json "
         "says Sigmoid and config.json Identity: the former wins; max_seq_length 30 in sentence_bert_config.json")
def bert_saved_prompt(folder):
    import torch
    saved(folder, bert, prompts={"ask": "who asks: "}, default_prompt_name="ask", activation_fn=torch.nn.Sigmoid())
    config = json.loads((folder / "sentence_bert_config.json").read_text())
    dump(folder / "sentence_bert_config.json", {**config, "max_seq_length": 30})


@variant("BERT with three labels", refused=True)
def bert_three(folder):
    bert_model(folder, labels=3, layers=1)


@variant("BertModel without a head; sentence-transformers would invent one", refused=True)
def bert_plain(folder):
    words = tiny.wordpiece()
    words.save(folder)
    config = {**tiny.bert(words.size()), "num_hidden_layers": 1}
    dump(folder / "config.json", {**config, "architectures": ["BertModel"]})
    state = {k.removeprefix("bert."): v for k, v in weights(config).items() if not k.startswith("classifier")}
    tiny.save_weights(folder / "model.safetensors", state)


@variant("RoBERTa, byte-level BPE")
def roberta(folder):
    words = tiny.roberta_bpe()
    published(folder, tiny.roberta(words.size()), words)


@variant("XLM-R, Unigram, as bge-reranker-base: no key, so Sigmoid")
def xlm_roberta(folder):
    words = tiny.unigram()
    published(folder, tiny.roberta(words.size(), kind="xlm-roberta"), words)


@variant("XLM-R as CrossEncoder.save_pretrained writes it", few=True)
def xlm_roberta_saved(folder):
    saved(folder, xlm_roberta)


@variant("DistilBERT: pre_classifier, ReLU, classifier")
def distilbert(folder):
    words = tiny.wordpiece(inputs=("input_ids", "attention_mask"), kind="DistilBertTokenizer")
    published(folder, tiny.distilbert(words.size()), words)


@variant("ELECTRA as ms-marco-electra-base: a BERT without pooler; classifier.dense, GELU, classifier.out_proj")
def electra_base(folder):
    words = tiny.wordpiece(kind="ElectraTokenizer")
    published(folder, electra(words.size()), words, sbert_ce_default_activation_function=IDENTITY)


@variant("ELECTRA whose embeddings are narrower: embeddings_project")
def electra_small(folder):
    words = tiny.wordpiece(kind="ElectraTokenizer")
    published(folder, electra(words.size(), 16, 1), words)


@variant("ModernBERT, classifier_pooling cls")
def modernbert_cls(folder):
    words = tiny.modern_bpe()
    published(folder, tiny.modernbert(words.size(), classifier_pooling="cls"), words)


@variant("ModernBERT, classifier_pooling mean, as gte-reranker-modernbert-base")
def modernbert_mean(folder):
    words = tiny.modern_bpe()
    published(folder, tiny.modernbert(words.size(), classifier_pooling="mean"), words, **stated(SIGMOID))


@variant("ModernBERT, biases everywhere, another activation of the head; pooling cls by default")
def modernbert_bias(folder):
    words = tiny.modern_bpe()
    config = tiny.modernbert(words.size(), norm_bias=True, attention_bias=True, mlp_bias=True, classifier_bias=True,
                             classifier_activation="silu")
    published(folder, {**config, "num_hidden_layers": 2}, words)


@variant("DeBERTa as mxbai-rerank v1: distances in buckets, their table normalised; no key, so Sigmoid")
def deberta(folder):
    words = tiny.deberta_words()
    published(folder, tiny.deberta(words.size()), words)


@variant("DeBERTa without buckets: what is further than 12 is as far; no norm; another activation of the head")
def deberta_plain(folder):
    words = tiny.deberta_words()
    config = tiny.deberta(words.size(), position_buckets=-1, max_relative_positions=12, norm_rel_ebd="none",
                          pos_att_type=["p2c", "c2p"], pooler_hidden_act="tanh")
    published(folder, {**config, "num_hidden_layers": 1}, words)


FLASH = [("embeddings.LayerNorm", "emb_ln"), ("encoder.layer.", "encoder.layers."),
         ("attention.output.dense", "mixer.out_proj"), ("attention.output.LayerNorm", "norm1"),
         ("intermediate.dense", "mlp.fc1"), ("output.dense", "mlp.fc2"), ("output.LayerNorm", "norm2")]


@variant("XLM-R as jina-reranker-v2 is published: other names, no model_type, code beside it", like="xlm-roberta")
def jina_reranker(folder):
    words = tiny.unigram()
    config = tiny.roberta(words.size(), kind="xlm-roberta")
    state = {}
    for name, values in weights(config).items():
        if ".attention.self." in name:
            at, which = name.split("attention.self.")[0], name.split(".")[-1]
            merged = [weights(config)[f"{at}attention.self.{part}.{which}"] for part in ("query", "key", "value")]
            name, values = f"{at}mixer.Wqkv.{which}", np.concatenate(merged)
        for old, new in FLASH:
            name = name.replace(old, new)
        state[name] = values
    words.save(folder)
    del config["model_type"]
    modeling = "modeling_xlm_roberta.XLMRoberta"
    dump(folder / "config.json", {
        **config, "architectures": ["XLMRobertaForSequenceClassification"], "num_labels": 1,
        "id2label": {"0": "LABEL_0"}, "position_embedding_type": "absolute", "use_flash_attn": True,
        "auto_map": {"AutoConfig": "configuration_xlm_roberta.XLMRobertaFlashConfig", "AutoModel": modeling + "Model",
                     "AutoModelForSequenceClassification": modeling + "ForSequenceClassification"}})
    tiny.save_weights(folder / "model.safetensors", state)


# ------------------------------------------------------------------------------------------------ values

LONG = "A wide ring means a wet spring, a narrow ring means a dry summer; the tree tells the weather of its year. "
QUERY = "What does a wide ring tell?"
PAIRS = [
    ("sentence", QUERY, "The ring of a tree tells the weather of its year."),
    ("other", QUERY, "Old trees remember storms, fires and frost (see page 12-14)."),
    ("swapped", "The ring of a tree tells the weather of its year.", QUERY),
    ("short", "larch", "oak"),
    ("same", "larch", "larch"),
    ("empty-document", QUERY, ""),
    ("empty-query", "", "The ring of a tree."),
    ("both-empty", "", ""),
    ("blank", " \t\u00a0\u3000 ", " \r\n "),
    ("padded", "  wide \n ring\t ", " oak\u00a0 and  ash "),
    ("accents", "Café, naïve Ångström", "déjà vu; cafe\u0301 decomposed"),
    ("cjk", "年輪の幅", "目的 木 (목재) 年輪"),
    ("upper", "WIDE RING", "THE RING OF A TREE"),
    ("emoji", "oak 🌲 ❤️‍🔥", "👩🏽‍🔬 ash Жqx §𝕏 " + "w" * 60),
    ("markers", "oak [SEP] ash <s> </s> elm", "[CLS] larch [MASK] <mask> <pad> [PAD] [unused0] </s>fir [SEP] elm"),
    ("lines", "oak\nash", "larch\n\nfir\u2028elm \u0000\u200b spruce"),
]


def grown(tokenizer, wanted):
    """As much of a long text as fits into `wanted` tokens."""
    words, text = (LONG * 9).split(), ""
    for i in range(1, len(words)):
        more = " ".join(words[:i])
        if len(tokenizer(more, add_special_tokens=False)["input_ids"]) > wanted:
            return text
        text = more
    raise ValueError("more words")


def pairs(tokenizer, longest):
    special = tokenizer.num_special_tokens_to_add(pair=True)
    room = longest - special
    yield from PAIRS
    yield "long-document", QUERY, LONG * 4
    yield "long-query", grown(tokenizer, room - 4), LONG * 4
    yield "long-query-short-document", grown(tokenizer, room - 4), "The ring of a tree, bark and sapwood."
    yield "half-query", grown(tokenizer, room // 2), LONG * 4
    yield "half-and-more", grown(tokenizer, room // 2 + 6), LONG * 4
    yield "query-beyond", LONG * 4, "The ring of a tree."
    yield "both-beyond", LONG * 4, LONG * 3


def bits(mask):
    return "".join(str(int(x)) for x in mask)


def tokens(features):
    types = features["token_type_ids"][0].tolist() if "token_type_ids" in features else None
    return {"ids": features["input_ids"][0].tolist(), "types": types, "attention": bits(features["attention_mask"][0])}


def encode(name):
    import torch
    from sentence_transformers import CrossEncoder
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    folder, identity = MODELS / (VARIANTS[name]["like"] or name), torch.nn.Identity()
    # transformers has DeBERTa's attention in one way only.
    attention = "eager" if name.startswith("deberta") else "sdpa"
    model = CrossEncoder(str(folder), device="cpu", local_files_only=True,
                         model_kwargs={"dtype": torch.float32, "attn_implementation": attention})
    eager = CrossEncoder(str(folder), device="cpu", local_files_only=True,
                         model_kwargs={"dtype": torch.float32, "attn_implementation": "eager"})
    own = CrossEncoder(str(folder), device="cpu", local_files_only=True)
    longest = model.max_seq_length
    prompt = model._resolve_prompt(None, None)
    texts = list(pairs(model.tokenizer, longest))[:4 if VARIANTS[name]["few"] else None]
    cases, apart = [], 0.0
    for label, query, document in texts:
        pair = (query, document)
        case = {"name": label, "query": query, "document": document}
        features = model.preprocess([pair], prompt=prompt)
        case |= tokens(features)
        case |= {"logit": float(model.predict(pair, activation_fn=identity)), "score": float(model.predict(pair))}
        if own.dtype != torch.float32:
            case["native"] = float(own.predict(pair, activation_fn=identity))
        apart = max(apart, abs(case["logit"] - float(eager.predict(pair, activation_fn=identity))))
        only = {"text": {"truncation": "only_second"}}
        room = longest - model.tokenizer.num_special_tokens_to_add(pair=True)
        if len(model.tokenizer((prompt or "") + query, add_special_tokens=False)["input_ids"]) >= room:
            case["only_document"] = None
        else:
            other = tokens(model.preprocess([pair], prompt=prompt, processing_kwargs=only))
            if other["ids"] != case["ids"]:
                case["only_document"] = {
                    **other, "logit": float(model.predict(pair, activation_fn=identity, processing_kwargs=only)),
                    "score": float(model.predict(pair, processing_kwargs=only))}
        cases.append(case)
    together = model.predict([(q, d) for _, q, d in texts], activation_fn=identity)
    batched = max(abs(float(a) - c["logit"]) for a, c in zip(together, cases))
    digest = hashlib.sha256()
    for path in sorted(p for p in (MODELS / name).rglob("*") if p.is_file()):
        digest.update(path.read_bytes())
    versions = ", ".join(f"{p} {importlib.metadata.version(p)}" for p in
                         ("sentence-transformers", "transformers", "tokenizers", "torch"))
    head = {"model": name, "purpose": VARIANTS[name]["note"], "reference": versions, "attention": attention,
            "folder_sha256": digest.hexdigest(), "max_length": longest, "prompt": prompt,
            "activation": type(model.activation_fn).__name__, "eager_within": float(f"{apart:.1e}"),
            "batched_within": float(f"{batched:.1e}")}
    GOLDEN.mkdir(exist_ok=True)
    body = ",\n".join(json.dumps(c) for c in cases)
    (GOLDEN / f"{name}.json").write_text(f'{json.dumps(head)[:-1]}, "cases": [\n{body}\n]}}\n')
    logits = [c["logit"] for c in cases]
    print(f"{name}: max_length {longest}, {head['activation']}, logits {min(logits):.2f} to {max(logits):.2f}, "
          f"eager within {apart:.1e}, batched within {batched:.1e}, "
          f"{sum(bool(c.get('only_document')) for c in cases)} cut otherwise", flush=True)


def build(name):
    folder = MODELS / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    VARIANTS[name]["build"](folder)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("command", choices=["all", "list", "build", "encode"])
    ap.add_argument("names", nargs="*")
    a = ap.parse_args()
    for name in a.names or VARIANTS:
        if a.command == "list":
            print(f"{name}: {VARIANTS[name]['note']}" + (" (refused)" if VARIANTS[name]["refused"] else ""))
        if a.command in ("all", "build"):
            build(name)
        if a.command in ("all", "encode") and not VARIANTS[name]["refused"]:
            encode(name)


if __name__ == "__main__":
    main()
