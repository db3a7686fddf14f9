"""The checks of fusion can fail: faults planted in passes, in what rows are written out as, and in kernel text.

Each is caught by the comparison of forms.py, or by an error that names it. Other faults: test_teeth.py.
"""

from __future__ import annotations

import forms
import pytest

from minimx.errors import GraphError, MXError
from minimx.graph.passes import domains, expand, fusion, grouping
from minimx.rtc.compiler import find_compiler
from minimx.rtc.cuda.recipe import Code, Launch, Recipe

pytestmark = pytest.mark.cpu_only("graphs for a GPU are run on the CPU here")
caught = pytest.raises(AssertionError)
compiler = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")


# ---- what rows are written out as -----------------------------------------------------------------------------------


def test_without_the_largest_element(monkeypatch):
    """exp(x) / sum exp(x) is a softmax until x is large."""

    def softmax(n, w):
        e = w("exp", w.cast(n.values[0], "float32"))
        w.give(w("multiply", e, w("reciprocal", w("sum", e, axis=-1, keepdims=True))), n.outputs[0])

    forms.check("softmax", "float32", 0, scale=400)
    monkeypatch.setitem(expand.EXPANSIONS, "softmax_of", softmax)
    forms.check("softmax", "float32", 0)
    with caught:
        forms.check("softmax", "float32", 0, scale=400)


@pytest.mark.parametrize("row, name", [("softmax_of", "softmax"), ("log_softmax_of", "log_softmax")])
def test_along_a_wrong_axis(monkeypatch, row, name):
    right = expand.EXPANSIONS[row]

    def wrong(n, w):
        w.attrs = {**w.attrs, "axis": 0}
        right(n, w)

    monkeypatch.setitem(expand.EXPANSIONS, row, wrong)
    with caught:
        forms.check(name, "float32", 0)


def test_sixteen_bits_in_between(monkeypatch):
    """Squares of a norm that are not brought to float32 first."""
    forms.check("layer_norm", "float16", 0, scale=400)
    monkeypatch.setattr(expand, "wide", lambda x: x.dtype)
    monkeypatch.setattr(expand._Reading, "can_expand", lambda self, n: True)  # although gamma is float32
    with caught:
        forms.check("layer_norm", "float16", 0, scale=400)


def test_a_cast_that_is_missing_at_the_end(monkeypatch):
    """A result that stays in float32."""

    def give(self, x, out):
        self.nodes[-1].outputs = [out]

    monkeypatch.setattr(expand.Writer, "give", give)
    with pytest.raises((AssertionError, MXError)):
        forms.check("softmax", "float16", 0)


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_a_gradient_without_one_of_its_terms(monkeypatch, name):
    """dx = rstd (g - mean(g)), without what goes through the deviation."""
    right = expand.row_norm_backward

    def wrong(n, w):
        right(n, w)
        for m in w.nodes:
            if m.op == "mean":
                m.op = "min"

    monkeypatch.setitem(expand.EXPANSIONS, "row_norm_backward", wrong)
    with caught:
        forms.check(name, "float64", 1)


# ---- passes ---------------------------------------------------------------------------------------------------------


def test_nodes_without_stages(monkeypatch):
    """A group on both sides of a node that it feeds waits for itself."""
    monkeypatch.setattr(grouping, "stages_of", lambda g, domain: dict.fromkeys(g.nodes, 0))
    with pytest.raises(GraphError, match="cycle"):
        forms.check("way_outside", "float32", 0)


@compiler
def test_elements_that_read_a_fold(monkeypatch):
    """A fold has no second look at its elements."""
    forms.check("normalised", "float32", 0, forms.emulated)
    monkeypatch.setattr(domains.Reducing, "fits", lambda self, producer, reader: True)
    with pytest.raises((AssertionError, MXError)):
        forms.check("normalised", "float32", 0, forms.emulated)


def test_outputs_that_trade_places(monkeypatch):
    right = fusion.fused

    def wrong(group, uses, results, attrs):
        unit = right(group, uses, results, attrs)
        for n in unit.nodes:
            if n.body is not None:
                n.body.outputs.reverse()
        return unit

    monkeypatch.setattr(fusion, "fused", wrong)
    with caught:
        forms.check("pointwise", "float32", 1)


def test_a_member_of_another_kind(monkeypatch):
    right = fusion.fused

    def wrong(group, uses, results, attrs):
        unit = right(group, uses, results, attrs)
        for n in unit.nodes:
            for m in n.body.nodes if n.body is not None else ():
                m.op = {"sum": "mean", "mean": "sum"}.get(m.op, m.op)
        return unit

    monkeypatch.setattr(fusion, "fused", wrong)
    for name in ("cross_entropy", "loss", "two_sums"):
        with caught:
            forms.check(name, "float32", 0)


# ---- text -----------------------------------------------------------------------------------------------------------

TEXTS = {  # form: what is replaced in its kernels
    "softmax": ("return sum_::combine<float>(a, b);", "return a;"),
    "own_norm": ("mean_::finish<float>(", "-mean_::finish<float>("),
    "layer_norm": ("rsqrt_::f<float>(", "-rsqrt_::f<float>("),
    "bias": ("sum_::combine<float>(a.a0, b.a0)", "a.a0"),
    "loss": ("mean_::finish<float>(acc.a0, to<float>(n))", "acc.a0"),
    "two_sums": ("sum_::step<float>(acc.a1, ", "sum_::step<float>(acc.a0, "),
    "pointwise": ("multiply_::f<float>(", "-multiply_::f<float>("),
    "global_pool": ("mean_::finish<float>(", "2 * mean_::finish<float>("),
}


def altered(recipe: Recipe, old: str, new: str) -> Recipe:
    """A recipe whose text is another, and so its names."""

    def code(c: Code) -> Code:
        name = f"{c.name}_altered"
        return Code(name, c.text.replace(c.name, name).replace(old, new))

    launches = tuple(Launch(code(x.code), x.grid, x.block, x.args, x.shared) for x in recipe.launches)
    return Recipe(launches, recipe.workspace)


@compiler
@pytest.mark.parametrize("name", TEXTS)
def test_wrong_text(monkeypatch, name):
    """One word of a kernel is another."""
    old, new = TEXTS[name]
    right, found = forms.recipe_of, []

    def wrong(n):
        recipe = right(n)
        found.extend(x for x in recipe.launches if old in x.code.text)
        return altered(recipe, old, new)

    forms.check(name, "float32", 1, forms.emulated)
    monkeypatch.setattr(forms, "recipe_of", wrong)
    with pytest.raises(AssertionError, match="Not equal"):
        forms.check(name, "float32", 1, forms.emulated)
    assert found, f"{old} is in no kernel of {name}"
