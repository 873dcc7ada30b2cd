"""A masked, readable encoder that stands in for a trained time-series classifier.

It sees only the time points that a learned mask keeps, and is fitted so that series come out as near to and as far from one
another as in the classifier, not just with the same labels. The mask is the explanation.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.neighbors import NearestNeighbors
from sklearn.utils.validation import check_is_fitted

from locum.core.errors import InvalidData, need, require_whole
from locum.explain._fresh import contents, require_fresh
from locum.explain._timex_records import Neighbours, TimeXExplanation, TimeXFidelity, agreement, gaps
from locum.explain._timex_series import AttentionMasking, as_series, pad_series
from locum.explain._timex_variant import TimeXVariant
from locum.nets import Reference, seeded, train

__all__ = [
    "AttentionMasking",
    "Neighbours",
    "TimeXExplainer",
    "TimeXExplanation",
    "TimeXFidelity",
    "TimeXVariant",
    "pad_series",
    "series_reference",
]

_FLOAT = NDArray[np.float64]
_MASKS = ("auto", "attention", "value")
_HEADS = ("own", "reference")
_KINDS = ("transformer", "convolution", "recurrent")
_HELD = 10  # one series in so many chooses the epoch, where none are given


class TimeXExplainer(BaseEstimator):
    r"""A masked encoder stands in for a trained classifier of time series.

    A generator gives each value of a series X a probability p to stay; a mask M of 0 and 1 is drawn from it; an encoder
    :math:`G^E`, at first a copy of the classifier's G, sees X under M. It is fitted so that its embeddings
    :math:`z^E` have the relations that the classifier's z have:

    .. math:: L = \mathrm{MBC}(z, z^E) + \mathrm{MBC}(z, z^L) + \lambda_{LC} L_{LC} + 2 (L_M + \lambda_{con} L_{con})
              + \text{anchor} \cdot \mathrm{KL}(y \| y^E),

    with MBC the mean squared gap of cosines over pairs of series, :math:`L_{LC}` that of Jensen-Shannon divergences between
    answers, :math:`L_M` the divergence of p from a coin of the `prior`, and :math:`L_{con}` the length of steps of p in time.
    :math:`z^L` are landmarks, to which series with the same kind of explanation are assigned.

    None of the first three terms changes where labels are exchanged or the space is turned. So maps can be good while the
    label head answers otherwise than the classifier: read `fidelity`, and set `anchor` for a stand-in that answers alike.

    Parameters
    ----------
    reference : torch.nn.Module or Reference
        In eval mode, left as it is. Takes series (n, T, d), and times (n, T) if any are given, gives logits (n, classes).
    encode : callable, str or None, default=None
        What gives its embedding, as in `Reference`: a method of the module, or the name of a submodule. Can be left out where
        a `Reference` has it, or the module is `AttentionMasking`.
    head : callable or None, default=None
        Takes an embedding, gives logits.
    mask : {"auto", "attention", "value"}, default="auto"
        "attention" hides time points from the attention of a module that is `AttentionMasking`, for one channel. "value" puts
        normal draws (mean and deviation of each time point and channel) in the place of values, and hides time points from
        attention where no channel is kept, if it can. "auto" takes the first that is possible.
    prior : float, default=0.5
        Share of values that masks are drawn towards.
    n_landmarks : int, default=50
    members : int, default=5
        Landmarks with no more training series than that are dropped in the end.
    lambda_con : float, default=2.0
        0 for series with irregular times.
    lambda_lc : float, default=1.0
    anchor : float, default=0.0
        Weight that makes labels agree; the paper has none.
    label_head : {"own", "reference"}, default="own"
        A label head of its own, as in the paper, or the classifier's `head`, frozen.
    tau : float, default=1.0
        Temperature of the masks' gradients.
    landmark_tau : float, default=0.1
        Temperature at which landmarks are drawn in training; afterwards the nearest is taken.
    variant : TimeXVariant or None, default=None
        What to do otherwise than the paper; None for nothing.
    learning_rate : float, default=1e-3
    weight_decay : float, default=1e-3
    plateau : int or None, default=20
        From that epoch on, the learning rate falls to a tenth where validation has not got better for five epochs.
    restarts : int, default=1
        Trainings from weights of their own, of which the one with the lowest relation and label gaps on validation series is
        kept. One training in four or so finds only part of what the classifier looks at, and these gaps tell.
    device : torch.device, str or None, default=None
        That of the `Reference`, or the CPU, where None.
    random_state : int, default=0

    Attributes
    ----------
    landmarks_ : ndarray of shape (k, width)
        Those that were kept.
    landmark_sizes_ : ndarray of int of shape (k,)
        Training series of each.
    masking_ : str
        How values are hidden, in words.
    baseline_mean_, baseline_sd_ : ndarray of shape (T, d)
        Of the normal draws.
    history_ : History
        Losses, and the relation and label gaps on validation series that chose the epoch.

    Notes
    -----
    **Cost**: an epoch is about four passes of the classifier over all series, forward and backward; memory grows with T²
    where attention is masked. Explaining is one pass. Asking the classifier takes one pass over all series in all.

    **Departures** from the paper and its code: label consistency compares pairs, gradients are cut to length 1 before the step
    rather than after, the classifier stays in eval mode, only what is trained is in the optimiser, landmarks are assigned to
    the nearest once trained, and the mask of a trained explainer keeps what has a probability above one half, where theirs is
    drawn. Attention weights have no dropout, which leaves them to a fused kernel.

    References
    ----------
    Queen et al., arXiv 2306.02109, section 4.

    Examples
    --------
    >>> TimeXExplainer(reference=None, prior=0.3).prior
    0.3
    """

    papers = ("timex",)

    def __init__(
        self,
        reference: Any,
        *,
        encode: Any = None,
        head: Callable[[Any], Any] | None = None,
        mask: str = "auto",
        prior: float = 0.5,
        n_landmarks: int = 50,
        members: int = 5,
        lambda_con: float = 2.0,
        lambda_lc: float = 1.0,
        anchor: float = 0.0,
        label_head: str = "own",
        tau: float = 1.0,
        landmark_tau: float = 0.1,
        variant: TimeXVariant | None = None,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-3,
        plateau: int | None = 20,
        restarts: int = 1,
        device: Any = None,
        random_state: int = 0,
    ) -> None:
        self.reference = reference
        self.encode = encode
        self.head = head
        self.mask = mask
        self.prior = prior
        self.n_landmarks = n_landmarks
        self.members = members
        self.lambda_con = lambda_con
        self.lambda_lc = lambda_lc
        self.anchor = anchor
        self.label_head = label_head
        self.tau = tau
        self.landmark_tau = landmark_tau
        self.variant = variant
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.plateau = plateau
        self.restarts = restarts
        self.device = device
        self.random_state = random_state

    # ------------------------------------------------------------------ fitting
    def fit(
        self,
        X: Any,
        times: Any = None,
        *,
        X_val: Any = None,
        times_val: Any = None,
        epochs: int = 50,
        batch_size: int = 64,
        checkpoint: Any = None,
        progress: Callable[[int, int, str], None] | None = None,
    ) -> Self:
        """Train the explainer on series; their true classes are not needed.

        Parameters
        ----------
        X : array or tensor of shape (n, T, d)
        times : array or tensor of shape (n, T), or None, default=None
            Increasing, below -1e5 at padded steps; the classifier is given them too. 1, 2, ... where None.
        X_val, times_val : like X and times, or None, default=None
            Choose the epoch; one series in ten, left out of training, where None.
        epochs : int, default=50
        batch_size : int, default=64
        checkpoint : path or None, default=None
            A file to go on from; the number of a restart is put behind its name.
        progress : callable or None, default=None
            Called with (epochs done, epochs in all, the losses in words).

        Raises
        ------
        InvalidData
            Settings, series or a classifier that cannot be used; before anything is trained.
        TrainingFailed
            A loss that is not finite.
        """
        torch = need("torch", "a time-series explainer", "nets")
        from locum.explain import _timex_training as training

        self._check_settings(epochs, batch_size)
        given, when = as_series(X, times)
        reference = self._reference()
        hiding = self._hiding(reference, times is not None, given.shape[2], training.Hiding)
        (given, when), held = self._held(given, when, X_val, times_val, hiding.with_times)
        if len(given) <= self.n_landmarks * self.members:
            raise InvalidData(
                f"expected more than n_landmarks × members = {self.n_landmarks * self.members} series to train on, so that "
                f"some landmark is kept, got {len(given)}; lower n_landmarks="
            )
        told = training.answers(reference, given, when, hiding.with_times)
        said = told.logits.argmax(dim=1)
        if bool((said == said[0]).all()):
            raise InvalidData(
                f"the classifier answers class {int(said[0])} on all {len(given)} series: nothing to explain; give series of "
                "which it answers two classes or more"
            )
        variant = TimeXVariant() if self.variant is None else self.variant
        settings = {name: getattr(self, name) for name in ("label_head", "n_landmarks", "tau", "landmark_tau")}
        check = training.answers(reference, held[0], held[1], hiding.with_times)

        def trained(k: int) -> tuple[Any, Any]:
            seed = self.random_state + k
            with seeded(seed, device=reference.device):
                net = training.assemble(reference, given, when, told, hiding, variant, settings)
            if variant.encoder_start == "reference":
                training.require_alike(net, given, when, told, hiding)
            return net, training.fit_masked(
                net, (given, when, told), (*held, check), hiding, self._plan(training.Plan, epochs, batch_size, seed), variant,
                device=torch.device(reference.device), checkpoint=f"{checkpoint}.{k}" if checkpoint and k else checkpoint,
                progress=progress and (lambda done, _, said: progress(k * epochs + done, self.restarts * epochs, said)),
            )  # fmt: skip

        # As a generator, so that the best so far is all that is held.
        net, self.history_ = min((trained(k) for k in range(self.restarts)), key=lambda one: min(one[1].validation))
        self._keep(net, reference, hiding, given, when, told, held[0])
        return self

    def _keep(self, net: Any, reference: Reference, hiding: Any, X: Any, times: Any, told: Any, held: Any) -> None:
        """What was trained, its landmarks that hold enough series, and the training series with their embeddings."""
        from locum.explain import _timex_training as training

        self._net, self._classifier, self._hidden_by, self._fitted = net, reference, hiding, (X, times, held, told.embedding)
        self._seen = contents(np.concatenate([X, held]))
        self._length, self._channels = X.shape[1:]
        self.baseline_mean_, self.baseline_sd_ = (one.cpu().numpy().astype(float) for one in (net.mean, net.sd))
        ways = {"normal draws of each time point and channel": hiding.values}
        ways["no attention to what is hidden"] = hiding.attention
        self.masking_ = " and ".join(way for way, used in ways.items() if used)
        self._embedding = training.passed(net, X, times, hiding, self.random_state).embedding
        every = net.landmarks.detach().cpu().numpy().astype(float)
        size = np.bincount(_cosine(self._embedding, every).argmax(axis=1), minlength=len(every))
        self.landmarks_, self.landmark_sizes_ = every[size > self.members], size[size > self.members]
        self._train, self._answered = X, told.logits.argmax(dim=1).numpy()

    def save(self, path: Any) -> None:
        """Write the fitted explainer, with the series of its fit and without the classifier, as tensors and plain values."""
        check_is_fitted(self, "landmarks_", msg="call fit(X) before this %(name)s is saved")
        from locum.explain import _timex_file as file

        apart = ("reference", "encode", "head", "device", "variant")
        settings = {name: value for name, value in self.get_params(deep=False).items() if name not in apart}
        kept = (settings, self.variant, self._hidden_by, self.history_, *self._fitted, self._net.state_dict())
        file.write(path, file.Kept(*kept))

    @classmethod
    def load(cls, path: Any, reference: Any, *, encode: Any = None, head: Any = None, device: Any = None) -> Self:
        """An explainer that `save` wrote, for the classifier that it was fitted to.

        Parameters
        ----------
        path : path
        reference : torch.nn.Module or Reference
            The classifier, as for a new explainer, and so are the others.
        encode, head, device : default=None

        Raises
        ------
        FormatError
            Another kind of file.
        InvalidData
            Another classifier.
        """
        need("torch", "a time-series explainer", "nets")
        from locum.explain import _timex_file as file

        kept = file.read(path)
        made = cls(reference, encode=encode, head=head, device=device, variant=kept.variant, **kept.settings)
        classifier = made._reference()
        with seeded(made.random_state, device=classifier.device):
            net, told = file.rebuilt(kept, classifier)
        made.history_ = kept.history
        made._keep(net, classifier, kept.hiding, kept.X, kept.times, told, kept.held)
        return made

    def _check_settings(self, epochs: int, batch_size: int) -> None:
        require_whole(1, n_landmarks=self.n_landmarks, epochs=epochs, restarts=self.restarts)
        require_whole(0, members=self.members, random_state=self.random_state)
        require_whole(2, batch_size=batch_size)
        if self.plateau is not None:
            require_whole(0, plateau=self.plateau)
        for name, known in (("mask", _MASKS), ("label_head", _HEADS)):
            if getattr(self, name) not in known:
                raise InvalidData(f"expected {name}= to be one of {', '.join(map(repr, known))}, got {getattr(self, name)!r}")
        if not 0 < self.prior < 1:
            raise InvalidData(f"expected prior= between 0 and 1, the share that masks keep, got {self.prior!r}")
        for name in ("tau", "landmark_tau", "learning_rate"):
            if not 0 < getattr(self, name) < np.inf:
                raise InvalidData(f"expected {name}= above 0, got {getattr(self, name)!r}")
        for name in ("lambda_con", "lambda_lc", "anchor", "weight_decay"):
            if not 0 <= getattr(self, name) < np.inf:
                raise InvalidData(f"expected {name}= of 0 or more, got {getattr(self, name)!r}")
        if self.variant is not None and not isinstance(self.variant, TimeXVariant):
            raise InvalidData(f"expected variant= to be a TimeXVariant, got {type(self.variant).__name__}")

    def _plan(self, plan: Any, epochs: int, batch_size: int, seed: int) -> Any:
        return plan(
            self.prior, self.lambda_con, self.lambda_lc, self.anchor, self.learning_rate, self.weight_decay, self.plateau,
            epochs, batch_size, seed,
        )  # fmt: skip

    def _reference(self) -> Reference:
        given, encode = self.reference, self.encode
        if isinstance(given, Reference):
            if self.device is not None and need("torch", "a device", "nets").device(self.device) != given.device:
                raise InvalidData(f"the reference is on {given.device}, not {self.device}; leave device= out")
            found = given if encode is None and self.head is None else None
            head = given.head if self.head is None else self.head
            module, device = given.module, given.device
        else:
            found, head, module, device = None, self.head, given, "cpu" if self.device is None else self.device
        if found is None:
            if encode is None and isinstance(module, AttentionMasking):
                encode = module.embed
            if encode is None:
                raise InvalidData(
                    "this classifier has no embedding; give encode=: the name of the submodule whose output it is, or a method "
                    "of the module"
                )
            found = Reference(module, embed=encode, head=head, device=device)
        kinds = {one.dtype for one in found.module.parameters() if one.is_floating_point()}
        if kinds - {need("torch", "a time-series explainer", "nets").float32}:
            raise InvalidData(f"expected a classifier in float32, got {sorted(map(str, kinds))}; call module.float() first")
        if self.label_head == "reference" and found.head is None:
            raise InvalidData("label_head='reference' uses the classifier's own head; give head=")
        return found

    def _hiding(self, reference: Reference, with_times: bool, channels: int, hiding: Any) -> Any:
        possible = isinstance(reference.module, AttentionMasking)
        if with_times and not _takes_two(reference.module.forward):
            raise InvalidData("times were given, and the classifier takes series alone; leave times out")
        if self.mask == "attention" and not possible:
            raise InvalidData(
                f"mask='attention' needs a module that is AttentionMasking, and {type(reference.module).__name__} is not; "
                "use mask='value'"
            )
        if self.mask == "attention" and channels > 1:
            raise InvalidData(f"mask='attention' hides time points of one channel, got {channels} channels; use mask='value'")
        only = self.mask == "attention" or (self.mask == "auto" and possible and channels == 1)
        return hiding(with_times, possible, not only)

    def _held(self, X: Any, times: Any, X_val: Any, times_val: Any, with_times: bool) -> Any:
        """Series to train on and series to choose the epoch on."""
        if X_val is not None:
            if with_times != (times_val is not None):
                raise InvalidData("expected times for both X and X_val, or for neither")
            return (X, times), as_series(X_val, times_val, X.shape[1:])
        order = np.random.default_rng(self.random_state).permutation(len(X))
        held, rest = np.split(order, [max(2, len(X) // _HELD)])
        if len(rest) < 2:
            raise InvalidData(f"expected four or more series, got {len(X)}")
        return (X[rest], times[rest]), (X[held], times[held])

    # ------------------------------------------------------------------ explaining
    def explain(self, X: Any, times: Any = None) -> TimeXExplanation:
        """Maps, embeddings, labels and landmarks of series.

        Parameters
        ----------
        X : array or tensor of shape (n, T, d)
        times : array or tensor of shape (n, T), or None, default=None

        Raises
        ------
        NotFittedError
            Before `fit`.
        InvalidData
            Series that cannot be used, or times where the fit had none, and the other way round.
        """
        given, when = self._read(X, times)
        found = self._passed(given, when)
        answer = self._classifier.logits(*((given, when) if self._hidden_by.with_times else (given,))).argmax(axis=1)
        return TimeXExplanation(
            given, when, found.p, found.p > 0.5, found.embedding, found.logits.argmax(axis=1), answer,
            _cosine(found.embedding, self.landmarks_).argmax(axis=1), self.masking_, self.random_state,
        )  # fmt: skip

    def nearest(self, X: Any, k: int = 5, times: Any = None) -> Neighbours:
        """The series of the fit that are explained most alike, by cosine between embeddings.

        Parameters
        ----------
        X : array or tensor of shape (n, T, d)
        k : int, default=5
        times : array or tensor of shape (n, T), or None, default=None
        """
        given, when = self._read(X, times)
        require_whole(1, k=k)
        if k > len(self._embedding):
            raise InvalidData(f"expected k= of at most the {len(self._embedding)} series of the fit, got {k}")
        near = _cosine(self._passed(given, when).embedding, self._embedding)
        index = np.argsort(-near, axis=1, kind="stable")[:, :k]
        return Neighbours(index, np.take_along_axis(near, index, axis=1))

    def fidelity(self, X: Any, times: Any = None) -> TimeXFidelity:
        """How well the explainer stands in for the classifier, beside a constant and the nearest neighbour.

        Parameters
        ----------
        X : array or tensor of shape (n, T, d)
            Not among the series of the fit.
        times : array or tensor of shape (n, T), or None, default=None

        Raises
        ------
        NotFresh
            Series of the fit.
        """
        given, when = self._read(X, times)
        if len(given) < 2:
            raise InvalidData(f"expected two or more series to measure on, got {len(given)}")
        require_fresh(given, self._seen, "series were fitted on")
        z, logits = self._told(given, when)
        found, said = self._passed(given, when), logits.argmax(axis=1)
        mine, seed = found.logits.argmax(axis=1), self.random_state
        by_head = None if self._classifier.head is None else agreement(said, self._by_head(found.embedding))
        counts = np.bincount(said)
        return TimeXFidelity(
            agreement=agreement(said, mine),
            head_agreement=by_head,
            per_class={int(c): agreement(said[said == c], mine[said == c]) for c in np.flatnonzero(counts > 1)},
            relation_gap=gaps("relation gap", z, found.embedding, "cosine", seed),
            landmark_gap=gaps("relation gap of landmarks", z, found.landmark, "cosine", seed),
            label_gap=gaps("label gap", _softmax(logits), _softmax(found.logits), "divergence", seed),
            rivals=self._rivals(given, z, said),
        )

    def _rivals(self, X: Any, z: _FLOAT, said: NDArray[np.intp]) -> Any:
        flat = X.reshape(len(X), -1)
        near = NearestNeighbors(n_neighbors=1).fit(self._train.reshape(len(self._train), -1)).kneighbors(flat)[1][:, 0]
        return {
            "constant": agreement(said, np.full(len(said), np.bincount(self._answered).argmax())),
            "nearest neighbour": agreement(said, self._answered[near]),
            "raw series": gaps("relation gap", z, flat.astype(float), "cosine", self.random_state),
        }

    # ------------------------------------------------------------------ helpers
    def _read(self, X: Any, times: Any) -> Any:
        check_is_fitted(self, "landmarks_", msg="call fit(X) before this %(name)s is used")
        if (times is not None) != self._hidden_by.with_times:
            wanted = "the fit had times, so give times=" if times is None else "the fit had no times, so leave times= out"
            raise InvalidData(wanted)
        return as_series(X, times, (self._length, self._channels))

    def _told(self, X: Any, times: Any) -> tuple[_FLOAT, _FLOAT]:
        from locum.explain import _timex_training as training

        z, logits = training.answers(self._classifier, X, times, self._hidden_by.with_times)
        return z.double().numpy(), logits.double().numpy()

    def _passed(self, X: Any, times: Any) -> Any:
        from locum.explain import _timex_training as training

        return training.passed(self._net, X, times, self._hidden_by, self.random_state)

    def _by_head(self, z: _FLOAT) -> NDArray[np.intp]:
        torch = need("torch", "a time-series explainer", "nets")
        with torch.no_grad():
            found = self._classifier.head(torch.as_tensor(z, dtype=torch.float32, device=self._classifier.device))  # type: ignore[misc]
        return found.argmax(dim=1).cpu().numpy()


def series_reference(
    X: Any,
    y: Any,
    *,
    times: Any = None,
    kind: str = "transformer",
    layers: int = 1,
    feedforward: int = 16,
    dropout: float = 0.1,
    normalised: bool = False,
    epochs: int = 100,
    batch_size: int = 64,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.01,
    device: Any = "cpu",
    random_state: int = 0,
) -> Reference:
    """Train one of the paper's classifiers, ready to be explained.

    Parameters
    ----------
    X : array or tensor of shape (n, T, d)
    y : array-like of shape (n,)
        Classes.
    times : array or tensor of shape (n, T), or None, default=None
    kind : {"transformer", "convolution", "recurrent"}, default="transformer"
        A transformer without a residual round its attention, three convolutions, or a long short-term memory.
    layers, feedforward : int, default=1, 16
        Of the transformer, as the next two.
    dropout : float, default=0.1
    normalised : bool, default=False
        Layer normalisation at the end of its encoder.
    epochs, batch_size : int, default=100, 64
    learning_rate : float, default=1e-3
    weight_decay : float, default=0.01
    device : torch.device or str, default="cpu"
    random_state : int, default=0

    Returns
    -------
    Reference
        With the weights of the epoch that had the lowest cross-entropy on one series in ten, left out of training.

    Raises
    ------
    InvalidData
        Series, classes or settings that cannot be used.
    """
    torch = need("torch", "a classifier of time series", "nets")
    from locum.explain import _timex_networks as networks

    given, when = as_series(X, times)
    classes, codes = np.unique(np.asarray(y), return_inverse=True)
    if codes.shape != (len(given),) or len(classes) < 2 or len(given) < 20:
        raise InvalidData(f"expected one of two or more classes for each of 20 or more series, got {classes[:5]}, {len(given)}")
    if kind not in _KINDS:
        raise InvalidData(f"expected kind= to be one of {', '.join(map(repr, _KINDS))}, got {kind!r}")
    length, channels = given.shape[1:]
    with seeded(random_state, device=device):
        if kind == "transformer":
            module: Any = networks.SeriesTransformer(
                length, channels, len(classes), layers=layers, feedforward=feedforward, dropout=dropout, normalised=normalised
            )
        else:
            make = networks.SeriesConvolution if kind == "convolution" else networks.SeriesRecurrent
            module = make(channels, len(classes))
    arrays: list[Any] = [given, codes.astype(np.int64)] + ([] if times is None else [when])
    order = np.random.default_rng(random_state).permutation(len(given))
    rows = np.split(order, [len(order) // _HELD])
    held, rest = ([torch.as_tensor(one[part], device=device) for one in arrays] for part in rows)

    def loss(net: Any, series: Any, label: Any, *at: Any) -> Any:
        return torch.nn.functional.cross_entropy(net(series, *at), label)

    train(
        module, loss, rest, epochs=epochs, batch_size=batch_size, validate=lambda net: float(loss(net, *held)), device=device,
        optimizer=lambda p: torch.optim.AdamW(p, lr=learning_rate, weight_decay=weight_decay), random_state=random_state,
    )  # fmt: skip
    module.zero_grad(set_to_none=True)
    return Reference(module.eval(), embed=module.embed, head=module.head, classes=classes.tolist(), device=device)


def _takes_two(function: Callable[..., Any]) -> bool:
    kinds = [one.kind for one in inspect.signature(function).parameters.values()]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return inspect.Parameter.VAR_POSITIONAL in kinds or sum(kind in positional for kind in kinds) > 1


def _cosine(one: _FLOAT, other: _FLOAT) -> _FLOAT:
    first, second = (z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12) for z in (one, other))
    return first @ second.T


def _softmax(logits: _FLOAT) -> _FLOAT:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)
