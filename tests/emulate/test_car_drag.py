"""Pictures stand in for a flow: what is planted is learned and found again, bounds hold, and bad input is refused."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone

from locum.core.errors import FormatError, InvalidData, OutsideRegion
from locum.emulate import RenderingRegressor, load_emulator, mirrored

torch = pytest.importorskip("torch")

VIEWS = ("left", "right", "top")
SMALL = {"views": VIEWS, "width": 8, "hidden": 8, "epochs": 12, "joined_epochs": 4, "lr": 0.01, "batch_size": 16}


def blocks(n=160, seed=0, tilt=1.0, size=16):
    """Boxes of three heights and tilts: depth from above is their height, and normals alone know the tilt.

    Drag grows with the height and with the tilt.
    """
    rng = np.random.default_rng(seed)
    height, turn = rng.uniform(0.2, 0.8, n), tilt * rng.uniform(-1, 1, n)
    images = np.zeros((n, 3, 4, size, size), dtype=np.float32)
    images[:, :, 0], images[:, :, 1:] = 1.0, 0.5
    inside = slice(3, 13)
    images[:, 2, 0, inside, inside] = 1 - height[:, None, None]
    images[:, :2, 0, 6:, inside] = 0.4
    images[:, 2, 1, inside, inside] = 0.5 + 0.4 * turn[:, None, None]
    return images, 0.25 + 0.05 * height + 0.02 * turn, height, turn


@pytest.fixture(scope="module")
def model():
    images, drag, _, _ = blocks()
    return RenderingRegressor(**SMALL).fit(images, drag)


@pytest.fixture(scope="module")
def fresh():
    return blocks(200, seed=1)


def r2(truth, said):
    return 1 - np.mean((truth - said) ** 2) / np.var(truth)


# ---------------------------------------------------------------------- what is planted is found
def test_both_branches_know_what_neither_knows_alone(model, fresh):
    images, drag, _, turn = fresh
    scores = {branch: r2(drag, model.predict(images, branch=branch)) for branch in ("depth", "normal", "joined")}
    assert scores["joined"] > 0.9
    assert scores["joined"] > max(scores["depth"], scores["normal"]) + 0.1
    assert abs(np.corrcoef(model.predict(images, branch="depth"), turn)[0, 1]) < 0.3
    assert np.array_equal(model.predict(images), model.predict(images, branch="joined"))
    assert set(model.histories_) == {"depth", "normal", "joined"}


def test_bytes_and_numbers_give_the_same_answer(model, fresh):
    as_bytes = np.round(255 * fresh[0][:20]).astype(np.uint8)
    with pytest.warns(OutsideRegion):  # 0.5 is no byte
        assert model.predict(as_bytes) == pytest.approx(model.predict(as_bytes / np.float32(255)), abs=1e-6)


def test_one_branch_is_learned_alone_and_silhouettes_are_a_branch():
    rng = np.random.default_rng(0)
    images = np.broadcast_to(rng.random((80, 1, 1, 1, 1)), (80, 1, 1, 16, 16))
    small = {**SMALL, "views": ("top",)}
    one = RenderingRegressor(**small, branches=("silhouette",), channels=("silhouette",)).fit(images, images[:, 0, 0, 0, 0])
    assert set(one.histories_) == {"silhouette"}
    assert r2(images[:, 0, 0, 0, 0], one.predict(images)) > 0.8


def test_the_same_seed_gives_the_same_numbers_and_the_global_generators_are_left_alone(model, fresh):
    images, drag, _, _ = blocks()
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    again = clone(model).fit(images, drag)
    assert np.array_equal(again.predict(fresh[0][:20]), model.predict(fresh[0][:20]))
    other = clone(model).set_params(random_state=5, epochs=2, joined_epochs=1).fit(images, drag)
    assert not np.array_equal(other.predict(fresh[0][:20]), model.predict(fresh[0][:20]))
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


# ---------------------------------------------------------------------- the network
def test_attention_begins_at_nothing_and_joined_branches_at_their_mean():
    from locum.emulate import _drag_networks as networks
    from locum.emulate.renderings import channel_slices

    plan = networks.Plan(("depth", "normal"), channel_slices(("depth", "normal")), VIEWS, ("depth", "normal"), 16, 8, 8, True)
    with networks.seeded(0):
        alone = {name: plan.network([name]).eval() for name in plan.branches}
        joined = plan.network(plan.branches).eval()
    x = torch.from_numpy(blocks(6)[0])
    expected = alone["normal"](x)
    with torch.no_grad():
        gain = alone["normal"].branches["normal"].attention.gain
        assert float(gain) == 0
        gain.fill_(2.0)
        assert not torch.allclose(alone["normal"](x), expected)
        gain.fill_(0.0)
        for name in plan.branches:
            joined.branches[name].load_state_dict(alone[name].branches[name].state_dict())
        networks._add_heads(joined, alone)
        assert torch.allclose(joined(x), (alone["depth"](x) + alone["normal"](x)) / 2, atol=1e-6)


def test_views_are_told_apart(model, fresh):
    """With left and top pictures swapped the answer is another."""
    images = fresh[0][:10]
    with pytest.warns(OutsideRegion):
        swapped = model.predict(images[:, [2, 1, 0]])
    assert np.abs(swapped - model.predict(images)).max() > 0.01


def test_mirror_images_are_learned_from_as_well():
    """All training shapes lean to one side; drag of those that lean to the other is known from mirror images alone."""
    rng = np.random.default_rng(0)
    images = np.full((120, 3, 4, 16, 16), 0.5, dtype=np.float32)
    images[:, :, 0] = 1.0
    depth = rng.uniform(0.2, 0.8, 120)
    images[:, 2, 0, 1:7, 2:14] = depth[:, None, None]  # on one side of the middle line, as seen from above
    settings = {**SMALL, "epochs": 30, "branches": ("depth",)}
    told, blind = (RenderingRegressor(**settings, mirror=mirror).fit(images, depth) for mirror in (True, False))
    other = mirrored(images, VIEWS)
    assert np.abs(other - images).max() > 0.1
    known = told.predict(other)
    with pytest.warns(OutsideRegion):
        unknown = blind.predict(other)
    assert np.abs(known - depth).mean() < 0.5 * np.abs(unknown - depth).mean()


def test_groups_are_held_back_as_wholes():
    """Labels that belong to the group alone cannot be known for groups that are held back: training stops early."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), 8)
    images, _, _, _ = blocks(160)
    code = rng.random((20, 3, 4, 16, 16)).astype(np.float32)
    images = np.clip(0.5 * images + 0.5 * code[groups], 0, 1)
    drag = rng.normal(size=20)[groups]
    settings = {**SMALL, "branches": ("normal",)}
    apart = RenderingRegressor(**settings).fit(images, drag, groups=groups).histories_["normal"]
    leaking = RenderingRegressor(**settings).fit(images, drag).histories_["normal"]
    assert min(leaking.validation) < 0.3 * min(apart.validation)


# ---------------------------------------------------------------------- how far to trust it
def test_bounds_cover_as_promised_and_grow_with_the_level(model, fresh):
    images, drag, _, _ = fresh
    model = clone(model).set_params(epochs=4, joined_epochs=2).fit(*blocks()[:2])
    model.calibrate(images, drag)
    later = blocks(300, seed=2)
    said, half = model.predict(later[0], return_bound=0.9)
    assert 0.84 < np.mean(np.abs(said - later[1]) <= half) < 0.96
    assert model.predict(later[0], return_bound=0.5)[1] < half
    assert half == np.sort(np.abs(model.predict(images) - drag))[int(np.ceil(201 * 0.9)) - 1]


def test_an_audit_flags_the_class_on_which_the_bound_does_not_hold(model, fresh):
    images, drag, _, _ = fresh
    model.calibrate(images[:100], drag[:100])
    kind = np.array(["E", "N"])[np.arange(200) % 2]
    honest = model.audit(images, drag, by=kind, noise=np.full(200, 0.5 * drag.std()))
    assert honest.flagged == ()
    assert honest.ceiling == pytest.approx(0.75)
    assert honest.r2.value == pytest.approx(r2(drag, model.predict(images)))
    shifted = drag + np.where(kind == "N", 0.02, 0.0)
    found = model.audit(images, shifted, by=kind)
    assert found.flagged == ("N",)
    assert found.classes["E"].coverage.value > 0.8
    assert "N: n=100" in str(found)
    assert "BOUND DOES NOT HOLD" in str(found)
    own = np.where(kind == "N", shifted[kind == "N"].mean(), shifted[kind == "E"].mean())
    within = 1 - np.mean((shifted - model.predict(images)) ** 2) / np.mean((shifted - own) ** 2)
    assert found.within.value == pytest.approx(within)


def test_pictures_unlike_those_learned_from_are_warned_of(model):
    with pytest.warns(OutsideRegion, match="40 of 40 pictures are unlike those learned from"):
        model.predict(np.full((40, 3, 4, 16, 16), 0.9))


def test_few_like_those_learned_from_are_called_outside_and_most_of_another_kind():
    images, drag, _, _ = blocks(400)
    rng = np.random.default_rng(0)
    noisy = np.clip(images + 0.02 * rng.normal(size=images.shape), 0, 1)
    region = RenderingRegressor(**{**SMALL, "epochs": 1, "joined_epochs": 1}).fit(noisy, drag).region_
    later = np.clip(blocks(500, seed=3)[0] + 0.02 * rng.normal(size=(500, *images.shape[1:])), 0, 1)
    assert np.mean(~region.inside(later)) < 0.05
    other = later.copy()
    other[:, :2, 0, 8:] = 0.7  # sides that are further away than any
    assert np.mean(~region.inside(other)) > 0.9


# ---------------------------------------------------------------------- reading it
def test_attributions_add_up_and_are_where_the_drag_is(model, fresh):
    images = fresh[0]
    found = model.attribute(images[0], tolerance=0.002)
    assert found.maps.shape == (3, 16, 16)
    assert found.maps.sum() == pytest.approx(found.value - found.base, abs=0.002 * model.scale_ + 1e-6)
    assert found.value == pytest.approx(model.predict(images[:1])[0], abs=1e-5)
    assert found.base == pytest.approx(model.predict(model.average_[None])[0], abs=1e-5)
    assert sum(found.by_view.values()) == pytest.approx(found.maps.sum(), abs=1e-6)
    assert sum(found.by_kind.values()) == pytest.approx(found.maps.sum(), abs=1e-6)
    assert np.abs(found.maps[:2]).max() < 1e-6  # the sides are the same for all
    assert np.abs(found.maps[2, :3]).max() < 1e-6  # nothing is there
    same = model.attribute(images[0], baseline=images[0])
    assert np.abs(same.maps).max() == 0
    assert model.attribute(images[0], baseline="empty").base != found.base


def test_attributions_are_those_of_captum(model, fresh):
    captum = pytest.importorskip("captum.attr")
    images = torch.from_numpy(fresh[0][:1])
    network = model._networks["joined"]
    expected = captum.IntegratedGradients(network).attribute(
        images, torch.from_numpy(model.average_[None]), n_steps=512, method="riemann_middle"
    )
    found = model.attribute(fresh[0][0], steps=512)
    assert found.maps == pytest.approx(model.scale_ * expected[0].sum(dim=1).numpy(), abs=1e-6)


def test_slopes_are_those_of_the_parameters(model, fresh):
    def draw(at):
        images, _, _, _ = blocks(1)
        images[0, 2, 0, 3:13, 3:13], images[0, 2, 1, 3:13, 3:13] = 1 - at["height"], 0.5 + 0.4 * at["turn"]
        return images[0]

    found = model.slopes(draw, {"height": 0.5, "turn": 0.0}, {"height": 0.1, "turn": 0.3})
    assert found["height"] == pytest.approx(0.05, rel=0.4)
    assert found["turn"] == pytest.approx(0.02, rel=0.4)


# ---------------------------------------------------------------------- files
def test_a_file_holds_all_that_predicts(model, fresh, tmp_path):
    images, drag, _, _ = fresh
    model.calibrate(images, drag)
    model.save(tmp_path / "drag.npz")
    for read in (RenderingRegressor.load, load_emulator):
        back = read(tmp_path / "drag.npz")
        assert np.array_equal(back.predict(images[:9]), model.predict(images[:9]))
        assert np.array_equal(back.predict(images[:9], branch="depth"), model.predict(images[:9], branch="depth"))
        assert back.predict(images[:9], return_bound=0.9)[1] == model.predict(images[:9], return_bound=0.9)[1]
        assert back.get_params() == model.get_params()
        assert back.attribute(images[0]).base == model.attribute(images[0]).base
    (tmp_path / "other.npz").write_bytes(b"no arrays")
    with pytest.raises(FormatError, match="no saved regressor of pictures"):
        RenderingRegressor.load(tmp_path / "other.npz")


# ---------------------------------------------------------------------- what is refused
def test_pictures_and_drag_that_do_not_fit_are_refused_before_anything_is_learned():
    images, drag, _, _ = blocks(20)
    broken, label = images.copy(), drag.copy()
    broken[3, 0, 0, 0, 0] = np.nan
    label[7] = np.nan
    for given, y, more, message in [
        (images[0], drag, {}, r"shape \(n, 3, 4, size, size\), got \(3, 4, 16, 16\)"),
        (images[:, :2], drag, {}, r"shape \(n, 3, 4, size, size\)"),
        ([images[0], images[1][..., :8, :8]], drag[:2], {}, "pictures of one size"),
        (images[..., :12, :12], drag, {}, "a multiple of 16 pixels, got 12"),
        (broken, drag, {}, r"in \[0, 1\], or bytes, got nan"),
        (images * 255, drag, {}, r"in \[0, 1\], or bytes"),
        (np.full(images.shape, "a"), drag, {}, "expected pictures of numbers, got <U1"),
        (images, label, {}, "NaN or infinity for picture 7"),
        (images, drag[:5], {}, "one drag for each of 20 pictures"),
        (images, np.ones(20), {}, "drag that differs"),
        (images, drag, {"groups": np.zeros(20)}, "expected 2 groups or more"),
        (images, drag, {"groups": np.zeros(3)}, "one group for each of 20"),
        (images, drag, {"eval_set": (images, drag[:2])}, "one drag for each of 20"),
        (images, drag, {"eval_set": (images[:, :, :3], drag)}, "expected pictures of shape"),
    ]:
        with pytest.raises(InvalidData, match=message):
            RenderingRegressor(**SMALL).fit(given, y, **more)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"branches": ("colour",)}, "branches= to be one of depth, normal"), ({"branches": ()}, "one branch or more"),
        ({"branches": ("depth", "depth")}, "each once"), ({"backbone": "vgg"}, "backbone= to be one of resnext-attn-tiny"),
        ({"views": ("side",)}, "views= to be one of front"), ({"epochs": 0}, "epochs= to be a whole number of 1"),
        ({"lr": 0.0}, "lr= above 0"), ({"held_back": 1.5}, "held_back= between 0 and 1"),
        ({"views": ("left", "top", "front")}, "needs the left and the right view"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_used_are_refused(given, message):
    images, drag, _, _ = blocks(20)
    with pytest.raises(InvalidData, match=message):
        RenderingRegressor(**{**SMALL, **given}).fit(images, drag)


def test_what_is_asked_too_early_or_wrongly_is_refused(model, fresh):
    images, drag, _, _ = fresh
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        RenderingRegressor(**SMALL).predict(images)
    bare = clone(model).set_params(epochs=1, joined_epochs=1).fit(*blocks(40)[:2])
    with pytest.raises(InvalidData, match="call calibrate"):
        bare.predict(images, return_bound=0.9)
    bare.calibrate(images[:5], drag[:5])
    for call, message in [
        (lambda: bare.predict(images, return_bound=0.9), "9 shapes or more in calibrate for a level of 0.9, got 5"),
        (lambda: bare.predict(images, return_bound=2), "a level between 0 and 1"),
        (lambda: bare.predict(images, branch="colour"), "branch= to be one of depth, normal, joined"),
        (lambda: bare.audit(images, drag, by=[1, 2], level=0.5), "one class for each of 200"),
        (lambda: bare.attribute(images[0], baseline="mean"), "baseline= to be one of average, empty"),
        (lambda: bare.attribute(images), r"expected pictures of shape"),
        (lambda: bare.predict(np.zeros((2, 3, 4, 32, 32))), "of 16 pixels, as learned from, got 32"),
        (lambda: bare.slopes(lambda at: images[0], {}, {"x": 0.0}), "x= above 0"),
    ]:
        with pytest.raises(InvalidData, match=message):
            call()
