"""Layout text read by a language model behind an OpenAI-compatible endpoint, instead of by rules."""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from ..schemas.errors import UsageError
from .layout import ParsedText, all_codes, codes_of, text

KEY_VARIABLE = "DUOLOGUE_LLM_KEY"
_EXAMPLES = (
    ("an intimate talk, heads close, both looking at each other", ("mutual:much", "distance:intimate")),
    ("arguing across a table", ("arrangement:face_to_face", "distance:social")),
    ("two friends on a park bench watching the ducks", ("arrangement:side_by_side", "distance:personal")),
)


@dataclass(frozen=True)
class Endpoint:
    """Attributes:
    url: base of the API, as "http://localhost:8000/v1". model: name that the server knows.
    key: bearer token, "" for none. timeout_s: seconds to wait for an answer.
    """

    url: str
    model: str
    key: str = ""
    timeout_s: float = 60.0

    def __call__(self, description: str) -> ParsedText:
        """The codes that the model reads in ``description``; an empty answer means that nothing spatial is said.

        Raises:
            UsageError: no answer, or one that is not what was asked for. Never falls back to rules.
        """
        answer = self._ask(description)
        codes = answer.get("codes", [])
        known = all_codes()
        if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
            raise UsageError(f"{self.url}: the model's answer has no list of codes")
        wrong = [code for code in codes if code not in known]
        if wrong:
            raise UsageError(f"{self.url}: the model answered with a code that does not exist: {wrong[0]}")
        values: dict[str, float] = {}
        distance = answer.get("distance_m")
        if isinstance(distance, int | float) and not isinstance(distance, bool) and math.isfinite(distance):
            values["distance_m"] = float(distance)
            codes = [c for c in codes if not c.startswith("distance:")]
            codes += [c for c in codes_of(values) if c.startswith("distance:")]
        order = {code: k for k, code in enumerate(known)}
        return ParsedText(tuple(sorted(set(codes), key=order.__getitem__)), values, "")

    def _ask(self, description: str) -> dict[str, Any]:
        body = {"model": self.model, "temperature": 0, "messages": _messages(description)}
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        if not self.url.startswith(("http://", "https://")):
            raise UsageError(f"{self.url}: the address of a language model begins with http:// or https://")
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/chat/completions", json.dumps(body).encode(), headers, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
                raw = response.read()
        except urllib.error.HTTPError as error:
            raise UsageError(f"{self.url} answered {error.code} {error.reason}") from None
        except (OSError, ValueError) as error:  # no connection, time-out, not a URL
            raise UsageError(f"{self.url} cannot be reached: {getattr(error, 'reason', error)}") from None
        try:
            content = json.loads(raw)["choices"][0]["message"]["content"]
            found = json.loads(content[content.index("{") : content.rindex("}") + 1])
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise UsageError(f"{self.url}: the answer is not the JSON object that was asked for") from None
        if not isinstance(found, dict):
            raise UsageError(f"{self.url}: the answer is not the JSON object that was asked for")
        return found


def _messages(description: str) -> list[dict[str, str]]:
    vocabulary = "\n".join(f"{code}: {text((code,))}" for code in all_codes())
    rules = (
        "Two people, A on the left of the image and B on the right, talk. Read where they are from a description. "
        'Answer with one JSON object: {"codes": [...], "distance_m": number or null}. Use only these codes, at most '
        "one of each group, and only what the description says or plainly implies; an empty list if it says nothing "
        f"about space. distance_m only where a number is given.\n{vocabulary}"
    )
    messages = [{"role": "system", "content": rules}]
    for sentence, codes in _EXAMPLES:
        answer = json.dumps({"codes": list(codes), "distance_m": None})
        messages += [{"role": "user", "content": sentence}, {"role": "assistant", "content": answer}]
    return [*messages, {"role": "user", "content": description}]
