"""Clients of others against the server, as they are: what their users would write.

Each is left out, aloud, where its package is not installed. `check` installs the light ones; for the others:
`pip install langchain-community llama-index-postprocessor-{cohere,tei}-rerank litellm`.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

# Before they are imported: nothing is to be fetched from anywhere, and nothing reported.
os.environ.update(
    ANONYMIZED_TELEMETRY="0",
    DO_NOT_TRACK="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    LANGCHAIN_TRACING_V2="false",
    LITELLM_LOCAL_MODEL_COST_MAP="True",
)

QUERY = "how hot is a kiln?"
TEXTS = ["Rain falls.", "A kiln fires stoneware at 1280 degrees.", "Cats sleep."]
KEY = "any-0123456789abcdef"


# Cohere


def test_cohere_v1(url: str) -> None:
    cohere = pytest.importorskip("cohere")
    client = cohere.Client(KEY, base_url=url)
    answer = client.rerank(query=QUERY, documents=TEXTS, top_n=2, model="any", return_documents=True)
    assert [result.index for result in answer.results] == [1, 0]
    assert answer.results[0].document.text == TEXTS[1]
    assert answer.meta.billed_units.search_units == 1
    objects = [{"title": "On kilns", "text": text} for text in TEXTS]
    answer = client.rerank(
        query=QUERY, documents=objects, model="any", rank_fields=["title", "text"], max_chunks_per_doc=2
    )
    assert answer.results[0].index == 1


def test_cohere_v2(url: str) -> None:
    cohere = pytest.importorskip("cohere")
    client = cohere.ClientV2(KEY, base_url=url)
    answer = client.rerank(query=QUERY, documents=TEXTS, top_n=2, model="any", max_tokens_per_doc=100)
    assert [result.index for result in answer.results] == [1, 0]
    assert answer.id
    assert 0 <= answer.results[1].relevance_score < answer.results[0].relevance_score <= 1
    with pytest.raises(cohere.errors.BadRequestError) as empty:
        client.rerank(query="", documents=TEXTS, model="any")
    assert empty.value.body["error"]["code"] == "empty_query"


# OpenAI


def openai_client(url: str) -> Any:
    return pytest.importorskip("openai").OpenAI(api_key=KEY, base_url=f"{url}/v1", max_retries=0)


def test_openai_embeddings_as_numbers(url: str) -> None:
    answer = openai_client(url).embeddings.create(
        model="any", input=TEXTS, encoding_format="float", extra_body={"input_type": "document"}
    )
    rows = answer.data[1].embedding
    assert len(answer.data) == 3
    assert {len(row) for row in rows} == {128}
    assert len(rows) > 5
    assert answer.usage.total_tokens == answer.usage.prompt_tokens > 10


def test_openai_embeddings_as_it_asks_for_them(url: str) -> None:
    answer = openai_client(url).embeddings.create(model="any", input=TEXTS[1], extra_body={"input_type": "document"})
    # By itself it asks for base64, and decodes that.
    rows, dim = answer.data[0].shape
    assert (dim, len(answer.data[0].embedding)) == (128, rows * dim)
    assert isinstance(answer.data[0].embedding[0], float)


def test_openai_errors(url: str) -> None:
    openai = pytest.importorskip("openai")
    with pytest.raises(openai.BadRequestError, match="input_type") as missing:
        openai_client(url).embeddings.create(model="any", input=TEXTS)
    assert missing.value.code == "bad_request"


def test_openai_dimensions(url: str) -> None:
    openai = pytest.importorskip("openai")
    given = {"model": "any", "input": "a", "extra_body": {"input_type": "query"}}
    with pytest.raises(openai.UnprocessableEntityError) as other:
        openai_client(url).embeddings.create(dimensions=64, **given)
    assert other.value.code == "dimension_mismatch"
    assert openai_client(url).embeddings.create(dimensions=128, **given).data[0].shape[1] == 128


def test_openai_models(url: str) -> None:
    models = openai_client(url).models.list().data
    assert [(model.object, model.owned_by) for model in models] == [("model", "latewood")]


# Hugging Face


def test_hugging_face_feature_extraction(url: str) -> None:
    hub = pytest.importorskip("huggingface_hub")
    rows = hub.InferenceClient(model=f"{url}/embed_all").feature_extraction("a kiln")
    assert rows.shape[0] == 1
    assert rows.shape[2] == 128


@pytest.mark.xfail(strict=True, reason="there is nothing at /similarity, where text-embeddings-inference has it")
def test_hugging_face_similarity(url: str) -> None:
    hub = pytest.importorskip("huggingface_hub")
    scores = hub.InferenceClient(model=f"{url}/similarity").sentence_similarity(QUERY, other_sentences=TEXTS)
    assert len(scores) == 3
    assert max(scores) == scores[1]


# LangChain


def test_langchain_cohere(url: str) -> None:
    langchain_cohere = pytest.importorskip("langchain_cohere")
    documents = pytest.importorskip("langchain_core.documents")
    given = [documents.Document(page_content=text, metadata={"at": at}) for at, text in enumerate(TEXTS)]
    reranker = langchain_cohere.CohereRerank(base_url=url, cohere_api_key=KEY, model="any", top_n=2)
    best = reranker.compress_documents(given, QUERY)
    assert [document.metadata["at"] for document in best] == [1, 0]
    assert best[0].metadata["relevance_score"] > best[1].metadata["relevance_score"]


def langchain_jina(url: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    jina = pytest.importorskip("langchain_community.document_compressors.jina_rerank")
    # It cannot be told another address.
    monkeypatch.setattr(jina, "JINA_API_URL", f"{url}/v1/rerank")
    return jina.JinaRerank(jina_api_key=KEY, top_n=2)


def test_langchain_jina(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reranker = langchain_jina(url, monkeypatch)
    documents = pytest.importorskip("langchain_core.documents")
    given = [documents.Document(page_content=text, metadata={"at": at}) for at, text in enumerate(TEXTS)]
    assert [document.metadata["at"] for document in reranker.compress_documents(given, QUERY)] == [1, 0]


@pytest.mark.xfail(strict=True, raises=KeyError, reason="it reads `detail` of an answer without results")
def test_langchain_jina_errors(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="empty"):
        langchain_jina(url, monkeypatch).rerank(TEXTS, "")


# LlamaIndex


def llama_nodes() -> tuple[list[Any], Any]:
    schema = pytest.importorskip("llama_index.core.schema")
    return [schema.NodeWithScore(node=schema.TextNode(text=text), score=0.1) for text in TEXTS], schema.QueryBundle(
        QUERY
    )


def test_llama_index_cohere(url: str) -> None:
    cohere = pytest.importorskip("llama_index.postprocessor.cohere_rerank")
    nodes, query = llama_nodes()
    best = cohere.CohereRerank(api_key=KEY, base_url=url, top_n=2, model="any").postprocess_nodes(nodes, query)
    assert [node.text for node in best] == [TEXTS[1], TEXTS[0]]


def test_llama_index_text_embeddings_inference(url: str) -> None:
    tei = pytest.importorskip("llama_index.postprocessor.tei_rerank")
    nodes, query = llama_nodes()
    reranker = tei.TextEmbeddingInference(base_url=url, top_n=2, auth_token=f"Bearer {KEY}")
    best = reranker.postprocess_nodes(nodes, query)
    assert [node.text for node in best] == [TEXTS[1], TEXTS[0]]
    assert best[0].score > best[1].score


# LiteLLM


@pytest.mark.parametrize(
    "provider", ["cohere", "huggingface", "hosted_vllm", "jina_ai", "together_ai", "litellm_proxy"]
)
def test_litellm(url: str, provider: str) -> None:
    litellm = pytest.importorskip("litellm")
    answer = litellm.rerank(model=f"{provider}/any", query=QUERY, documents=TEXTS, top_n=2, api_base=url, api_key=KEY)
    assert [result["index"] for result in answer.results] == [1, 0]
    assert answer.results[0]["document"]["text"] == TEXTS[1]


def test_litellm_infinity(url: str) -> None:
    """With the texts it wants them as bare strings, where Cohere and Jina have objects."""
    litellm = pytest.importorskip("litellm")
    given = {"query": QUERY, "documents": TEXTS, "top_n": 2, "api_base": url, "api_key": KEY}
    answer = litellm.rerank(model="infinity/any", return_documents=False, **given)
    assert [result["index"] for result in answer.results] == [1, 0]


@pytest.mark.xfail(strict=True, reason="it reads `data`, as Voyage answers, and not `results`")
def test_litellm_voyage(url: str) -> None:
    litellm = pytest.importorskip("litellm")
    answer = litellm.rerank(model="voyage/any", query=QUERY, documents=TEXTS, top_n=2, api_base=url, api_key=KEY)
    assert [result["index"] for result in answer.results] == [1, 0]
