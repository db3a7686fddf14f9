"""The emulator itself: what it computes, and that it tells what a GPU would not forgive."""

from __future__ import annotations

import numpy as np
import pytest
from rtc import emulator
from rtc.emulator import EmulatorError, run

from minimx.ops.dtypes import BY_NAME
from minimx.rtc.compiler import find_compiler
from minimx.rtc.cuda.recipe import Launch, Operand, Recipe, Scratch, Value, code

pytestmark = pytest.mark.skipif(find_compiler() is None, reason="needs a C++ compiler")

# Sums of blocks, by shuffles and shared memory of both kinds, then their sum: what each line is for is in WRONG.
BLOCKS = """
template <class T>
T of_block(T v) {
  __shared__ T of_warp[8];
  for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = v;
  __syncthreads();
  v = threadIdx.x < 8 ? of_warp[threadIdx.x] : T(0);
  for (int d = 4; d > 0; d /= 2) v += __shfl_down_sync(0xffffffffu, v, d);
  return v;
}
extern "C" __global__ void __launch_bounds__(256) KERNEL(const float* x, float* sums, int64_t n, float scale) {
  extern __shared__ float kept[];
  float s = 0;
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < n; i += gridDim.x * blockDim.x) s += x[i];
  kept[threadIdx.x] = s;
  const float total = of_block(kept[threadIdx.x]);
  if (threadIdx.x == 0) sums[blockIdx.x] = total * scale;
}
"""
TOTAL = """
extern "C" __global__ void KERNEL(const float* sums, float* y) {
  y[0] = __shfl_sync(0xffffffffu, sums[threadIdx.x], 0) + sums[1] + sums[2] + __ldg(sums + 3);
}
"""


def total(text=BLOCKS, shared=1024, factor="float32", scratch=16, grid=(4, 1, 1)):
    """y = 2 * sum(x)."""
    args = (Operand(0), Scratch(scratch), Value(1001), Value(2.0, factor))
    blocks = Launch(code("blocks", text), grid, (256, 1, 1), args, shared)
    return Recipe((blocks, Launch(code("total", TOTAL), (1, 1, 1), (4, 1, 1), (Scratch(16), Operand(1)))), 32)


def test_launches_run_in_order():
    x, y = np.linspace(0, 1, 1001, dtype="float32"), np.zeros(1, "float32")
    run(total(), [x, y])
    np.testing.assert_allclose(y, 1001, rtol=1e-5)


def test_threads_and_blocks_have_places():
    text = """extern "C" __global__ void KERNEL(int* y) {
      const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
      const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
      y[block * blockDim.x * blockDim.y * blockDim.z + thread] = threadIdx.x + 10 * threadIdx.y + 100 * threadIdx.z;
    }"""
    y = np.zeros((24, 4, 3, 2), "int32")
    run(Recipe((Launch(code("places", text), (2, 3, 4), (2, 3, 4), (Operand(0),)),)), [y])
    assert (y == np.arange(2) + 10 * np.arange(3)[:, None] + 100 * np.arange(4)[:, None, None]).all()


WRONG = [  # (what is changed, into what, what is said)
    ("i < n", "i <= n", "0 bytes behind the end of operand 0"),
    ("x[i]", "x[i - 1]", "4 bytes before the beginning of operand 0"),
    ("__syncthreads();", "", "depends on the order of threads"),
    (
        "__syncthreads();",
        "if (threadIdx.x < 32) __syncthreads();",
        "for threads that do not come",
    ),
    ("__syncthreads();", "if (threadIdx.x % 2) __syncwarp();", "where threads of its warp call"),
    ("float s = 0;", "if (threadIdx.x == 7) return; float s = 0;", "waits at __syncthreads"),
    ("kept[threadIdx.x] = s", "kept[threadIdx.x + 1] = s", "beyond the dynamic shared memory"),
    ("kept[threadIdx.x] = s", "", "memory that nobody wrote"),
    ("of_warp[threadIdx.x / 32] = v", "of_warp[threadIdx.x] = v", "index outside of an array"),
    ("s += x[i]", "s += reinterpret_cast<const Pack<float, 4>*>(x + i)->at[0]", "not aligned"),
    ("int64_t n,", "int n,", "expected arguments"),
    ("s += x[i]", "s += x[i] / float(7 / int(threadIdx.y))", "division by zero"),
    ("sums[blockIdx.x] =", "sums[blockIdx.x + 10] =", "wrote behind the workspace"),
    ("sums[blockIdx.x] =", "sums[blockIdx.x % 2] =", "depends on the order of threads"),
    ("(256) KERNEL", "(8 * 16) KERNEL", "more threads than its __launch_bounds__"),
    ("const float total", "no such thing", "does not compile"),
]


@pytest.fixture(scope="module")
def _compiled():
    """All those that compile, at once."""
    emulator.prepare([total(BLOCKS.replace(old, new)) for old, new, said in WRONG if "compile" not in said])


@pytest.mark.usefixtures("_compiled")
@pytest.mark.parametrize(("old", "new", "said"), WRONG, ids=[new or "dropped" for _, new, _ in WRONG])
def test_faults_are_told(old, new, said):
    assert old in BLOCKS
    with pytest.raises(EmulatorError, match=said):
        run(total(BLOCKS.replace(old, new)), [np.ones(1001, "float32"), np.zeros(1, "float32")])


@pytest.mark.parametrize(("options", "said"), [
    ({"factor": "float64"}, "expected arguments"),
    ({"grid": (4, 70000, 1)}, "a launch that a GPU takes"),
    ({"shared": 512}, "beyond the dynamic shared memory"),
])  # fmt: skip
def test_wrong_launches_are_told(options, said):
    with pytest.raises(EmulatorError, match=said):
        run(total(**options), [np.ones(1001, "float32"), np.zeros(1, "float32")])


@pytest.mark.parametrize("narrow", ["float16", "bfloat16"])
def test_16_bit_floats_convert_as_numpys(narrow):
    ctype, kind = BY_NAME[narrow].ctype, emulator.numpy_type(narrow)
    text = """extern "C" __global__ void KERNEL(const T* x, const double* z, float* y, T* w) {
      y[blockIdx.x] = to<float>(x[blockIdx.x]);
      w[blockIdx.x] = to<T>(z[blockIdx.x]);
    }""".replace("T*", f"{ctype}*").replace("<T>", f"<{ctype}>")
    x = np.arange(1 << 16, dtype="uint16").view(kind)
    rng = np.random.default_rng(0)
    drawn = rng.normal(size=1 << 14) * 10.0 ** rng.integers(-9, 6, 1 << 14)
    with np.errstate(invalid="ignore"):
        z = np.concatenate([drawn, x.astype("float64")])[: 1 << 16]
    y, w = np.zeros(1 << 16, "float32"), np.zeros(1 << 16, kind)
    launch = Launch(code("narrow", text), (1 << 16, 1, 1), (1, 1, 1), tuple(map(Operand, range(4))))
    run(Recipe((launch,)), [x, z, y, w])
    np.testing.assert_array_equal(y, x.astype("float32"))
    with np.errstate(over="ignore"):
        want = (z if narrow == "float16" else z.astype("float32")).astype(kind)
    np.testing.assert_array_equal(w.astype("float32"), want.astype("float32"))
