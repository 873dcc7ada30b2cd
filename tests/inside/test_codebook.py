"""Codes of concepts: the algebra against its expectations and against torchhd, p-values against chance."""

from __future__ import annotations

import numpy as np
import pytest

from locum.core.errors import InvalidData
from locum.inside import Codebook, bundle_cosine, bundle_recovery


def book(n=60, dim=1024, seed=0):
    return Codebook([f"c{i}" for i in range(n)], dim, random_state=seed)


def pairs_bundle(codes, m, rng, ties="random"):
    chosen = [codes.concepts[i] for i in rng.choice(len(codes), 2 * m, replace=False)]
    pairs = list(zip(chosen[:m], chosen[m:], strict=True))
    return pairs, codes.bundle([codes.bind(*one) for one in pairs], ties=ties)


# ---------------------------------------------------------------------- algebra
def test_binding_is_its_own_inverse_and_like_neither_part():
    codes = book()
    bound = codes.bind("c1", "c2")
    assert (codes.bind(bound, "c2") == codes["c1"]).all()
    assert (codes.bind("c1", "c1") == 1).all()
    assert abs(codes.cosines(bound)).max() < 0.15


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5, 8])
def test_a_bundle_is_as_like_its_parts_as_expected(m):
    codes, rng, found = book(dim=4096), np.random.default_rng(m), []
    for _ in range(30):
        pairs, bundle = pairs_bundle(codes, m, rng)
        found.append(codes.cosines(codes.unbind(bundle, [pairs[0][0]]))[0, codes.index(pairs[0][1])])
    assert np.mean(found) == pytest.approx(bundle_cosine(m), abs=4 / np.sqrt(4096 * 30))


@pytest.mark.parametrize("dim", [256, 1024])
@pytest.mark.parametrize("m", [3, 9, 15])
def test_recovery_is_as_expected(dim, m):
    rng, right, n = np.random.default_rng([dim, m]), 0, 200
    codes = Codebook([f"c{i}" for i in range(100)], dim)
    for _ in range(n):
        pairs, bundle = pairs_bundle(codes, m, rng)
        right += codes.decode(bundle, [pairs[0][0]], top=1)[0][0].concept == pairs[0][1]
    expected = bundle_recovery(m, dim, 100)
    assert right / n == pytest.approx(expected, abs=4 * np.sqrt(max(expected * (1 - expected), 0.002) / n))


def test_the_algebra_is_that_of_torchhd():
    torch = pytest.importorskip("torch")
    hd = pytest.importorskip("torchhd")
    codes = book(8, 512)
    tensors = hd.MAPTensor(torch.from_numpy(codes.vectors.astype(np.float32)))
    theirs = hd.bundle(hd.bind(tensors[0], tensors[1]), hd.bind(tensors[2], tensors[3]))
    ours = codes.bundle([codes.bind("c0", "c1"), codes.bind("c2", "c3")], ties="zero")
    assert (np.sign(theirs.numpy()) == ours).all()
    cosines = hd.cosine_similarity(torch.from_numpy(ours.astype(np.float32)).as_subclass(hd.MAPTensor), tensors).numpy()
    np.testing.assert_allclose(codes.cosines(ours)[0], cosines, atol=1e-6)


# ---------------------------------------------------------------------- ties
def test_a_constant_is_half_right_where_ties_are_negative():
    codes, rng = book(dim=4096), np.random.default_rng(0)
    _, bundle = pairs_bundle(codes, 2, rng, ties="negative")
    assert (bundle == -1).mean() == pytest.approx(0.75, abs=0.03)
    assert bundle.mean() == pytest.approx(-0.5, abs=0.06)
    _, drawn = pairs_bundle(codes, 2, rng, ties="random")
    assert abs(drawn.mean()) < 0.06


def test_ties_are_the_same_for_the_same_pairs_in_any_order_and_others_for_others():
    codes = book()
    one, same = (codes.compose([told])[0] for told in ([("c1", "c2"), ("c3", "c4")], [("c4", "c3"), ("c2", "c1")]))
    assert (one == same).all()
    zero, other = codes.compose([[("c1", "c2"), ("c3", "c4")], [("c1", "c2"), ("c5", "c6")]], ties="zero")
    drawn = codes.compose([[("c1", "c2"), ("c5", "c6")]])[0]
    ties = (zero == 0) & (other == 0)
    assert 0.35 < (one[ties] == drawn[ties]).mean() < 0.65
    assert (one[zero != 0] == zero[zero != 0]).all()


def test_an_odd_bundle_has_no_ties():
    codes = book()
    terms = [["c1", ("c2", "c3"), "c4"]]
    told = [codes.compose(terms, ties=ties)[0] for ties in ("random", "zero", "negative")]
    assert (told[0] == told[1]).all()
    assert (told[0] == told[2]).all()


# ---------------------------------------------------------------------- reading
def test_p_values_of_unrelated_vectors_are_those_of_chance():
    codes, rng = book(40, 512), np.random.default_rng(1)
    noise = rng.choice([-1, 1], size=(2000, 512)).astype(np.int8)
    least = np.array([best[0].p_value for best in codes.decode(noise, top=1)])
    for level in (0.05, 0.2):
        assert level / 2 < (least <= level).mean() <= level + 3 * np.sqrt(level / 2000)


def test_p_values_rise_with_the_codebook_and_are_far_below_chance_for_what_is_there():
    small, large = book(10), book(400)
    told = [("c1", "c2"), ("c3", "c4")]
    p = [codes.decode(codes.compose([told]), ["c1"], top=3)[0] for codes in (small, large)]
    assert [one[0].concept for one in p] == ["c2", "c2"]
    assert p[1][0].p_value == pytest.approx(40 * p[0][0].p_value, rel=1e-6) or p[1][0].p_value < 1e-30
    assert p[0][0].p_value < 1e-12
    assert p[0][1].p_value > 0.01


def test_a_bundle_of_single_words_is_read_without_unbinding():
    codes = book()
    found = codes.decode(codes.compose([["c7", "c8", "c9"]])[0], top=3)[0]
    assert {one.concept for one in found} == {"c7", "c8", "c9"}
    assert [one.cosine for one in found] == sorted((one.cosine for one in found), reverse=True)


def test_unbinding_all_words_of_the_prompt_gives_the_key_whatever_the_answer_is():
    codes = book()
    for answer in ("c4", "c5"):
        told = codes.compose([[("c1", "c2"), ("c3", answer)]])
        assert codes.decode(told, ["c1", "c2", "c3"], top=1)[0][0].concept == "c3"


def test_known_concepts_may_differ_by_row():
    codes = book()
    told = codes.compose([[("c1", "c2")], [("c3", "c4")]])
    assert [one[0].concept for one in codes.decode(told, [("c1",), ("c4",)], top=1)] == ["c2", "c3"]


def test_bound_pairs_are_found_without_knowing_a_part():
    codes = book(150)
    found = codes.bound_pairs(codes.compose([[("c10", "c90"), ("c33", "c120")]])[0], 3)
    assert {one.concept for one in found[:2]} == {("c10", "c90"), ("c33", "c120")}
    assert max(one.p_value for one in found[:2]) < 1e-6
    assert found[2].p_value > 1e-3


def test_a_larger_codebook_keeps_the_codes_it_had():
    small, large = Codebook(["Oslo", "Rome"], 64), Codebook(["Lima", "rome", "oslo"], 64)
    assert (small["OSLO"] == large["oslo "]).all()
    assert (Codebook(["Oslo"], 64, random_state=1)["Oslo"] != small["Oslo"]).any()
    assert "Rome" in small
    assert "Lima" not in small
    assert repr(large) == "Codebook(3 concepts, dim=64, random_state=101)"


# ---------------------------------------------------------------------- bad input
@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda c: c["mexiko"], r"no concept 'mexiko' among the 3 .*near are Mexico"),
        (lambda c: c["zzzz"], "none is near it"),
        (lambda c: c.bundle([]), "at least one vector to bundle, got none"),
        (lambda c: c.bind(), "at least one concept or vector to bind"),
        (lambda c: c.bind(np.ones(5)), r"vectors of 64 numbers.*got shape \(5,\)"),
        (lambda c: c.bundle([np.ones(64), np.ones(5)]), r"vectors of 64 numbers.*got shape \(5,\)"),
        (lambda c: c.cosines(np.full(64, np.nan)), "finite vectors"),
        (lambda c: c.bundle([c["peso"]], ties="half"), "ties= to be one of random, zero, negative"),
        (lambda c: c.compose(["peso"]), "documents, each a sequence"),
        (lambda c: c.compose([]), "documents, each a sequence"),
        (lambda c: c.unbind(np.ones((2, 64)), [["peso"]]), "each of 2 vectors, got 1"),
        (lambda c: c.decode(np.ones(64), top=0), "top= to be a whole number of 1"),
        (lambda c: c.bound_pairs(np.zeros(64)), "not all 0"),
        (lambda c: Codebook([]), "at least one concept, got none"),
        (lambda c: Codebook(["Polish", "polish "]), "'Polish' and 'polish '"),
        (lambda c: Codebook(["a", " "]), "a name, got ' ' as number 1"),
        (lambda c: Codebook(["a"], 0), "dim= to be a whole number of 1"),
        (lambda c: Codebook(["a"], 8).bound_pairs(np.ones(8)), "two concepts or more"),
        (lambda c: bundle_cosine(0), "m= to be a whole number of 1"),
    ],
)
def test_bad_input_is_refused(call, told):
    with pytest.raises(InvalidData, match=told):
        call(Codebook(["Mexico", "peso", "yen"], 64))
