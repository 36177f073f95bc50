"""Providers: by what instrumentations call them, and by the shape of a model's id."""

import pytest

from sync_worker.spans.providers import provider_called, provider_of

#: Ids by their provider.
MODELS: dict[str | None, str] = {
    "openai": """
        openai/gpt-4o gpt-4o O3-mini o1 openai/o3 chatgpt-4o-latest gpt-4.1-2025-04-14 openai:gpt-4o
        ft:gpt-4o-mini-2024-07-18:acme::abc123 ft:gpt-3.5-turbo-0125:org:custom:id text-embedding-3-small
        text-embedding-ada-002 text-completion-openai/davinci-002 litellm_proxy/gpt-4o gateway/openai:gpt-4o
        openai/openai/gpt-oss-20b codex-mini-latest
    """,
    "azure.ai.openai": """
        azure/gpt-4o azure/my-deployment azure_text/x gpt-35-turbo azure:gpt-4o
    """,
    "azure.ai.inference": """
        azure_ai/mistral-large-2407
    """,
    "aws.bedrock": """
        us.anthropic.claude-sonnet-4-20250514-v1:0 bedrock/us.anthropic.claude-3-5-v2:0
        bedrock/converse/us.anthropic.claude-3 apac.amazon.nova-pro-v1:0 jp.anthropic.claude-x
        global.anthropic.claude-opus-4-5-20251101-v1:0 us-gov.anthropic.claude-3-haiku-20240307-v1:0
        arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-3-5-sonnet
        arn:aws-us-gov:bedrock:us-gov-west-1::foundation-model/anthropic.claude-3-haiku
        bedrock/arn:aws:bedrock:eu-west-1:1:imported-model/abc anthropic.claude-v2 amazon.titan-embed-text-v2:0
        meta.llama3-1-70b-instruct-v1:0 openai.gpt-oss-120b-1:0 claude-3-5-sonnet-20240620-v1:0
        cohere.command-r-v1:0 eu.mistral.pixtral-large-2502-v1:0 bedrock:us.amazon.nova-lite-v1:0 amazon/nova-pro-v1
        bedrock_converse/x
    """,
    "aws.sagemaker": """
        sagemaker/jumpstart-x arn:aws:sagemaker:us-east-1:1:endpoint/x
    """,
    "gcp.vertex_ai": """
        claude-3-5-sonnet@20240620 mistral-large@2407 text-bison@002 claude-opus-4@latest
        llama-3.3-70b-instruct-maas meta/llama-3.3-70b-instruct-maas vertex_ai/gemini-2.5-pro
        vertex_ai_beta/gemini-1.5 google-vertex:gemini-1.5-pro google_vertexai/gemini-2.0-flash
        projects/p/locations/us-central1/publishers/google/models/gemini-2.0-flash
        publishers/google/models/gemini-2.0-flash vertex_ai/claude-3-5-sonnet@20240620
    """,
    "gcp.gemini": """
        models/gemini-2.5-flash gemini/gemini-2.5-flash google/gemini-2.5-pro gemini-2.5-pro
        google-gla:gemini-1.5-flash tunedModels/mine
    """,
    "gcp.gen_ai": """
        text-embedding-004 text-multilingual-embedding-002 imagen-4.0-generate
    """,
    "anthropic": """
        claude-sonnet-4-5 anthropic/claude-3.5-sonnet claude-3-5-sonnet-latest anthropic:claude-x
    """,
    "groq": """
        groq/llama-3.3-70b-versatile groq/openai/gpt-oss-120b llama-3.3-70b-versatile mixtral-8x7b-32768
    """,
    "openrouter": """
        openrouter/anthropic/claude-3.5-sonnet openrouter/auto
    """,
    "together_ai": """
        together_ai/meta-llama/Llama-3-70b-chat-hf together/x
    """,
    "fireworks_ai": """
        accounts/fireworks/models/llama-v3p1-8b-instruct fireworks_ai/accounts/fireworks/models/x
        accounts/acme/deployedModels/mine
    """,
    "huggingface": """
        huggingface/meta-llama/Llama-3
    """,
    "ollama": """
        ollama/llama3 ollama_chat/llama3:8b llama3.1:8b mistral:7b qwen2.5-coder:32b-instruct-q4_K_M gpt-oss:20b
        deepseek-r1:14b phi4:latest
    """,
    "x_ai": """
        xai/grok-3 x-ai/grok-4 grok-4
    """,
    "deepseek": """
        deepseek/deepseek-chat deepseek-reasoner deepseek/deepseek-r1:free
    """,
    "mistral_ai": """
        mistral/mistral-small-latest mistralai/mistral-large mistral:mistral-large-latest codestral-latest
        open-mistral-nemo
    """,
    "cohere": """
        command-r-plus cohere/command-r rerank-v3.5 embed-v4.0 cohere_chat/command-a
    """,
    "perplexity": """
        sonar-pro perplexity/sonar
    """,
    "moonshot_ai": """
        kimi-k2 moonshotai/kimi-k2-instruct moonshot/moonshot-v1-8k
    """,
    "ibm.watsonx.ai": """
        watsonx/ibm/granite-13b-chat-v2 ibm/granite-3-8b-instruct
    """,
    "cloudflare": """
        @cf/meta/llama-3-8b-instruct
    """,
    None: """
        my-own-model my-proxy/gpt-4o meta-llama/Llama-3.1-8B-Instruct gpt-oss-120b google/gemma-3-27b-it
        deepseek-r1-distill-llama-70b jamba-1.5-large / : a/ /a :a arn
    """,
}


@pytest.mark.parametrize("provider", MODELS)
def test_by_id(provider: str | None) -> None:
    """Costs and errors of one provider stand in the charts of another, or of none."""
    models = MODELS[provider].split()
    assert {model: provider_of(model) for model in models} == dict.fromkeys(models, provider)


@pytest.mark.parametrize("model", ["", " ", "/" * 10_000, "a/" * 5_000, "openai_like/" * 9 + "gpt-4o", "x" * 1_000_000])
def test_odd_ids(model: str) -> None:
    """An id that nobody meant takes its row with it, or much time."""
    assert provider_of(model) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("openai.chat", "openai"),
        ("OpenAI", "openai"),
        ("az.ai.openai", "azure.ai.openai"),
        ("azure-openai.responses", "azure.ai.openai"),
        ("az.ai.inference", "azure.ai.inference"),
        ("AWS", "aws.bedrock"),
        ("amazon-bedrock", "aws.bedrock"),
        ("google.generative-ai", "gcp.gemini"),
        ("google_genai", "gcp.gemini"),
        ("gemini", "gcp.gemini"),
        ("google.vertex.chat", "gcp.vertex_ai"),
        ("vertex_ai", "gcp.vertex_ai"),
        ("xai.chat", "x_ai"),
        ("mistralai", "mistral_ai"),
        ("my.corp", "my.corp"),
        ("az", "az"),
        *((name, name) for name in (
            "openai", "gcp.gen_ai", "gcp.vertex_ai", "gcp.gemini", "anthropic", "cohere", "azure.ai.inference",
            "azure.ai.openai", "ibm.watsonx.ai", "aws.bedrock", "perplexity", "x_ai", "deepseek", "groq", "mistral_ai",
            "moonshot_ai",
        )),
    ],
)  # fmt: skip
def test_by_name(name: str, expected: str) -> None:
    """One provider stands under as many names as there are instrumentations."""
    assert provider_called(name) == expected
