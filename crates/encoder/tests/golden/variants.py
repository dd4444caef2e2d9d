"""Every checkpoint format x backbone x option of which golden values are kept: one function builds one folder.

A folder holds what a published checkpoint of that kind holds. `VARIANTS` names them all; an entry says which
implementation is the reference and, where another one can read the same folder, which.
"""
import json
import os
import shutil
import string
from pathlib import Path

import numpy as np
import tiny
from tiny import DIM, HIDDEN, draw, dump

ST, PYLATE, HF = "sentence-transformers", "pylate", "transformers"
VARIANTS = {}


def variant(reference, other=None, note=""):
    def register(build):
        VARIANTS[build.__name__.replace("_", "-")] = {"build": build, "reference": reference, "other": other,
                                                      "note": note}
        return build
    return register


# ------------------------------------------------------------------------------------------------ Stanford

def stanford(folder, metadata=None, dtype=np.float32, pickled=False, kind="bert", words=None, positions=64):
    words = words or tiny.wordpiece()
    words.save(folder)
    config = getattr(tiny, kind)(words.size(), positions)
    more = {"dtype": "float16", "torch_dtype": "float16"} if dtype == np.float16 else {}
    dump(folder / "config.json", {**config, "architectures": ["HF_ColBERT"], **more})
    if metadata is not None:
        dump(folder / "artifact.metadata", metadata)
    state = {f"{kind}.{k}": v for k, v in tiny.backbone(config).items()}
    if kind == "bert":
        # Old checkpoints carry the positions as a tensor.
        state["bert.embeddings.position_ids"] = np.arange(positions, dtype=np.int64)[None]
    state["linear.weight"] = draw("linear.weight", (DIM, HIDDEN))
    if pickled:
        import torch
        torch.save({k: torch.from_numpy(v) for k, v in state.items()}, str(folder / "pytorch_model.bin"))
    else:
        tiny.save_weights(folder / "model.safetensors", state, dtype)


METADATA = {"query_token_id": "[unused0]", "doc_token_id": "[unused1]", "query_token": "[Q]", "doc_token": "[D]",
            "query_maxlen": 16, "doc_maxlen": 24, "dim": DIM, "similarity": "cosine", "mask_punctuation": True,
            "attend_to_mask_tokens": False}


@variant(ST, PYLATE, "artifact.metadata with the usual values")
def stanford_default(folder):
    stanford(folder, METADATA)


@variant(ST, PYLATE, "attend_to_mask_tokens true")
def stanford_attend(folder):
    stanford(folder, {**METADATA, "attend_to_mask_tokens": True})


@variant(ST, PYLATE, "no artifact.metadata")
def stanford_no_metadata(folder):
    stanford(folder, None, positions=192)


@variant(ST, PYLATE, "mask_punctuation false")
def stanford_punctuation(folder):
    stanford(folder, {**METADATA, "mask_punctuation": False})


@variant(ST, PYLATE, "other markers and lengths; keys that are missing or null")
def stanford_markers(folder):
    stanford(folder, {"query_token_id": "[unused4]", "doc_token_id": "[unused5]", "query_maxlen": 12,
                      "doc_maxlen": None}, positions=192)


@variant(ST, PYLATE, "weights of 16 bits, computed in 32")
def stanford_f16(folder):
    stanford(folder, METADATA, dtype=np.float16)


@variant(ST, PYLATE, "pytorch_model.bin")
def stanford_bin(folder):
    stanford(folder, METADATA, pickled=True)


@variant(ST, PYLATE, "DistilBERT under `distilbert.`")
def stanford_distilbert(folder):
    stanford(folder, METADATA, kind="distilbert",
             words=tiny.wordpiece(inputs=("input_ids", "attention_mask"), kind="DistilBertTokenizer"))


@variant(ST, None, "XLM-R with rotary positions, named and configured as in jina-colbert-v2; read through "
                   "transformers' own jina_embeddings_v3, whose config is written for the reference only")
def stanford_jina(folder):
    words = tiny.unigram(512)
    words.tok.add_special_tokens(["[QueryMarker]", "[DocumentMarker]"])
    native = tiny.roberta(words.size(), 512, kind="jina_embeddings_v3",
                          rope_parameters={"rope_type": "default", "rope_theta": 20000.0})
    config = {**native, "model_type": "xlm-roberta", "position_embedding_type": "rotary", "rotary_emb_base": 20000.0}
    del config["rope_parameters"]
    words.save(folder)
    dump(folder / "config.json", {**config, "architectures": ["HF_ColBERT"]})
    dump(folder / "artifact.metadata", {**METADATA, "query_token_id": "[QueryMarker]",
                                        "doc_token_id": "[DocumentMarker]", "attend_to_mask_tokens": True})
    weights, fused = tiny.backbone(native), {}
    for name, value in weights.items():
        name = name.replace("embeddings.LayerNorm", "emb_ln").replace("self_attn.o_proj", "mixer.out_proj")
        name = name.replace("post_attention_layernorm", "norm1").replace("post_mlp_layernorm", "norm2")
        name = "encoder." + name if name.startswith("layers.") else name
        if "self_attn." in name:
            at, part = name.split("self_attn.")
            if part.startswith("q_proj"):
                parts = [weights[f"{at.removeprefix('encoder.')}self_attn.{x}{part[1:]}"] for x in "qkv"]
                fused[f"roberta.{at}mixer.Wqkv{part[6:]}"] = np.concatenate(parts)
        else:
            fused[f"roberta.{name}"] = value
    fused["linear.weight"] = draw("linear.weight", (DIM, HIDDEN))
    tiny.save_weights(folder / "model.safetensors", fused)


REFERENCE_CONFIG = {"stanford-jina": lambda c: {
    **{k: v for k, v in c.items() if k not in ("position_embedding_type", "rotary_emb_base")},
    "model_type": "jina_embeddings_v3",
    "rope_parameters": {"rope_type": "default", "rope_theta": c["rotary_emb_base"]}}}


# ------------------------------------------------------------------------------------------------ PyLate

def dense(folder, number, size, activation="linear.Identity", bias=False, residual=False, pickled=False):
    """One projection of a PyLate or Sentence Transformers folder; `size` is (in, out)."""
    at = folder / f"{number}_Dense"
    dump(at / "config.json", {"in_features": size[0], "out_features": size[1], "bias": bias,
                              "activation_function": f"torch.nn.modules.{activation}", "use_residual": residual})
    state = {"linear.weight": draw(f"{number}.linear.weight", size[::-1], std=0.25)}
    if bias:
        state["linear.bias"] = draw(f"{number}.linear.bias", size[1:], std=0.2)
    if residual and size[0] != size[1]:
        state["residual.weight"] = draw(f"{number}.residual.weight", size[::-1], std=0.25)
    if pickled:
        import torch
        torch.save({k: torch.from_numpy(v) for k, v in state.items()}, str(at / "pytorch_model.bin"))
    else:
        tiny.save_weights(at / "model.safetensors", state)


OPTIONS = {"query_prefix": "[Q] ", "document_prefix": "[D] ", "query_length": 16, "document_length": 24,
           "attend_to_expansion_tokens": False, "skiplist_words": list(string.punctuation),
           "do_query_expansion": True}


def pylate(folder, options=None, *, words=None, config=None, layers=None, at="", bert_json=None, shards=0, add=None,
           resize=True, dtype=np.float32):
    """A folder as PyLate saves it: `options` are the ones of its own, beside those every version writes."""
    words = words or tiny.wordpiece()
    if resize:
        words.add(*(["[Q] ", "[D] "] if add is None else add))
    inner = folder / at
    words.save(inner)
    config = {**(config or tiny.bert(1)), "vocab_size": words.size()}
    more = {"torch_dtype": dtype} if isinstance(dtype, str) else {}
    dump(inner / "config.json", {**config, **more, "architectures": [
        {"bert": "BertModel", "distilbert": "DistilBertModel", "roberta": "RobertaModel",
         "xlm-roberta": "XLMRobertaModel", "modernbert": "ModernBertModel"}[config["model_type"]]]})
    state = {k: v for k, v in tiny.backbone(config).items() if not k.startswith("pooler")}
    if shards:
        names, index = sorted(state), {}
        for i in range(shards):
            file = f"model-{i + 1:05}-of-{shards:05}.safetensors"
            part = {k: state[k] for k in names[i::shards]}
            tiny.save_weights(inner / file, part)
            index.update({k: file for k in part})
        size = sum(v.nbytes for v in state.values())
        dump(inner / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": index})
    else:
        tiny.save_weights(inner / "model.safetensors", state, dtype)
    dump(inner / "sentence_bert_config.json", bert_json or {"max_seq_length": 23, "do_lower_case": False})
    (layers or (lambda f: dense(f, 1, (HIDDEN, DIM))))(folder)
    found = sorted(p.name for p in folder.glob("*_Dense"))
    dump(folder / "modules.json", [
        {"idx": 0, "name": "0", "path": at, "type": "sentence_transformers.models.Transformer"},
        *({"idx": i + 1, "name": str(i + 1), "path": n, "type": "pylate.models.Dense.Dense"}
          for i, n in enumerate(found))])
    dump(folder / "config_sentence_transformers.json", {
        "__version__": {"sentence_transformers": "4.0.2", "transformers": "4.48.2", "pytorch": "2.5.1"},
        "prompts": {}, "default_prompt_name": None, "similarity_fn_name": "MaxSim", "model_type": "ColBERT",
        **(OPTIONS if options is None else options)})


@variant(PYLATE, ST, "one Dense, the usual options")
def pylate_default(folder):
    pylate(folder)


@variant(PYLATE, ST, "no option of PyLate's in config_sentence_transformers.json: its defaults")
def pylate_no_options(folder):
    pylate(folder, {}, config=tiny.bert(1, 192), bert_json={"max_seq_length": 192, "do_lower_case": False})


@variant(PYLATE, ST, "options with null values")
def pylate_null_options(folder):
    pylate(folder, {k: None for k in OPTIONS}, config=tiny.bert(1, 192),
           bert_json={"max_seq_length": 192, "do_lower_case": False})


@variant(PYLATE, ST, "two Dense, the first wide, with GELU and bias; attend_to_expansion_tokens")
def pylate_two_dense(folder):
    def layers(f):
        dense(f, 1, (HIDDEN, 48), "activation.GELU", bias=True)
        dense(f, 2, (48, DIM))
    pylate(folder, {**OPTIONS, "attend_to_expansion_tokens": True}, layers=layers)


@variant(PYLATE, ST, "six Dense: ReLU, Tanh with residual, Sigmoid with projected residual, SiLU with residual and "
                     "bias, LeakyReLU, Identity with projected residual")
def pylate_dense_chain(folder):
    def layers(f):
        dense(f, 1, (HIDDEN, 24), "activation.ReLU", bias=True)
        dense(f, 2, (24, 24), "activation.Tanh", residual=True)
        dense(f, 3, (24, 16), "activation.Sigmoid", bias=True, residual=True)
        dense(f, 4, (16, 16), "activation.SiLU", bias=True, residual=True)
        dense(f, 5, (16, 12), "activation.LeakyReLU", pickled=True)
        dense(f, 6, (12, DIM), residual=True)
    pylate(folder, layers=layers)


@variant(PYLATE, ST, "attend_to_expansion_tokens true")
def pylate_attend(folder):
    pylate(folder, {**OPTIONS, "attend_to_expansion_tokens": True})


@variant(PYLATE, ST, "do_query_expansion false (and attend true, which then counts for nothing)")
def pylate_no_expansion(folder):
    pylate(folder, {**OPTIONS, "do_query_expansion": False, "attend_to_expansion_tokens": True})


@variant(PYLATE, ST, "empty prefixes")
def pylate_empty_prefix(folder):
    pylate(folder, {**OPTIONS, "query_prefix": "", "document_prefix": ""}, resize=False)


@variant(PYLATE, ST, "prefixes that are words of the vocabulary: [unused0], [unused1]")
def pylate_unused_prefix(folder):
    pylate(folder, {**OPTIONS, "query_prefix": "[unused0]", "document_prefix": "[unused1]"}, resize=False)


@variant(PYLATE, ST, "longer prefixes of one's own, added to the vocabulary")
def pylate_own_prefix(folder):
    own = {"query_prefix": "search query: ", "document_prefix": "Stored text: "}
    pylate(folder, {**OPTIONS, **own}, add=list(own.values()))


@variant(PYLATE, ST, "a skip list of words, one of them unknown, so that PyLate drops every unknown token of "
                     "a document")
def pylate_skiplist(folder):
    pylate(folder, {**OPTIONS, "skiplist_words": ["the", "ring", "nowhere", "."]})


@variant(PYLATE, ST, "an empty skip list")
def pylate_empty_skiplist(folder):
    pylate(folder, {**OPTIONS, "skiplist_words": []})


@variant(PYLATE, ST, "prompts beside the prefixes, for one role only; PyLate is told to use them")
def pylate_prompts(folder):
    pylate(folder, {**OPTIONS, "prompts": {"query": "who asks "}})


@variant(PYLATE, ST, "do_lower_case in sentence_bert_config.json, with a tokenizer that keeps case")
def pylate_lower_case(folder):
    pylate(folder, words=tiny.wordpiece(cased=True), bert_json={"max_seq_length": 23, "do_lower_case": True})


@variant(PYLATE, ST, "a tokenizer that keeps case")
def pylate_cased(folder):
    pylate(folder, words=tiny.wordpiece(cased=True))


@variant(PYLATE, ST, "weights in three shards with an index")
def pylate_sharded(folder):
    pylate(folder, shards=3)


@variant(PYLATE, ST, "weights in bfloat16, computed in 32 bits")
def pylate_bf16(folder):
    pylate(folder, dtype="bfloat16")


@variant(PYLATE, ST, "a Stanford checkpoint at the root, and PyLate's modules with other weights beside it, which win")
def pylate_beside_stanford(folder):
    stanford(folder, METADATA)
    pylate(folder, {**OPTIONS, "query_length": 14}, at="0_Transformer")


@variant(PYLATE, ST, "everything in 0_Transformer and 1_Dense, the latter as pytorch_model.bin")
def pylate_subfolder(folder):
    pylate(folder, at="0_Transformer", layers=lambda f: dense(f, 1, (HIDDEN, DIM), pickled=True))


@variant(PYLATE, ST, "DistilBERT")
def pylate_distilbert(folder):
    pylate(folder, config=tiny.distilbert(1),
           words=tiny.wordpiece(inputs=("input_ids", "attention_mask"), kind="DistilBertTokenizer"))


@variant(PYLATE, ST, "RoBERTa, byte-level BPE")
def pylate_roberta(folder):
    pylate(folder, words=tiny.roberta_bpe(), config=tiny.roberta(1))


@variant(PYLATE, ST, "XLM-R, Unigram, markers [QueryMarker] and [DocumentMarker]")
def pylate_xlmr(folder):
    own = {"query_prefix": "[QueryMarker]", "document_prefix": "[DocumentMarker]"}
    pylate(folder, {**OPTIONS, **own}, words=tiny.unigram(), config=tiny.roberta(1, kind="xlm-roberta"),
           add=list(own.values()))


@variant(PYLATE, ST, "ModernBERT as published: attend false; the query reaches beyond the local window")
def pylate_modernbert(folder):
    pylate(folder, {**OPTIONS, "query_length": 20, "document_length": 40}, words=tiny.modern_bpe(),
           config=tiny.modernbert(1), bert_json={"max_seq_length": 39, "do_lower_case": False})


@variant(PYLATE, ST, "ModernBERT, attend true; config in the words of transformers 5; two Dense with a residual")
def pylate_modernbert_attend(folder):
    config = tiny.modernbert(1)
    for old in ("global_attn_every_n_layers", "global_rope_theta", "local_rope_theta"):
        del config[old]
    kinds = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    config |= {"layer_types": kinds, "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 160000.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0}}}

    def layers(f):
        dense(f, 1, (HIDDEN, 48), residual=True)
        dense(f, 2, (48, DIM), residual=True)
    pylate(folder, {**OPTIONS, "query_length": 20, "document_length": 40, "attend_to_expansion_tokens": True},
           words=tiny.modern_bpe(), config=config, layers=layers,
           bert_json={"max_seq_length": 39, "do_lower_case": False})


# ------------------------------------------------------------------------------------------------ native

def native(folder, *, words=None, config=None, transformer=None, mask=None, normalize=True, prompts=None, pooling=None,
           add=("[Q] ", "[D] ")):
    """A folder as MultiVectorEncoder itself saves it."""
    import torch
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import HierarchicalTokenPooling, MultiVectorMask
    words = (words or tiny.wordpiece()).add(*add)
    config = {**(config or tiny.bert(1)), "vocab_size": words.size()}
    base = folder.parent / f".{folder.name}"
    words.save(base)
    dump(base / "config.json", config)
    tiny.save_weights(base / "model.safetensors", tiny.backbone(config))
    weight = torch.from_numpy(draw("1.linear.weight", (DIM, HIDDEN), std=0.25))
    modules = [Transformer(str(base), **(transformer or {})),
               Dense(HIDDEN, DIM, bias=False, activation_function=torch.nn.Identity(), init_weight=weight,
                     module_input_name="token_embeddings"),
               MultiVectorMask(**(mask or {}))]
    if normalize:
        modules.append(Normalize(module_input_name="token_embeddings"))
    if pooling:
        modules.append(HierarchicalTokenPooling(**pooling))
    model = MultiVectorEncoder(modules=modules, prompts=prompts, device="cpu")
    model.save_pretrained(str(folder), create_model_card=False)
    shutil.rmtree(base)


MARKERS = {"query": "[Q] ", "document": "[D] "}
FIXED = {"strategy": "fixed", "attend": False, "token": None, "length": 16}


@variant(ST, None, "query_expansion fixed, attend false; punctuation skipped")
def st_fixed(folder):
    native(folder, prompts=MARKERS, transformer={"query_expansion": FIXED, "document_length": 24},
           mask={"skiplist_words": list(string.punctuation)})


@variant(ST, None, "query_expansion fixed, attend true, with a token of its own")
def st_fixed_token(folder):
    native(folder, prompts=MARKERS, transformer={
        "query_expansion": {**FIXED, "attend": True, "token": "[unused3]"}, "document_length": 24})


@variant(ST, None, "query_expansion min, attend false, with query_length as the ceiling")
def st_min(folder):
    native(folder, prompts=MARKERS, transformer={
        "query_expansion": {**FIXED, "strategy": "min", "length": 10}, "query_length": 20, "document_length": 24})


@variant(ST, None, "query_expansion min, attend true, no ceiling")
def st_min_attend(folder):
    native(folder, prompts=MARKERS, transformer={
        "query_expansion": {**FIXED, "strategy": "min", "attend": True, "length": 10}, "document_length": 24})


@variant(ST, None, "no query expansion, no lengths, no prompts")
def st_plain(folder):
    native(folder)


@variant(ST, None, "skip list for both roles with an unknown word; text prompts; no Normalize; lengths")
def st_skip_both(folder):
    native(folder, prompts={"query": "who asks: ", "document": "one says: "}, normalize=False,
           transformer={"query_length": 14, "document_length": 24},
           mask={"skiplist_words": ["ring", "nowhere", ":", "."], "skiplist_tasks": ["query", "document"]})


@variant(ST, None, "keep_only_token_ids, which leaves some documents without rows; a prompt named passage, never used")
def st_keep_only(folder):
    words = tiny.wordpiece()
    keep = [words.tok.token_to_id(t) for t in ("the", "ring", "tree", ".", "[UNK]")]
    native(folder, words=words, prompts={"query": "[Q] ", "passage": "[D] ", "document": None},
           transformer={"query_expansion": FIXED, "document_length": 24},
           mask={"skiplist_words": ["."], "keep_only_token_ids": keep})


@variant(ST, None, "token pooling by two, renormalised")
def st_pooling(folder):
    native(folder, prompts=MARKERS, transformer={"query_expansion": FIXED, "document_length": 24},
           mask={"skiplist_words": list(string.punctuation)}, pooling={"pool_factor": 2.0})


@variant(ST, None, "token pooling by three, nothing protected, for both roles; no word on renormalising, which "
                   "means not")
def st_pooling_raw(folder):
    native(folder, prompts=MARKERS, transformer={"document_length": 40},
           pooling={"pool_factor": 3.0, "num_protected_tokens": 0, "normalize_embeddings": False,
                    "tasks": ["query", "document"]})
    config, = folder.glob("*_HierarchicalTokenPooling/config.json")
    value = json.loads(config.read_text())
    del value["normalize_embeddings"]
    dump(config, value)


@variant(ST, None, "ModernBERT, markers as text prompts, min with attend")
def st_modernbert(folder):
    native(folder, words=tiny.modern_bpe(), config=tiny.modernbert(1), prompts=MARKERS, transformer={
        "query_expansion": {**FIXED, "strategy": "min", "attend": True, "length": 12}, "document_length": 40})


@variant(ST, None, "XLM-R, markers as text prompts")
def st_xlmr(folder):
    native(folder, words=tiny.unigram(), config=tiny.roberta(1, kind="xlm-roberta"), prompts=MARKERS,
           transformer={"query_expansion": FIXED, "document_length": 24})


# ------------------------------------------------------------------------------------------------ no projection

@variant(ST, None, "sentence-transformers folder with pooling and prompts: the token vectors before the pooling")
def plain_sentence_transformers(folder):
    words = tiny.wordpiece()
    words.save(folder)
    config = tiny.bert(words.size())
    dump(folder / "config.json", {**config, "architectures": ["BertModel"]})
    tiny.save_weights(folder / "model.safetensors", tiny.backbone(config))
    dump(folder / "sentence_bert_config.json", {"max_seq_length": 24, "do_lower_case": False})
    dump(folder / "modules.json", [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"}])
    dump(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": True})
    dump(folder / "config_sentence_transformers.json", {
        "__version__": {"sentence_transformers": "2.7.0", "transformers": "4.40.0", "pytorch": "2.2.0"},
        "prompts": {"query": "who asks: "}, "default_prompt_name": None})


@variant(HF, None, "BertForMaskedLM: names under `bert.`, LayerNorm.gamma and .beta, a head that is not used")
def plain_bert(folder):
    words = tiny.wordpiece()
    words.save(folder)
    config = tiny.bert(words.size())
    dump(folder / "config.json", {**config, "architectures": ["BertForMaskedLM"]})
    state = {"bert." + k: v for k, v in tiny.backbone(config).items()}
    state = {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
             for k, v in state.items()}
    state["cls.predictions.bias"] = draw("cls.predictions.bias", (words.size(),))
    state["cls.predictions.transform.dense.weight"] = draw("cls.predictions", (HIDDEN, HIDDEN))
    state["cls.predictions.transform.dense.bias"] = draw("cls.predictions", (HIDDEN,))
    tiny.save_weights(folder / "model.safetensors", state)


@variant(HF, None, "RobertaForMaskedLM, names under `roberta.`")
def plain_roberta(folder):
    words = tiny.roberta_bpe()
    words.save(folder)
    config = tiny.roberta(words.size())
    dump(folder / "config.json", {**config, "architectures": ["RobertaForMaskedLM"]})
    state = {"roberta." + k: v for k, v in tiny.backbone(config).items() if not k.startswith("pooler")}
    tiny.save_weights(folder / "model.safetensors", state)


@variant(HF, None, "ModernBertForMaskedLM, names under `model.`, tanh-approximated GELU, biases everywhere")
def plain_modernbert(folder):
    words = tiny.modern_bpe()
    words.save(folder)
    config = tiny.modernbert(words.size(), hidden_activation="gelu_pytorch_tanh", norm_bias=True, attention_bias=True,
                             mlp_bias=True)
    dump(folder / "config.json", {**config, "architectures": ["ModernBertForMaskedLM"]})
    state = {"model." + k: v for k, v in tiny.backbone(config).items()}
    tiny.save_weights(folder / "model.safetensors", state)


def build(root, names):
    for name in names:
        folder = Path(root) / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        VARIANTS[name]["build"](folder)


def reference_folder(root, name, scratch):
    """The folder to give the reference: the variant's own, or a copy whose config it can read."""
    folder = Path(root) / name
    if name not in REFERENCE_CONFIG:
        return folder
    copy = Path(scratch) / name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    config = json.loads((copy / "config.json").read_text())
    dump(copy / "config.json", REFERENCE_CONFIG[name](config))
    return copy


os.environ.setdefault("HF_HUB_OFFLINE", "1")
