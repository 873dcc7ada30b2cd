"""Names without a language model: the words, and kinds of tokens, that tell the contexts of a latent from others."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from locum.core.errors import InvalidData, need, require_positive, require_whole
from locum.inside.naming import CalibratedDetector, Context, LatentExamples

__all__ = ["EmbeddingMatch", "LexicalNamer", "LogisticDetector", "SentenceEncoder", "name_words", "word_match"]

_WORD = re.compile(r"[^\W\d_](?:[\w'’-]*\w)?|\d+")
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_CLAUSE = re.compile(rf"\b(token|after) ({_QUOTED}(?:, {_QUOTED})*)")
_NEAR = re.compile(r"\bnear ([^;]+)")
_CLASSES = (
    "line breaks", "numbers", "punctuation", "parts of words", "words all in capitals", "capitalised words", "other words",
)  # fmt: skip
_NOTHING = "no word in common"


class _Seen(NamedTuple):
    """What of a context can be named."""

    token: str
    kind: str
    after: str
    near: frozenset[str]
    words: frozenset[str]


@lru_cache(maxsize=200_000)
def _seen(context: Context) -> _Seen:
    before = _WORD.findall(context.before.lower())
    around = before + _WORD.findall(context.after.lower())
    pairs = {f"{a} {b}" for a, b in pairwise(before)}
    plain = frozenset(around)
    token = context.token.strip().lower() or context.token
    return _Seen(token, _kind(context), before[-1] if context.token and before else "", plain | pairs, plain)


def _kind(context: Context) -> str:
    token = context.token.strip()
    if not context.token:
        return ""
    if not token:
        return "line breaks" if "\n" in context.token else "punctuation"
    if token.isdigit():
        return "numbers"
    if not any(letter.isalnum() for letter in token):
        return "punctuation"
    if context.token[0] == token[0] and context.before[-1:].isalpha():
        return "parts of words"
    if token.isupper() and len(token) > 1:
        return "words all in capitals"
    return "capitalised words" if token[0].isupper() else "other words"


@final
class LexicalNamer:
    """Names a latent by tokens, kinds of tokens, the word before and words around that its contexts have and others lack.

    Each candidate is counted in the active and in the inactive contexts; it is told where the logarithm of the ratio of its
    odds lies more than `z` standard errors above 0, most telling first, until `words` are. The names are short English with a
    fixed form, such as ``token "bank", "shore"; after "the"; near river, water``, which :func:`word_match` reads again.

    Parameters
    ----------
    words : int, default=5
        Of each sort at most.
    z : float, default=1.64
    support : int, default=2
        Active contexts in which a word must be.

    Examples
    --------
    >>> active = [Context(f"the {kind} river", 4 + len(kind), 10 + len(kind)) for kind in ("wide", "long", "old", "deep")]
    >>> inactive = [Context(f"the {kind} street", 4 + len(kind), 11 + len(kind)) for kind in ("wide", "long", "old", "deep")]
    >>> LexicalNamer()(active, inactive)
    'token "river"'
    """

    def __init__(self, words: int = 5, *, z: float = 1.64, support: int = 2) -> None:
        require_whole(1, words=words, support=support)
        require_positive(z=z)
        self.words, self.z, self.support = words, z, support

    def __call__(self, active: Sequence[Context], inactive: Sequence[Context], /) -> str:
        if not active or not inactive:
            raise InvalidData("expected contexts that excite the latent and ones that do not, got none of one sort")
        yes, no = [_seen(one) for one in active], [_seen(one) for one in inactive]
        tokens = self._telling([{one.token} for one in yes], [{one.token} for one in no])
        kinds = self._telling([{one.kind} for one in yes], [{one.kind} for one in no])
        after = self._telling([{one.after} for one in yes], [{one.after} for one in no])
        near = self._telling([one.near for one in yes], [one.near for one in no])
        near = [word for word in near if word not in after]
        parts = [f"token {_quoted(tokens)}"] if tokens else []
        parts += [kinds[0]] if kinds and kinds[0] != "other words" else []
        parts += [f"after {_quoted(after)}"] if after else []
        parts += [f"near {', '.join(near)}"] if near else []
        return "; ".join(parts) or _NOTHING

    def _telling(self, yes: Sequence[Iterable[str]], no: Sequence[Iterable[str]]) -> list[str]:
        """What is in active contexts more often than in others, the most telling first."""
        have, lack = (Counter(word for one in part for word in set(one) if word) for part in (yes, no))
        found = []
        for word, count in have.items():
            if count < self.support:
                continue
            a, b, c, d = count + 0.5, len(yes) - count + 0.5, lack[word] + 0.5, len(no) - lack[word] + 0.5
            z = np.log(a * d / (b * c)) / np.sqrt(1 / a + 1 / b + 1 / c + 1 / d)
            if z > self.z:
                found.append((-z, word))
        return [word for _, word in sorted(found)[: self.words]]


def _quoted(words: Iterable[str]) -> str:
    return ", ".join(json.dumps(word, ensure_ascii=False) for word in words)


def name_words(name: str) -> list[str]:
    """The words that a name speaks of: tokens and words near, or all but the commonest of a name in free words.

    Parameters
    ----------
    name : str

    Examples
    --------
    >>> name_words('token "river", "lake"; capitalised words; near bank, the bank')
    ['river', 'lake', 'bank', 'the bank']
    """
    told = _CLAUSE.findall(name)
    words = [json.loads(one) for which, quoted in told if which == "token" for one in re.findall(_QUOTED, quoted)]
    words += [word.strip() for part in _NEAR.findall(_CLAUSE.sub("", name)) for word in part.split(",")]
    return list(dict.fromkeys(words)) or sorted(_parsed(name).free)


# ---------------------------------------------------------------------- does a name fit a context?
class _Parsed(NamedTuple):
    """What a name says; a name in free words has those alone."""

    tokens: frozenset[str]
    kinds: frozenset[str]
    after: frozenset[str]
    near: frozenset[str]
    free: frozenset[str]


@lru_cache(maxsize=10_000)
def _parsed(name: str) -> _Parsed:
    told: dict[str, frozenset[str]] = {"token": frozenset(), "after": frozenset()}
    for which, quoted in _CLAUSE.findall(name):
        told[which] |= {json.loads(one) for one in re.findall(_QUOTED, quoted)}
    rest = _CLAUSE.sub("", name)
    near = [word.strip().lower() for part in _NEAR.findall(rest) for word in part.split(",")]
    rest = _NEAR.sub("", rest)
    kinds = frozenset(kind for kind in _CLASSES if kind in rest)
    if not any(told.values()) and not near and not kinds:
        free = frozenset(word for word in _WORD.findall(rest.lower()) if word not in ENGLISH_STOP_WORDS and rest != _NOTHING)
    else:
        free = frozenset()
    return _Parsed(told["token"], kinds, told["after"], frozenset(near), free)


def word_match(name: str, contexts: Sequence[Context]) -> NDArray[np.float64]:
    """How contexts fit the words of a name, shape (contexts, 7).

    Whether the token is one of those named, of the kind named, after a word named, and near one: 1 or -1, and 0 where the name
    says nothing of it; how many words named are near; and for names in free words whether the token is one of them, and how
    many are near.

    Parameters
    ----------
    name : str
    contexts : sequence of Context
    """
    told, rows = _parsed(name), np.zeros((len(contexts), 7))
    for row, context in zip(rows, contexts, strict=True):
        seen = _seen(context)
        near = len(told.near & seen.near)
        for i, (there, hit) in enumerate(
            (
                (told.tokens, seen.token in told.tokens),
                (told.kinds, seen.kind in told.kinds),
                (told.after, seen.after in told.after),
                (told.near, near > 0),
            )
        ):
            row[i] = (1.0 if hit else -1.0) if there else 0.0
        row[4] = np.log1p(near)
        row[5] = (1.0 if seen.token in told.free else -1.0) if told.free else 0.0
        row[6] = np.log1p(len(told.free & seen.words))
    return rows


@final
class SentenceEncoder:
    """Vectors of length 1 of texts, from an encoder of sentences; each text is encoded once.

    Parameters
    ----------
    model, tokenizer : from transformers
        As ``locum.nets.minilm()`` gives them. The mean of the last states, over the tokens of the text, is the vector.
    batch_size : int, default=64
    """

    def __init__(self, model: Any, tokenizer: Any, *, batch_size: int = 64) -> None:
        require_whole(1, batch_size=batch_size)
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size
        self._known: dict[str, NDArray[np.float32]] = {}

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of texts, shape (texts, width)."""
        new = sorted({text for text in texts if text not in self._known}, key=len)
        for start in range(0, len(new), self.batch_size):
            part = new[start : start + self.batch_size]
            self._known.update(zip(part, self._encoded(part), strict=True))
        return np.stack([self._known[text] for text in texts])

    def _encoded(self, texts: list[str]) -> NDArray[np.float32]:
        torch = need("torch", "an encoder of sentences", "lm")
        device = next(self.model.parameters()).device
        tokens = self.tokenizer(texts, return_tensors="pt", padding=True, truncation=True).to(device)
        with torch.inference_mode():
            states, there = self.model(**tokens).last_hidden_state, tokens["attention_mask"][..., None]
            mean = (states * there).sum(dim=1) / there.sum(dim=1)
            return torch.nn.functional.normalize(mean, dim=1).float().cpu().numpy()


@final
class EmbeddingMatch:
    """How close contexts are to a name, as cosines of two: of the text up to the token, and of the last words with the token.

    Parameters
    ----------
    encode : callable
        From texts to vectors, such as a :class:`SentenceEncoder`.
    words : int, default=4
        How many words the second has.
    """

    def __init__(self, encode: Callable[[Sequence[str]], Any], *, words: int = 4) -> None:
        require_whole(1, words=words)
        self.encode, self.words = encode, words

    def __call__(self, name: str, contexts: Sequence[Context]) -> NDArray[np.float64]:
        until = [one.before + one.token for one in contexts]
        last = [" ".join(text.split()[-self.words :]) for text in until]
        table = np.asarray(self.encode([name, *until, *last]), dtype=np.float64)
        table /= np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
        return (table[1:] @ table[0]).reshape(2, -1).T


@final
class LogisticDetector(CalibratedDetector):
    """Says whether a latent is active from how contexts fit its name, with weights that are the same for all names.

    Parameters
    ----------
    *matches : callable
        From a name and contexts to a table of numbers: :func:`word_match`, :class:`EmbeddingMatch`; :func:`word_match` where
        none are given.

    Raises
    ------
    InvalidData
        Where it is called before it was :meth:`calibrated`.
    """

    def __init__(self, *matches: Callable[[str, Sequence[Context]], NDArray[np.float64]]) -> None:
        self.matches = matches or (word_match,)
        self._model: Any = None

    def calibrated(self, names: Sequence[str], examples: Sequence[LatentExamples]) -> LogisticDetector:
        """The same with weights learned on held-out contexts of latents other than those to be judged.

        Parameters
        ----------
        names : sequence of str
        examples : sequence of LatentExamples
        """
        if not names or len(names) != len(examples):
            raise InvalidData(f"expected a name for each of one latent or more, got {len(names)} for {len(examples)}")
        tables = [self._table(name, [*one.held_active, *one.held_inactive]) for name, one in zip(names, examples, strict=True)]
        truth = [np.repeat([True, False], [len(one.held_active), len(one.held_inactive)]) for one in examples]
        made = LogisticDetector(*self.matches)
        made._model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
        made._model.fit(np.concatenate(tables), np.concatenate(truth))
        return made

    def __call__(self, name: str, contexts: Sequence[Context], /) -> NDArray[np.float64]:
        if self._model is None:
            raise InvalidData("the detector has no weights yet; take calibrated(names, examples) of other latents")
        return np.asarray(self._model.predict_proba(self._table(name, contexts))[:, 1])

    def _table(self, name: str, contexts: Sequence[Context]) -> NDArray[np.float64]:
        return np.concatenate([np.asarray(match(name, contexts)) for match in self.matches], axis=1)
