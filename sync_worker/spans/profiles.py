"""Which conventions the attributes of spans follow; a module of its own, as it is an option of commands too."""

from __future__ import annotations

from typing import Literal

AttributeProfile = Literal["both", "genai", "langfuse"]
