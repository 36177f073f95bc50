"""The provider of a model call: by the names that instrumentations have for providers, or by the shape of a model's id.

The values are the well-known ones of `gen_ai.provider.name` (open-telemetry/semantic-conventions-genai,
model/gen-ai/registry.yaml) where there is one; for others the name that LiteLLM has for the provider
(https://docs.litellm.ai/docs/providers).
"""

from __future__ import annotations

import re
from functools import lru_cache

_OPENAI, _AZURE, _AZURE_INFERENCE = "openai", "azure.ai.openai", "azure.ai.inference"
_ANTHROPIC, _BEDROCK, _SAGEMAKER = "anthropic", "aws.bedrock", "aws.sagemaker"
_GEMINI, _VERTEX, _GOOGLE = "gcp.gemini", "gcp.vertex_ai", "gcp.gen_ai"
_MISTRAL, _XAI, _MOONSHOT, _WATSONX = "mistral_ai", "x_ai", "moonshot_ai", "ibm.watsonx.ai"

#: What providers are called elsewhere: LiteLLM's prefixes, `gen_ai.system` of older conventions and of OpenLLMetry,
#: `ls_provider` of LangChain, `llm.provider` of OpenInference, providers of the Vercel AI SDK, of Pydantic AI and of
#: OpenRouter's ids. In lower case, with `_` for `-`, a space and a dot.
_KNOWN: dict[str, str] = {
    "openai": _OPENAI, "text_completion_openai": _OPENAI, "openai_chat": _OPENAI, "openai_responses": _OPENAI,
    "azure": _AZURE, "azure_openai": _AZURE, "azure_text": _AZURE, "az_ai_openai": _AZURE, "azure_ai_openai": _AZURE,
    "azure_ai": _AZURE_INFERENCE, "az_ai_inference": _AZURE_INFERENCE, "azure_ai_inference": _AZURE_INFERENCE,
    "azure_ai_foundry": _AZURE_INFERENCE,
    "anthropic": _ANTHROPIC, "anthropic_text": _ANTHROPIC,
    "bedrock": _BEDROCK, "amazon_bedrock": _BEDROCK, "aws_bedrock": _BEDROCK, "bedrock_converse": _BEDROCK,
    "anthropic_bedrock": _BEDROCK, "bedrock_mantle": _BEDROCK, "amazon": _BEDROCK, "aws": _BEDROCK,
    "sagemaker": _SAGEMAKER, "sagemaker_chat": _SAGEMAKER, "aws_sagemaker": _SAGEMAKER,
    "gemini": _GEMINI, "google_gla": _GEMINI, "google_generative_ai": _GEMINI, "google_genai": _GEMINI,
    "gcp_gemini": _GEMINI, "google_ai_studio": _GEMINI,
    "vertex_ai": _VERTEX, "vertex_ai_beta": _VERTEX, "vertexai": _VERTEX, "google_vertex": _VERTEX,
    "google_vertexai": _VERTEX, "google_vertex_ai": _VERTEX, "vertex": _VERTEX, "gcp_vertex_ai": _VERTEX,
    "anthropic_vertex": _VERTEX, "google_anthropic_vertex": _VERTEX,
    "google": _GOOGLE, "gcp_gen_ai": _GOOGLE,
    "cohere": "cohere", "cohere_chat": "cohere",
    "mistral": _MISTRAL, "mistralai": _MISTRAL, "mistral_ai": _MISTRAL, "codestral": _MISTRAL,
    "text_completion_codestral": _MISTRAL,
    "deepseek": "deepseek", "deepseek_ai": "deepseek", "groq": "groq", "perplexity": "perplexity",
    "xai": _XAI, "x_ai": _XAI,
    "moonshot": _MOONSHOT, "moonshotai": _MOONSHOT, "moonshot_ai": _MOONSHOT,
    "watsonx": _WATSONX, "watsonx_text": _WATSONX, "ibm_watsonx_ai": _WATSONX, "ibm": _WATSONX,
    "openrouter": "openrouter", "together_ai": "together_ai", "together": "together_ai", "togetherai": "together_ai",
    "fireworks_ai": "fireworks_ai", "fireworks": "fireworks_ai",
    "huggingface": "huggingface", "hugging_face": "huggingface",
    "ollama": "ollama", "ollama_chat": "ollama",
    "replicate": "replicate", "databricks": "databricks", "cerebras": "cerebras", "sambanova": "sambanova",
    "deepinfra": "deepinfra", "nvidia_nim": "nvidia_nim", "hosted_vllm": "vllm", "vllm": "vllm",
    "lm_studio": "lm_studio", "lmstudio": "lm_studio", "cloudflare": "cloudflare", "workers_ai": "cloudflare",
    "novita": "novita", "nebius": "nebius", "hyperbolic": "hyperbolic", "baseten": "baseten", "anyscale": "anyscale",
    "voyage": "voyage", "voyageai": "voyage", "jina_ai": "jina_ai", "ai21": "ai21", "ai21_chat": "ai21",
    "volcengine": "volcengine", "dashscope": "dashscope", "github": "github", "github_copilot": "github_copilot",
    "friendliai": "friendliai", "lambda_ai": "lambda_ai", "snowflake": "snowflake", "xinference": "xinference",
    "predibase": "predibase", "oci": "oci", "vercel_ai_gateway": "vercel_ai_gateway",
}  # fmt: skip
#: Prefixes of routers that pass the rest of an id on: the rest names the provider.
_PASSED_ON = frozenset({"litellm_proxy", "litellm", "gateway", "openai_like", "custom_openai"})
#: Vendors before a slash, as OpenRouter and Hugging Face have them, whose models others serve too: only the rest shows.
_VENDORS_ONLY = frozenset({"google"})

#: Geographies of inference profiles, and vendors, that begin a model's id on Bedrock
#: (https://docs.aws.amazon.com/bedrock/latest/userguide/inference-profiles-support.html).
_ON_BEDROCK = re.compile(
    r"(?:(?:us|eu|apac|ap|global|au|jp|ca|sa|me|uk|il|in|us-gov)\.)?"
    r"(?:ai21|amazon|anthropic|cohere|deepseek|google|luma|meta|minimax|mistral|moonshot|moonshotai|nvidia|openai|qwen"
    r"|stability|twelvelabs|writer|zai)\.[a-z0-9]"
)

_OF_OPENAI = (
    r"(?:ft:)?(?:gpt-|chatgpt-|o[1345](?:-|\Z)|codex-|computer-use-|davinci|babbage|whisper-|tts-1|dall-e|sora-)"
    r"|text-(?:embedding-(?:3|ada)|davinci|moderation)|omni-moderation"
)
_OF_MISTRAL = r"(?:open-)?(?:mistral|mixtral-8x)(?:\Z|-)|codestral|devstral|voxtral|ministral|pixtral|magistral"

#: Shapes of whole ids, the surest first. Most are guesses that hold for ids as their provider documents them.
_SHAPES: tuple[tuple[re.Pattern[str], str | None], ...] = (
    (re.compile(r"arn:aws[\w-]*:sagemaker:"), _SAGEMAKER),
    (re.compile(r"arn:aws[\w-]*:"), _BEDROCK),
    (re.compile(r"(?:[^/]+/)?(?:projects/[^/]+/locations/|publishers/[^/]+/models/)"), _VERTEX),
    (re.compile(r"(?:models|tunedmodels)/"), _GEMINI),
    (re.compile(r"accounts/[^/]+/(?:models|deployments|routers|deployedmodels)/"), "fireworks_ai"),
    (re.compile(r"@(?:cf|hf)/"), "cloudflare"),
    (_ON_BEDROCK, _BEDROCK),
    (re.compile(r"[^/]+-v\d+:\d+(?:\Z|:)"), _BEDROCK),  # anthropic's name with Bedrock's version: claude-…-v1:0
    (re.compile(r"[^/]+@(?:\d{3,8}|default|latest)\Z"), _VERTEX),
    (re.compile(r"(?:[^/]+/)?[^/]+-maas\Z"), _VERTEX),
    (re.compile(r"(?:ft:)?gpt-35-"), _AZURE),  # Azure's names have no dot
    (re.compile(r"(?:llama|mixtral|gemma|qwen)[\w.-]*-(?:versatile|instant|specdec|8192|32768)\Z"), "groq"),
    (re.compile(r"(?!ft:)[^/:]+:(?:\d+(?:\.\d+)?[bm]|latest)(?:\Z|-)"), "ollama"),
    (re.compile(r"gpt-oss|(?:[\w.-]+-)?distill"), None),  # open weights, served by many
    (re.compile(_OF_OPENAI), _OPENAI),
    (re.compile(r"text-(?:multilingual-)?embedding-\d{3}|textembedding-gecko|imagen|veo-"), _GOOGLE),
    (re.compile(r"claude"), _ANTHROPIC),
    (re.compile(r"gemini|text-bison|chat-bison"), _GEMINI),
    (re.compile(_OF_MISTRAL), _MISTRAL),
    (re.compile(r"command(?:\Z|-)|c4ai-|embed-(?:english|multilingual|v\d)|rerank-"), "cohere"),
    (re.compile(r"deepseek"), "deepseek"),
    (re.compile(r"grok"), _XAI),
    (re.compile(r"sonar|pplx-"), "perplexity"),
    (re.compile(r"kimi|moonshot"), _MOONSHOT),
)
_MAX_ID = 300  # characters of an id that are looked at, and remembered
_MAX_PREFIXES = 3  # openai_like/litellm_proxy/…
_SEPARATORS = str.maketrans("-. ", "___")


def provider_called(name: str) -> str:
    """Return the conventions' value for what an instrumentation calls a provider; an unknown name as it is.

    The Vercel AI SDK appends the interface: `openai.chat`, `google.generative-ai`, `amazon-bedrock`.
    """
    return _known(name[:_MAX_ID]) or name


@lru_cache(maxsize=1024)
def _known(name: str) -> str | None:
    words = name.lower().split(".")
    called = (".".join(words[:length]).translate(_SEPARATORS) for length in (len(words), 2, 1))
    return next((_KNOWN[key] for key in called if key in _KNOWN), None)


@lru_cache(maxsize=1024)
def _of_short(model: str) -> str | None:
    for _ in range(_MAX_PREFIXES):
        shaped = next(((found,) for shape, found in _SHAPES if shape.match(model)), None)
        if shaped is not None:
            return shaped[0]
        prefix, separator, rest = _prefix(model)
        if not separator:
            return None
        key = prefix.translate(_SEPARATORS)
        if key not in _PASSED_ON and key not in _VENDORS_ONLY:
            return _KNOWN.get(key)
        model = rest
    return None


def _prefix(model: str) -> tuple[str, str, str]:
    """Return what stands before the first slash, or before a colon as Pydantic AI and LangChain write it."""
    separator = "/" if "/" in model and not 0 <= model.find(":") < model.find("/") else ":"
    return model.partition(separator)


def provider_of(model: str) -> str | None:
    """Guess who served a model, by its id; None where the id does not show."""
    return _of_short(model[:_MAX_ID].strip().lower())
