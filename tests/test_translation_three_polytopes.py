"""Boxes and linear programs over polytopes in them."""

import math
import sys

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import nn

from hf_untangle.errors import ConfigError, MissingExtraError
from hf_untangle.translation.three_layers.boxes import around, box_of
from hf_untangle.translation.three_layers.homogeneous import unit
from hf_untangle.translation.three_layers.linear_programs import Polytope
from hf_untangle.translation.three_layers.read_network import read_network

SQUARE = (np.full(2, -1.0), np.full(2, 1.0))


def test_a_point_inside_the_polytope_is_never_farther_than_the_farthest():
    random = np.random.default_rng(0)
    polytope = Polytope(np.full(3, -2.0), np.full(3, 2.0))
    rows = unit(np.c_[random.normal(size=(6, 3)), np.full(6, 0.7)])
    polytope.constrain(rows)
    points = np.c_[random.uniform(-2, 2, (5000, 3)), np.ones(5000)]
    inside = points[(points @ rows.T >= 0).all(1)]
    for direction in unit(random.normal(size=(20, 4))):
        value, point = polytope.farthest(direction)
        assert len(inside) > 50 and (inside @ direction).max() <= value
        assert point is not None and direction @ point == pytest.approx(value)


def test_the_corner_of_a_square_is_farthest():
    value, point = Polytope(*SQUARE).farthest(np.array([3.0, 4.0, 1.0]))
    assert value == 8 and point is not None and point.tolist() == [1, 1, 1]


def test_the_largest_ball_of_a_triangle_is_its_incircle():
    polytope = Polytope(np.zeros(2), np.full(2, 5.0))
    polytope.constrain(unit(np.array([[-3.0, -4.0, 12.0]])))  # the triangle (0, 0), (4, 0), (0, 3)
    radius, center = polytope.largest_ball()
    assert radius == pytest.approx(1) and center == pytest.approx([1, 1, 1])


def test_the_ball_does_not_stick_out_of_the_box():
    radius, center = Polytope(*SQUARE).largest_ball()
    assert radius == pytest.approx(1) and center == pytest.approx([0, 0, 1])


def test_an_empty_polytope_has_no_point():
    polytope = Polytope(*SQUARE)
    polytope.constrain(np.array([[1.0, 0.0, -2.0]]))
    assert polytope.farthest(np.array([1.0, 0.0, 0.0])) == (-math.inf, None)
    assert polytope.largest_ball() == (-math.inf, None)


def test_an_unbounded_polytope_has_no_farthest_point():
    polytope = Polytope(np.full(2, -np.inf), np.full(2, np.inf))
    polytope.constrain(np.array([[-1.0, 0.0, 2.0]]))
    assert polytope.farthest(np.array([0.0, 1.0, 0.0])) == (math.inf, None)
    assert polytope.farthest(np.array([1.0, 0.0, 0.0]))[0] == 2
    assert polytope.largest_ball() == (math.inf, None)


def test_warm_starts_find_the_optimum_of_a_solver_that_starts_cold():
    random = np.random.default_rng(1)
    polytope = Polytope(np.full(4, -3.0), np.full(4, 3.0))
    for _ in range(5):
        rows = unit(np.c_[random.normal(size=(8, 4)), random.uniform(0, 1, 8)])
        polytope.constrain(rows)
        for direction in random.normal(size=(10, 5)):
            cold = linprog(-direction[:-1], A_ub=-rows[:, :-1], b_ub=rows[:, -1], bounds=[(-3, 3)] * 4)
            assert polytope.farthest(direction)[0] == pytest.approx(direction[-1] - cold.fun, abs=1e-9)


def test_a_missing_solver_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "highspy", None)
    with pytest.raises(MissingExtraError, match=r"Linear programs need highspy. .*hf-untangle\[translate\]"):
        Polytope(*SQUARE)


def test_unit_rows_measure_distances_and_zero_rows_stay():
    assert unit(np.array([[3.0, 4.0, 10.0], [0.0, 0.0, 2.0]])).tolist() == [[0.6, 0.8, 2.0], [0, 0, 2]]


def test_a_box_is_made_of_numbers_or_of_inputs():
    network = read_network(nn.Flatten(), (2, 2))
    assert box_of(network, (-1, 2.5)).upper.tolist() == [2.5] * 4
    x = torch.arange(4.0).reshape(2, 2)
    box = box_of(network, around(x, 0.5))
    assert box.lower.tolist() == [-0.5, 0.5, 1.5, 2.5]
    points = box.sample(100)
    assert ((points > box.lower) & (points < box.upper)).all() and torch.equal(points, box.sample(100))


@pytest.mark.parametrize("bounds", [(0, 0), (1, -1), (0, math.inf), (math.nan, 1), (torch.zeros(2), torch.eye(2)[0])])
def test_a_box_without_a_finite_inside_is_refused(bounds):
    with pytest.raises(ConfigError, match="must have a finite width above 0, but input"):
        box_of(read_network(nn.Linear(2, 1)), bounds)


def test_a_box_of_another_shape_is_refused():
    with pytest.raises(ConfigError, match=r"shape \(2,\) of an input, got 3 numbers"):
        box_of(read_network(nn.Linear(2, 1)), (0, torch.ones(3)))
