"""Choices that options of commands share with the code that follows them: nothing else, as each start imports them."""

from __future__ import annotations

from typing import Literal

#: Generations of Langfuse's API: v2 observations (Cloud, v4), or v1 traces and observations (self-hosted v2 and v3).
Api = Literal["v2", "v1"]
#: Which conventions the attributes of spans follow.
AttributeProfile = Literal["both", "genai", "langfuse"]
