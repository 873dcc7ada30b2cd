"""Records of latents and their page: planted truth, texts that are hostile, and a real browser."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import sparse

from locum.core.errors import FormatError, InvalidData, UnsupportedModule
from locum.core.fidelity import Fidelity
from locum.inside import (
    CodedUnits,
    Example,
    FeatureEffect,
    FeaturePage,
    FeatureRecord,
    Histogram,
    Picture,
    describe_features,
)

HOSTILE = [
    "<script>alert(1)</script>",
    '"></script><img src=x onerror=alert(1)>',
    "it's & `ticked` \u2028 ${7*7}",
    "\u202eright",
]


def fidelity(value=0.5, measure="area under the curve"):
    return Fidelity(measure, value, value - 0.1, value + 0.1, 0.95, 40, how="passages", groups=8)


def planted(n_documents=30, length=20, seed=0):
    """Words of which latent 0 is active on "cat", latent 1 after "the", latent 2 never and latent 3 on every first word."""
    rng = np.random.default_rng(seed)
    texts = [tuple(rng.choice(["the", "cat", "dog", "runs"], size=length)) for _ in range(n_documents)]
    codes = np.zeros((n_documents * length, 4), dtype=np.float32)
    for i, words in enumerate(texts):
        for j, word in enumerate(words):
            after = j > 0 and words[j - 1] == "the"
            codes[i * length + j] = [(word == "cat") * (1 + j / length), float(after), 0, float(j == 0)]
    sequence, position = np.divmod(np.arange(len(codes)), length)
    return CodedUnits(sparse.csr_array(codes), sequence, position, texts), codes


ATOMS = np.array([[1.0, 0, 0], [0.9, 0.1, 0], [0, 0, 1.0], [0, 1.0, 0]])


def records(**settings):
    units, _ = planted()
    return describe_features(units, ATOMS, outputs=np.eye(3), output_names=["x", "y", "z"], **settings)


# ---------------------------------------------------------------------- what is said
def test_examples_are_the_strongest_one_a_sequence_with_their_surroundings():
    units, codes = planted()
    cat, after, first = describe_features(units, ATOMS, n_examples=5, n_drawn=3, around=(4, 2))
    assert [one.latent for one in (cat, after, first)] == [0, 1, 3]  # latent 2 is never active
    assert cat.largest == codes[:, 0].max()
    sequences = [one.sequence for one in cat.examples]
    assert len(set(sequences)) == 5
    best = sorted((codes[s * 20 : s * 20 + 20, 0].max() for s in range(30)), reverse=True)[:5]
    assert [one.values[one.at] for one in cat.examples] == pytest.approx(best, rel=1e-3)
    for one in (*cat.examples, *cat.drawn):
        assert one.units[one.at] == "cat"
        words = units.units[one.sequence]
        assert one.units == words[max(0, one.position - 4) : one.position + 3]
        own = codes[one.sequence * 20 : one.sequence * 20 + 20, 0][max(0, one.position - 4) : one.position + 3]
        np.testing.assert_allclose(one.values, own, rtol=1e-3)
        assert one.source == f"document {one.sequence}"
    assert all(one.units[one.at - 1] == "the" for one in after.examples)
    assert all(one.at == 0 == one.position for one in first.examples)


def test_shares_and_histograms_count_every_row():
    units, codes = planted()
    for one in describe_features(units, ATOMS):
        active = codes[:, one.latent] > 0
        assert one.active.value == pytest.approx(active.mean())
        assert one.active.lower <= active.mean() <= one.active.upper
        assert one.active.groups == 30
        assert sum(one.histogram.counts) == active.sum()
        assert sum(one.histogram.counts) + one.histogram.zeros == len(codes)
        counts, _ = np.histogram(codes[active, one.latent], bins=one.histogram.edges)
        assert counts.tolist() == list(one.histogram.counts)


def test_intervals_of_shares_are_over_documents():
    """A latent that is on in whole documents: intervals over rows would be far too short."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(100):
        on = rng.random(25) < 0.3
        codes = np.repeat(on, 40)[:, None] * np.ones((1, 1))
        if on.any():
            sequence, position = np.divmod(np.arange(1000), 40)
            share = describe_features(CodedUnits(codes, sequence, position, [("a",) * 40] * 25), np.ones((1, 2)))[0].active
            held += share.lower <= 0.3 <= share.upper
    assert held >= 90


def test_a_long_document_counts_for_as_many_rows_as_it_has():
    lengths = np.array([90, 10] * 15)
    sequence = np.repeat(np.arange(30), lengths)
    position = np.concatenate([np.arange(length) for length in lengths])
    codes = (lengths[sequence] == 90)[:, None].astype(float)
    (one,) = describe_features(CodedUnits(codes, sequence, position, [("a",) * n for n in lengths]), np.ones((1, 2)))
    assert one.active.value == 0.9
    assert 0.75 < one.active.lower < 0.88
    assert one.active.upper > 0.91
    texts = [("a",) * n for n in lengths]
    few = describe_features(CodedUnits(codes[:400], sequence[:400], position[:400], texts), np.ones((1, 2)))
    assert few[0].active.lower < 0.7  # of eight documents, four have it: the interval that holds for any shares
    assert few[0].active.upper > 0.9


def test_outputs_and_neighbours_are_those_of_the_atoms():
    cat, after, first = records(n_outputs=2, n_neighbours=2)
    assert cat.raised == (("x", pytest.approx(2 / 3, rel=1e-3)),)
    assert cat.lowered == (("y", pytest.approx(-1 / 3, rel=1e-3)), ("z", pytest.approx(-1 / 3, rel=1e-3)))
    assert after.raised[0][0] == "x"
    assert first.raised == (("y", pytest.approx(2 / 3, rel=1e-3)),)
    near = 0.9 / np.hypot(0.9, 0.1)
    assert cat.neighbours[0] == (1, pytest.approx(near, rel=1e-5))
    assert after.neighbours == ((0, pytest.approx(near, rel=1e-5)), (3, pytest.approx(0.1 / np.hypot(0.9, 0.1), rel=1e-5)))


def test_units_may_be_given_in_any_order_and_some_are_drawn_where_there_are_too_many():
    units, _ = planted()
    order = np.random.default_rng(1).permutation(len(units.position))
    mixed = CodedUnits(units.codes[order], units.sequence[order], units.position[order], units.units)
    one, other = (describe_features(each, ATOMS, n_drawn=0) for each in (units, mixed))
    for a, b in zip(one, other, strict=True):
        assert (a.active, a.histogram, a.largest) == (b.active, b.histogram, b.largest)
        assert [e.values[e.at] for e in a.examples] == [e.values[e.at] for e in b.examples]
    few = describe_features(units, ATOMS, most=2)
    assert len(few) == 2
    assert few == describe_features(units, ATOMS, most=2)
    assert [r.latent for r in describe_features(units, ATOMS, latents=[3, 0])] == [3, 0]


def test_patches_of_pictures_are_examples_too():
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    codes = np.zeros((12, 1))
    codes[[2, 9], 0] = [1.0, 3.0]
    sequence, position = np.divmod(np.arange(12), 6)
    units = CodedUnits(codes, sequence, position, pictures=[Picture(pixels, 2, 3)] * 2, sources=["a", "b"])
    (one,) = describe_features(units, np.ones((1, 2)))
    assert [e.source for e in one.examples] == ["b", "a"]
    assert one.examples[0].values == (0.0, 0.0, 0.0, 3.0, 0.0, 0.0)
    assert one.examples[0].at == 3


def test_names_are_given_with_their_scores():
    score = fidelity()
    one, two, three = records(names={0: ("cats", score), 1: "after the"})
    assert (one.name, one.score, two.name, two.score, three.name) == ("cats", score, "after the", None, "")
    page = FeaturePage("t", records()).named({3: ("first", score)})
    assert [r.name for r in page.records] == ["", "", "first"]


# ---------------------------------------------------------------------- the seam
def full():
    measures, control = (fidelity(0.4, "KL"),), (fidelity(0.3, "KL"),)
    effect = FeatureEffect("ablation", "taken out", measures, control, (("a", 0.5),), (("b", -0.5),))
    picture = Picture(np.arange(36, dtype=np.uint8).reshape(3, 4, 3), 1, 2)
    shown = Example((), (0.0, 1.0), 1, 3, 1, "image 3", picture)
    one = records(n_outputs=1, names={0: ("cats", fidelity())})[0]
    other = FeatureRecord(9, 1.0, one.active, Histogram((0.0, 1.0), (4,), 96), (shown,), effects=(effect,))
    return FeaturePage("All of it", (one, other), "pictures", 64, "model, site", (fidelity(0.6, "FVU"),))


def test_a_page_is_the_same_after_json(tmp_path):
    page = full()
    page.save(tmp_path / "page.json")
    assert FeaturePage.load(tmp_path / "page.json") == page
    assert FeatureRecord.from_dict(json.loads(json.dumps(page.records[1].to_dict()))) == page.records[1]


def test_what_is_no_record_is_refused(tmp_path):
    record = full().records[0].to_dict()
    with pytest.raises(FormatError, match="of format 1, got 2: update locum"):
        FeatureRecord.from_dict(record | {"format": 2})
    with pytest.raises(FormatError, match="other fields, or too few: more"):
        FeatureRecord.from_dict(record | {"more": 1})
    with pytest.raises(FormatError, match="other fields, or too few: examples"):
        FeatureRecord.from_dict({key: value for key, value in record.items() if key != "examples"})
    (tmp_path / "no.json").write_text("[1]")
    with pytest.raises(FormatError, match="expected feature records of format 1, got 'list'"):
        FeaturePage.load(tmp_path / "no.json")
    with pytest.raises(FormatError, match="cannot read"):
        FeaturePage.load(tmp_path / "none.json")
    one = full().records[0]
    with pytest.raises(InvalidData, match="two or more of latent 0"):
        FeaturePage("t", (one, one))
    with pytest.raises(InvalidData, match="at least one feature record"):
        FeaturePage("t", ())
    with pytest.raises(InvalidData, match="an activation for each of 2 units"):
        Example(("a", "b"), (1.0,), 0, 0, 0)


def test_units_that_do_not_fit_are_refused():
    units, codes = planted()
    with pytest.raises(InvalidData, match="position= for each of 600 rows"):
        CodedUnits(codes, units.sequence[:5], units.position, units.units)
    with pytest.raises(InvalidData, match="row 0 is at position 20 of a sequence of 20 units"):
        CodedUnits(codes, units.sequence, units.position + 20, units.units)
    with pytest.raises(InvalidData, match="numbers below 29"):
        CodedUnits(codes, units.sequence, units.position, units.units[:29])
    with pytest.raises(InvalidData, match="an atom for each of 4 latents, got 3"):
        describe_features(units, ATOMS[:3])
    with pytest.raises(InvalidData, match="latent 2 is never active"):
        describe_features(units, ATOMS, latents=[0, 2])
    with pytest.raises(InvalidData, match="from 0 to 3, got \\[4\\]"):
        describe_features(units, ATOMS, latents=[4])
    with pytest.raises(InvalidData, match="a name for each, got \\(3, 3\\) and 1 names"):
        describe_features(units, ATOMS, outputs=np.eye(3), output_names=["x"])
    with pytest.raises(InvalidData, match="no latent is active"):
        describe_features(CodedUnits(0 * codes, units.sequence, units.position, units.units), ATOMS)


# ---------------------------------------------------------------------- the page in a browser
@pytest.fixture
def show(opened, tmp_path):
    def open_page(told, hash_="", **settings):
        path = tmp_path / f"page-{len(opened.contexts)}.html"
        told.to_html(path)
        return opened(path, hash_, **settings)

    open_page.complaints, open_page.requests = opened.complaints, opened.requests
    return open_page


def listed(page):
    return [int(text) for text in page.locator("#list .number").all_inner_texts()]


def test_the_page_shows_what_the_records_say(show):
    told = FeaturePage("Words", records(names={0: ("cats", fidelity())}, n_outputs=1), n_latents=4, about="planted.")
    page = show(told)
    assert page.inner_text("h1") == "Words"
    assert "3 of 4 latents are shown, as they are on 600 rows of 30 documents" in page.inner_text("header")
    assert listed(page) == [0, 1, 3]
    assert page.inner_text("#which") == "Latent 0: cats"
    assert "Name's area under the curve" in page.inner_text("#facts")
    assert "0.500 [0.400, 0.600]" in page.inner_text("#facts")
    shown = told.records[0].examples
    assert page.locator("#examples li").count() == len(shown)
    assert page.locator("#examples .text").first.text_content() == "".join(shown[0].units)
    marked = page.locator("#examples li").first.locator("span.it")
    assert marked.text_content() == "cat"
    assert marked.get_attribute("class") == "s8 it"
    shaded = page.locator("#examples li").first.locator("[class^=s]").count()
    assert shaded == sum(value > 0 for value in shown[0].values)
    heights = page.locator("#histogram rect title").all_text_contents()
    assert [int(text.split(": ")[1].split()[0]) for text in heights] == list(told.records[0].histogram.counts)
    assert f"{told.records[0].histogram.zeros} where it is not" in page.inner_text("#zeros")
    assert page.locator("#outputs tr").first.inner_text().split() == ["x", "+0.667"]
    assert page.locator("#causes-part").is_hidden()
    page.locator("#neighbours button").first.click()
    page.locator("#which", has_text="Latent 1").wait_for()  # it is drawn when the page hears of the new address
    assert page.inner_text("#which") == "Latent 1"
    assert page.url.endswith("#latent-1")
    assert page.locator("#list [aria-current]").inner_text().split()[0] == "1"


def test_latents_are_found_by_number_name_and_word_and_put_in_order(show):
    page = show(FeaturePage("Words", records(names={3: "beginnings"})), hash_="#latent-3")
    assert page.inner_text("#which") == "Latent 3: beginnings"
    for wanted, found in (("begin", [3]), ("cat", [0, 1, 3]), ("#1", [1]), ("1", [1]), ("CATCH", []), ("", [0, 1, 3])):
        page.fill("#search", wanted)
        assert [one for one in found if one not in listed(page)] == [], wanted
        if wanted in ("begin", "#1", "CATCH"):
            assert listed(page) == found
    assert page.inner_text("#found") == "3 latents"
    page.select_option("#order", "active")
    shares = {one.latent: one.active.value for one in records()}
    assert listed(page) == sorted(shares, key=lambda i: -shares[i])
    page.select_option("#order", "rare")
    assert listed(page) == sorted(shares, key=lambda i: shares[i])
    assert page.locator("#order option[value=score], #order option[value=effect]").count() == 0


def test_keys_go_through_the_list(show):
    page = show(FeaturePage("Words", records()))
    page.focus("#search")
    for latent in ("0", "1", "3"):
        page.keyboard.press("ArrowDown")
        page.locator("#which", has_text=f"Latent {latent}").wait_for()
        assert page.url.endswith(f"#latent-{latent}")
        assert page.inner_text("#which") == f"Latent {latent}"
    page.keyboard.press("ArrowUp")
    page.wait_for_url("**#latent-1")


def test_effects_stand_beside_those_of_random_directions_and_pictures_are_drawn(show):
    page = show(full(), hash_="#latent-9")
    said = page.inner_text("#effects")
    assert "0.400 [0.300, 0.500]" in said
    assert "0.300 [0.199, 0.401]" in said or "0.300 [0.200, 0.400]" in said
    assert "random direction of the same length" in said
    assert page.locator("#effects .pairs tr").all_inner_texts() == ["a\t+0.5", "b\t\u22120.5"]
    canvas = page.locator("#examples canvas")
    assert canvas.get_attribute("aria-label") == "image 3; strongest at row 1, column 2 of 1 by 2 patches"
    left = canvas.evaluate("one => [...one.getContext('2d').getImageData(3, one.height - 3, 1, 1).data]")
    assert left == [24, 25, 26, 255]  # the lower left pixel, where the latent is not active
    assert "FVU" in page.inner_text(".whole")
    page.select_option("#order", "effect")
    assert listed(page) == [9, 0]
    page.select_option("#order", "score")
    assert listed(page) == [0, 9]


@pytest.mark.parametrize("kind", ["tokens", "items"])
def test_hostile_texts_are_shown_as_text(show, kind):
    codes = np.zeros((8, 1))
    codes[:, 0] = np.arange(1, 9)
    sequence, position = np.divmod(np.arange(8), 4)
    units = CodedUnits(codes, sequence, position, [tuple(HOSTILE)] * 2, sources=HOSTILE[:2])
    told = describe_features(units, np.ones((1, 4)), outputs=np.eye(4), output_names=HOSTILE, names={0: HOSTILE[1]})
    one = told[0]
    shown = FeatureRecord(**{**one.__dict__, "raised": tuple((text, 1.0) for text in HOSTILE)})
    page = show(FeaturePage(HOSTILE[0], (shown,), kind, about=HOSTILE[1]), viewport={"width": 360, "height": 800})
    assert page.evaluate("document.querySelector('h1').textContent") == HOSTILE[0]
    assert page.evaluate("document.querySelector('#which').textContent") == f"Latent 0: {HOSTILE[1]}"
    assert page.evaluate("[...document.querySelector('#examples li').lastChild.children].map((s) => s.textContent)") == HOSTILE
    assert page.evaluate("[...document.querySelectorAll('#outputs td bdi')].map((s) => s.textContent)") == HOSTILE
    assert page.evaluate("document.querySelectorAll('script').length") == 2
    assert page.evaluate("document.querySelectorAll('img, iframe, object, embed, link, base, [onerror], [style]').length") == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_page_cannot_reach_the_network_or_run_what_was_slipped_in(show):
    page = show(FeaturePage("Words", records()))
    blocked = page.evaluate(
        """async () => {
            const seen = [];
            document.addEventListener("securitypolicyviolation", (event) => seen.push(event.effectiveDirective));
            try { await fetch("http://127.0.0.1:9/"); } catch { seen.push("refused"); }
            document.body.append(Object.assign(document.createElement("script"), { textContent: "window.slipped = 1" }));
            await new Promise((done) => setTimeout(done, 50));
            return [seen, window.slipped ?? null];
        }"""
    )
    assert {"connect-src", "refused"} <= set(blocked[0])
    assert blocked[1] is None
    show.complaints.clear()  # the browser reports what it blocked


@pytest.mark.parametrize(
    "settings", [{"color_scheme": "dark"}, {"viewport": {"width": 360, "height": 700}}, {"java_script_enabled": False}]
)
def test_dark_narrow_and_without_scripts(show, settings):
    page = show(FeaturePage("Words", records()), **settings)
    assert len(page.screenshot(full_page=True)) > 5_000
    if settings.get("java_script_enabled", True):
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        nameless = page.evaluate(
            "[...document.querySelectorAll('input, select, button')].filter((one) => "
            "!(one.getAttribute('aria-label') || one.labels?.length || one.textContent.trim())).length"
        )
        assert nameless == 0
    else:
        assert "needs JavaScript" in page.inner_text("main")


def test_thousands_of_latents_are_listed_in_parts(show):
    rng = np.random.default_rng(0)
    codes = sparse.random_array((400, 450), density=0.02, rng=rng, format="csr")
    sequence, position = np.divmod(np.arange(400), 20)
    units = CodedUnits(codes, sequence, position, [("a", "b") * 10] * 20)
    told = FeaturePage("Many", describe_features(units, rng.normal(size=(450, 8)), most=450, n_examples=2))
    page = show(told)
    assert page.locator("#list li").count() == 200
    page.click("#more")
    assert page.locator("#list li").count() == 400
    page.fill("#search", str(told.records[-1].latent))
    assert listed(page)[0] == told.records[-1].latent
    assert page.locator("#more").is_hidden()


# ---------------------------------------------------------------------- a language model
class Words:
    """A tokenizer of numbers."""

    def __call__(self, text, **_):
        return {"input_ids": [int(one) for one in text.split()]}

    def decode(self, ids):
        return f" w{ids[0]}"


class Planted:
    """A dictionary of two latents: how far a row lies along two directions."""

    def __init__(self, directions):
        self.directions = directions

    def transform(self, X):
        return sparse.csr_array(np.maximum(np.asarray(X) @ self.directions.T, 0.0))


@pytest.fixture(scope="module")
def coded(language_model, documents):
    from locum.inside import Tap, coded_text, first_position

    rng = np.random.default_rng(3)
    directions = rng.normal(size=(2, 16)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    tap = Tap(language_model, {"res": "model.layers.1", "in": ("model.layers.2", "in")})
    texts = [" ".join(map(str, ids)) for ids in documents[:12]]
    units = coded_text(tap, "res", Planted(directions), texts, Words(), keep=~first_position, context=16, batch_size=5)
    return tap, directions, units


def test_tokens_of_documents_are_coded_where_they_stand(coded, language_model, documents):
    import torch

    tap, directions, units = coded
    assert units.units[0][0].startswith(" w")
    assert (units.position > 0).all()
    assert sorted(set(units.documents.tolist())) == list(range(12))
    for row in range(0, len(units.position), 17):
        ids, position = units.ids[units.sequence[row]], units.position[row]
        with torch.no_grad():
            own = tap.read(input_ids=torch.as_tensor(ids[None]), use_cache=False)["res"][0, position].numpy()
        np.testing.assert_allclose(units.codes[[row]].toarray()[0], np.maximum(directions @ own, 0), atol=1e-4)


def test_ablation_and_steering_are_those_of_one_passage_at_a_time(coded, language_model):
    import torch

    from locum.inside import causal_effects

    tap, directions, units = coded
    names = [f"w{i}" for i in range(50)]
    (record,) = describe_features(units, directions, latents=[1], n_examples=3, n_drawn=0)
    (told,) = causal_effects(tap, "res", units, [record], directions, names, n_prompts=4, n_outputs=50, batch_size=3)
    ablation, steering = told.effects
    kl, rise, change = [], [], []
    for one in record.examples:
        ids, p = units.ids[one.sequence], one.position
        if p + 1 == len(ids):
            continue
        seen = torch.as_tensor(ids[None, : p + 1])
        with torch.no_grad():
            before = language_model(seen).logits[0, -1].log_softmax(0)

            def without(h):
                z = (h @ torch.from_numpy(directions[1])).clamp(min=0)
                z[:, 0] = 0.0  # first positions are not coded
                return h - z[..., None] * torch.from_numpy(directions[1])

            with tap.edit("res", without):
                after = language_model(seen).logits[0, -1].log_softmax(0)
        kl.append(float((before.exp() * (before - after)).sum()))
        rise.append(float(before[ids[p + 1]] - after[ids[p + 1]]))
        change.append((after - before).numpy())
    assert len(kl) >= 2
    assert ablation.measures[0].value == pytest.approx(np.mean(kl), rel=1e-3)
    assert ablation.measures[1].value == pytest.approx(np.mean(rise), rel=1e-3, abs=1e-6)
    mean = np.mean(change, axis=0)
    wanted = {f"w{i}": value for i, value in enumerate(mean)}
    assert dict(ablation.raised + ablation.lowered) == pytest.approx(wanted, rel=1e-2, abs=1e-4)
    assert ablation.control[0].value != ablation.measures[0].value
    assert steering.kind == "steering"
    assert steering.measures[0].groups == 4
    assert steering.measures[0].value > 0
    again = causal_effects(tap, "res", units, [record], directions, names, n_prompts=4, n_outputs=50, batch_size=7)[0]
    assert again.effects[1].measures[0].value == pytest.approx(steering.measures[0].value, rel=1e-4)


def test_a_latent_that_is_never_active_in_its_passages_changes_nothing(coded):
    """With an atom of zeros neither intervention does anything."""
    from locum.inside import causal_effects

    tap, directions, units = coded
    (record,) = describe_features(units, directions, latents=[0], n_examples=3)
    (told,) = causal_effects(tap, "res", units, [record], 0 * directions, [f"w{i}" for i in range(50)], n_prompts=3)
    for effect in told.effects:
        assert effect.measures[0].value == pytest.approx(0.0, abs=1e-5)


def test_a_page_of_a_model_is_made_from_the_unembedding(coded, language_model):
    import torch

    from locum.inside import causal_effects, unembedding

    tap, directions, units = coded
    names = [f"w{i}" for i in range(50)]
    matrix = unembedding(language_model)
    d = torch.from_numpy(directions[0])
    with torch.no_grad():
        norm = language_model.model.norm
        said = language_model.lm_head(d * norm.weight)
    np.testing.assert_allclose(matrix @ directions[0], said, atol=1e-5)
    (record,) = describe_features(units, directions, latents=[0], outputs=matrix, output_names=names, n_outputs=1)
    assert record.raised[0][0] == f"w{int(said.argmax())}"
    with pytest.raises(UnsupportedModule, match="output embeddings and a last norm"):
        unembedding(language_model.model)
    with pytest.raises(InvalidData, match="output_names= for each of 50 outputs, got 1"):
        causal_effects(tap, "res", units, [record], directions, ["a"])
    bare = CodedUnits(units.codes, units.sequence, units.position, units.units)
    with pytest.raises(InvalidData, match="with token ids"):
        causal_effects(tap, "res", bare, [record], directions, names)
    with pytest.raises(InvalidData, match="expected atoms 16 wide"):
        causal_effects(tap, "res", units, [record], np.ones((2, 5)), names)


def test_a_latent_that_is_the_same_in_nearly_every_document_still_gets_an_interval():
    sequence, position = np.divmod(np.arange(800), 20)
    codes = np.ones((800, 1))
    codes[0] = 0.0
    (one,) = describe_features(CodedUnits(codes, sequence, position, [("a",) * 20] * 40), np.ones((1, 2)))
    assert 0.98 < one.active.lower <= one.active.value == 799 / 800 <= one.active.upper <= 1.0
