"""Tiny tokenizers and backbones with invented weights: the parts from which `variants.py` builds model folders.

Every weight is drawn from its own name and shape, so two models with the same backbone share their bytes, and is
rounded to what bfloat16 can hold: 16-bit copies are then exact and the files compress well.
"""
import json
import math
import string
import zlib
from collections import Counter

import numpy as np
import torch
from safetensors.numpy import save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoModel

CORPUS = [
    "The ring of a tree tells the weather of its year.",
    "A wide ring means a wet spring, a narrow ring means a dry summer.",
    "Latewood is denser and darker than earlywood; both form one ring.",
    "Who counts the rings? The forester counts rings, one by one!",
    "Bark, cambium, sapwood, heartwood and pith: five parts of a stem.",
    "Old trees remember storms, fires and frost (see page 12-14).",
    "Café, naïve, Ångström, déjà vu: words with marks above letters.",
    "年輪の幅 は 木 の 年 を 示す",
    "a_b = c[0] + d{1} * e^2 / f & g | h < i > j @ k # l $ m % n ~ o ` p \\ q \" r ' s",
    "Oak, pine, larch, spruce, fir, beech, ash and elm grow slowly in cold years.",
]
HIDDEN, HEADS, LAYERS, WIDE, DIM = 32, 4, 2, 48, 8
BERT_SPECIAL = ["[PAD]", *(f"[unused{i}]" for i in range(6)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
BPE_SPECIAL = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
ROBERTA_SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


def dump(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", "utf-8")


# ------------------------------------------------------------------------------------------------ weights

def draw(name, shape, shift=0.0, std=0.15):
    """Normal values that depend on name and shape only, as float32 that bfloat16 holds exactly."""
    values = np.random.Generator(np.random.PCG64(zlib.crc32(f"{name}{tuple(shape)}".encode()))).standard_normal(shape)
    rounded = torch.tensor(shift + std * values, dtype=torch.float32).to(torch.bfloat16).to(torch.float32)
    return rounded.numpy()


def backbone(config):
    """State of the model that transformers makes of `config`, as float32 arrays by name."""
    kind = dict(config)
    model = AutoModel.from_config(AutoConfig.for_model(kind.pop("model_type"), **kind))
    state = {}
    for name, old in model.state_dict().items():
        norm = "norm" in name.lower()
        if not old.is_floating_point() or "inv_freq" in name:
            continue
        if name.endswith("bias"):
            state[name] = draw(name, old.shape, std=0.1)
        elif norm:
            state[name] = draw(name, old.shape, 1.0, 0.1)
        else:
            state[name] = draw(name, old.shape, std=0.4 if "embeddings" in name else 0.15)
    return state


def save_weights(path, state, dtype=np.float32):
    path.parent.mkdir(parents=True, exist_ok=True)
    if dtype == "bfloat16":
        from safetensors.torch import save_file as save_tensors
        save_tensors({k: torch.from_numpy(v).to(torch.bfloat16) for k, v in state.items()}, str(path), {"format": "pt"})
        return
    tensors = {k: np.ascontiguousarray(v if v.dtype == np.int64 else v.astype(dtype)) for k, v in state.items()}
    save_file(tensors, str(path), metadata={"format": "pt"})


def bert(vocab, positions=64, **more):
    return {"model_type": "bert", "vocab_size": vocab, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "intermediate_size": WIDE, "hidden_act": "gelu", "pad_token_id": 0,
            "max_position_embeddings": positions, "type_vocab_size": 2, "layer_norm_eps": 1e-12, **more}


def distilbert(vocab, positions=64, **more):
    return {"model_type": "distilbert", "vocab_size": vocab, "dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS,
            "hidden_dim": WIDE, "activation": "gelu", "max_position_embeddings": positions, "pad_token_id": 0,
            "sinusoidal_pos_embds": False, **more}


def roberta(vocab, positions=66, kind="roberta", **more):
    return {"model_type": kind, "vocab_size": vocab, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "intermediate_size": WIDE, "hidden_act": "gelu", "pad_token_id": 1,
            "bos_token_id": 0, "eos_token_id": 2, "max_position_embeddings": positions, "type_vocab_size": 1,
            "layer_norm_eps": 1e-5, **more}


def modernbert(vocab, **more):
    """Layers global, local, local, global; in a local one a token sees four others on either side."""
    ids = {f"{n}_token_id": BPE_SPECIAL.index(t) for n, t in
           [("cls", "[CLS]"), ("sep", "[SEP]"), ("bos", "[CLS]"), ("eos", "[SEP]"), ("pad", "[PAD]")]}
    return {"model_type": "modernbert", "vocab_size": vocab, "hidden_size": HIDDEN, "num_hidden_layers": 4,
            "num_attention_heads": HEADS, "intermediate_size": WIDE, "hidden_activation": "gelu",
            "max_position_embeddings": 96, "norm_eps": 1e-5, "norm_bias": False, "attention_bias": False,
            "mlp_bias": False, "global_attn_every_n_layers": 3, "local_attention": 8, "global_rope_theta": 160000.0,
            "local_rope_theta": 10000.0, **ids, **more}


def deberta(vocab, positions=64, **more):
    return {"model_type": "deberta-v2", "vocab_size": vocab, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS,
            "num_attention_heads": HEADS, "intermediate_size": WIDE, "hidden_act": "gelu", "pad_token_id": 0,
            "max_position_embeddings": positions, "type_vocab_size": 0, "layer_norm_eps": 1e-7,
            "relative_attention": True, "position_buckets": 16, "max_relative_positions": -1,
            "norm_rel_ebd": "layer_norm", "share_att_key": True, "pos_att_type": "p2c|c2p",
            "position_biased_input": False, "pooler_dropout": 0, "pooler_hidden_act": "gelu",
            "pooler_hidden_size": HIDDEN, **more}


# ------------------------------------------------------------------------------------------------ tokenizers
# The trainers for WordPiece and Unigram give another vocabulary at every run, so those two are made here.

def substrings(words, longest):
    """How often each piece of two to `longest` characters starts a word, and how often it continues one."""
    starts, inner = Counter(), Counter()
    for word, times in words.items():
        for i in range(len(word)):
            for n in range(2, longest + 1):
                if i + n <= len(word):
                    (inner if i else starts)[word[i:i + n]] += times
    return starts, inner


def frequent(counter, count):
    return [piece for piece, _ in sorted(counter.items(), key=lambda x: (-x[1] * (len(x[0]) - 1), x[0]))[:count]]


def wordpiece_vocabulary(normalise):
    words = Counter(w for line in CORPUS for w, _ in
                    pre_tokenizers.BertPreTokenizer().pre_tokenize_str(normalise(line)))
    letters = sorted({c for w in words for c in w} | set(string.punctuation))
    plain = [c for c in letters if c.isascii() and c.isalnum()]
    starts, inner = substrings(words, 6)
    whole = [w for w, _ in sorted(words.items(), key=lambda x: (-x[1], x[0])) if len(w) > 1][:50]
    tokens = [*BERT_SPECIAL, *letters, *("##" + c for c in plain), *whole,
              *frequent(starts, 30), *("##" + p for p in frequent(inner, 30))]
    return {t: i for i, t in enumerate(dict.fromkeys(tokens))}


def unigram_vocabulary():
    words = Counter("▁" + w for line in CORPUS for w in line.split())
    letters = Counter(c for w, n in words.items() for c in w for _ in range(n))
    starts, inner = substrings(words, 7)
    pieces = letters + Counter({p: starts[p] + inner[p] for p in {*frequent(starts, 70), *frequent(inner, 60)}})
    total = sum(n * len(p) for p, n in pieces.items())
    scored = [[p, round(math.log(n * len(p) / total), 4)]
              for p, n in sorted(pieces.items(), key=lambda x: (-x[1], x[0]))]
    return [*([t, 0.0] for t in ROBERTA_SPECIAL), *scored, ["<mask>", 0.0]]


class Words:
    """A tokenizer: its `tokenizers` object, the two JSON files beside it, and the name of its class."""

    def __init__(self, tok, kind, special, model_max_length, inputs, **more):
        self.tok, self.special = tok, special
        self.config = {"tokenizer_class": kind, "model_max_length": model_max_length, **special,
                       "clean_up_tokenization_spaces": False, "model_input_names": inputs, **more}

    def size(self):
        return self.tok.get_vocab_size(with_added_tokens=True)

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        self.tok.save(str(folder / "tokenizer.json"), pretty=False)
        dump(folder / "tokenizer_config.json", self.config)
        dump(folder / "special_tokens_map.json", self.special)

    def add(self, *markers):
        """Adds markers as PyLate does: not special, normalised, looked up whole."""
        self.tok.add_tokens([AddedToken(m, normalized=True, special=False) for m in markers])
        return self


def wordpiece(cased=False, max_length=512, inputs=("input_ids", "token_type_ids", "attention_mask"),
              kind="BertTokenizer"):
    normalizer = normalizers.BertNormalizer(lowercase=not cased)
    tok = Tokenizer(models.WordPiece(wordpiece_vocabulary(normalizer.normalize_str), unk_token="[UNK]"))
    tok.normalizer = normalizer
    tok.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tok.decoder = decoders.WordPiece()
    # The unused markers are plain words of the vocabulary, as in BERT's own, and no special tokens.
    tok.add_special_tokens([t for t in BERT_SPECIAL if not t.startswith("[unused")])
    tok.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(t, tok.token_to_id(t)) for t in ("[CLS]", "[SEP]")])
    special = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]",
               "mask_token": "[MASK]"}
    return Words(tok, kind, special, max_length, list(inputs), do_lower_case=not cased,
                 tokenize_chinese_chars=True, strip_accents=None)


def byte_bpe(special, vocab_size):
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tok.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, min_frequency=2, special_tokens=special,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tok.train_from_iterator(CORPUS, trainer)
    return tok


def lstripped(tok, token):
    """The mask token of BPE and Unigram tokenizers swallows the blanks before it."""
    raw = json.loads(tok.to_str())
    for added in raw["added_tokens"]:
        if added["content"] == token:
            added["lstrip"] = True
    return Tokenizer.from_str(json.dumps(raw))


def modern_bpe(max_length=96):
    tok = byte_bpe(BPE_SPECIAL, 340)
    tok.normalizer = normalizers.NFC()
    tok = lstripped(tok, "[MASK]")
    tok.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(t, tok.token_to_id(t)) for t in ("[CLS]", "[SEP]")])
    special = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]",
               "mask_token": "[MASK]"}
    return Words(tok, "PreTrainedTokenizerFast", special, max_length, ["input_ids", "attention_mask"])


def roberta_bpe(max_length=64):
    tok = byte_bpe([*ROBERTA_SPECIAL, "<mask>"], 340)
    tok = lstripped(tok, "<mask>")
    tok.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=True,
                                                      add_prefix_space=False)
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>",
               "pad_token": "<pad>", "cls_token": "<s>", "mask_token": "<mask>"}
    return Words(tok, "RobertaTokenizer", special, max_length, ["input_ids", "attention_mask"],
                 add_prefix_space=False, trim_offsets=True, errors="replace")


def unigram(max_length=64):
    tok = Tokenizer(models.Unigram([tuple(x) for x in unigram_vocabulary()], unk_id=3, byte_fallback=False))
    tok.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")])
    tok.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    tok.add_special_tokens([*ROBERTA_SPECIAL, "<mask>"])
    tok = lstripped(tok, "<mask>")
    tok.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "sep_token": "</s>",
               "pad_token": "<pad>", "cls_token": "<s>", "mask_token": "<mask>"}
    return Words(tok, "XLMRobertaTokenizer", special, max_length, ["input_ids", "attention_mask"])


def deberta_words(max_length=64):
    from transformers import DebertaV2Tokenizer
    special = {"cls_token": "[CLS]", "sep_token": "[SEP]", "unk_token": "[UNK]", "pad_token": "[PAD]",
               "mask_token": "[MASK]", "bos_token": "[CLS]", "eos_token": "[SEP]"}
    pieces = unigram_vocabulary()[len(ROBERTA_SPECIAL):-1]
    vocab = [(t, 0.0) for t in ("[PAD]", "[CLS]", "[SEP]", "[UNK]")] + [tuple(p) for p in pieces] + [("[MASK]", 0.0)]
    tok = DebertaV2Tokenizer(vocab=vocab, unk_id=3)._tokenizer
    tok.no_truncation()
    return Words(tok, "DebertaV2Tokenizer", special, max_length,
                 ["input_ids", "token_type_ids", "attention_mask"], do_lower_case=False, split_by_punct=False)
