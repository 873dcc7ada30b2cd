"""The same cell in PyBaMM, in an environment of its own: voltages and seconds of its fastest solver, for a file of settings.

    .venv-battery/bin/python benchmarks/papers/pinn-battery/peer.py in.npz out.npz

`in.npz` holds constants and tables of the cell, rows of parameters, times and the number of threads; kinetics are those of
Butler and Volmer, which PyBaMM has.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import pybamm

POINTS = 32  # shells of each particle


def table(x, y):
    return lambda sto: pybamm.Interpolant(x, y, sto, interpolator="cubic")


def values(given):
    x = given["x"]
    out = pybamm.ParameterValues("Chen2020")
    for side, name in (("n", "Negative"), ("p", "Positive")):
        ocp, exchange, diffusivity = (table(x, given[f"{what}_{side}"]) for what in ("ocp", "exchange", "diffusivity"))
        low = name.lower()
        factors = {"n": ("i0_n", None), "p": (None, "D_p")}[side]

        def i0(c_e, c_surf, c_max, T, exchange=exchange, factor=factors[0]):
            return (pybamm.InputParameter(factor) if factor else 1.0) * exchange(c_surf / c_max)

        def d(sto, T, diffusivity=diffusivity, factor=factors[1]):
            return (pybamm.InputParameter(factor) if factor else 1.0) * diffusivity(sto)

        out.update({
            f"{name} electrode OCP [V]": lambda sto, ocp=ocp: ocp(sto),
            f"{name} electrode OCP entropic change [V.K-1]": 0.0,
            f"{name} electrode exchange-current density [A.m-2]": i0,
            f"{name} particle diffusivity [m2.s-1]": d,
            f"{name} electrode thickness [m]": float(given[f"thickness_{side}"]),
            f"{name} particle radius [m]": float(given[f"radius_{side}"]),
            f"{name} electrode active material volume fraction": float(given[f"fraction_{side}"]),
            f"Maximum concentration in {low} electrode [mol.m-3]": float(given[f"capacity_{side}"]),
            f"Initial concentration in {low} electrode [mol.m-3]": float(given[f"capacity_{side}"] * given[f"start_{side}"]),
        })  # fmt: skip
    temperature = float(given["temperature"])
    out.update({
        "Current function [A]": float(given["current"]), "Electrode height [m]": float(given["area"]),
        "Electrode width [m]": 1.0, "Number of electrodes connected in parallel to make a cell": 1.0,
        "Number of cells connected in series to make a battery": 1.0, "Lower voltage cut-off [V]": 1.0,
        "Upper voltage cut-off [V]": 6.0, "Ambient temperature [K]": temperature, "Initial temperature [K]": temperature,
        "Reference temperature [K]": temperature, "Contact resistance [Ohm]": 0.0,
    })  # fmt: skip
    return out


def main(source: str, destination: str) -> None:
    given = dict(np.load(source))
    inputs = [{"i0_n": float(a), "D_p": float(b)} for a, b in given["rows"]]
    at = given["times"]
    model = pybamm.lithium_ion.SPM()
    threads = {"num_threads": int(given["threads"])}
    solver = pybamm.IDAKLUSolver(rtol=1e-5, atol=1e-7, output_variables=["Voltage [V]"], options=threads)
    points = {"x_n": 2, "x_s": 2, "x_p": 2, "r_n": POINTS, "r_p": POINTS}
    simulation = pybamm.Simulation(model, parameter_values=values(given), solver=solver, var_pts=points)
    ends = [0.0, float(at[-1])]

    def solved(some):
        found = simulation.solve(ends, t_interp=at, inputs=some)
        return found if isinstance(found, list) else [found]

    solved(inputs[:1])  # builds
    start = time.perf_counter()
    found = solved(inputs)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    solved(inputs[:1])
    alone = time.perf_counter() - start
    voltage = np.array([np.interp(at, one.t, one["Voltage [V]"].data) for one in found])
    np.savez(destination, voltage=voltage, seconds=seconds, alone=alone, version=pybamm.__version__)


if __name__ == "__main__":
    main(*sys.argv[1:])
