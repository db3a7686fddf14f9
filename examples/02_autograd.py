"""Autograd: what is recorded can be differentiated, and the gradient too. Next: 03_gluon_mlp.py."""

import argparse

from minimx import autograd, np


def first_gradient() -> None:
    """d/dx of sum(x^3) is 3 x^2."""
    x = np.array([1.0, 2.0, 3.0])
    x.attach_grad()
    with autograd.record():
        y = (x**3).sum()
    y.backward()
    print("gradient of x^3:", x.grad.tolist())


def taylor_series(order: int) -> None:
    """Derivatives of sin at 0 to any order: each is recorded, and differentiated again."""
    x = np.array(0.0)
    x.attach_grad()
    with autograd.record():
        derivative = np.sin(x)
        found = []
        for _ in range(order):
            found.append(round(derivative.item(), 6))
            derivative = autograd.grad(derivative, x, create_graph=True)
    print("sin and its derivatives at 0:", found)


def newton(steps: int) -> None:
    """Minimise cosh(x - 1) + x^2 with second derivatives."""
    x = np.array(3.0)
    x.attach_grad()
    for step in range(steps):
        with autograd.record():
            y = np.cosh(x - 1) + x * x
            slope = autograd.grad(y, x, create_graph=True)
        curvature = autograd.grad(slope, x)
        x -= slope / curvature
        print(f"Newton step {step + 1}: x = {x.item():.6f}, slope was {slope.item():.1e}")


def vector_jacobian() -> None:
    """backward takes the gradient of something with respect to y; "add" sums over several of them."""
    x = np.ones(3)
    x.attach_grad("add")
    for weight in (1.0, 10.0):
        with autograd.record():
            y = x * np.array([1.0, 2.0, 3.0])
        y.backward(np.full(3, weight))
    print("two backward passes, summed:", x.grad.tolist())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true", help="fewer steps")
    tiny = parser.parse_args().tiny
    first_gradient()
    taylor_series(4 if tiny else 6)
    newton(3 if tiny else 6)
    vector_jacobian()
