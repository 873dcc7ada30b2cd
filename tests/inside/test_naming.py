"""Names of latents: contexts that are drawn, names by words, detection on held-out contexts and its null."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from locum.core.errors import InvalidData
from locum.inside import (
    CalibratedDetector,
    Context,
    Detector,
    LatentExamples,
    LexicalNamer,
    LogisticDetector,
    Namer,
    latent_examples,
    score_names,
    token_contexts,
    word_match,
)

PLANTS = ("oak", "rose", "fern", "moss", "reed", "pine", "lily", "elm")
PLACES = ("river", "hill", "market", "harbour", "library", "station", "garden", "tower")
FILLERS = ["one", "saw", "that", "and", "then", "it", "was", "seen", "there", "once", "more", "by", "some"]


def sentences(rng, n):
    """Rows of (text, plant, place): the plant is the token, the place stands before it."""
    rows = []
    for _ in range(n):
        plant, place = int(rng.integers(len(PLANTS))), int(rng.integers(len(PLACES)))
        filler = " ".join(rng.choice(FILLERS, size=5))
        first = f"{filler} {PLACES[place]} {' '.join(rng.choice(FILLERS, size=2))} "
        text = f"{first}{PLANTS[plant]} {rng.choice(FILLERS)}"
        rows.append((Context(text, len(first), len(first) + len(PLANTS[plant])), plant, place))
    return rows


@pytest.fixture(scope="module")
def world():
    """Eight latents that are plants at the token, and eight that are places before it."""
    told = []
    for seed in (0, 1):
        rows = sentences(np.random.default_rng(seed), 900)
        table = np.zeros((len(rows), 16))
        strength = np.random.default_rng([seed, 1]).gamma(4, 0.25, size=len(rows))
        for i, (_, plant, place) in enumerate(rows):
            table[i, plant] = table[i, 8 + place] = strength[i]
        told += [sparse.csr_array(table), [one for one, _, _ in rows]]
    return told


@pytest.fixture(scope="module")
def examples(world):
    return latent_examples(*world, n=20, n_held=20, random_state=3)


# ---------------------------------------------------------------------- contexts
def test_a_context_knows_its_token_and_what_is_around():
    one = Context("The river rose.", 4, 9)
    assert (one.before, one.token, one.after, one.marked) == ("The ", "river", " rose.", "The <<river>> rose.")
    whole = Context("a film about trees")
    assert (whole.before, whole.token, whole.after, whole.marked) == ("a film about trees", "", "", "a film about trees")


@pytest.mark.parametrize(("given", "message"), [((3,), "text"), (("abc", 1), "both"), (("abc", 2, 9), "within the 3 letters")])
def test_contexts_that_are_none_are_refused(given, message):
    with pytest.raises(InvalidData, match=message):
        Context(*given)


def test_contexts_of_tokens_are_cut_from_the_documents():
    documents = [[5, 6, 7, 8, 9], [1, 2]]
    decode = lambda ids: "".join(f" {i}" for i in ids)  # noqa: E731
    found = token_contexts(documents, [[7, 0, 2], [1, 1, 0]], decode, before=1, after=2)
    assert [one.marked for one in found] == [" 6<< 7>> 8 9", "<< 1>> 2"]
    with pytest.raises(InvalidData, match="token 1 of document 1 is 9"):
        token_contexts(documents, [[9, 1, 1]], decode)


# ---------------------------------------------------------------------- examples
def test_examples_are_what_they_are_said_to_be(world, examples):
    codes, contexts, held_codes, held_contexts = world
    assert [one.latent for one in examples] == list(range(16))
    at = [{id(one): i for i, one in enumerate(told)} for told in (contexts, held_contexts)]
    for one in examples:
        for table, where, active, inactive in (
            (codes, at[0], one.active, one.inactive),
            (held_codes, at[1], one.held_active, one.held_inactive),
        ):
            column = table[:, [one.latent]].toarray()[:, 0]
            values = column[[where[id(context)] for context in active]]
            assert (values > 0).all()
            assert (np.diff(values) <= 0).all()
            assert (column[[where[id(context)] for context in inactive]] == 0).all()
            assert len(active) == len(inactive) == len({id(context) for context in inactive}) == 20


def test_active_contexts_cover_the_range_of_the_codes(world):
    codes, contexts, *_ = world
    (one,) = latent_examples(*world, latents=[8], n=10)
    column = codes[:, [8]].toarray()[:, 0]
    ranks = np.sort(column[column > 0])[::-1]
    at = {id(context): i for i, context in enumerate(contexts)}
    for i, context in enumerate(one.active):  # one from each tenth
        share = np.searchsorted(-ranks, -column[at[id(context)]]) / len(ranks)
        assert i / 10 - 0.02 <= share < (i + 1) / 10 + 0.02


def test_hard_negatives_have_the_tokens_and_the_words_of_the_active_ones(examples):
    place = examples[8]  # the latent of a place before the token: each token also stands where it is silent
    tokens = {context.token for context in place.held_active}
    same = [context for context, kind in zip(place.held_inactive, place.kinds, strict=True) if kind == "same token"]
    assert len(same) >= 6
    assert all(context.token in tokens for context in same)
    plant = examples[0]  # a token itself: wherever it is, the latent is active
    assert "same token" not in plant.kinds
    assert plant.kinds.count("similar") >= 6


def test_similar_contexts_are_closer_than_random_ones(world):
    def letters(texts):
        return np.array([[text.count(name) for name in PLACES] for text in texts]) + 1e-3

    told = latent_examples(*world, latents=[0], n=12, kinds=("similar", "random"), vectors=letters)[0]
    centre = letters([one.text for one in told.held_active]).mean(axis=0)
    close = letters([one.text for one in told.held_inactive]) @ centre
    kinds = np.array(told.kinds)
    assert close[kinds == "similar"].mean() > close[kinds == "random"].mean()


def test_the_same_seed_gives_the_same_examples(world):
    one, same, other = (latent_examples(*world, latents=[2, 9], random_state=seed) for seed in (0, 0, 1))
    assert one == same
    assert one != other


def test_codes_and_contexts_that_do_not_fit_are_refused(world):
    codes, contexts, held_codes, held_contexts = world
    with pytest.raises(InvalidData, match="a context for each of 900 rows"):
        latent_examples(codes, contexts[1:], held_codes, held_contexts)
    with pytest.raises(InvalidData, match="the same latents, got 16 and 3"):
        latent_examples(codes, contexts, held_codes[:, :3], held_contexts)
    with pytest.raises(InvalidData, match=r"latent 4 is active on \d+ rows and \d+ held-out ones, and 500"):
        latent_examples(*world, latents=[4], support=500)
    with pytest.raises(InvalidData, match="latent 16 is active on 0 rows"):
        latent_examples(*world, latents=[16])
    with pytest.raises(InvalidData, match="kinds="):
        latent_examples(*world, kinds=("easy",))
    with pytest.raises(InvalidData, match="Context"):
        latent_examples(codes, [one.text for one in contexts], held_codes, held_contexts)
    assert latent_examples(*world, support=500) == []


def test_where_a_latent_is_active_on_fewer_rows_all_are_drawn(world):
    (one,) = latent_examples(*world, latents=[3], n=500, n_held=10)
    assert 20 < len(one.active) == len(one.inactive) == int((world[0][:, [3]] > 0).sum()) < 500
    assert len(one.held_active) == len(one.held_inactive) == 10


# ---------------------------------------------------------------------- names
def test_words_that_tell_are_found(examples):
    namer = LexicalNamer()
    assert isinstance(namer, Namer)
    for one in examples:
        name = namer(one.active, one.inactive)
        if one.latent < 8:
            assert f'token "{PLANTS[one.latent]}"' in name
        else:
            assert PLACES[one.latent - 8] in name.partition("near")[2]


def test_kinds_of_tokens_and_words_before_are_named():
    def tokens(*texts):
        return [Context(text, text.index("["), len(text)) for text in texts]

    active = [Context(f"born in {year}", 8, 12) for year in range(1901, 1909)]
    inactive = [Context(f"the {word} house", 4, 4 + len(word)) for word in PLANTS]
    assert LexicalNamer()(active, inactive) == 'numbers; after "in"; near born, born in'
    assert LexicalNamer(1)(inactive, active).startswith('after "the"')
    capital = [Context(f"of {name}", 3, 3 + len(name)) for name in ("Rome", "Oslo", "Bern", "Lima")]
    assert "capitalised words" in LexicalNamer()(capital, inactive[:4])
    pieces = [Context(f"un{name}", 2, 2 + len(name)) for name in ("do", "fit", "seen", "tie")]
    assert "parts of words" in LexicalNamer()(pieces, inactive[:4])


def test_where_nothing_tells_the_name_says_so():
    same = [Context("all alike", 4, 9)] * 6
    assert LexicalNamer()(same, same) == "no word in common"
    with pytest.raises(InvalidData, match="none of one sort"):
        LexicalNamer()(same, [])
    with pytest.raises(InvalidData, match="z="):
        LexicalNamer(z=-1.0)


def test_whole_texts_are_named_by_their_words():
    films = [Context(f"film {i} drama war") for i in range(6)]
    others = [Context(f"film {i} comedy") for i in range(6)]
    assert LexicalNamer()(films, others) == "near drama, drama war, war"


def test_names_are_read_as_they_were_written():
    token = Context('he said "stop', 8, 9)
    name = LexicalNamer()([token] * 4, [Context("he said so", 8, 10)] * 4)
    assert name.startswith(r'token "\""; punctuation')
    assert word_match(name, [token, Context("he said so", 8, 10)])[:, 0].tolist() == [1.0, -1.0]
    assert not word_match("no word in common", [token]).any()


def test_names_in_free_words_are_held_to_words():
    found = word_match("rivers such as the Rhine", [Context("on the Rhine", 7, 12), Context("in the Rhine valley", 13, 19)])
    assert found[:, 5].tolist() == [1.0, -1.0]
    assert found[:, 6].tolist() == [0.0, np.log(2)]


# ---------------------------------------------------------------------- scores
def detects(name, contexts):
    return np.array([name in one.text for one in contexts])


def named(examples):
    return [(PLANTS + PLACES)[one.latent] for one in examples]


def test_a_detector_that_knows_has_1_and_permuted_names_have_one_half(examples):
    assert isinstance(detects, Detector)
    found = score_names(named(examples), examples, detects)
    assert found.mean.value == found.median.value == 1.0
    assert found.null.lower < 0.52
    assert found.null.upper > 0.45
    assert found.null.value == pytest.approx(0.5, abs=0.06)
    assert all(one.recall == 1.0 and set(one.left_out.values()) == {1.0} for one in found.latents)
    assert found.latents[0].balanced_accuracy.lower < 1.0


def test_balanced_accuracy_is_as_worked_by_hand():
    yes, no = [Context(f"yes {i}") for i in range(4)], [Context(f"no {i}") for i in range(8)]
    kinds = ("random",) * 4 + ("similar",) * 4
    example = LatentExamples(5, tuple(yes), tuple(no), tuple(yes), tuple(no), kinds)

    def judge(name, contexts):  # three of the four active ones, and two of the eight others, all of them similar
        return [0.9 if one.text in ("yes 0", "yes 1", "yes 2", "no 6", "no 7") else 0.5 for one in contexts]

    found = score_names(["a"] * 4, [example] * 4, judge)
    one = found.latents[0]
    assert one.balanced_accuracy.value == pytest.approx((3 / 4 + 6 / 8) / 2)
    assert (one.recall, one.left_out) == (0.75, {"random": 1.0, "similar": 0.5})
    assert one.balanced_accuracy.lower < 0.6 < 0.9 < one.balanced_accuracy.upper
    assert found.null.value == pytest.approx(0.75)  # all names are one and the same


def test_saying_always_yes_is_worth_one_half(examples):
    found = score_names(named(examples), examples, lambda name, contexts: np.ones(len(contexts)))
    assert found.mean.value == found.null.value == 0.5


def test_scores_do_not_depend_on_the_order_of_latents(examples):
    found = score_names(named(examples), examples, detects)
    back = score_names(named(examples)[::-1], examples[::-1], detects)
    assert back.latents == found.latents[::-1]
    assert [one.latent for one in found.best(3)] == [one.latent for one in back.best(3)]


def test_the_calibrated_detector_tells_planted_latents_and_not_permuted_names(examples):
    names = [LexicalNamer()(one.active, one.inactive) for one in examples]
    found = score_names(names, examples, LogisticDetector(), random_state=1)
    assert found.median.value > 0.9
    assert found.null.value < 0.6
    same = score_names(names, examples, LogisticDetector(), random_state=1)
    assert same == found


def test_a_calibrated_detector_never_judges_what_it_was_fitted_to(examples):
    fitted, judged = [], []

    class Spy(CalibratedDetector):
        def calibrated(self, names, told):
            latents = {one.latent for one in told}
            fitted.append(latents)

            def judge(name, contexts):
                judged.append((latents, contexts))
                return np.ones(len(contexts))

            return judge

    score_names(named(examples), examples, Spy())
    of = {tuple(map(id, (*one.held_active, *one.held_inactive))): one.latent for one in examples}
    assert fitted[0] | fitted[1] == set(range(16))
    assert not fitted[0] & fitted[1]
    assert all(of[tuple(map(id, contexts))] not in latents for latents, contexts in judged)


def test_the_interval_of_the_median_covers_it():
    from locum.inside.naming import score_names as score

    rng, covered = np.random.default_rng(0), 0
    yes, no = Context("yes"), Context("no")
    for _ in range(300):  # shares told rightly whose median is one half of 20
        examples, right = [], rng.integers(0, 21, size=25)
        for i, count in enumerate(right):
            told = tuple(Context(f"{'good' if j < count else 'bad'} {j}") for j in range(20))
            examples.append(LatentExamples(i, (yes,), (no,), told, (no,) * 20, ("random",) * 20))
        found = score(
            ["x"] * 25, examples, lambda name, contexts: ["good" in one.text for one in contexts], permutations=1
        ).median
        covered += found.lower <= 0.75 <= found.upper
    assert covered >= 280


def test_bad_names_and_detectors_are_refused(examples):
    with pytest.raises(InvalidData, match="a name for each of four latents or more, got 3 for 16"):
        score_names(["a"] * 3, examples, detects)
    with pytest.raises(InvalidData, match="as texts"):
        score_names([1] * 16, examples, detects)
    with pytest.raises(InvalidData, match="a probability for each of 40 contexts, the detector gave shape"):
        score_names(named(examples), examples, lambda name, contexts: [1.0])
    with pytest.raises(InvalidData, match="no weights yet"):
        LogisticDetector()("a", [Context("b")])
    with pytest.raises(InvalidData, match="a name for each of one latent or more"):
        LogisticDetector().calibrated([], [])
